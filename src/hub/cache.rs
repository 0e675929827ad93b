//! One repository's part of the Hugging Face cache.
//!
//! ```text
//! CACHE/models--USER--REPO/blobs/HASH             the content, under its checksum
//!                          blobs/HASH.incomplete  what is there of it so far
//!                          snapshots/COMMIT/PATH  a link to the blob
//!                          refs/main              the commit last seen
//! CACHE/.locks/models--USER--REPO/HASH.lock       held while the blob is written
//! ```

use std::fs::{self, File as Handle, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::listing::{Checksum, File, Listed, is_hex};
use super::name::Repo;
use crate::error::{Error, Field, Kind, Result};

#[derive(Debug, Clone)]
pub(super) struct Cache {
    root: PathBuf,
    folder: String,
    repo: String,
}

impl Cache {
    pub(super) fn new(root: &Path, repo: &Repo) -> Self {
        Self {
            root: root.to_owned(),
            folder: format!("models--{}--{}", repo.user, repo.name),
            repo: repo.to_string(),
        }
    }

    fn home(&self) -> PathBuf {
        self.root.join(&self.folder)
    }

    pub(super) fn blob(&self, checksum: &Checksum) -> PathBuf {
        self.home().join("blobs").join(checksum.hex())
    }

    pub(super) fn partial(&self, checksum: &Checksum) -> PathBuf {
        self.home().join("blobs").join(format!("{}.incomplete", checksum.hex()))
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.home().join("snapshots").join(commit)
    }

    /// Opens the file's lock without taking it.
    pub(super) fn lock(&self, checksum: &Checksum) -> Result<Handle> {
        let path = self.root.join(".locks").join(&self.folder).join(format!("{}.lock", checksum.hex()));
        folder_of(&path)?;
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| unwritable(&path, &error))
    }

    /// Whether the blob is there, whole.
    pub(super) fn has(&self, file: &File) -> bool {
        fs::metadata(self.blob(&file.checksum)).is_ok_and(|found| found.is_file() && found.len() == file.size)
    }

    /// Checks, before the first byte, that the missing parts of `files` fit on the disk.
    pub(super) fn room_for(&self, files: &[&File]) -> Result<()> {
        let missing = |file: &File| {
            let there = fs::metadata(self.partial(&file.checksum)).map_or(0, |found| found.len());
            if self.has(file) { 0 } else { file.size.saturating_sub(there) }
        };
        let needed: u64 = files.iter().map(|file| missing(file)).sum();
        if needed == 0 {
            return Ok(());
        }
        let blobs = self.home().join("blobs");
        make_folder(&blobs)?;
        // If the system does not tell, the write itself will fail.
        let free = fs4::available_space(&blobs).unwrap_or(u64::MAX);
        enough(&self.repo, &self.root, needed, free)
    }

    /// Makes `snapshots/COMMIT/PATH` lead to the file's blob.
    pub(super) fn link(&self, commit: &str, file: &File) -> Result<()> {
        let snapshot = self.snapshot(commit);
        let link = snapshot.join(&file.path);
        let blob = self.blob(&file.checksum);
        if fs::canonicalize(&link).is_ok_and(|found| fs::canonicalize(&blob).is_ok_and(|blob| blob == found))
        {
            return Ok(());
        }
        folder_of(&link)?;
        // The link is relative, so that the cache can be moved. It leads out of the folders of `path`, the
        // commit and `snapshots`.
        let up: PathBuf = Path::new(&file.path).components().map(|_| "..").chain([".."]).collect();
        let target = up.join("blobs").join(file.checksum.hex());
        let fresh = name_of_our_own(&link);
        let _ = fs::remove_file(&fresh);
        symlink(&target, &blob, &fresh)
            .and_then(|()| fs::rename(&fresh, &link))
            .map_err(|error| unwritable(&link, &error))
    }

    /// Remembers `commit` as the one that `main` is at.
    pub(super) fn write_ref(&self, commit: &str) -> Result<()> {
        let path = self.home().join("refs/main");
        if fs::read_to_string(&path).is_ok_and(|old| old.trim() == commit) {
            return Ok(());
        }
        folder_of(&path)?;
        let fresh = name_of_our_own(&path);
        fs::write(&fresh, commit)
            .and_then(|()| fs::rename(&fresh, &path))
            .map_err(|error| unwritable(&path, &error))
    }

    /// Returns the files of the commit last seen whose content is there; none if the repository was never
    /// fetched.
    pub(super) fn list(&self) -> Result<Option<Listed>> {
        let Ok(commit) = fs::read_to_string(self.home().join("refs/main")) else { return Ok(None) };
        let commit = commit.trim().to_owned();
        if !is_hex(&commit, 40) {
            return Ok(None);
        }
        let snapshot = self.snapshot(&commit);
        let mut files = Vec::new();
        walk(&snapshot, "", &mut files)
            .map_err(|error| Error::new(Kind::File, format!("{}: {error}", snapshot.display())))?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok((!files.is_empty()).then_some(Listed { commit, files }))
    }
}

/// Returns the repositories that have a folder in the cache at `root`, by name; none if there is no cache yet.
pub(super) fn repositories(root: &Path) -> Result<Vec<Repo>> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| Error::new(Kind::File, format!("{}: {error}", root.display())))?,
    };
    let name = |entry: fs::DirEntry| {
        let folder = entry.file_name().into_string().ok()?;
        let (user, name) = folder.strip_prefix("models--")?.split_once("--")?;
        Repo::parse(&format!("{user}/{name}")).ok()
    };
    let mut repos: Vec<Repo> = entries.filter_map(|entry| name(entry.ok()?)).collect();
    repos.sort_by_key(Repo::to_string);
    Ok(repos)
}

