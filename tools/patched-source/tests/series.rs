//! What stops a build: every damage to the series is one line that names the place.

use std::fs;
use std::path::Path;

use patched_source::{Error, Series, Tree};
use tempfile::TempDir;

const FILE: &str = "src/sum.c";

/// Ten lines, `line 1` to `line 10`.
fn pristine() -> Tree {
    let text: String = (1..=10).map(|i| format!("line {i}\n")).collect();
    let mut tree = Tree::default();
    tree.insert(FILE, text);
    tree
}

/// A patch that puts `added` after line `after` of a file whose lines are `lines`.
fn insertion(lines: &[&str], after: usize, added: &str) -> String {
    let context = |i: usize| format!(" {}\n", lines[i]);
    let before: String = (after - 3..after).map(context).collect();
    let behind: String = (after..after + 3).map(context).collect();
    format!(
        "insert: a line\n\nWhat: a line.\n\ndiff --git a/{FILE} b/{FILE}\n--- a/{FILE}\n+++ \
         b/{FILE}\n@@ -{start},6 +{start},7 @@\n{before}+{added}\n{behind}",
        start = after - 2,
    )
}

fn numbered() -> Vec<&'static str> {
    vec!["line 1", "line 2", "line 3", "line 4", "line 5", "line 6", "line 7", "line 8", "line 9", "line 10"]
}

fn first() -> String {
    insertion(&numbered(), 3, "first")
}

/// Fits only on top of [`first`].
fn second() -> String {
    let mut lines = numbered();
    lines.insert(3, "first");
    insertion(&lines, 4, "second")
}

fn series(order: &str, patches: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    write(dir.path(), "series", order);
    for (name, text) in patches {
        write(dir.path(), name, text);
    }
    dir
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).expect("a written file");
}

fn apply(dir: &TempDir) -> Result<String, Error> {
    let mut tree = pristine();
    Series::read(dir.path())?.apply(&mut tree)?;
    Ok(String::from_utf8(tree.get(FILE).expect("the file").to_vec()).expect("text"))
}

/// The error, checked to be one line with all of `parts` in it and a remedy at its end.
#[track_caller]
fn refused(dir: &TempDir, parts: &[&str]) {
    let line = apply(dir).expect_err("a series that does not apply").to_string();
    assert_eq!(line.lines().count(), 1, "{line}");
    for part in parts.iter().chain(&["restore patches/"]) {
        assert!(line.contains(part), "`{part}` is not in: {line}");
    }
}

#[test]
fn patches_apply_in_the_order_of_the_series() {
    let dir = series(
        "# ours\nfirst.patch\n\nsecond.patch # on top\n",
        &[("first.patch", &first()), ("second.patch", &second())],
    );
    let text = apply(&dir).expect("a series that applies");
    assert!(text.starts_with("line 1\nline 2\nline 3\nfirst\nsecond\nline 4\n"), "{text}");
    assert_eq!(text.lines().count(), 12);
}

#[test]
fn a_reordered_series_is_refused() {
    let dir =
        series("second.patch\nfirst.patch\n", &[("first.patch", &first()), ("second.patch", &second())]);
    refused(&dir, &["second.patch", FILE, "hunk 1", "line 4 is `line 4` and not `first`"]);
}

#[test]
fn a_missing_patch_is_refused() {
    let dir = series("first.patch\nsecond.patch\n", &[("first.patch", &first())]);
    refused(&dir, &["series", "second.patch", "not there"]);
}

#[test]
fn a_patch_left_out_of_the_series_is_refused() {
    let dir = series("first.patch\n", &[("first.patch", &first()), ("second.patch", &second())]);
    refused(&dir, &["second.patch", "missing from it"]);
}

#[test]
fn a_patch_named_twice_is_refused() {
    let dir = series("first.patch\nfirst.patch\n", &[("first.patch", &first())]);
    refused(&dir, &["first.patch", "twice"]);
}

#[test]
fn a_patch_that_would_need_an_offset_is_refused() {
    let moved = first().replace("@@ -1,6 +1,7 @@", "@@ -3,6 +3,7 @@");
    let dir = series("first.patch\n", &[("first.patch", &moved)]);
    refused(&dir, &["first.patch", FILE, "hunk 1", "stand at line 1, not at 3"]);
}

#[test]
fn a_patch_that_would_need_fuzz_is_refused() {
    let fuzzy = first().replace(" line 6\n", " line six\n");
    let dir = series("first.patch\n", &[("first.patch", &fuzzy)]);
    refused(&dir, &["first.patch", FILE, "hunk 1", "line 6 is `line 6` and not `line six`"]);
}

#[test]
fn a_hunk_that_misstates_its_new_place_is_refused() {
    let wrong = first().replace("@@ -1,6 +1,7 @@", "@@ -1,6 +2,7 @@");
    let dir = series("first.patch\n", &[("first.patch", &wrong)]);
    refused(&dir, &["first.patch", "hunk 1", "would stand at line 1"]);
}

#[test]
fn damaged_patches_are_refused() {
    let cases = [
        ("a line of context lost", first().replace(" line 6\n", "")),
        ("a hunk header lost its numbers", first().replace("@@ -1,6 +1,7 @@", "@@ what @@")),
        ("no diff at all", "insert: a line\n".to_owned()),
        (
            "a new file",
            "diff --git a/x.c b/x.c\nnew file mode 100644\n--- /dev/null\n+++ b/x.c\n@@ -0,0 +1 \
             @@\n+x\n"
                .to_owned(),
        ),
        (
            "a rename",
            "diff --git a/x.c b/y.c\nsimilarity index 100%\nrename from x.c\nrename to y.c\n".to_owned(),
        ),
    ];
    for (what, text) in cases {
        let dir = series("first.patch\n", &[("first.patch", &text)]);
        let error = apply(&dir).expect_err(what);
        assert!(matches!(error, Error::Damaged { .. }), "{what}: {error}");
        refused(&dir, &["first.patch", "damaged"]);
    }
}

#[test]
fn a_patch_to_a_file_that_is_not_there_is_refused() {
    let dir = series("first.patch\n", &[("first.patch", &first().replace("sum.c", "other.c"))]);
    refused(&dir, &["first.patch", "src/other.c", "no such file"]);
}

#[test]
fn nothing_is_applied_from_a_series_with_a_bad_second_hunk() {
    let good = first();
    let bad = format!("{good}@@ -8,3 +9,3 @@\n line 8\n-line nine\n+line 9!\n line 10\n");
    let dir = series("first.patch\n", &[("first.patch", &bad)]);
    let mut tree = pristine();
    let error = Series::read(dir.path()).expect("a series").apply(&mut tree).expect_err("a misfit");
    assert!(error.to_string().contains("hunk 2"), "{error}");
    assert_eq!(tree.get(FILE), pristine().get(FILE));
}

#[test]
fn line_endings_and_a_missing_last_newline_are_kept() {
    let mut tree = Tree::default();
    tree.insert(FILE, "a\r\nb\r\nc");
    let text = format!(
        "x: y\n\ndiff --git a/{FILE} b/{FILE}\n--- a/{FILE}\n+++ b/{FILE}\n@@ -1,3 +1,3 @@\n \
         a\r\n-b\r\n+B\r\n c\n\\ No newline at end of file\n"
    );
    let dir = series("first.patch\n", &[("first.patch", &text)]);
    Series::read(dir.path()).expect("a series").apply(&mut tree).expect("an applied series");
    assert_eq!(tree.get(FILE), Some(b"a\r\nB\r\nc".as_slice()));
}
