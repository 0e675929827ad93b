//! Projectors that llama.cpp runs by its own rules: each type loads and answers in every face, and computes what
//! mtmd's own helper computes.
//!
//! The files are tools/make_model.py's (`--projector`), tiny and random; docs/models.md lists the types tested here.

mod binary;
#[path = "serve/http.rs"]
mod http;
#[path = "serve/served.rs"]
mod served;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use binary::{ask, illava, model, pair, picture, scratch};
use serde_json::{Value, json};
use served::Served;

/// Type, whether it merges, what its text model is, and whether that merges.
const TYPES: [(&str, bool, &str, bool); 17] = [
    ("qwen3vl_merger", true, "qwen3vl", true),
    ("gemma3", true, "gemma3", true),
    ("internvl", true, "qwen2", true),
    ("idefics3", true, "llama", true),
    ("pixtral", true, "llama", true),
    ("lightonocr", false, "qwen2", true),
    ("lfm2", false, "llama", true),
    ("kimivl", false, "llama", true),
    ("phi4", false, "llama", true),
    ("dots_ocr", false, "qwen2", true),
    ("paddleocr", false, "llama", true),
    ("kimik25", false, "llama", true),
    ("nemotron_v2_vl", false, "llama", true),
    ("ling3vl", false, "llama", true),
    ("glm4v", false, "llama", true),
    ("llama4", false, "llama", true),
    ("gemma4v", false, "llama", true),
];

/// Types that few files have, and their text models: each answers, and no encoder of theirs merges.
const RARE: [(&str, &str); 16] = [
    ("resampler", "llama"),
    ("minicpmv4_6", "llama"),
    ("glm5v", "llama"),
    ("gemma4uv", "llama"),
    ("step3vl", "llama"),
    ("minimax_m3", "llama"),
    ("mimovl", "llama"),
    ("exaone4_5", "llama"),
    ("youtuvl", "llama"),
    ("muse-glimmer", "llama"),
    ("dots3note_v", "qwen2"),
    ("cogvlm", "llama"),
    ("adapter", "llama"),
    ("ldp", "llama"),
    ("ldpv2", "llama"),
    ("yasa2", "llama"),
];

fn all_types() -> impl Iterator<Item = (&'static str, bool, &'static str, bool)> {
    TYPES.into_iter().chain(RARE.map(|(kind, arch)| (kind, false, arch, true)))
}

fn name(kind: &str) -> String {
    format!("projector-{kind}")
}

#[test]
fn each_type_answers_and_says_what_merges() {
    for (kind, encoder, arch, decoder) in all_types() {
        let outcome = ask(&name(kind), &["--report", "-"]);
        assert_eq!(outcome.code, 0, "{kind}: {}", outcome.stderr);
        let remark = match (encoder, decoder) {
            (true, true) => format!(
                "({kind}) in the prompt; it and the language model ({arch}) merge if asked to, as by the schedule balanced"
            ),
            (false, true) => format!(
                "({kind}) in the prompt; it merges nothing and the language model ({arch}) merges if asked to, as by the schedule balanced"
            ),
            (_, false) => unreachable!("each text model here merges"),
        };
        assert!(outcome.stderr.contains(&remark), "{kind}: {}", outcome.stderr);
        let report: Value = serde_json::from_str(outcome.stdout.lines().last().expect("a report")).unwrap();
        assert_eq!(report["merge"]["strategy"], "off", "{kind}: {report}");
        assert!(report["tokens"]["visual"].as_u64() > Some(3), "{kind}: {report}");
        assert!(report["tokens"]["generated"].as_u64() > Some(0), "{kind}: {report}");

        let inspect = illava(
            &[["inspect".to_owned(), "--json".to_owned()].to_vec(), pair(&name(kind)).to_vec()].concat(),
        );
        assert_eq!(inspect.code, 0, "{kind}: {}", inspect.stderr);
        let shown: Value = serde_json::from_str(&inspect.stdout).unwrap();
        assert_eq!((&shown["matches"], &shown["projector"]["kind"]), (&true.into(), &kind.into()), "{kind}");
        assert!(shown["pictures"][0]["tokens"].as_u64() > Some(3), "{kind}: {}", shown["pictures"]);
        assert!(shown["projector"]["missing"].to_string().contains("llama.cpp marks the pictures"), "{kind}");
    }
}

