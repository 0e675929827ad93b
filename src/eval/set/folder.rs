//! Sets of several files: a folder of parquet files as Hugging Face datasets lie on a disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::Field;

/// Splits in the order in which one is taken. The first whose questions have answers counts.
const ORDER: [&str; 6] = ["test", "validation", "val", "dev", "testmini", "train"];
/// Folders below one another that are looked into.
const DEEPEST: usize = 4;
const LAYOUTS: [&str; 4] = ["parquet", "tsv", "jsonl", "json"];

/// Returns the files of one split in a folder, in the order of their names. `answered` tells whether the first
/// question of a file has an answer.
pub fn files(
    folder: &Path,
    split: Option<&str>,
    answered: impl Fn(&Path) -> bool,
) -> Result<Vec<PathBuf>, String> {
    let mut found: BTreeMap<&str, Vec<PathBuf>> = BTreeMap::new();
    gather(folder, 0, &mut found);
    let Some((layout, mut files)) = LAYOUTS.iter().find_map(|layout| found.remove_entry(layout)) else {
        return Err(format!("no set in this folder; give one with {} files", LAYOUTS.join(", ")));
    };
    files.sort();
    let mut splits: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for file in files {
        let name = if layout == "parquet" { split_of(&file) } else { String::new() };
        splits.entry(name).or_default().push(file);
    }
    let names = || splits.keys().cloned().collect::<Vec<_>>().join(", ");
    let chosen = match split {
        Some(split) => splits.contains_key(split).then(|| split.to_owned()),
        None if splits.len() == 1 => splits.keys().next().cloned(),
        None => {
            let there = ORDER.iter().filter(|name| splits.contains_key(**name));
            let mut there = there.map(|name| (*name).to_owned());
            there.find(|name| splits[name].first().is_some_and(|file| answered(file)))
        }
    };
    let Some(chosen) = chosen else {
        return Err(match split {
            Some(split) => format!("no split {split}; there are {}", names()),
            None => format!("no split with answers among {}; give {}", names(), Field::Split),
        });
    };
    let files = splits.remove(&chosen).unwrap_or_default();
    match files.len() > 1 && layout != "parquet" {
        true => Err(format!("several {layout} files in this folder; give one of them")),
        false => Ok(files),
    }
}

fn gather(folder: &Path, depth: usize, found: &mut BTreeMap<&str, Vec<PathBuf>>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if depth < DEEPEST {
                gather(&path, depth + 1, found);
            }
            continue;
        }
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        if let Some(layout) = LAYOUTS.iter().find(|layout| ending.as_deref() == Some(**layout)) {
            // Videos have descriptions of their own far below; a set's own table lies above them.
            if *layout == "parquet" || depth == 0 {
                found.entry(layout).or_default().push(path);
            }
        }
    }
}

/// Returns the split of `validation-00000-of-00005.parquet`, or of `validation/0000.parquet`.
fn split_of(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    match stem.split_once('-') {
        Some((split, rest)) if rest.starts_with(|c: char| c.is_ascii_digit()) => split.to_owned(),
        _ if stem.chars().all(|c| c.is_ascii_digit()) => {
            file.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned()
        }
        _ => stem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_split_is_taken_with_all_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for file in [
            "Art/dev-00000-of-00001.parquet",
            "Art/validation-00000-of-00001.parquet",
            "Art/test-00000-of-00001.parquet",
            "Music/validation-00000-of-00001.parquet",
        ] {
            std::fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            std::fs::write(root.join(file), "").unwrap();
        }
        let answered = |file: &Path| !file.to_string_lossy().contains("test-");
        let found = files(root, None, answered).unwrap();
        assert_eq!(found.len(), 2, "the test split has no answers: {found:?}");
        assert!(found.iter().all(|file| file.to_string_lossy().contains("validation-")));
        assert_eq!(files(root, Some("dev"), answered).unwrap().len(), 1);
        assert!(
            files(root, Some("train"), answered).unwrap_err().contains("there are dev, test, validation")
        );
        assert!(files(root, None, |_| false).unwrap_err().contains("no split with answers"));
        assert!(files(&root.join("none"), None, answered).unwrap_err().contains("no set in this folder"));
        assert_eq!(split_of(Path::new("a/validation/0000.parquet")), "validation");
    }
}
