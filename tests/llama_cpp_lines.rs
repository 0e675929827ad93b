//! Command lines that llama.cpp's users have at hand, each read by our program.

use std::path::Path;
use std::process::{Command, Output, Stdio};

const LINES: &str = include_str!("fixtures/llama_cpp_lines.txt");

struct Line<'a> {
    text: &'a str,
    words: Vec<String>,
    /// How the error begins.
    error: Option<&'a str>,
    /// The flag that a note names.
    noted: Option<&'a str>,
}

fn lines() -> Vec<Line<'static>> {
    let lines = LINES.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|text| {
            let (rest, error) =
                text.split_once(" => ").map_or((text, None), |(rest, error)| (rest, Some(error)));
            let (rest, noted) =
                rest.split_once(" ~ ").map_or((rest, None), |(rest, flag)| (rest, Some(flag)));
            Line { text, words: shlex::split(rest).unwrap(), error, noted }
        })
        .collect()
}

fn run(words: &[String]) -> Output {
    let demo = |name: &str| format!("{}/models/demo/{name}", env!("CARGO_MANIFEST_DIR"));
    let words = words.iter().map(|word| match word.as_str() {
        "MODEL" => demo("text.gguf"),
        "MMPROJ" => demo("mmproj.gguf"),
        "IMAGE" => demo("images/scene-448.png"),
        "REPO" => "someone/nothing".to_owned(),
        word => word.to_owned(),
    });
    Command::new(env!("CARGO_BIN_EXE_illava"))
        .args(words)
        .env("HF_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-hub"))
        .env("LLAMA_ARG_OFFLINE", "1")
        .env("OMP_WAIT_POLICY", "passive")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn there_are_fifty() {
    assert!(lines().len() >= 50, "{}", lines().len());
}

/// Lines that answer do; the rest ends where it needs what is not there, never at a flag.
#[test]
fn each_runs_or_says_why_not() {
    for line in lines().iter().filter(|line| line.words[0] == "run" || line.error.is_some()) {
        let output = run(&line.words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let has = |flag: &str| line.words.iter().any(|word| word == flag);
        let expected = match line.error {
            Some(error) => Some((2, error)),
            None if has("-hf") => Some((1, "-hf someone/nothing: offline")),
            None if !has("-p") => Some((2, "no prompt: stdin is empty")),
            None => None,
        };
        match expected {
            Some((code, error)) => {
                assert_eq!(output.status.code(), Some(code), "{}\n{said}", line.text);
                let found = said.lines().any(|line| line.starts_with(&format!("error: {error}")));
                assert!(found, "{}\n{said}", line.text);
            }
            None => {
                assert!(output.status.success(), "{}\n{said}", line.text);
                assert!(!output.stdout.is_empty(), "{}", line.text);
            }
        }
        noted(line, &said);
    }
}

/// A server's worker that finds no model ends at once, behind all flags.
#[test]
fn each_server_gets_to_its_model() {
    for line in lines().iter().filter(|line| line.words[0] == "serve" && line.error.is_none()) {
        let words: Vec<String> = line
            .words
            .iter()
            .map(|word| match word.as_str() {
                "MODEL" => "no-such-model.gguf".to_owned(),
                "chat.jinja" => format!("{}/tests/fixtures/llama_cpp_lines.txt", env!("CARGO_MANIFEST_DIR")),
                word => word.to_owned(),
            })
            .collect();
        let output = run(&words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{}\n{said}", line.text);
        assert!(
            said.contains("no-such-model.gguf: no such file") || said.contains("someone/nothing"),
            "{said}"
        );
        noted(line, &said);
    }
}

fn noted(line: &Line, said: &str) {
    let notes: Vec<&str> = said.lines().filter(|line| line.starts_with("note: -")).collect();
    match line.noted {
        Some(flag) => assert!(
            notes.iter().any(|note| note.starts_with(&format!("note: {flag}: "))),
            "{}\n{said}",
            line.text
        ),
        None => assert!(notes.is_empty(), "{}\n{said}", line.text),
    }
}
