//! Damaged and hostile files given to the real binary: one line and an exit code, never an abort.
//!
//! Models come from tools/test-models.sh, in ILLAVA_TEST_MODELS or target/test-models.

mod binary;

use std::fs;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use binary::{PAIRS, ask, illava, model, picture, scratch};

#[test]
fn files_that_are_no_models() {
    let garbage = scratch("garbage.gguf");
    fs::write(&garbage, [b"GGUF".as_slice(), &[0xa5; 4096]].concat()).unwrap();
    let text_file = scratch("letter.gguf");
    fs::write(&text_file, "Dear reader, this is no model.").unwrap();
    let empty = scratch("empty.gguf");
    fs::write(&empty, "").unwrap();
    let missing = scratch("nowhere.gguf");
    let text = model("siglip-qwen2-f32", "text.gguf");
    let projector = model("siglip-qwen2-f32", "mmproj.gguf");
    let other = model("qwen2vl-f32", "mmproj.gguf");
    let (cut_text, cut_projector) = (scratch("cut-text.gguf"), scratch("cut-mmproj.gguf"));
    for (from, to) in [(&text, &cut_text), (&projector, &cut_projector)] {
        let bytes = fs::read(from).unwrap();
        fs::write(to, &bytes[..bytes.len() * 2 / 3]).unwrap();
    }
    let header_only = scratch("header.gguf");
    fs::write(&header_only, &fs::read(&text).unwrap()[..200]).unwrap();
    for (m, mm, parts) in [
        (&missing, &projector, &["nowhere.gguf", "no such file"][..]),
        (&text, &missing, &["nowhere.gguf", "no such file"]),
        (&garbage, &projector, &["garbage.gguf", "damaged"]),
        (&text, &garbage, &["garbage.gguf", "damaged"]),
        (&text_file, &projector, &["letter.gguf", "not a GGUF file"]),
        (&empty, &projector, &["empty.gguf", "not a GGUF file"]),
        (&header_only, &projector, &["header.gguf"]),
        (&cut_text, &projector, &["cut-text.gguf", "cut short"]),
        (&text, &cut_projector, &["cut-mmproj.gguf", "cut short"]),
        (&projector, &text, &["mmproj.gguf", "projector"]),
        (&text, &text, &["text.gguf", "no image projector"]),
        (&text, &other, &["128", "64", "not a pair"]),
    ] {
        for command in [&["run", "-p", "hi"][..], &["inspect"]] {
            if command == ["inspect"] && parts.contains(&"not a pair") {
                continue;
            }
            let args: Vec<String> =
                command.iter().chain(&["-m", m, "-mm", mm]).map(|s| (*s).to_owned()).collect();
            let outcome = illava(&args);
            for part in parts {
                outcome.fails(1, part);
            }
        }
    }
}

#[test]
fn damaged_weights_never_abort() {
    // One byte in every stretch of both headers, turned over: either it loads or one line says why not.
    for file in ["text.gguf", "mmproj.gguf"] {
        let whole = fs::read(model("siglip-qwen2-f32", file)).unwrap();
        for at in (8..2000).step_by(249) {
            let damaged = scratch(&format!("damaged-{at}-{file}"));
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            fs::write(&damaged, &bytes).unwrap();
            let good = |name: &str| model("siglip-qwen2-f32", name);
            let (m, mm) = if file == "text.gguf" {
                (damaged.clone(), good("mmproj.gguf"))
            } else {
                (good("text.gguf"), damaged.clone())
            };
            let outcome = illava(&["run", "-m", &m, "-mm", &mm, "-p", "hi", "-n", "1"].map(str::to_owned));
            assert!((0..=2).contains(&outcome.code), "{damaged}: exit {} {}", outcome.code, outcome.stderr);
            if outcome.code != 0 {
                outcome.fails(outcome.code, "");
            }
            fs::remove_file(&damaged).unwrap();
        }
    }
}

/// Sections of a rotation are held against the head that the file states, which the width need not tell.
#[test]
fn sections_fit_the_stated_head() {
    let mut header = fs::read(model("decoder-qwen3vl", "text.gguf")).unwrap();
    let key = b"qwen3vl.attention.key_length";
    let at =
        header.windows(key.len()).position(|part| part == key).expect("the key is there") + key.len() + 4;
    assert_eq!(header[at..at + 4], 16u32.to_le_bytes());
    header[at..at + 4].copy_from_slice(&4u32.to_le_bytes());
    let damaged = scratch("header-sections.gguf");
    fs::write(&damaged, header).unwrap();
    let args = ["run", "-m", &damaged, "-p", "hi"].map(str::to_owned);
    illava(&args).fails(1, "[3, 3, 2, 0] do not fit a head of 4");
}

