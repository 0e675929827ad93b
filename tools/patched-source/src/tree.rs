use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use walkdir::WalkDir;

use crate::Error;

/// The top-level entries that the libraries ggml, llama and mtmd are built from. `common`, the
/// tools, the server and the examples are left behind.
const BUILT: [&str; 8] =
    ["CMakeLists.txt", "LICENSE", "cmake", "ggml", "include", "src", "tools/mtmd", "vendor"];

/// A source tree in memory: file contents by path, relative and with `/`.
///
/// The whole tree (about 33 MB) is held so that nothing is written before every patch has fitted.
#[derive(Debug, Default)]
pub struct Tree {
    files: BTreeMap<String, Vec<u8>>,
}

/// What [`Tree::write_to`] changed on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Files whose content differed or that were not there.
    pub written: usize,
    /// Files that the tree does not have.
    pub removed: usize,
}

impl Tree {
    /// Reads the part of the llama.cpp source in `dir` that gets built.
    ///
    /// # Errors
    /// Something that must be there cannot be read.
    pub fn pristine(dir: &Path) -> Result<Self, Error> {
        let mut tree = Self::default();
        for entry in BUILT {
            tree.read(dir, &dir.join(entry))?;
        }
        Ok(tree)
    }

    fn read(&mut self, root: &Path, from: &Path) -> Result<(), Error> {
        for entry in WalkDir::new(from).sort_by_file_name() {
            let entry = entry.map_err(|e| Error::Io { path: from.to_path_buf(), source: e.into() })?;
            if entry.file_type().is_dir() {
                continue;
            }
            let content = fs::read(entry.path()).map_err(Error::io(entry.path()))?;
            self.files.insert(relative(root, entry.path()), content);
        }
        Ok(())
    }

    /// Adds the files of `dir` at their paths below it. A directory that is not there adds none.
    ///
    /// # Errors
    /// [`Error::Shadows`] if the tree has one of them already.
    pub fn overlay(&mut self, dir: &Path) -> Result<(), Error> {
        if !dir.exists() {
            return Ok(());
        }
        let mut added = Self::default();
        added.read(dir, dir)?;
        for (file, content) in added.files {
            if self.files.contains_key(&file) {
                return Err(Error::Shadows { overlay: dir.to_path_buf(), file });
            }
            self.files.insert(file, content);
        }
        Ok(())
    }

    /// The content of `file`.
    pub fn get(&self, file: &str) -> Option<&[u8]> {
        self.files.get(file).map(Vec::as_slice)
    }

    /// Sets the content of `file`.
    pub fn insert(&mut self, file: impl Into<String>, content: impl Into<Vec<u8>>) {
        self.files.insert(file.into(), content.into());
    }

    /// Makes `dir` hold exactly this tree. Files that have the right content already are left
    /// alone, times included, so that an incremental C++ build compiles what changed and no more.
    ///
    /// # Errors
    /// Something cannot be read, written or removed.
    pub fn write_to(&self, dir: &Path) -> Result<Written, Error> {
        let mut done = Written::default();
        fs::create_dir_all(dir).map_err(Error::io(dir))?;
        for entry in WalkDir::new(dir).contents_first(true).min_depth(1) {
            let entry = entry.map_err(|e| Error::Io { path: dir.to_path_buf(), source: e.into() })?;
            let path = entry.path();
            if entry.file_type().is_dir() {
                // Fails, as it should, on every directory that still holds something.
                let _ = fs::remove_dir(path);
            } else if !self.files.contains_key(&relative(dir, path)) {
                fs::remove_file(path).map_err(Error::io(path))?;
                done.removed += 1;
            }
        }
        for (file, content) in &self.files {
            let path = dir.join(file);
            if fs::read(&path).is_ok_and(|there| there == *content) {
                continue;
            }
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(Error::io(parent))?;
            }
            fs::write(&path, content).map_err(Error::io(&path))?;
            done.written += 1;
        }
        Ok(done)
    }
}

/// `path` below `root`, with `/` on every system, as diffs write it.
pub(crate) fn relative(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    below.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}
