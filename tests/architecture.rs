//! Holds the edges between the parts of the program: who may know whom, and where unsafe code is.

use std::fs;
use std::path::{Path, PathBuf};

/// A part of the program, the parts it may know beside itself and `error`, and the outside crates that are its own
/// matter: no part that does not list them may name them.
const PARTS: &[(&str, &[&str], &[&str])] = &[
    ("error.rs", &[], &[]),
    ("assembly", &[], &[]),
    ("hub", &[], &[]),
    ("media", &[], &[]),
    ("plot.rs", &[], &[]),
    ("prompt", &[], &[]),
    ("report", &[], &[]),
    ("schedule", &[], &[]),
    ("gbnf.rs", &[], &[]),
    ("request", &["gbnf", "media", "prompt", "schedule"], &[]),
    ("stop.rs", &[], &[]),
    ("native", &["gbnf"], &["llama_cpp_2", "llama_cpp_sys_2"]),
    ("explain", &["report"], &[]),
    ("see", &["assembly", "media", "native", "report", "schedule", "stop"], &[]),
    ("pair", &["assembly", "media", "native", "prompt", "report", "schedule", "see", "stop"], &[]),
    ("answer", &["media", "native", "pair", "prompt", "report", "request", "schedule", "see", "stop"], &[]),
    ("model.rs", &["answer", "media", "pair", "prompt", "report", "request", "schedule", "stop"], &[]),
    ("bench", &["answer", "media", "plot", "prompt", "report", "schedule", "see"], &[]),
    ("eval", &["answer", "media", "plot", "prompt", "report", "schedule", "see"], &[]),
    ("worker", &["answer", "media", "pair", "prompt", "report", "request", "schedule", "see", "stop"], &[]),
    ("server", &["media", "prompt", "report", "request", "schedule", "worker"], &["tokio"]),
    (
        "cli",
        &[
            "answer", "bench", "eval", "explain", "hub", "media", "pair", "plot", "prompt", "report",
            "request", "schedule", "see", "server", "stop", "worker",
        ],
        &["clap"],
    ),
];
const OUTSIDE: [&str; 4] = ["clap", "llama_cpp_2", "llama_cpp_sys_2", "tokio"];

/// A part's name as paths have it.
fn module(part: &str) -> &str {
    part.trim_end_matches(".rs")
}

/// What the files of `part` must not mention.
fn forbidden((part, known, outside): &(&str, &[&str], &[&str])) -> Vec<String> {
    let strange = |other: &&str| *other != module(part) && *other != "error" && !known.contains(other);
    let parts = PARTS.iter().map(|other| module(other.0)).filter(strange);
    let crates = OUTSIDE.iter().filter(|name| !outside.contains(name));
    parts.map(|other| format!("crate::{other}")).chain(crates.map(|name| (*name).to_owned())).collect()
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut found: Vec<PathBuf> =
        fs::read_dir(path).unwrap().flat_map(|entry| files(&entry.unwrap().path())).collect();
    found.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    found
}

/// The file's code lines with their numbers, without comments.
fn code(file: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(file).unwrap();
    text.lines()
        .enumerate()
        .map(|(i, line)| (i + 1, line.split("//").next().unwrap_or_default().to_owned()))
        .filter(|(_, line)| !line.trim().is_empty())
        .collect()
}

/// Whether `line` uses `name` as a path or crate, and not as part of a longer word.
fn mentions(line: &str, name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + name.len()..].chars().next();
        !before.is_some_and(|c| word(c) || c == '"') && (name.ends_with("::") || !after.is_some_and(word))
    })
}

#[test]
fn edges() {
    let mut wrong = Vec::new();
    for part in PARTS {
        let names = forbidden(part);
        let found = files(&source().join(part.0));
        assert!(!found.is_empty(), "src/{} has no files: has it moved?", part.0);
        for file in found {
            for (number, line) in code(&file) {
                for name in names.iter().filter(|name| mentions(&line, name)) {
                    wrong.push(format!("{}:{number}: {} must not know {name}", file.display(), part.0));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_part_is_listed() {
    let lib = fs::read_to_string(source().join("lib.rs")).unwrap();
    let declared = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let unlisted: Vec<&str> =
        declared.filter(|name| PARTS.iter().all(|part| module(part.0) != *name)).collect();
    assert!(unlisted.is_empty(), "{unlisted:?}");
}

#[test]
fn unsafe_code_stays_in_native_and_says_why() {
    let native = source().join("native");
    for file in files(&source()) {
        let text = fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if !mentions(code, "unsafe") {
                continue;
            }
            assert!(
                file.starts_with(&native),
                "{}:{}: unsafe code outside src/native",
                file.display(),
                i + 1
            );
            if code.contains("unsafe {") || code.contains("unsafe impl") {
                // The reason stands on the line, just above, or at the head of the block inside.
                let near = &lines[i.saturating_sub(4)..(i + 2).min(lines.len())];
                let said = near.iter().any(|line| line.contains("SAFETY"));
                assert!(said, "{}:{}: unsafe without a SAFETY line", file.display(), i + 1);
            }
        }
    }
    let lib = fs::read_to_string(source().join("lib.rs")).unwrap();
    assert!(lib.contains("#![deny(unsafe_code)]"));
}

#[test]
fn a_file_is_one_idea() {
    for file in files(&source()) {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines < 500, "{} has {lines} lines", file.display());
    }
}

#[test]
fn the_check_sees_what_it_forbids() {
    for (line, name, expected) in [
        ("use crate::native::Gguf;", "crate::native", true),
        ("use crate::natively::Gguf;", "crate::native", false),
        ("use clap::Parser;", "clap", true),
        ("let overclapping = 1;", "clap", false),
        ("use llama_cpp_2::model;", "llama_cpp_2", true),
        ("unsafe { x() }", "unsafe", true),
        ("#![deny(unsafe_code)]", "unsafe", false),
    ] {
        assert_eq!(mentions(line, name), expected, "{line}");
    }
}
