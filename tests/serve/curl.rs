//! Curl lines of the documentation, as a reader would paste them. A line without a check here is an error.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::clip::clip;
use super::served::Served;

/// The paragraphs with curl in the shell blocks of a file.
fn commands(file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let paragraphs = blocks.flat_map(|block| block.split("\n\n"));
    paragraphs.filter(|text| text.contains("curl ")).map(str::to_owned).collect()
}

/// Runs a command by a shell in `folder`. Returns its output.
fn pasted(command: &str, folder: &Path, address: &str) -> String {
    let command = command.replace("localhost:8080", address);
    // Errors of HTTP are answers to look at; the progress meter is not.
    let command = command.replace("curl ", "curl -sS ");
    let done = Command::new("sh").arg("-c").arg(&command).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn content(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).unwrap_or_else(|error| panic!("{error}: {answer}"));
    let choice = &answer["choices"][0];
    assert!(answer["usage"]["completion_tokens"].as_u64().is_some_and(|n| n > 0), "{answer}");
    assert!(["stop", "length"].contains(&choice["finish_reason"].as_str().unwrap()), "{answer}");
    choice["message"]["content"].as_str().unwrap().to_owned()
}

fn streamed(answer: &str) {
    let lines: Vec<&str> = answer.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let (last, chunks) = lines.split_last().unwrap_or_else(|| panic!("no events: {answer}"));
    assert_eq!(*last, "[DONE]", "{answer}");
    let chunks: Vec<Value> = chunks.iter().map(|chunk| serde_json::from_str(chunk).unwrap()).collect();
    let text: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert!(!text.is_empty(), "{answer}");
}

fn report(answer: &str) -> Value {
    content(answer);
    serde_json::from_str::<Value>(answer).unwrap()["report"].clone()
}

fn folder() -> PathBuf {
    let folder = PathBuf::from(super::binary::scratch("curl"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(super::binary::picture("curl.png", 96, 72), folder.join("photo.png")).unwrap();
    folder
}

#[test]
fn every_line_of_the_documentation_works() {
    let folder = folder();
    let has_clip = clip(&folder.join("clip.mp4"), "96x72", 8);
    let media = folder.display().to_string();
    let served = Served::start("siglip-qwen2-f32", &["--media-path", &media, "-n", "200", "--metrics"]);
    let address = served.caller.0.to_string();
    let mut checked = Vec::new();
    for command in ["README.md", "docs/serve.md"].into_iter().flat_map(commands) {
        let kinds = ["/health", "Say hello", "base64,", "\"keep\": 0.5", "json_schema", "video_url"];
        let Some(kind) = kinds.into_iter().find(|kind| command.contains(kind)) else {
            panic!("nobody checks what this prints: {command}");
        };
        checked.push(kind);
        if kind == "video_url" && !has_clip {
            continue;
        }
        let answer = pasted(&command, &folder, &address);
        match kind {
            "/health" => assert_eq!(answer, r#"{"status":"ok"}"#),
            "base64," if command.contains("\"stream\": true") => streamed(&answer),
            "\"keep\": 0.5" => {
                let tokens = &report(&answer)["tokens"];
                let all = tokens["visual"].as_u64().unwrap();
                let kept =
                    tokens["visual_kv"].as_array().unwrap().last().unwrap()["tokens"].as_u64().unwrap();
                assert!(kept.abs_diff(all / 2) <= 1, "{tokens}");
            }
            "json_schema" => {
                let value: Value = serde_json::from_str(&content(&answer)).unwrap();
                assert!(["red", "green", "blue"].contains(&value["colour"].as_str().unwrap()), "{value}");
                assert!([1, 2, 3].contains(&value["number"].as_i64().unwrap()), "{value}");
            }
            _ => assert!(!content(&answer).is_empty(), "{answer}"),
        }
    }
    // README has one about a picture; all kinds are in docs/serve.md.
    assert!(checked.len() >= 7, "{checked:?}");
}
