use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use diffy::patch_set::{FileOperation, ParseOptions, PatchSet};
use diffy::{Hunk, Line};

use crate::{Error, Tree};

/// The patches in the order in which they apply.
#[derive(Debug)]
pub struct Series {
    patches: Vec<Patch>,
}

/// One patch of the series: a header of prose, then a git diff of files that upstream has.
#[derive(Debug)]
pub struct Patch {
    name: String,
    path: PathBuf,
    text: String,
}

/// What one patch does to one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePatch {
    /// The file's path in the tree.
    pub file: String,
    hunks: Vec<Change>,
}

/// One hunk: `before` must stand at line `old_start` (from 1) and becomes `after`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    title: String,
    old_start: usize,
    new_start: usize,
    before: Vec<Vec<u8>>,
    after: Vec<Vec<u8>>,
}

impl Series {
    /// Reads `dir/series` (a patch's file name a line, `#` begins a comment) and its patches.
    ///
    /// # Errors
    /// The series names a patch twice or one that is not there, or leaves one out that is.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let series = dir.join("series");
        let list = fs::read_to_string(&series).map_err(Error::io(&series))?;
        let entry = |patch: &str, fault| Error::SeriesEntry {
            series: series.clone(),
            patch: patch.to_owned(),
            fault,
        };
        let mut seen = BTreeSet::new();
        let mut patches = Vec::new();
        for name in list.lines().map(|l| l.split('#').next().unwrap_or("").trim()) {
            if name.is_empty() {
                continue;
            }
            if !seen.insert(name.to_owned()) {
                return Err(entry(name, "stands in it twice"));
            }
            let path = dir.join(name);
            if !path.is_file() {
                return Err(Error::MissingPatch { series, patch: name.to_owned() });
            }
            let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
            patches.push(Patch { name: name.to_owned(), path, text });
        }
        for file in fs::read_dir(dir).map_err(Error::io(dir))? {
            let name = file.map_err(Error::io(dir))?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".patch") && !seen.contains(&name) {
                return Err(entry(&name, "is missing from it"));
            }
        }
        Ok(Self { patches })
    }

    /// The patches, first to last.
    pub fn patches(&self) -> &[Patch] {
        &self.patches
    }

    /// Applies every patch to `tree`, each hunk at exactly the line it states.
    ///
    /// # Errors
    /// [`Error::Damaged`] or [`Error::Misfit`], with the patch, file and hunk.
    pub fn apply(&self, tree: &mut Tree) -> Result<(), Error> {
        self.patches.iter().try_for_each(|patch| patch.apply(tree))
    }
}

impl Patch {
    /// The file name, as the series has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the patch lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The prose above the first diff.
    pub fn header(&self) -> &str {
        self.split().0
    }

    /// What the header lacks of the parts that `patches/README.md` asks for; empty if nothing.
    pub fn header_faults(&self) -> Vec<String> {
        let header = self.header();
        let subject = format!("{}: ", self.name.trim_end_matches(".patch"));
        let mut faults = Vec::new();
        if !header.starts_with(&subject) {
            faults.push(format!("its first line does not begin with `{subject}`"));
        }
        for part in ["What:", "Why a patch:", "Test:", "Goes when:"] {
            let given = header.lines().find_map(|line| line.strip_prefix(part));
            if given.is_none_or(|text| text.trim().is_empty()) {
                faults.push(format!("it has no `{part}`"));
            }
        }
        faults
    }

    fn split(&self) -> (&str, &str) {
        let start = if self.text.starts_with("diff --git ") {
            0
        } else {
            self.text.find("\ndiff --git ").map_or(self.text.len(), |at| at + 1)
        };
        self.text.split_at(start)
    }