/// Values that llama.cpp asserts on, each alone in an otherwise good file.
#[test]
fn headers_the_library_would_abort_on() {
    let value = |key: &'static str, bytes: [u8; 4]| (key.as_bytes().to_vec(), 4, bytes.to_vec());
    // The second token of the vocabulary, made the same as the first.
    let twice = ([&2u64.to_le_bytes()[..], &[0xc4]].concat(), 0, vec![0x80]);
    for (file, (find, skip, bytes), part) in [
        ("text.gguf", value("qwen2.block_count", 100_000u32.to_le_bytes()), "block_count is 100000"),
        ("text.gguf", value("qwen2.block_count", u32::MAX.to_le_bytes()), "block_count is 4294967295"),
        ("text.gguf", value("qwen2.block_count", [0; 4]), "block_count is 0"),
        (
            "text.gguf",
            value("qwen2.attention.layer_norm_rms_epsilon", (-1f32).to_le_bytes()),
            "epsilon is -1",
        ),
        (
            "mmproj.gguf",
            value("clip.vision.attention.layer_norm_epsilon", f32::NAN.to_le_bytes()),
            "epsilon is NaN",
        ),
        ("text.gguf", twice, "twice"),
    ] {
        let mut header = fs::read(model("siglip-qwen2-f32", file)).unwrap();
        let places: Vec<usize> =
            (0..header.len() - find.len()).filter(|&at| header[at..].starts_with(&find)).collect();
        // The vocabulary's first token is C4 80, its second C4 81.
        let at = places[usize::from(skip == 0)] + find.len() + skip;
        header[at..at + bytes.len()].copy_from_slice(&bytes);
        let damaged = scratch(&format!("header-{}-{file}", part.replace(' ', "-")));
        fs::write(&damaged, header).unwrap();
        let other = model("siglip-qwen2-f32", if file == "text.gguf" { "mmproj.gguf" } else { "text.gguf" });
        let (m, mm) = if file == "text.gguf" { (&damaged, &other) } else { (&other, &damaged) };
        for command in [&["run", "-p", "hi"][..], &["inspect"]] {
            let args: Vec<String> =
                command.iter().chain(&["-m", m, "-mm", mm]).map(|s| (*s).to_owned()).collect();
            illava(&args).fails(1, part);
        }
    }
}

#[test]
fn hostile_pictures() {
    let good = fs::read(picture("good.png", 40, 40)).unwrap();
    let mut bomb = good.clone();
    bomb[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    for (name, bytes, part) in [
        ("cut.png", &good[..good.len() / 2], "cut short"),
        ("bomb.png", &bomb, "bomb.png"),
        ("empty.png", &[][..], "empty file"),
        ("letter.png", &b"this is a letter"[..], "not a picture"),
    ] {
        let file = scratch(name);
        fs::write(&file, bytes).unwrap();
        ask("siglip-qwen2-f32", &["--image", &file]).fails(1, part);
    }
    ask("siglip-qwen2-f32", &["--image", "/nowhere/at/all.png"]).fails(1, "no such file");
    // The narrowest there can be.
    for (width, height) in [(1, 1), (1, 500), (500, 1)] {
        let thin = picture(&format!("thin-{width}-{height}.png"), width, height);
        for name in PAIRS {
            let outcome = ask(name, &["--image", &thin]);
            assert!(outcome.code <= 1, "{name} {width}x{height}: exit {} {}", outcome.code, outcome.stderr);
        }
    }
}

/// A file of tools/make_picture_fixtures.py.
fn fixture(name: &str) -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pictures.json");
    let all: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let files = all["files"].as_array().unwrap();
    let file = files.iter().find(|file| file["name"] == name).unwrap();
    BASE64_STANDARD.decode(file["file"].as_str().unwrap()).unwrap()
}

#[test]
fn pictures_that_are_not_whole_or_not_read() {
    let jpeg = fixture("baseline.jpg");
    for (name, bytes, part) in [
        ("cut.jpg", &jpeg[..jpeg.len() * 3 / 4], "cut short"),
        ("phone.heic", &b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"[..], "heif-convert"),
        ("page.avif", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "avifdec"),
        ("letter.pdf", b"%PDF-1.7", "pdftoppm"),
        ("film.png", b"\x1a\x45\xdf\xa3", "as a video"),
    ] {
        let file = scratch(name);
        fs::write(&file, bytes).unwrap();
        ask("siglip-qwen2-f32", &["--image", &file]).fails(1, part);
    }
    let whole = scratch("whole.jpg");
    fs::write(&whole, &jpeg[..jpeg.len() - 2]).unwrap();
    let outcome = ask("siglip-qwen2-f32", &["--image", &whole]);
    assert_eq!(outcome.code, 0, "only the end marker is missing: {}", outcome.stderr);
    let clear = scratch("clear.png");
    fs::write(&clear, fixture("rgba.png")).unwrap();
    let outcome = ask("siglip-qwen2-f32", &["--image", &clear]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("transparent parts are shown on white"), "{}", outcome.stderr);
}
