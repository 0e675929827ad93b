//! Words of comments and pages: how a sentence begins, how long it is, and names that say nothing.

use std::fs;
use std::path::{Path, PathBuf};

use super::every;

/// A sentence names its subject first. These words begin a clause in its place.
const BEGINNINGS: [&str; 7] = ["What", "Whoever", "Of", "So", "Where", "Whose", "Who"];
/// Words of a sentence at most, in comments of src/ and on pages. A colon and a semicolon end a sentence, too.
const LONGEST: usize = 25;
/// The pages, and folders of pages.
const PAGES: [&str; 14] = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benches/README.md",
    "deploy/README.md",
    "docs",
    "fuzz/README.md",
    "models",
    "patches/README.md",
    "src/server/web/vendor/README.md",
    "tests/fixtures/README.md",
    "tools/demo/README.md",
    "tools/real/README.md",
];
/// Private words for usual ideas, which no type may have as its name. docs/glossary.md has the usual words.
const PRIVATE: [&str; 9] = ["Real", "Turns", "Letters", "Held", "Film", "Wish", "News", "Desk", "Talk"];

/// Sentences of `text`, code in them as one word.
fn sentences(text: &str) -> Vec<String> {
    let plain: String =
        text.split('`').enumerate().map(|(i, part)| if i % 2 == 0 { part } else { "X" }).collect();
    let mut found = vec![String::new()];
    for word in plain.split_whitespace() {
        let last = found.last_mut().expect("there is one");
        last.push_str(word);
        last.push(' ');
        if word.trim_end_matches([')', '"', '*']).ends_with(['.', '!', '?', ':', ';']) {
            found.push(String::new());
        }
    }
    found.retain(|sentence| !sentence.is_empty());
    found
}

/// Returns the fault of a sentence: its beginning, or more than `longest` words.
fn fault(sentence: &str, longest: usize) -> Option<String> {
    let first = sentence.split(|c: char| !c.is_alphanumeric() && c != '\'').find(|word| !word.is_empty())?;
    if BEGINNINGS.contains(&first) && !sentence.trim_end_matches([' ', '*']).ends_with('?') {
        return Some(format!("begins with {first}; name the thing first"));
    }
    let words = sentence.split_whitespace().filter(|word| word.contains(char::is_alphanumeric)).count();
    (words > longest).then(|| format!("{words} words; make it two sentences"))
}

/// The paragraphs of comments in the source text `code`, with the number of their first lines. Tables and code blocks are
/// left out.
fn comments(code: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let (mut open, mut block) = (false, false);
    for (number, line) in (1..).zip(code.lines()) {
        let line = line.trim_start();
        let text = ["///", "//!", "//"].iter().find_map(|mark| line.strip_prefix(mark)).map(str::trim);
        let fence = text.is_some_and(|text| text.starts_with("```"));
        block = text.is_some() && block != fence;
        match text.filter(|text| !fence && !block && !text.is_empty() && !text.starts_with(['#', '|'])) {
            Some(text) if open && !text.starts_with("- ") => {
                let last = &mut found.last_mut().expect("a paragraph is open").1;
                last.push(' ');
                last.push_str(text);
            }
            Some(text) => {
                open = true;
                found.push((number, text.trim_start_matches("- ").to_owned()));
            }
            None => open = false,
        }
    }
    found
}

/// The paragraphs, headings and items of a Markdown page, each on one line, with the numbers of their first lines. Tables
/// and code blocks are left out.
fn paragraphs(page: &str) -> Vec<(usize, String)> {
    let (mut open, mut block) = (false, false);
    let mut found: Vec<(usize, String)> = Vec::new();
    for (number, line) in (1..).zip(page.lines()) {
        let text = line.trim();
        let fence = text.starts_with("```");
        block ^= fence;
        if fence || block || text.is_empty() || text.starts_with('|') {
            open = false;
            continue;
        }
        let item = text.starts_with(['-', '*']) && text[1..].starts_with(' ')
            || text.split_once(". ").is_some_and(|(first, _)| first.chars().all(|c| c.is_ascii_digit()));
        if open && !item && !text.starts_with('#') {
            let last = &mut found.last_mut().expect("a paragraph is open").1;
            last.push(' ');
            last.push_str(text);
        } else {
            found.push((number, text.to_owned()));
        }
        open = !text.starts_with('#');
    }
    found
}