/// The page's table has a line for each type that is tested here, with what merges.
#[test]
fn the_page_lists_what_loads() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/models.md")).unwrap();
    let yes = |merges: bool| if merges { "yes" } else { "no" };
    let listed: Vec<Vec<&str>> = page
        .lines()
        .skip_while(|line| !line.contains("encoder merges |"))
        .skip(2)
        .take_while(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect();
    let tested: Vec<[&str; 4]> =
        all_types().map(|(kind, encoder, arch, decoder)| [kind, yes(encoder), arch, yes(decoder)]).collect();
    let listed: Vec<[&str; 4]> =
        listed.iter().map(|cells| [cells[0], cells[2], cells[3], cells[4]]).collect();
    assert_eq!(listed, tested, "docs/models.md, Every other projector");
}

#[test]
fn other_pictures_get_other_answers() {
    let other = scratch("projectors-plain.png");
    image::RgbImage::from_pixel(96, 72, image::Rgb([10, 200, 90])).save(&other).expect("a picture");
    for (kind, ..) in all_types() {
        let logprobs = |path: &str| {
            let (input, output) =
                (scratch(&format!("{kind}.jsonl")), scratch(&format!("{kind}-answer.jsonl")));
            let line = json!({ "prompt": "what shape is it", "image": path, "max_tokens": 1, "temperature": 0,
                               "logprobs": true, "top_logprobs": 3 });
            std::fs::write(&input, line.to_string()).expect("an input");
            let _ = std::fs::remove_file(&output);
            let args =
                [&["batch".to_owned(), input, "-o".to_owned(), output.clone()][..], &pair(&name(kind))]
                    .concat();
            illava(&args).exits(0, "");
            let answer: Value = serde_json::from_str(&std::fs::read_to_string(&output).unwrap()).unwrap();
            answer["logprobs"]["content"][0]["top_logprobs"].clone()
        };
        let (one, two) = (logprobs(&picture("shapes.png", 96, 72)), logprobs(&other));
        assert!(one[0]["logprob"].is_f64() && one != two, "{kind}: {one}");
    }
}

/// The server, with two pictures of other shapes in one conversation, twice: the second time out of its caches.
#[test]
fn the_server_answers_as_run_does() {
    for (kind, ..) in TYPES {
        let shapes = picture("shapes.png", 96, 72);
        let uri = |path: &str| {
            format!(
                "data:image/png;base64,{}",
                BASE64_STANDARD.encode(std::fs::read(path).expect("a picture"))
            )
        };
        let part = |path: &str| json!({ "type": "image_url", "image_url": { "url": uri(path) } });
        let text = json!({ "type": "text", "text": "what shape is it" });
        let body = |parts: Vec<Value>| json!({ "messages": [{ "role": "user", "content": parts }], "max_tokens": 8, "temperature": 0 });
        let served = Served::start(&name(kind), &["--max-images", "1024"]);
        let one = served.caller.chat(&body(vec![part(&shapes), text.clone()])).text();
        assert_eq!(one.trim(), ask(&name(kind), &[]).stdout.trim(), "{kind}");
        let wide = picture("wide.png", 200, 60);
        let two = body(vec![part(&shapes), part(&wide), text.clone()]);
        let first = served.caller.chat(&two);
        assert_eq!(first.status, 200, "{kind}: {first:?}");
        assert_eq!(served.caller.chat(&two).text(), first.text(), "{kind}: from the cache");

        // Pictures count before they are encoded: as many as no slot holds are told to the token.
        let several = |n: usize| {
            let pictures = std::iter::repeat_n(part(&shapes), n);
            served.caller.chat(&body(pictures.chain([text.clone()]).collect()))
        };
        let tokens = |n| several(n).json()["usage"]["prompt_tokens"].as_u64().expect("a count");
        let single = tokens(1);
        let each = tokens(2) - single;
        let n = 1024 / each + 2;
        let refused = several(usize::try_from(n).unwrap());
        assert_eq!(refused.status, 400, "{kind}: {refused:?}");
        let error = &refused.json()["error"];
        assert_eq!(error["n_prompt_tokens"].as_u64(), Some(single + (n - 1) * each), "{kind}: {error}");
        let of_pictures = format!("({} of pictures)", n * each);
        assert!(error["message"].as_str().unwrap().contains(&of_pictures), "{kind}: {error}");
    }
}

