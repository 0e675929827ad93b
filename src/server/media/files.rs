//! `file://` below one folder and nowhere else.

use std::fs::File;
use std::path::{Component, Path, PathBuf};

use url::Url;

use super::sink::Sink;
use crate::error::{Error, Result};

/// Folder that pictures and videos may be read from, links resolved.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// # Errors
    /// [`crate::error::Kind::Usage`] naming the flag.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |reason: String| Error::usage(format!("--media-path {}: {reason}", path.display()));
        let real = path.canonicalize().map_err(|error| failed(error.to_string()))?;
        if !real.is_dir() {
            return Err(failed("not a folder".into()));
        }
        Ok(Self(real))
    }

    /// Reads `file://a/b.png` and `file:///a/b.png`, both below the folder as in llama.cpp. A whole path that
    /// already leads there is taken too.
    pub(super) fn read(&self, url: &str, sink: &mut Sink<'_>) -> std::result::Result<(), String> {
        let path = self.find(&path_of(url)?)?;
        let file = File::open(&path).map_err(|_| unreadable())?;
        // A pipe or a device would never end.
        if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Err("not a file".into());
        }
        sink.take(file, |_| unreadable())
    }

    fn find(&self, path: &Path) -> std::result::Result<PathBuf, String> {
        if path.components().any(|part| matches!(part, Component::ParentDir | Component::Prefix(_))) {
            return Err("the path may not go up".into());
        }
        let below: PathBuf = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        let whole = path.is_absolute() && path.starts_with(&self.0);
        let candidate = if whole { path.to_owned() } else { self.0.join(below) };
        // Links are followed before the check: the file's real place counts.
        let real = candidate.canonicalize().map_err(|_| unreadable())?;
        // Files outside and missing files give the same error. A client cannot ask which files exist outside.
        if real.starts_with(&self.0) && real.is_file() { Ok(real) } else { Err(unreadable()) }
    }
}

fn unreadable() -> String {
    "no such file below --media-path".into()
}

fn path_of(url: &str) -> std::result::Result<PathBuf, String> {
    let rest = url.trim().get(5..).unwrap_or_default();
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    // The URL parser undoes the escapes. It must not read the name as a host.
    let parsed = Url::parse(&format!(
        "file:///{}",
        rest.trim_start_matches('/').replace('?', "%3F").replace('#', "%23")
    ))
    .map_err(|error| format!("no usable URL ({error})"))?;
    if rest.replace("%2e", ".").replace("%2E", ".").split(['/', '\\']).any(|part| part == "..") {
        return Err("the path may not go up".into());
    }
    parsed.to_file_path().map_err(|()| "no usable path".into())
}

#[cfg(test)]
mod tests {
    use super::super::sink::Most;
    use super::*;

    fn read(folder: &Folder, url: &str) -> std::result::Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        folder.read(url, &mut Sink::new(&mut bytes, Most { bytes: 100, flag: "" })).map(|()| bytes)
    }

    #[test]
    fn only_what_is_below() {
        let root = tempfile::tempdir().unwrap();
        let inside = root.path().join("media");
        std::fs::create_dir_all(inside.join("sub/deep")).unwrap();
        std::fs::write(inside.join("a.png"), "a").unwrap();
        std::fs::write(inside.join("sub/b c.png"), "b").unwrap();
        std::fs::write(inside.join("sub/d%e?.png"), "d").unwrap();
        std::fs::write(root.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink(root.path().join("secret"), inside.join("link")).unwrap();
        std::os::unix::fs::symlink(root.path(), inside.join("up")).unwrap();
        std::os::unix::fs::symlink(inside.join("a.png"), inside.join("alias.png")).unwrap();
        let folder = Folder::open(&inside).unwrap();
        let whole = format!("file://{}", folder.0.join("a.png").display());
        let outside = format!("file://{}", root.path().join("secret").display());
        for (url, expected) in [
            ("file://a.png", Some("a")),
            ("file:///a.png", Some("a")),
            ("file:a.png", Some("a")),
            ("file://alias.png", Some("a")),
            (whole.as_str(), Some("a")),
            ("file://sub/b%20c.png", Some("b")),
            ("file:///sub/d%25e%3F.png", Some("d")),
            ("file://sub/./b c.png", Some("b")),
            ("file://../secret", None),
            ("file:///../secret", None),
            ("file://sub/../../secret", None),
            ("file://sub/%2e%2e/%2e%2e/secret", None),
            ("file://sub/..%2f../secret", None),
            ("file://sub\\..\\..\\secret", None),
            ("file://link", None),
            ("file://up/secret", None),
            ("file:///etc/passwd", None),
            (outside.as_str(), None),
            ("file://", None),
            ("file://sub", None),
            ("file://sub/deep", None),
            ("file://none.png", None),
            ("file://a.png%00.txt", None),
        ] {
            let found = read(&folder, url).ok();
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{url}");
        }
    }

    #[test]
    fn a_pipe_is_no_file() {
        let root = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("mkfifo").arg(root.path().join("pipe")).status();
        assert!(made.unwrap().success());
        assert!(read(&Folder::open(root.path()).unwrap(), "file://pipe").is_err());
        assert!(Folder::open(&root.path().join("pipe")).is_err());
        assert!(Folder::open(&root.path().join("none")).is_err());
    }
}
