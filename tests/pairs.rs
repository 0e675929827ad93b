//! Text models alone, pairs that are none, pairs whose template cannot run, and every family's answer, by the real
//! program.

mod binary;
#[path = "serve/http.rs"]
mod http;
#[path = "serve/served.rs"]
mod served;

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use binary::{Outcome, illava};
use illava::native::Gguf;
use serde_json::json;
use served::Served;

fn models() -> PathBuf {
    std::env::var_os("ILLAVA_TEST_MODELS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-models"), PathBuf::from)
}

fn file(name: &str) -> String {
    models().join(name).to_str().expect("a path").to_owned()
}

fn call(arguments: &[&str]) -> Outcome {
    illava(&arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>())
}

/// A picture that the program can open.
fn picture(folder: &Path) -> String {
    let path = folder.join("picture.png");
    image::RgbImage::from_pixel(40, 30, image::Rgb([200, 30, 30])).save(&path).expect("a picture");
    path.to_str().expect("a path").to_owned()
}

/// A copy of `name` in which `old` stands as `new`, of the same length, everywhere.
fn changed(folder: &Path, name: &str, old: &str, new: &str) -> String {
    assert_eq!(old.len(), new.len());
    let mut bytes = std::fs::read(models().join(name)).expect("a model");
    let mut count = 0;
    for at in 0..bytes.len() - old.len() {
        if &bytes[at..at + old.len()] == old.as_bytes() {
            bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
            count += 1;
        }
    }
    assert!(count > 0, "{name} does not hold {old}");
    let path = folder.join(format!("changed-{}", name.replace('/', "-")));
    std::fs::write(&path, bytes).expect("a copy");
    path.to_str().expect("a path").to_owned()
}

#[test]
fn a_text_model_alone_answers_texts() {
    let folder = tempfile::tempdir().expect("a folder");
    for family in ["llava_next", "qwen2_vl"] {
        let text = file(&format!("hf-{family}-f32/text.gguf"));
        let run = ["run", "-m", &text, "-p", "what is it", "-n", "8", "--temp", "0"];
        let alone = call(&run);
        alone.exits(0, "");
        let projector = file(&format!("hf-{family}-f32/mmproj.gguf"));
        let pair = call(&[&run[..], &["-mm", &projector]].concat());
        assert_eq!(alone.stdout, pair.stdout, "{family}: a projector changes no answer to a text");
        let shown = call(&["inspect", "-m", &text]);
        shown.exits(0, "");
        assert!(shown.stdout.contains("none: texts alone"), "{}", shown.stdout);
        assert!(!shown.stdout.contains("cannot run"), "{}", shown.stdout);
        let picture = picture(folder.path());
        call(&[&run[..], &["--image", &picture]].concat()).fails(2, "no image projector: pictures");
    }
}

/// The lines of a chat on a terminal, typed as `lines`.
#[cfg(target_os = "linux")]
fn chat(arguments: &[&str], lines: &str) -> String {
    use std::io::Write;
    use std::process::{Command, Stdio};

    let program = std::iter::once(env!("CARGO_BIN_EXE_illava")).chain(arguments.iter().copied());
    let quoted: Vec<String> = program.map(|word| format!("'{word}'")).collect();
    // util-linux's script gives the program a terminal; the program leaves at /quit.
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--echo", "never", "--command", &quoted.join(" "), "/dev/null"])
        .env("TERM", "dumb")
        .env("XDG_STATE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script starts");
    child.stdin.as_mut().expect("a pipe").write_all(lines.as_bytes()).expect("lines are typed");
    let output = child.wait_with_output().expect("the chat ends");
    let shown = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    assert!(output.status.success(), "{shown}");
    shown
}

#[cfg(target_os = "linux")]
#[test]
fn a_text_model_alone_chats() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = file("hf-llava_next-f32/text.gguf");
    let run = ["run", "-m", &text, "-n", "8", "--temp", "0"];
    let answer = call(&[&run[..], &["-p", "what is it"]].concat()).stdout;
    let picture = picture(folder.path());
    let lines = format!("what is it\n/image {picture}\n/clear\nwhat is it\n/quit\n");
    let shown = chat(&run, &lines);
    assert_eq!(shown.matches(answer.trim()).count(), 2, "{answer:?} is not twice in {shown:?}");
    assert!(shown.contains("error: no image projector"), "{shown}");
    // The same chat sees with its projector.
    let projector = file("hf-llava_next-f32/mmproj.gguf");
    let seen =
        call(&[&run[..], &["-mm", &projector, "--image", &picture, "-p", "what is it"]].concat()).stdout;
    let lines = format!("/image {picture}\nwhat is it\n/quit\n");
    let shown = chat(&[&run[..], &["-mm", &projector]].concat(), &lines);
    assert!(shown.contains(seen.trim()), "{seen:?} is not in {shown:?}");
}