/// The table cells of a Markdown page, with their line numbers.
fn cells(page: &str) -> Vec<(usize, String)> {
    let rows = (1..).zip(page.lines()).filter(|(_, line)| line.trim_start().starts_with('|'));
    rows.flat_map(|(number, line)| line.split(" | ").map(move |cell| (number, cell.to_owned()))).collect()
}

fn with_ending(path: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = every(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
    found.retain(|file| file.extension().is_some_and(|own| endings.iter().any(|ending| *ending == own)));
    found
}

/// The faults of `files`, whose paragraphs `split` finds.
fn faults(files: &[PathBuf], split: fn(&str) -> Vec<(usize, String)>, longest: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files {
        for (number, paragraph) in split(&fs::read_to_string(file).unwrap()) {
            for sentence in sentences(&paragraph) {
                let why = fault(&sentence, longest);
                wrong.extend(why.map(|why| format!("{}:{number}: {sentence}: {why}", file.display())));
            }
        }
    }
    wrong
}

#[test]
fn comments_name_the_thing_first() {
    let source = with_ending("src", &["rs"]);
    let mut others = with_ending("tests", &["rs", "h", "cpp"]);
    others.extend(with_ending("patches/overlay", &["h", "cpp", "cuh", "cu", "metal"]));
    others.extend(
        ["examples", "fuzz/src", "fuzz/fuzz_targets", "build.rs"]
            .iter()
            .flat_map(|path| with_ending(path, &["rs"])),
    );
    assert!(source.len() > 200 && others.len() > 100, "the check sees too few files");
    let mut wrong = faults(&source, comments, LONGEST);
    wrong.extend(faults(&others, comments, usize::MAX));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pages_name_the_thing_first() {
    let pages: Vec<_> = PAGES.iter().flat_map(|path| with_ending(path, &["md"])).collect();
    assert!(pages.len() > 40, "the check sees too few pages");
    let mut wrong = faults(&pages, paragraphs, LONGEST);
    wrong.extend(faults(&pages, cells, LONGEST));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_type_has_a_private_name() {
    for file in with_ending("src", &["rs"]) {
        for line in fs::read_to_string(&file).unwrap().lines() {
            let mut words =
                line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
            let name = words
                .find(|word| ["struct", "enum", "trait", "type"].contains(word))
                .and_then(|_| words.next());
            assert!(!name.is_some_and(|name| PRIVATE.contains(&name)), "{}: {line}", file.display());
        }
    }
}

#[test]
fn the_check_of_words_sees_what_it_forbids() {
    for (sentence, wrong) in [
        ("What a thing is.", true),
        ("- *Of* two the first.", true),
        ("Whatever comes.", false),
        ("What is `it`?", false),
        ("Often it is so.", false),
        ("One two three four five six.", true),
        ("`a b c` is `d e f`, no more.", false),
    ] {
        let plain = sentences(sentence);
        assert_eq!(plain.iter().any(|one| fault(one, 5).is_some()), wrong, "{sentence}");
    }
    let code = "/// One\n/// two. So three.\n///\n/// ```\n/// Of code\n/// ```\nfn f() {}\n    // four\n";
    let found = comments(code);
    assert_eq!(found, [(1, "One two. So three.".to_owned()), (8, "four".to_owned())]);
    assert_eq!(sentences(&found[0].1), ["One two. ", "So three. "]);
    let page = "Text: so.\nMore.\n- item\n\n```sh\nOf code\n```\n## Head\nlast\n| a | Of b |\n";
    let found = paragraphs(page);
    let found: Vec<_> = found.iter().map(|(line, text)| (*line, text.as_str())).collect();
    assert_eq!(found, [(1, "Text: so. More."), (3, "- item"), (8, "## Head"), (9, "last")]);
    assert!(cells(page).iter().any(|(line, cell)| *line == 10 && cell.starts_with("Of b")));
}
