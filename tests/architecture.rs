//! Holds the edges between the parts of the program: who may know whom, and where unsafe code is.

#[path = "architecture/words.rs"]
mod words;

use std::fs;
use std::path::{Path, PathBuf};

/// A part of the program, the parts it may know beside itself and `error`, and the outside crates that are its own
/// matter: no part that does not list them may name them.
const PARTS: &[(&str, &[&str], &[&str])] = &[
    ("error.rs", &[], &[]),
    ("assembly", &[], &[]),
    ("file.rs", &[], &[]),
    ("hub", &["file"], &[]),
    ("media", &["file"], &[]),
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
    (
        "answer",
        &["file", "media", "native", "pair", "prompt", "report", "request", "schedule", "see", "stop"],
        &[],
    ),
    ("model.rs", &["answer", "media", "pair", "prompt", "report", "request", "schedule", "stop"], &[]),
    ("bench", &["answer", "media", "plot", "prompt", "report", "schedule", "see"], &[]),
    ("eval", &["answer", "file", "media", "plot", "prompt", "report", "schedule", "see", "stop"], &[]),
    ("worker", &["answer", "media", "pair", "prompt", "report", "request", "schedule", "see", "stop"], &[]),
    ("completion.rs", &["report", "request", "worker"], &[]),
    ("server", &["completion", "media", "prompt", "report", "request", "schedule", "worker"], &["tokio"]),
    (
        "cli",
        &[
            "answer",
            "bench",
            "completion",
            "eval",
            "explain",
            "file",
            "hub",
            "media",
            "pair",
            "plot",
            "prompt",
            "report",
            "request",
            "schedule",
            "see",
            "server",
            "stop",
            "worker",
        ],
        &["clap"],
    ),
];
const OUTSIDE: [&str; 4] = ["clap", "llama_cpp_2", "llama_cpp_sys_2", "tokio"];

/// A part's name as paths have it.
fn module(part: &str) -> &str {
    part.trim_end_matches(".rs")
}

/// Returns the names that the files of `part` must not mention.
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

/// A file's module: `see::cache` of src/see/cache.rs, `see` of src/see/mod.rs.
fn path_of(file: &Path) -> Vec<String> {
    let source = source();
    let inner = file.strip_prefix(&source).unwrap().with_extension("");
    let mut path: Vec<String> =
        inner.iter().map(|name| name.to_string_lossy().into_owned()).filter(|name| name != "mod").collect();
    path.retain(|name| !name.is_empty());
    path
}

/// Every path behind `super::` or `crate::` in `text`, lists in braces one by one; of a file of module `own`.
fn named_by(text: &str, own: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (word, mut path) in [("crate::", Vec::new()), ("super::", own[..own.len() - 1].to_vec())] {
        for (at, _) in text.match_indices(word).filter(|(at, _)| !text[..*at].ends_with("::")) {
            let mut rest = &text[at + word.len()..];
            let mut base = path.clone();
            while let Some(more) = rest.strip_prefix("super::") {
                base.pop();
                rest = more;
            }
            spread(rest, &mut base, &mut found);
        }
        path.clear();
    }
    found
}

/// Reads one path or a list of paths off `text`, each behind `base`; returns what follows.
fn spread<'a>(text: &'a str, base: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        while !rest.trim_start().starts_with('}') && !rest.trim().is_empty() {
            rest = spread(rest, base, found).trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        return rest.trim_start().strip_prefix('}').unwrap_or(rest);
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    base.push(name.to_owned());
    let rest = match rest.strip_prefix("::") {
        Some(rest) if end > 0 => spread(rest, base, found),
        _ => {
            found.push(base.clone());
            let end = rest
                .find([',', '}', ';', '\n'])
                .unwrap_or(rest.len())
                .max(usize::from(end == 0 && !rest.is_empty()));
            &rest[if rest.starts_with(" as ") || end == 1 { end } else { 0 }..]
        }
    };
    base.pop();
    rest
}

/// Files that name one another in a circle can only be read together. A folder's own file gathers what is in it.
#[test]
fn no_circles_of_files() {
    let parts = PARTS.iter().flat_map(|part| files(&source().join(part.0)));
    let of_tests = |file: &PathBuf| {
        file.components().any(|part| part.as_os_str() == "tests") || file.ends_with("tests.rs")
    };
    let modules: Vec<(Vec<String>, PathBuf)> =
        parts.filter(|file| !of_tests(file)).map(|file| (path_of(&file), file)).collect();
    let edges: Vec<Vec<usize>> = modules
        .iter()
        .map(|(own, file)| {
            let text: String = before_tests(file).map(|(_, line)| line + "\n").collect();
            let named = named_by(&text, own);
            let known = |path: &Vec<String>| {
                (1..=path.len()).rev().find_map(|n| modules.iter().position(|(other, _)| other == &path[..n]))
            };
            let mut found: Vec<usize> = named.iter().filter_map(known).collect();
            found.retain(|&other| !own.starts_with(&modules[other].0));
            found
        })
        .collect();
    // Files that name none of those left, or are named by none of them, go until only circles are left.
    let mut left: Vec<usize> = (0..modules.len()).collect();
    loop {
        let before = left.len();
        let now = left.clone();
        left.retain(|&i| edges[i].iter().any(|other| now.contains(other)));
        let now = left.clone();
        left.retain(|i| now.iter().any(|&other| edges[other].contains(i)));
        if left.len() == before {
            break;
        }
    }
    let names: Vec<String> = left.iter().map(|&i| modules[i].0.join("::")).collect();
    assert!(edges.iter().flatten().count() > 200, "the check sees too few edges");
    assert!(names.is_empty(), "in a circle: {}", names.join(", "));
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

/// The name of a command line's flag in a text of `line`, if there is one: `-c`, `--keep`.
fn flag(line: &str) -> Option<&str> {
    let texts = line.split('"').skip(1).step_by(2);
    texts.flat_map(|text| text.split([' ', '(', '`', '\''])).find(|word| {
        let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).unwrap_or_default();
        name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.ends_with('-')
    })
}

#[test]
fn only_faces_know_flags() {
    // Decoders of pictures and videos name the flags of other programs.
    let other = |file: &Path| file.components().any(|part| part.as_os_str() == "media");
    let rust = PARTS
        .iter()
        .filter(|part| !matches!(part.0, "cli" | "server"))
        .flat_map(|part| files(&source().join(part.0)));
    let overlay = every(&source().join("../patches/overlay"));
    assert!(overlay.len() > 20, "where is the overlay?");
    let mut wrong = Vec::new();
    for file in rust.filter(|file| !other(file)).chain(overlay) {
        for (number, line) in before_tests(&file) {
            if let Some(flag) = flag(&line) {
                wrong.push(format!("{}:{number}: names the flag {flag}; use a Field", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every file below `path`.
fn every(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    fs::read_dir(path).unwrap().flat_map(|entry| every(&entry.unwrap().path())).collect()
}

/// The file's code lines up to its unit tests.
fn before_tests(file: &Path) -> impl Iterator<Item = (usize, String)> {
    code(file).into_iter().take_while(|(_, line)| !(line.starts_with("#[cfg(") && line.contains("test")))
}

#[test]
fn the_check_sees_what_it_forbids() {
    for (line, found) in [
        (r#"format!("{} 2: give --keep", x)"#, Some("--keep")),
        (r#"throw error("leave out -c");"#, Some("-c")),
        (r#"Err("-ctv {}: no")"#, Some("-ctv")),
        (r#"text("well-known", -most, "a - b", "->", "-of-")"#, None),
    ] {
        assert_eq!(flag(line), found, "{line}");
    }
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
