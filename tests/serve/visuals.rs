//! Pictures and videos over HTTP against the same in `illava run`: the same rows, and the same greedy answer.

use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::binary::{self, picture, scratch};
use super::clip::clip;
use super::served::Served;

const QUESTION: &str = "what shape is it";
/// Nothing is rounded on the way, so that the two ways may be compared to the letter.
const EXACT: [&str; 6] = ["-fa", "off", "-ctk", "f32", "-ctv", "f32"];

/// The report of `illava run`.
fn run(name: &str, shown: &[String], extra: &[&str]) -> Value {
    let file = scratch(&format!("visuals-{name}-{}.json", shown.len()));
    let mut args = vec!["run".to_owned()];
    args.extend(binary::pair(name));
    args.extend(shown.iter().cloned());
    let fixed = ["-p", QUESTION, "-n", "12", "--temp", "0", "-t", "2", "--report", &file];
    args.extend(fixed.iter().chain(&EXACT).chain(extra).map(|arg| (*arg).to_owned()));
    let outcome = binary::illava(&args);
    assert_eq!(outcome.code, 0, "{name}: {}", outcome.stderr);
    serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap()
}

fn ask(served: &Served, mut parts: Vec<Value>) -> Value {
    parts.push(json!({ "type": "text", "text": QUESTION }));
    let answer = served.caller.chat(&json!({
        "messages": [{ "role": "user", "content": parts }],
        "max_tokens": 12, "temperature": 0, "report": true,
    }));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// The same rows went to the decoder, as many were left at its end, and the answer is the same.
#[track_caller]
fn agree(answer: &Value, run: &Value, what: &str) {
    let report = &answer["report"];
    for field in ["text", "visual", "visual_after_encoder", "generated"] {
        assert_eq!(report["tokens"][field], run["tokens"][field], "{what}: {field}");
    }
    let left =
        |report: &Value| report["tokens"]["visual_kv"].as_array().unwrap().last().unwrap()["tokens"].clone();
    assert_eq!(left(report), left(run), "{what}: rows in the uppermost layers");
    let count = |field: &str| run["tokens"][field].as_u64().unwrap();
    let prompt = count("text") + count("visual_after_encoder");
    assert_eq!(answer["usage"]["prompt_tokens"], prompt, "{what}");
    assert_eq!(report["merge"], run["merge"], "{what}");
    assert_eq!(answer["choices"][0]["message"]["content"], run["text"], "{what}");
    assert!(!run["text"].as_str().unwrap().is_empty(), "{what}: an answer to compare");
}

fn image(path: &str) -> Value {
    let bytes = BASE64_STANDARD.encode(std::fs::read(path).unwrap());
    json!({ "type": "image_url", "image_url": { "url": format!("data:image/png;base64,{bytes}") } })
}

#[test]
fn one_picture_and_several_are_shown_as_run_shows_them() {
    let paths = [("one.png", 96, 72), ("two.png", 60, 90), ("three.png", 150, 50)]
        .map(|(name, w, h)| picture(name, w, h));
    for name in ["hf-llava_onevision-f32", "hf-llava_next-f32"] {
        for merge in ["off", "paper"] {
            let served = Served::start(name, &[&EXACT[..], &["--merge", merge]].concat());
            let mut visual = Vec::new();
            for count in [1, 3] {
                let flags: Vec<String> =
                    paths[..count].iter().flat_map(|path| ["--image".to_owned(), path.clone()]).collect();
                let expected = run(name, &flags, &["--merge", merge]);
                let answer = ask(&served, paths[..count].iter().map(|path| image(path)).collect());
                agree(&answer, &expected, &format!("{name}, {merge}, {count} pictures"));
                visual.push(expected["tokens"]["visual"].as_u64().unwrap());
            }
            // The first picture alone once more, after it was one of several.
            let again = ask(&served, vec![image(&paths[0])]);
            assert_eq!(again["report"]["tokens"]["visual"], visual[0], "{name}");
            if name.contains("onevision") {
                assert_eq!(visual[1], 3 * 50, "each whole, without tiles");
            }
        }
    }
}

#[test]
fn a_video_is_shown_as_run_shows_it() {
    let folder = PathBuf::from(scratch("visuals-videos"));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("clip.mp4");
    if !clip(&file, "96x72", 12) {
        return;
    }
    let folder = folder.display().to_string();
    // Each frame's 7 x 7 cells pooled to 4 x 4, and a newline; two pairs of frames; eight pictures of 7 x 7.
    for (name, schedule, expected) in [
        ("hf-llava_onevision-f32", "video", Some(12 * 16 + 1)),
        ("hf-qwen2_vl-f32", "balanced", None),
        ("hf-llava-f32", "balanced", Some(8 * 49)),
    ] {
        let served = Served::start(name, &[&EXACT[..], &["--media-path", &folder]].concat());
        let of_run = run(name, &["--video".to_owned(), file.display().to_string()], &[]);
        assert_eq!(of_run["merge"]["schedule"], schedule, "{name}");
        if let Some(expected) = expected {
            assert_eq!(of_run["tokens"]["visual"], expected, "{name}");
        }
        let first =
            ask(&served, vec![json!({ "type": "video_url", "video_url": { "url": "file://clip.mp4" } })]);
        agree(&first, &of_run, name);
        // The same frames, sent another way: neither encoded nor prefilled again.
        let data = BASE64_STANDARD.encode(std::fs::read(&file).unwrap());
        let second = ask(&served, vec![json!({ "type": "input_video", "input_video": { "data": data } })]);
        agree(&second, &of_run, name);
        let cached = second["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
        assert!(
            cached >= of_run["tokens"]["visual_after_encoder"].as_u64().unwrap(),
            "{name}: {cached} cached"
        );
        // A preset by name counts for a video too.
        let off = served.caller.chat(&json!({
            "messages": [{ "role": "user", "content": [
                { "type": "video_url", "video_url": { "url": "file://clip.mp4" } }] }],
            "max_tokens": 1, "merge": "off", "report": true,
        }));
        assert_eq!(off.json()["report"]["merge"]["schedule"], "off", "{off:?}");
        assert_eq!(off.json()["report"]["tokens"]["visual"], of_run["tokens"]["visual"]);
    }
}

#[test]
fn a_report_says_what_a_file_holds_and_its_pixels_do_not() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pictures.json");
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let shown = |name: &str| {
        let files = all["files"].as_array().unwrap();
        let data =
            files.iter().find(|file| file["name"] == name).unwrap()["file"].as_str().unwrap().to_owned();
        json!({ "type": "image_url", "image_url": { "url": format!("data:image/png;base64,{data}") } })
    };
    let served = Served::start("hf-llava-f32", &EXACT);
    let answer = ask(&served, vec![shown("colour.png"), shown("rgba.png"), shown("two.gif")]);
    let remarks = &answer["report"]["remarks"];
    assert_eq!(remarks.as_array().unwrap().len(), 2, "{remarks}");
    assert_eq!(remarks[0], "image 2: transparent parts are shown on white");
    assert_eq!(remarks[1], "image 3: only the first of its frames is shown");
    assert_eq!(ask(&served, vec![shown("colour.png")])["report"]["remarks"], Value::Null);
    let jpeg = BASE64_STANDARD
        .decode(shown("baseline.jpg")["image_url"]["url"].as_str().unwrap().split(',').nth(1).unwrap())
        .unwrap();
    let cut = BASE64_STANDARD.encode(&jpeg[..jpeg.len() * 3 / 4]);
    let part =
        json!({ "type": "image_url", "image_url": { "url": format!("data:image/jpeg;base64,{cut}") } });
    let answer = served.caller.chat(&json!({ "messages": [{ "role": "user", "content": [part] }] }));
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.json()["error"]["message"].as_str().unwrap().contains("cut short"), "{answer:?}");
}