/// The answers of a chat, against those of the commands.
#[cfg(target_os = "linux")]
#[test]
fn a_chat_attaches_drops_repeats_and_saves() {
    let folder = tempfile::tempdir().expect("a folder");
    let named = folder.path().join("a b.png");
    std::fs::copy(picture(folder.path()), &named).expect("a copy");
    let (named, talk) = (named.display().to_string(), folder.path().join("talk.json"));
    let demo = |name: &str| format!("{}/models/demo/{name}", env!("CARGO_MANIFEST_DIR"));
    let (text, projector) = (demo("text.gguf"), demo("mmproj.gguf"));
    let lines = format!(
        "/image {named}\n/drop\n'{named}'\n\"\"\"\nwhat is\nit\n\"\"\"\n/regen\n/merge 35%\n/save {}\n/merge most\n/quit\n",
        talk.display()
    );
    let shown = chat(&["run", "-m", &text, "-mm", &projector, "--temp", "0", "-n", "8", "-v"], &lines);
    assert_eq!(shown.matches(&format!("attached {named}: ")).count(), 2, "{shown}");
    assert!(shown.contains("left out") && shown.contains("--merge most"), "{shown}");
    assert_eq!(shown.matches("tokens: visual 196 > ").count(), 2, "{shown}");
    let messages: serde_json::Value =
        serde_json::from_slice(&std::fs::read(talk).expect("a transcript")).expect("JSON");
    assert_eq!(messages.as_array().map(Vec::len), Some(2), "{messages}");
    assert_eq!(messages[0]["content"][0]["image_url"]["url"], named.as_str());
    assert_eq!(messages[0]["content"][1]["text"], "what is\nit");
}

#[test]
fn a_pair_of_two_families_is_none() {
    let (text, projector) = (file("hf-qwen2_vl-f32/text.gguf"), file("siglip-qwen2-f32/mmproj.gguf"));
    call(&["run", "-m", &text, "-mm", &projector, "-p", "hi"]).fails(1, "not a pair");
    let shown = call(&["inspect", "-m", &text, "-mm", &projector]);
    assert!(shown.stdout.contains("no: mmproj.gguf gives embeddings"), "{}", shown.stdout);
    // Both are equally wide.
    let width = |name: &str, key: &str| Gguf::open(&models().join(name)).expect("a file").u32(key);
    let wide = "siglip-qwen2-wide-f32/text.gguf";
    let qwen = "hf-qwen2_vl-f32/mmproj.gguf";
    if width(wide, "qwen2.embedding_length") == width(qwen, "clip.vision.projection_dim") {
        call(&["run", "-m", &file(wide), "-mm", &file(qwen), "-p", "hi"]).fails(1, "Qwen2-VL family");
    }
}

/// Qwen2-VL and Qwen2.5-VL share architecture and widths.
#[test]
fn a_pair_of_two_generations_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let projector = file("qwen2vl-f32/mmproj.gguf");
    let other = changed(folder.path(), "qwen2vl-f32/text.gguf", "qwen2vl test model", "Qwen2.5 VL a model");
    let reason = "is a projector of Qwen2-VL, changed-qwen2vl-f32-text.gguf is a text model of Qwen2.5-VL";
    call(&["run", "-m", &other, "-mm", &projector, "-p", "hi"]).fails(1, reason);
    let shown = call(&["inspect", "--json", "-m", &other, "-mm", &projector]);
    assert!(shown.stdout.contains(reason), "{}", shown.stdout);
    // Without a name its vocabulary has a say: this one lacks Qwen2.5's marks of tool calls.
    let nameless =
        changed(folder.path(), "qwen2vl-f32/text.gguf", "qwen2vl test model", "a model of a test ");
    call(&["run", "-m", &nameless, "-mm", &projector, "-p", "hi", "-n", "1"]).exits(0, "");
}

#[test]
fn a_projector_that_does_not_say_its_type() {
    let folder = tempfile::tempdir().expect("a folder");
    let old =
        changed(folder.path(), "hf-llava-f32/mmproj.gguf", "clip.projector_type", "clip.projector_sort");
    let text = file("hf-llava-f32/text.gguf");
    call(&["run", "-m", &text, "-mm", &old, "-p", "hi"]).fails(1, "without the key clip.projector_type");
}

#[test]
fn a_template_that_cannot_run_is_said_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let loop_over = "{% for m in messages %}";
    let broken = changed(folder.path(), "hf-llava-f32/text.gguf", loop_over, "{% for m in messagez %}");
    let projector = file("hf-llava-f32/mmproj.gguf");
    let pair = ["-m", &broken, "-mm", &projector];
    let shown = call(&[&["inspect"][..], &pair].concat());
    shown.exits(0, "");
    assert!(shown.stdout.contains("cannot run"), "{}", shown.stdout);
    call(&[&["run"][..], &pair, &["-p", "hi"]].concat()).fails(1, "--chat-template");
}

/// The published templates wrap the assistant's text in tags that only transformers knew. The server answers as `run`
/// does.
#[test]
fn every_family_answers_with_its_template() {
    let picture = binary::picture("shapes.png", 96, 72);
    let picture =
        format!("data:image/png;base64,{}", BASE64_STANDARD.encode(std::fs::read(picture).unwrap()));
    for family in ["llava", "llava_next", "llava_next_mistral", "llava_llama3", "llava_onevision", "qwen2_vl"]
    {
        let name = format!("hf-{family}-f32");
        let stored = Gguf::open(Path::new(&file(&format!("{name}/text.gguf"))))
            .expect("a file")
            .string("tokenizer.chat_template");
        let tagged = !["qwen2_vl", "llava_llama3"].contains(&family);
        assert_eq!(stored.is_some_and(|source| source.contains("{% generation %}")), tagged, "{family}");
        let answer = binary::ask(&name, &[]);
        answer.exits(0, "");
        assert!(!answer.stdout.trim().is_empty(), "{family}: nothing was answered");
        let served = Served::start(&name, &[]);
        let content = json!([
            { "type": "image_url", "image_url": { "url": picture } },
            { "type": "text", "text": "what shape is it" },
        ]);
        let messages = json!([{ "role": "user", "content": content }]);
        let reply = served.caller.chat(&json!({ "messages": messages, "max_tokens": 8, "temperature": 0 }));
        assert_eq!(reply.text().trim(), answer.stdout.trim(), "{family}: the server's answer");
    }
}