#[test]
fn the_language_model_merges_if_asked() {
    for (kind, encoder, ..) in TYPES {
        let outcome = ask(&name(kind), &["--llm-layers", "2", "--llm-keep", "0.5", "--report", "-"]);
        assert_eq!(outcome.code, 0, "{kind}: {}", outcome.stderr);
        let report: Value = serde_json::from_str(outcome.stdout.lines().last().expect("a report")).unwrap();
        let held: Vec<u64> = report["tokens"]["visual_kv"]
            .as_array()
            .unwrap()
            .iter()
            .map(|segment| segment["tokens"].as_u64().unwrap())
            .collect();
        assert!(held.len() == 2 && held[1] < held[0], "{kind}: {held:?}");
        if !encoder {
            ask(&name(kind), &["--vit-layers", "1", "--vit-r", "2"]).exits(1, "encoder");
        }
    }
}

#[test]
fn presets_merge_what_can_merge() {
    for (kind, encoder, _, decoder) in TYPES {
        let outcome = ask(&name(kind), &["--merge", "balanced", "--report", "-"]);
        assert_eq!(outcome.code, 0, "{kind}: {}", outcome.stderr);
        let said = outcome.stderr.contains("no merging in the encoder");
        assert_eq!(said, !encoder, "{kind}: {}", outcome.stderr);
        let said = outcome.stderr.contains("no merging in the text model");
        assert_eq!(said, !decoder, "{kind}: {}", outcome.stderr);
        let said = outcome.stderr.contains("the preset balanced is untested on this image encoder");
        assert_eq!(said, encoder, "{kind}: {}", outcome.stderr);
        let report: Value = serde_json::from_str(outcome.stdout.lines().last().expect("a report")).unwrap();
        let tokens = &report["tokens"];
        let (all, after) = (tokens["visual"].as_u64(), tokens["visual_after_encoder"].as_u64());
        if kind == "gemma3" {
            // Its cells are means of four patches, of which seldom all go.
            assert!(after <= all, "{kind}: {tokens}");
            continue;
        }
        assert_eq!(after < all, encoder, "{kind}: {tokens}");
        let held = |i: usize| tokens["visual_kv"][i]["tokens"].as_u64();
        assert!(held(0) == after && held(1) < held(0), "{kind}: {tokens}");
        // A run does as a look at the file promises.
        let args = [
            ["inspect", "--json", "--size", "96x72"].map(str::to_owned).to_vec(),
            pair(&name(kind)).to_vec(),
        ];
        let shown: Value = serde_json::from_str(&illava(&args.concat()).stdout).unwrap();
        let presets = shown["presets"].as_array().unwrap();
        let balanced = presets.iter().find(|preset| preset["name"] == "balanced").expect("a preset");
        assert_eq!(balanced["pictures"][0]["tokens_after_encoder"].as_u64(), after, "{kind}: {balanced}");
        assert_eq!(shown["pictures"][0]["tokens"].as_u64(), all, "{kind}");
    }
}

/// docs/evaluation.md holds for each type: off by itself, schedules beside it, figures of both.
#[test]
fn each_type_can_be_evaluated() {
    let (shapes, wide) = (picture("shapes.png", 96, 72), picture("wide.png", 200, 60));
    let questions = [(&shapes, "red"), (&wide, "blue")].map(|(image, answer)| {
        json!({ "id": answer, "image": image, "question": "what shape is it", "answer": answer }).to_string()
    });
    let set = scratch("projectors-set.jsonl");
    std::fs::write(&set, questions.join("\n")).expect("a set");
    for (kind, ..) in TYPES {
        let rows = scratch(&format!("projectors-eval-{kind}.json"));
        let args = ["eval", "--set", &set, "--against", "balanced,0.5", "-n", "4", "--json", &rows];
        illava(&[&args.map(str::to_owned)[..], &pair(&name(kind))].concat()).exits(0, "");
        let found: Value = serde_json::from_str(&std::fs::read_to_string(&rows).unwrap()).unwrap();
        let rows = found["rows"].as_array().expect("rows").iter().filter(|row| row["category"] == "");
        let tokens: Vec<f64> =
            rows.map(|row| row["visual_tokens_deepest"].as_f64().expect("tokens")).collect();
        assert_eq!((tokens.len(), &found["rows"][0]["schedule"]), (3, &"off".into()), "{kind}: {found}");
        assert!(tokens[0] > tokens[1] && tokens[0] > tokens[2], "{kind}: {tokens:?}");
    }
}

