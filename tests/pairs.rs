//! Text models alone, pairs that are none, and pairs whose template cannot run, by the real program.

mod binary;

use std::path::{Path, PathBuf};

use binary::{Outcome, illava};
use illava::native::Gguf;

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

#[test]
fn a_pair_of_two_families_is_none() {
    let (text, projector) = (file("hf-qwen2_vl-f32/text.gguf"), file("siglip-qwen2-f32/mmproj.gguf"));
    call(&["run", "-m", &text, "-mm", &projector, "-p", "hi"]).fails(1, "not a pair");
    let shown = call(&["inspect", "-m", &text, "-mm", &projector]);
    assert!(shown.stdout.contains("no: mmproj.gguf gives embeddings"), "{}", shown.stdout);
    // Of equal widths.
    let width = |name: &str, key: &str| Gguf::open(&models().join(name)).expect("a file").u32(key);
    let wide = "siglip-qwen2-wide-f32/text.gguf";
    let qwen = "hf-qwen2_vl-f32/mmproj.gguf";
    if width(wide, "qwen2.embedding_length") == width(qwen, "clip.vision.projection_dim") {
        call(&["run", "-m", &file(wide), "-mm", &file(qwen), "-p", "hi"]).fails(1, "Qwen2-VL family");
    }
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

/// The published templates wrap the assistant's text in tags that only transformers knew.
#[test]
fn every_family_answers_with_its_template() {
    let folder = tempfile::tempdir().expect("a folder");
    let picture = picture(folder.path());
    for family in ["llava", "llava_next", "llava_next_mistral", "llava_llama3", "llava_onevision", "qwen2_vl"]
    {
        let (text, projector) =
            (file(&format!("hf-{family}-f32/text.gguf")), file(&format!("hf-{family}-f32/mmproj.gguf")));
        let stored = Gguf::open(Path::new(&text)).expect("a file").string("tokenizer.chat_template");
        let tagged = !["qwen2_vl", "llava_llama3"].contains(&family);
        assert_eq!(stored.is_some_and(|source| source.contains("{% generation %}")), tagged, "{family}");
        let answer = call(&[
            "run",
            "-m",
            &text,
            "-mm",
            &projector,
            "--image",
            &picture,
            "-p",
            "what is it",
            "-n",
            "4",
            "-t",
            "1",
        ]);
        answer.exits(0, "");
        assert!(!answer.stdout.trim().is_empty(), "{family}: nothing was answered");
    }
}
