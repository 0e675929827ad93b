//! Folder of a public set: its name, and its videos wherever they lie below it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Folders below one another that are looked into.
const DEEPEST: usize = 8;
/// Files that are looked at.
const MOST: usize = 2_000_000;
const VIDEOS: [&str; 7] = ["mp4", "mkv", "webm", "avi", "mov", "m4v", "gif"];
/// Letters that a set may put before its videos' names, as ActivityNet does.
const BEFORE: [&str; 2] = ["", "v_"];

/// Name and folder of a set.
#[derive(Debug, Default)]
pub struct Place {
    /// Names of the file and of the two folders above it, in lower case, letters and digits only.
    pub name: String,
    folder: PathBuf,
    /// Files and folders below it by their name without an ending, in lower case. Read at the first question.
    below: OnceLock<HashMap<String, Vec<PathBuf>>>,
}

impl Place {
    /// Describes the set in `file`. Its videos lie in `media`, or beside the file.
    pub fn of(file: &Path, media: Option<&Path>) -> Self {
        let parts: Vec<String> = file.iter().map(|part| part.to_string_lossy().to_lowercase()).collect();
        let last = parts[parts.len().saturating_sub(3)..].concat();
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self {
            name: last.chars().filter(char::is_ascii_alphanumeric).collect(),
            folder: media.unwrap_or(folder).to_owned(),
            below: OnceLock::new(),
        }
    }

    /// Returns the path of a picture that a row names.
    pub fn picture(&self, name: &str) -> PathBuf {
        self.find(name, &["png", "jpg", "jpeg", "webp"], false).unwrap_or_else(|| self.folder.join(name))
    }

    /// Returns the path of a video that a row names, with or without its ending and folder. A video that is not
    /// there keeps its name, so that its question fails by it.
    pub fn video(&self, name: &str) -> OsString {
        self.find(name, &VIDEOS, true).unwrap_or_else(|| self.folder.join(name)).into_os_string()
    }

    /// Returns the file of a video's subtitles, if there is one.
    pub fn subtitles(&self, name: &str) -> Option<PathBuf> {
        self.find(name, &["srt"], false)
    }

    /// Finds a file with one of these endings; with `folders` a folder of frames, too.
    fn find(&self, name: &str, endings: &[&str], folders: bool) -> Option<PathBuf> {
        let name = name.trim().trim_end_matches('/').trim_start_matches("./");
        let exact = self.folder.join(name);
        if endings.iter().any(|ending| has_ending(&exact, ending)) && exact.exists()
            || folders && exact.is_dir()
        {
            return Some(exact);
        }
        let named = Path::new(name);
        let (folder, last) = (named.parent().unwrap_or(Path::new("")), named.file_name()?.to_str()?);
        let stem = match last.rsplit_once('.') {
            Some((stem, ending)) if VIDEOS.contains(&ending.to_lowercase().as_str()) || ending.len() <= 4 => {
                stem
            }
            _ => last,
        };
        let below = self.below.get_or_init(|| below(&self.folder));
        let candidates = BEFORE.iter().flat_map(|before| {
            let whole = [stem, last].map(|name| format!("{before}{name}").to_lowercase());
            whole.into_iter().filter_map(|key| below.get(&key)).flatten()
        });
        let fits = |path: &&PathBuf| {
            (endings.iter().any(|ending| has_ending(path, ending)) || folders && path.is_dir())
                && path.parent().is_some_and(|above| above.ends_with(folder))
        };
        candidates.filter(fits).min_by_key(|path| (path.components().count(), (*path).clone())).cloned()
    }
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|own| own.to_string_lossy().eq_ignore_ascii_case(ending))
}

fn below(folder: &Path) -> HashMap<String, Vec<PathBuf>> {
    let mut found: HashMap<String, Vec<PathBuf>> = HashMap::new();
    let mut open = vec![(folder.to_owned(), 0)];
    let mut count = 0;
    while let Some((folder, depth)) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            count += 1;
            if count > MOST {
                return found;
            }
            let path = entry.path();
            let is_folder = path.is_dir();
            let name = if is_folder { path.file_name() } else { path.file_stem() };
            let key = name.unwrap_or_default().to_string_lossy().to_lowercase();
            if is_folder && depth < DEEPEST {
                open.push((path.clone(), depth + 1));
            }
            found.entry(key).or_default().push(path);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn videos_are_found_wherever_they_lie() {
        let folder = tempfile::tempdir().unwrap();
        for file in
            ["set/a.mp4", "set/videos/deep/12.MP4", "set/all_test/v_x-1.mkv", "set/s/12.srt", "set/c/a.mp4"]
        {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let root = folder.path().join("set");
        let place = Place::of(&root.join("test.parquet"), None);
        for (name, there) in [
            ("a", "a.mp4"),
            ("a.mp4", "a.mp4"),
            ("c/a.mp4", "c/a.mp4"),
            ("12", "videos/deep/12.MP4"),
            ("./x-1.mp4", "all_test/v_x-1.mkv"),
            ("none.mp4", "none.mp4"),
        ] {
            assert_eq!(place.video(name), root.join(there).into_os_string(), "{name}");
        }
        assert_eq!(place.subtitles("12"), Some(root.join("s/12.srt")));
        assert_eq!(place.subtitles("a"), None);
        assert!(Place::of(Path::new("/sets/Chart-QA/data/test.parquet"), None).name.contains("chartqa"));
    }
}