/// Returns a name beside `path`, to be renamed to it: another process may be making the same file.
fn name_of_our_own(path: &Path) -> PathBuf {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    path.with_extension(format!("{}-{call}.fresh", std::process::id()))
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<File>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &format!("{path}/"), files)?;
        } else if let Ok(found) = fs::metadata(entry.path()) {
            // The check follows the link: a link whose blob is gone is no file.
            files.push(File { path, size: found.len(), checksum: Checksum::Sha256(String::new()) });
        }
    }
    Ok(())
}

#[cfg(unix)]
fn symlink(target: &Path, _blob: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Gives the content a second name, if links need a privilege.
#[cfg(not(unix))]
fn symlink(_target: &Path, blob: &Path, link: &Path) -> io::Result<()> {
    fs::hard_link(blob, link)
}

fn enough(repo: &str, root: &Path, needed: u64, free: u64) -> Result<()> {
    if needed <= free {
        return Ok(());
    }
    Err(Error::new(
        Kind::File,
        format!(
            "{hf} {repo}: needs {needed} more bytes, {} has {free} free; make room, or name another folder with HF_HUB_CACHE",
            root.display(),
            hf = Field::Repository
        ),
    ))
}

fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| unwritable(path, &error))
}

fn folder_of(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), make_folder)
}

/// Returns the line for a write to the cache that failed.
pub(super) fn unwritable(path: &Path, error: &io::Error) -> Error {
    let what = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "the disk is full; make room, or name another folder with HF_HUB_CACHE; what is there is kept"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "may not be written; name another folder with HF_HUB_CACHE".to_owned()
        }
        _ => format!("cannot be written ({error}); name another folder with HF_HUB_CACHE"),
    };
    Error::new(Kind::File, format!("{}: {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(root.path(), &Repo::parse("u/r").unwrap());
        (root, cache)
    }

    fn file(path: &str, hash: char, size: u64) -> File {
        File { path: path.into(), size, checksum: Checksum::Sha256(hash.to_string().repeat(64)) }
    }

    #[test]
    fn repositories_by_name() {
        let (root, _) = cache();
        for name in
            ["models--b--two--parts", "models--a--one", "datasets--c--three", ".locks", "models--..--x"]
        {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        let names: Vec<String> = repositories(root.path()).unwrap().iter().map(Repo::to_string).collect();
        assert_eq!(names, ["a/one", "b/two--parts"]);
        assert!(repositories(&root.path().join("none")).unwrap().is_empty());
    }

    #[test]
    fn linked_files_are_listed_and_lost_ones_are_not() {
        let (_root, cache) = cache();
        assert_eq!(cache.list().unwrap(), None);
        let commit = "c".repeat(40);
        let files = [file("a.gguf", 'a', 3), file("deep/er/b.gguf", 'b', 3), file("lost.gguf", 'd', 3)];
        make_folder(&cache.home().join("blobs")).unwrap();
        for file in &files {
            fs::write(cache.blob(&file.checksum), &file.path[..3]).unwrap();
            cache.link(&commit, file).unwrap();
            cache.link(&commit, file).unwrap();
        }
        cache.write_ref(&commit).unwrap();
        assert_eq!(fs::read(cache.snapshot(&commit).join("deep/er/b.gguf")).unwrap(), b"dee");
        let link = fs::read_link(cache.snapshot(&commit).join("deep/er/b.gguf")).unwrap();
        assert_eq!(link, Path::new("../../../../blobs").join("b".repeat(64)));
        fs::remove_file(cache.blob(&files[2].checksum)).unwrap();
        assert_eq!(cache.list().unwrap().unwrap().names(), ["a.gguf", "deep/er/b.gguf"]);
    }

    #[test]
    fn a_blob_of_another_size_is_not_there() {
        let (_root, cache) = cache();
        let wanted = file("a.gguf", 'a', 3);
        make_folder(&cache.home().join("blobs")).unwrap();
        assert!(!cache.has(&wanted));
        fs::write(cache.blob(&wanted.checksum), "ab").unwrap();
        assert!(!cache.has(&wanted));
        fs::write(cache.blob(&wanted.checksum), "abc").unwrap();
        assert!(cache.has(&wanted));
    }

    #[test]
    fn room() {
        let (_root, cache) = cache();
        cache.room_for(&[&file("a.gguf", 'a', 100)]).unwrap();
        let error = cache.room_for(&[&file("a.gguf", 'a', u64::MAX / 2)]).unwrap_err().to_string();
        assert!(error.contains("u/r") && error.contains("HF_HUB_CACHE") && error.contains("free"), "{error}");
        // Content that is there needs no room.
        fs::write(cache.partial(&file("a.gguf", 'a', 0).checksum), "abc").unwrap();
        cache.room_for(&[&file("a.gguf", 'a', 3)]).unwrap();
    }

    #[test]
    fn a_full_disk_is_said() {
        let full = unwritable(Path::new("/c"), &io::Error::from(io::ErrorKind::StorageFull)).to_string();
        assert!(full.contains("disk is full"), "{full}");
    }
}
