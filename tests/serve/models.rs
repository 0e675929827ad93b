//! `illava serve --models`: two real pairs from one file, one of them in memory at a time.

use serde_json::json;

use super::binary;
use super::http::{about, png};
use super::served::Served;

fn run(text: &str, more: &[&str]) -> (tempfile::TempDir, Served) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("models.toml");
    std::fs::write(&file, text).unwrap();
    let file = ["--models".to_owned(), file.to_str().unwrap().to_owned()];
    let served = Served::run(file.into_iter().chain(more.iter().map(|word| (*word).to_owned())), &[]);
    (folder, served)
}

/// The table of a pair of the test models.
fn table(name: &str, pair: &str, more: &str) -> String {
    let words = binary::pair(pair);
    let after = |flags: [&str; 2]| {
        let at = words.iter().position(|word| flags.contains(&word.as_str())).unwrap();
        words[at + 1].clone()
    };
    let (text, projector) = (after(["-m", "--model"]), after(["-mm", "--mmproj"]));
    format!("[models.{name}]\nmodel = '{text}'\nmmproj = '{projector}'\n{more}\n")
}

#[test]
fn two_pairs_take_turns() {
    let text = table("qwen", "siglip-qwen2-f32", "merge = 'paper'") + &table("llama", "clip-llama-f32", "");
    let (_folder, served) = run(&text, &["-c", "1024", "-np", "2", "-t", "2"]);
    let server = &served.caller;
    assert_eq!(served.worker(), "", "no worker before a request");
    let ask = |model: &str| {
        let mut body = about(&[&png(40, 30)], "what is it");
        for (field, value) in [("model", json!(model)), ("max_tokens", json!(4)), ("temperature", json!(0))] {
            body[field] = value;
        }
        let answer = server.chat(&body).json();
        assert_eq!(answer["model"], model, "{answer}");
        (answer["choices"][0]["message"]["content"].clone(), served.worker())
    };
    let (first, worker) = ask("qwen");
    let (_, other) = ask("llama");
    assert!(!worker.contains('\n') && !other.contains('\n'), "one worker at a time: {worker} {other}");
    assert_ne!(worker, other);
    assert_eq!(ask("qwen").0, first, "loaded anew, it answers as before");
    assert_eq!(server.get("/props?model=qwen").json()["illava"]["default_schedule"], "paper");
    assert_eq!(server.get("/props?model=llama").json()["illava"]["default_schedule"], "balanced");
}

#[test]
fn files_that_cannot_be_served() {
    for (text, part) in [
        ("[models.x]\nmodel = 'no/such.gguf'\nno-mmproj = true\n", "x: no/such.gguf"),
        ("[models.x]\nmodel = 'm.gguf'\nmerge = 'nonsense'\n", "x: "),
        ("[models.x]\nmodel = 'm.gguf'\nport = 1\n", "models.x.port: no flag of a model"),
        ("models = 3\n", "line 1"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("models.toml");
        std::fs::write(&file, text).unwrap();
        let args = ["serve", "--port", "0", "--models", file.to_str().unwrap()].map(str::to_owned);
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_illava")).args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(part), "{text}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
