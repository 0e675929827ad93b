//! Holds the edges between the parts of the program: who may know whom, and where unsafe code is.

use std::fs;
use std::path::{Path, PathBuf};

/// A module and the names its files must not mention.
const FORBIDDEN: [(&str, &[&str]); 15] = [
    (
        "assembly",
        &[
            "crate::native",
            "crate::engine",
            "crate::cli",
            "crate::media",
            "crate::prompt",
            "crate::report",
            "clap",
            "llama_cpp",
            "tokio",
        ],
    ),
    (
        "schedule",
        &[
            "crate::native",
            "crate::engine",
            "crate::cli",
            "crate::media",
            "crate::prompt",
            "crate::report",
            "clap",
            "llama_cpp",
            "tokio",
        ],
    ),
    (
        "media",
        &[
            "crate::native",
            "crate::engine",
            "crate::cli",
            "crate::schedule",
            "crate::prompt",
            "crate::report",
            "clap",
            "llama_cpp",
            "tokio",
        ],
    ),
    (
        "prompt",
        &[
            "crate::native",
            "crate::engine",
            "crate::cli",
            "crate::schedule",
            "crate::media",
            "crate::report",
            "clap",
            "llama_cpp",
            "tokio",
        ],
    ),
    (
        "report",
        &[
            "crate::native",
            "crate::engine",
            "crate::cli",
            "crate::schedule",
            "crate::media",
            "crate::prompt",
            "clap",
            "llama_cpp",
            "tokio",
        ],
    ),
    (
        "native",
        &[
            "crate::engine",
            "crate::cli",
            "crate::schedule",
            "crate::media",
            "crate::prompt",
            "crate::report",
            "clap",
        ],
    ),
    (
        "explain",
        &["crate::native", "crate::engine", "crate::cli", "crate::media", "clap", "llama_cpp", "tokio"],
    ),
    ("worker", &["crate::cli", "crate::server", "crate::native", "clap", "llama_cpp", "tokio"]),
    ("eval", &["crate::native", "crate::cli", "clap", "llama_cpp", "tokio"]),
    ("bench", &["crate::native", "crate::cli", "clap", "llama_cpp", "tokio"]),
    (
        "hub",
        &[
            "crate::native",
            "crate::engine",
            "crate::cli",
            "crate::schedule",
            "crate::media",
            "crate::prompt",
            "crate::report",
            "clap",
            "llama_cpp",
            "tokio",
        ],
    ),
    ("engine", &["crate::cli", "clap", "llama_cpp"]),
    ("server", &["crate::cli", "crate::engine", "crate::native", "clap", "llama_cpp"]),
    ("cli", &["crate::native", "llama_cpp_2", "llama_cpp_sys_2"]),
    ("error.rs", &["crate::", "clap", "llama_cpp"]),
];

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
        !before.is_some_and(|c| word(c) || c == '"')
            && (name.ends_with("::") || name == "llama_cpp" || !after.is_some_and(word))
    })
}

#[test]
fn edges() {
    let mut wrong = Vec::new();
    for (module, names) in FORBIDDEN {
        let found = files(&source().join(module));
        assert!(!found.is_empty(), "src/{module} has no files: has it moved?");
        for file in found {
            for (number, line) in code(&file) {
                for name in names.iter().filter(|name| mentions(&line, name)) {
                    wrong.push(format!("{}:{number}: {module} must not know {name}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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
        ("use llama_cpp_2::model;", "llama_cpp", true),
        ("unsafe { x() }", "unsafe", true),
        ("#![deny(unsafe_code)]", "unsafe", false),
    ] {
        assert_eq!(mentions(line, name), expected, "{line}");
    }
}
