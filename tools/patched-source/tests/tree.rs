//! What is written, and what is left alone.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use patched_source::{Error, Layout, Tree, Written, digest};

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    fs::write(path, text).expect("a written file");
}

fn tree(files: &[(&str, &str)]) -> Tree {
    let mut tree = Tree::default();
    for (file, text) in files {
        tree.insert(*file, *text);
    }
    tree
}

#[test]
fn unchanged_files_keep_their_times() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = |file: &str| dir.path().join(file);
    let before = tree(&[("src/a.c", "a"), ("src/b.c", "b"), ("old/c.c", "c")]);
    let all = Written { written: 3, removed: 0 };
    assert_eq!(before.write_to(dir.path()).expect("a written tree"), all);

    let past = SystemTime::now() - Duration::from_secs(1000);
    for file in ["src/a.c", "src/b.c"] {
        let file = fs::File::options().write(true).open(at(file)).expect("an open file");
        file.set_modified(past).expect("a set time");
    }
    assert_eq!(before.write_to(dir.path()).expect("a written tree"), Written::default());

    let after = tree(&[("src/a.c", "a"), ("src/b.c", "B")]);
    let one = Written { written: 1, removed: 1 };
    assert_eq!(after.write_to(dir.path()).expect("a written tree"), one);
    let modified = |file: &str| fs::metadata(at(file)).and_then(|m| m.modified()).expect("a time");
    assert_eq!(modified("src/a.c"), past);
    assert!(modified("src/b.c") > past);
    assert!(!at("old/c.c").exists());
}

#[test]
fn an_overlay_adds_files_and_replaces_none() {
    let overlay = tempfile::tempdir().expect("a temporary directory");
    write(&overlay.path().join("src/new.c"), "new");
    let mut tree = tree(&[("src/a.c", "a")]);
    tree.overlay(overlay.path()).expect("a laid overlay");
    assert_eq!(tree.get("src/new.c"), Some(b"new".as_slice()));

    let error = tree.overlay(overlay.path()).expect_err("a file twice");
    assert!(matches!(&error, Error::Shadows { file, .. } if file == "src/new.c"), "{error}");
    assert_eq!(error.to_string().lines().count(), 1);
    tree.overlay(&overlay.path().join("none")).expect("no overlay is an empty one");
}

#[test]
fn the_digest_tells_any_change_of_the_series_or_the_overlay() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let layout = Layout::of_checkout(root.path());
    let patches = root.path().join("patches");
    write(&patches.join("series"), "a.patch\nb.patch\n");
    write(&patches.join("a.patch"), "a");
    write(&patches.join("b.patch"), "b");
    write(&patches.join("overlay/src/x.c"), "x");
    let now = || digest(&layout).expect("a digest");
    let start = now();
    assert_eq!(start.len(), 64);
    assert_eq!(start, now());

    write(&patches.join("README.md"), "prose does not count");
    write(&patches.join("series"), "# nor do comments\na.patch\nb.patch\n");
    assert_eq!(start, now());

    let changes: [(&str, &str, &str); 4] = [
        ("series", "b.patch\na.patch\n", "a.patch\nb.patch\n"),
        ("a.patch", "A", "a"),
        ("overlay/src/x.c", "X", "x"),
        ("overlay/src/x.c", "", "x"),
    ];
    for (file, changed, original) in changes {
        write(&patches.join(file), changed);
        assert_ne!(start, now(), "{file}: {changed}");
        write(&patches.join(file), original);
        assert_eq!(start, now());
    }
    fs::rename(patches.join("overlay/src/x.c"), patches.join("overlay/src/y.c")).expect("a rename");
    assert_ne!(start, now());
}