/// A picture of several tiles with marks between them: each tile gives its part, and what stays keeps its place.
#[test]
fn tiles_merge_one_by_one() {
    let wide = picture("wide.png", 200, 60);
    let args = |extra: &[&str]| {
        let own = ["run", "-p", "what is it", "--image", &wide, "-n", "4", "--temp", "0", "--report", "-"];
        let own: Vec<String> = own.iter().chain(extra).map(|&arg| arg.to_owned()).collect();
        let outcome = illava(&[own, pair(&name("internvl")).to_vec()].concat());
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let report: Value = serde_json::from_str(outcome.stdout.lines().last().expect("a report")).unwrap();
        report["tokens"].clone()
    };
    let all = args(&[])["visual"].as_u64().unwrap();
    let tiles = (all - 2) / 16;
    assert!(tiles > 2, "{all}");
    let merged = args(&["--vit-layers", "1,2", "--vit-r", "16,8"]);
    assert_eq!(merged["visual"].as_u64(), Some(all), "{merged}");
    assert_eq!(merged["visual_after_encoder"].as_u64(), Some(all - tiles * 6), "{merged}");
}

#[test]
fn what_cannot_run_is_named() {
    let bytes = std::fs::read(model("projector-pixtral", "mmproj.gguf")).unwrap();
    let named = |kind: &str| {
        // The length of a string stands in front of it.
        let old = [&7_u64.to_le_bytes()[..], b"pixtral"].concat();
        let at = bytes.windows(old.len()).position(|part| part == old).expect("the type is there");
        let new = [&(kind.len() as u64).to_le_bytes()[..], kind.as_bytes()].concat();
        let path = scratch(&format!("projector-{kind}.gguf"));
        // A longer name may move the values by one alignment.
        std::fs::write(&path, [&bytes[..at], &new, &bytes[at + old.len()..], &[0; 32]].concat()).unwrap();
        path
    };
    let text = model("projector-pixtral", "text.gguf");
    for (kind, part) in [
        ("hunyuanvl", "its positions count the pictures of the whole prompt"),
        ("deepseek4v", "its padding follows from the tokens before the picture"),
        ("projectorx", "this version of llama.cpp does not know it"),
        ("whisper", "this version of llama.cpp does not know it"),
    ] {
        let args = ["run", "-m", &text, "-mm", &named(kind), "-p", "hi"].map(str::to_owned);
        illava(&args).fails(1, part);
    }
    // An assertion of the library's comes with the line that it logged before.
    let mut bytes = std::fs::read(model("projector-step3vl", "mmproj.gguf")).unwrap();
    let key = b"clip.vision.projector.scale_factor";
    let at = bytes.windows(key.len()).position(|part| part == key).expect("the key is there") + key.len();
    assert_eq!(bytes[at..at + 8], [4, 0, 0, 0, 4, 0, 0, 0], "a u32 of 4");
    bytes[at + 4] = 2;
    let projector = scratch("projector-wrong-count.gguf");
    std::fs::write(&projector, bytes).unwrap();
    let (text, shapes) = (model("projector-step3vl", "text.gguf"), picture("shapes.png", 96, 72));
    let args = ["run", "-m", &text, "-mm", &projector, "-p", "hi", "--image", &shapes].map(str::to_owned);
    illava(&args).fails(1, "expected output 16 tokens, got 4");
    ask("projector-gemma3", &["-ub", "3"]).fails(1, "start with as many (-ub 16)");
    // A text model that is not its own.
    let (text, projector) =
        (model("projector-pixtral", "text.gguf"), model("projector-idefics3", "mmproj.gguf"));
    let shapes = picture("shapes.png", 96, 72);
    let args = ["run", "-m", &text, "-mm", &projector, "-p", "hi", "--image", &shapes].map(str::to_owned);
    illava(&args).fails(1, "lacks a token");
}