    /// The patch's diffs, parsed.
    ///
    /// # Errors
    /// [`Error::Damaged`] if there is none, one cannot be parsed, or one does anything but modify
    /// a text file in place.
    pub fn files(&self) -> Result<Vec<FilePatch>, Error> {
        let damaged = |fault: String| Error::Damaged { patch: self.path.clone(), fault };
        let mut files = Vec::new();
        for diff in PatchSet::parse(self.split().1, ParseOptions::gitdiff()) {
            let diff = diff.map_err(|e| damaged(one_line(&e.to_string())))?;
            let file = match diff.operation().strip_prefix(1) {
                FileOperation::Modify { original, modified } if original == modified => modified.into_owned(),
                FileOperation::Create(path) => {
                    return Err(damaged(format!("it adds {path}, but new files go in overlay/")));
                }
                other => return Err(damaged(format!("it does not only modify files ({other:?})"))),
            };
            let Some(text) = diff.patch().as_text() else {
                return Err(damaged(format!("{file} is changed as a binary file")));
            };
            let hunks = text.hunks().iter().map(Change::of).collect();
            files.push(FilePatch { file, hunks });
        }
        if files.is_empty() {
            return Err(damaged("it holds no git diff".into()));
        }
        Ok(files)
    }

    fn apply(&self, tree: &mut Tree) -> Result<(), Error> {
        for change in self.files()? {
            let misfit = |hunk: String, fault: String| Error::Misfit {
                patch: self.path.clone(),
                file: change.file.clone(),
                hunk,
                fault,
            };
            let Some(content) = tree.get(&change.file) else {
                return Err(misfit("1".into(), "the tree has no such file".into()));
            };
            let content = change.apply(content).map_err(|(hunk, fault)| misfit(hunk, fault))?;
            tree.insert(change.file.clone(), content);
        }
        Ok(())
    }
}

impl FilePatch {
    /// The changed content, or the hunk that does not fit and why.
    fn apply(&self, content: &[u8]) -> Result<Vec<u8>, (String, String)> {
        let old: Vec<&[u8]> = content.split_inclusive(|byte| *byte == b'\n').collect();
        let mut new: Vec<&[u8]> = Vec::with_capacity(old.len());
        let mut taken = 0;
        for (index, hunk) in self.hunks.iter().enumerate() {
            let fault = |fault: String| Err((format!("{} ({})", index + 1, hunk.title), fault));
            let start = hunk.old_start.saturating_sub(1);
            if hunk.before.is_empty() {
                return fault("it has no context lines to check".into());
            }
            if start < taken {
                return fault("it overlaps the hunk before it".into());
            }
            if let Some(line) = hunk.first_mismatch(&old, start) {
                return fault(hunk.explain(&old, start, line));
            }
            new.extend(&old[taken..start]);
            if new.len() != hunk.new_start.saturating_sub(1) {
                return fault(format!(
                    "its new text would stand at line {} and not where it says",
                    new.len() + 1
                ));
            }
            new.extend(hunk.after.iter().map(Vec::as_slice));
            taken = start + hunk.before.len();
        }
        new.extend(&old[taken..]);
        Ok(new.concat())
    }
}

impl Change {
    fn of(hunk: &Hunk<'_, str>) -> Self {
        let (old, new) = (hunk.old_range(), hunk.new_range());
        let side = |keep: fn(&Line<'_, str>) -> bool| {
            let lines = hunk.lines().iter().filter(|line| keep(line));
            lines.map(|line| text(line).as_bytes().to_vec()).collect()
        };
        Self {
            title: format!("-{},{} +{},{}", old.start(), old.len(), new.start(), new.len()),
            old_start: old.start(),
            new_start: new.start(),
            before: side(|line| !matches!(line, Line::Insert(_))),
            after: side(|line| !matches!(line, Line::Delete(_))),
        }
    }

    /// The first line (index into `before`) that `old` does not have from `start` on.
    fn first_mismatch(&self, old: &[&[u8]], start: usize) -> Option<usize> {
        (0..self.before.len()).find(|&i| old.get(start + i) != Some(&self.before[i].as_slice()))
    }

    /// Why the hunk does not fit at `start`, where line `line` of it differs.
    fn explain(&self, old: &[&[u8]], start: usize, line: usize) -> String {
        if let Some(at) = (0..old.len()).find(|&at| self.first_mismatch(old, at).is_none()) {
            return format!("its lines stand at line {}, not at {}", at + 1, start + 1);
        }
        let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let there = old.get(start + line).map_or("the end of the file".into(), |l| format!("`{}`", show(l)));
        format!("line {} is {there} and not `{}`", start + line + 1, show(&self.before[line]))
    }
}

fn text<'a>(line: &Line<'a, str>) -> &'a str {
    match line {
        Line::Context(text) | Line::Delete(text) | Line::Insert(text) => text,
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
