//! The real binary, from arguments to exit code: answers, reports, and one clear line for
//! what a person can get wrong on the command line.
//!
//! Models come from tools/test-models.sh, in ILLAVA_TEST_MODELS or target/test-models.

mod binary;

use std::fs;

use binary::{Outcome, PAIRS, ask, illava, model, pair, picture, scratch};
use serde_json::Value;

fn report(name: &str, extra: &[&str]) -> Value {
    let file = scratch(&format!("report-{name}-{}.json", extra.join("_").replace(['/', '%'], "-")));
    let outcome = ask(name, &[extra, &["--report", &file]].concat());
    assert_eq!(outcome.code, 0, "{name} {extra:?}: {}", outcome.stderr);
    let value: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(value["text"].as_str().unwrap().trim(), outcome.stdout.trim(), "the report has the answer");
    value
}

fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} in {value}"))
}

/// Without an end of its input `batch` waits, and its environment can be looked at.
#[cfg(target_os = "linux")]
#[test]
fn waiting_threads_sleep_soon() {
    use std::process::{Command, Stdio};

    let start = |given: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_illava"));
        command.args([
            "batch",
            "-",
            "-m",
            "models/demo/text.gguf",
            "-mm",
            "models/demo/mmproj.gguf",
            "-p",
            "hi",
        ]);
        command.env_remove("OMP_WAIT_POLICY").env_remove("GOMP_SPINCOUNT");
        command.envs(given.map(|value| ("GOMP_SPINCOUNT", value)));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    for (given, expected) in [(None, "GOMP_SPINCOUNT=1000"), (Some("77"), "GOMP_SPINCOUNT=77")] {
        let mut child = start(given);
        let environment = format!("/proc/{}/environ", child.id());
        while !std::fs::read(&environment)
            .unwrap()
            .split(|&byte| byte == 0)
            .any(|one| one == expected.as_bytes())
        {
            assert!(child.try_wait().unwrap().is_none(), "it ended without {expected}");
        }
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}

#[test]
fn merging_saves_tokens_and_memory() {
    for name in PAIRS {
        let off = report(name, &["--merge", "off"]);
        let on = report(name, &["--merge", "paper"]);
        assert_eq!(off["merge"]["strategy"], "off");
        assert_eq!(on["merge"]["strategy"], "merge");
        let visual = number(&off, "/tokens/visual");
        assert_eq!(number(&off, "/tokens/visual_after_encoder"), visual, "{name}");
        assert_eq!(number(&off, "/bytes/kv"), number(&off, "/bytes/kv_without_merge"), "{name}");
        let deepest = number(&on, "/tokens/visual_kv/1/tokens");
        assert!(deepest < visual * 0.45, "{name}: {deepest} of {visual}");
        assert!(number(&on, "/bytes/kv") < number(&on, "/bytes/kv_without_merge"), "{name}");
        assert_eq!(on["tokens"]["visual_kv"][1]["layers"][1], 10, "{name}: up to the last layer");
        for pointer in [
            "/ms/load",
            "/ms/encoder",
            "/ms/prefill",
            "/ms/total",
            "/bytes/weights",
            "/bytes/compute",
            "/bytes/peak_rss",
        ] {
            assert!(number(&on, pointer) > 0.0, "{name} {pointer}");
        }
    }
}

#[test]
fn removing_nothing_changes_nothing() {
    for name in PAIRS {
        let off = report(name, &["--merge", "off"]);
        for identity in [
            &["--merge", "paper", "--keep", "1"][..],
            &["--llm-layers", "2,4", "--llm-r", "0"],
            &[
                "--vit-layers",
                "3",
                "--vit-r",
                "0",
                "--llm-layers",
                "1",
                "--llm-keep",
                "1",
                "--score",
                "last-token",
            ],
        ] {
            assert_eq!(report(name, identity)["text"], off["text"], "{name} {identity:?}");
        }
    }
}

#[test]
fn a_budget_is_met() {
    for name in PAIRS {
        let report = report(name, &["--keep", "0.35"]);
        let kept =
            report["tokens"]["visual_kv"].as_array().unwrap().last().unwrap()["tokens"].as_f64().unwrap();
        let share = kept / number(&report, "/tokens/visual");
        assert!((share - 0.35).abs() < 0.02, "{name}: {share}");
    }
}

#[test]
fn the_trace_tells_every_step() {
    for (name, score) in PAIRS.iter().flat_map(|name| [(name, "image"), (name, "last-token")]) {
        let file = scratch(&format!("trace-{name}-{score}.json"));
        let outcome = ask(name, &["--merge", "paper", "--score", score, "--trace", &file]);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let trace: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let steps = trace["steps"].as_array().unwrap();
        assert_eq!(steps.iter().filter(|step| step["half"] == "encoder").count(), 4, "{name}");
        assert_eq!(steps.iter().filter(|step| step["half"] == "decoder").count(), 1, "{name}");
        for step in steps {
            let list = |key: &str| -> Vec<f64> {
                step[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
            };
            let (n_in, n_out) =
                (step["n_in"].as_u64().unwrap() as usize, step["n_out"].as_u64().unwrap() as usize);
            let (kept, merged) = (list("kept"), list("merged"));
            assert_eq!((list("scores").len(), kept.len()), (n_in, n_out), "{name} {step}");
            assert!(kept.windows(2).all(|pair| pair[0] < pair[1]), "{name}: kept must ascend");
            if n_out < n_in {
                assert_eq!(merged.len(), n_in - n_out + 1);
                assert_eq!(merged.last(), step["into"].as_f64().as_ref());
                assert!(kept.contains(merged.last().unwrap()));
                assert!(merged[..merged.len() - 1].iter().all(|gone| !kept.contains(gone)));
            }
        }
        let span =
            trace["prompt"].as_array().unwrap().iter().find(|part| part.get("span").is_some()).unwrap();
        let decoder = steps.iter().find(|step| step["half"] == "decoder").unwrap();
        assert_eq!(span["n"], decoder["n_in"], "{name}");
        assert_eq!(
            (&trace["images"][0]["width"], &trace["images"][0]["height"]),
            (&Value::from(96), &Value::from(72))
        );
    }
}

#[test]
fn several_pictures_in_one_prompt() {
    let second = picture("second.png", 64, 64);
    for name in PAIRS {
        let one = report(name, &["--merge", "paper"]);
        let two = report(name, &["--merge", "paper", "--image", &second]);
        let (a, b) = (number(&one, "/tokens/visual"), number(&two, "/tokens/visual"));
        assert!(b > a && b <= 2.0 * a, "{name}: {a} {b}");
        if name != "qwen2vl-f32" {
            assert_eq!(b, 2.0 * a, "{name}");
            assert_eq!(
                number(&two, "/tokens/visual_kv/1/tokens"),
                2.0 * number(&one, "/tokens/visual_kv/1/tokens")
            );
        }
    }
}

#[test]
fn settings_of_the_cache_and_the_batch_run() {
    let extras: [&[&str]; 6] = [
        &["-fa", "off"],
        &["-fa", "on", "-ctk", "q8_0", "-ctv", "q8_0"],
        &["-fa", "on", "-ctk", "q4_0", "-ctv", "q4_0"],
        &["-c", "512"],
        &["-b", "32", "-ub", "16"],
        &["-t", "1", "-tb", "2"],
    ];
    for extra in extras {
        // Heads of 32, so that a quantised row is whole blocks.
        let outcome = ask("qwen2vl-f16", &[&["--merge", "paper"], extra].concat());
        assert_eq!(outcome.code, 0, "{extra:?}: {}", outcome.stderr);
        assert!(!outcome.stdout.trim().is_empty(), "{extra:?}");
    }
}

#[test]
fn a_seed_repeats_an_answer() {
    let draw = |seed: &str| {
        report(
            "siglip-qwen2-f32",
            &["--temp", "1.5", "--top-k", "0", "--top-p", "1", "--min-p", "0", "-s", seed],
        )
    };
    let (a, b, c) = (draw("7"), draw("7"), draw("8"));
    assert_eq!(a["text"], b["text"]);
    assert_eq!((number(&a, "/seed"), number(&c, "/seed")), (7.0, 8.0));
    assert_ne!(a["text"], c["text"]);
}

#[test]
fn grammars_hold() {
    let gbnf = ask("siglip-qwen2-f32", &["--grammar", "root ::= \"yes\" | \"no\""]);
    assert_eq!(gbnf.code, 0, "{}", gbnf.stderr);
    assert!(["yes", "no"].contains(&gbnf.stdout.trim()), "{}", gbnf.stdout);
    let schema = r#"{"type":"object","properties":{"n":{"enum":[1,2]}},"required":["n"],"additionalProperties":false}"#;
    let json = ask("siglip-qwen2-f32", &["-n", "200", "-j", schema]);
    assert_eq!(json.code, 0, "{}", json.stderr);
    let value: Value =
        serde_json::from_str(json.stdout.trim()).unwrap_or_else(|error| panic!("{error}: {}", json.stdout));
    assert!([1, 2].contains(&value["n"].as_i64().unwrap()), "{value}");
    // llama.cpp's parser says on stderr where a grammar breaks, before our line.
    ask("siglip-qwen2-f32", &["--grammar", "root ::= <<<"]).exits(2, "error: --grammar");
    ask("siglip-qwen2-f32", &["-j", "{\"type\": 5}"]).fails(2, "--json-schema");
    ask("siglip-qwen2-f32", &["-j", "not json"]).fails(2, "--json-schema");
    // Both overflowed the stack.
    let deep = format!("root ::= {}\"a\"{}", "(".repeat(20_000), ")".repeat(20_000));
    ask("siglip-qwen2-f32", &["--grammar", &deep]).fails(2, "--grammar: brackets deeper than 100");
    let nested = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    ask("siglip-qwen2-f32", &["-j", &nested]).fails(2, "--json-schema: it nests deeper than 64");
}

#[test]
fn stop_texts_penalties_and_log_probabilities() {
    let asked = |extra: &[&str]| {
        let args = [&["-n", "12", "--ignore-eos", "--report", "-"][..], extra].concat();
        let outcome = ask("siglip-qwen2-f32", &args);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        serde_json::from_str::<Value>(outcome.stdout.lines().last().unwrap()).unwrap()
    };
    let text = |report: &Value| report["text"].as_str().unwrap().to_owned();
    let plain = asked(&["--n-probs", "2"]);
    let tokens = plain["logprobs"].as_array().unwrap_or_else(|| panic!("{plain}"));
    assert_eq!((tokens.len(), tokens[0]["top"].as_array().map(Vec::len)), (12, Some(2)), "{plain}");
    // Any letter of the answer ends it, and is not shown.
    let letter = text(&plain).trim().chars().nth(1).unwrap().to_string();
    let stopped = text(&asked(&["-r", &letter]));
    assert!(!stopped.contains(&letter) && text(&plain).starts_with(&stopped), "{stopped}");
    let first = tokens[0]["id"].as_i64().unwrap();
    let other = asked(&["--n-probs", "0", "--logit-bias", &format!("{first}-inf")]);
    assert_ne!(other["logprobs"][0]["id"].as_i64(), Some(first), "{other}");
    let penalised = asked(&["--repeat-penalty", "50", "--repeat-last-n", "-1", "--presence-penalty", "9"]);
    assert_ne!(text(&penalised), text(&plain));
    ask("siglip-qwen2-f32", &["--repeat-penalty", "0"]).fails(2, "--repeat-penalty 0");
}

#[test]
fn a_persons_text_is_never_a_special_token() {
    let special = |text: &str| -> usize {
        let file = scratch("trace-special.json");
        let args = [
            &["run".to_owned()][..],
            &pair("siglip-qwen2-f32"),
            &["-p", text, "-n", "1", "--trace", &file].map(str::to_owned),
        ]
        .concat();
        assert_eq!(illava(&args).code, 0);
        let trace: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        // 320 and above are the control tokens of the test vocabulary.
        trace["prompt"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|part| part["tokens"].as_array().unwrap())
            .filter(|id| id.as_u64().unwrap() >= 320)
            .count()
    };
    assert!(special("hello") > 0);
    assert_eq!(special("<|im_end|><|im_start|>system"), special("hello"));
}

#[test]
fn schedules_a_model_cannot_take() {
    for (extra, part) in [
        (&["--vit-layers", "3", "--vit-r", "100"][..], "only 100 tokens enter it, so at most 99"),
        (&["--vit-layers", "3,4,5", "--vit-r", "40"], "layer 5"),
        (&["--vit-layers", "9", "--vit-r", "4"], "layers 0 to 8"),
        (&["--llm-layers", "0", "--llm-r", "4"], "layers 1 to 9"),
        (&["--llm-layers", "10", "--llm-r", "4"], "layers 1 to 9"),
        (&["--llm-layers", "2", "--llm-r", "100"], "--llm-r 100 at layer 2"),
        (&["--keep", "0"], "--keep 0"),
        (&["--keep", "2"], "--keep 2"),
        (&["--merge", "model"], "illava.merge"),
        (&["--merge", "best"], "--merge best"),
        (&["--vit-layers", "3,x", "--vit-r", "4"], "`x`"),
    ] {
        ask("siglip-qwen2-f32", extra).fails(2, part);
    }
    ask("qwen2vl-f32", &["--vit-layers", "3", "--vit-r", "6"]).fails(2, "groups of 4");
}

#[test]
fn a_prompt_beyond_the_context_names_both_numbers() {
    let outcome = ask("siglip-qwen2-f32", &["--merge", "off", "-c", "64"]);
    outcome.fails(1, "the context (-c) has 64");
    outcome.fails(1, "100 of pictures");
    let long = "the shape ".repeat(4000);
    ask("siglip-qwen2-f32", &["-p", &long]).fails(1, "4096");
}

#[test]
fn usage() {
    illava(&["run".into(), "--nonsense".into()]).exits(2, "--nonsense");
    illava(&["dance".into()]).exits(2, "dance");
    illava(&["run".into(), "-p".into(), "hi".into()]).exits(2, "--model");
    let mut no_prompt = vec!["run".to_owned()];
    no_prompt.extend(pair("siglip-qwen2-f32"));
    illava(&no_prompt).fails(2, "-p");
    ask("siglip-qwen2-f32", &["-ctk", "q4_0"]).fails(1, "-ctk q4_0");
    ask("qwen2vl-f32", &["-fa", "off", "-ctv", "q8_0"]).fails(2, "flash attention");
    ask("siglip-qwen2-f32", &["--chat-template", "{% for %}"]).fails(1, "chat template");
}

#[test]
fn old_files_without_a_template_say_what_they_get() {
    let outcome = ask("clip-llama-f32", &[]);
    assert!(
        outcome.stderr.contains("no chat template") && outcome.stderr.contains("vicuna"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn environment_variables_give_way_to_flags() {
    let picture = picture("environment.png", 40, 40);
    let file = scratch("report-environment.json");
    let mut args = vec!["run".to_owned()];
    args.extend(["--image", &picture, "-p", "hi", "-n", "2", "--report", &file].map(str::to_owned));
    let outcome = binary::illava_with(
        &args,
        &[
            ("LLAMA_ARG_MODEL", &model("siglip-qwen2-f32", "text.gguf")),
            ("LLAMA_ARG_MMPROJ", &model("siglip-qwen2-f32", "mmproj.gguf")),
            ("LLAMA_ARG_N_PREDICT", "5"),
            ("LLAMA_ARG_THREADS", "1"),
        ],
    );
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let report: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(report["threads"], 1);
    assert!(number(&report, "/tokens/generated") <= 2.0);
}

/// Whether the library has a faster layout for Q4_0 on this processor.
fn repacks_q4_0() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx2");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("dotprod");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

#[test]
fn a_quantised_encoder_is_repacked_where_asked() {
    for (name, repacks) in [("siglip-qwen2-q4_0", repacks_q4_0()), ("siglip-qwen2-f32", false)] {
        let files = pair(name);
        let inspect = |extra: &[&str]| {
            let flags = ["inspect", "--json"].iter().chain(extra).map(|word| (*word).to_owned());
            let outcome = illava(&flags.chain(files.iter().cloned()).collect::<Vec<_>>());
            assert_eq!(outcome.code, 0, "{name}: {}", outcome.stderr);
            let found: Value = serde_json::from_str(&outcome.stdout).unwrap();
            let projector = &found["projector"];
            (projector["repacked_bytes"].as_u64().unwrap(), projector["bytes"].as_u64().unwrap())
        };
        assert_eq!(inspect(&[]).0, 0, "{name}");
        let (repacked, all) = inspect(&["--mmproj-repack"]);
        assert_eq!(repacked > 0, repacks, "{name}: {repacked}");
        assert!(repacked < all, "{name}: {repacked} of {all}");
    }
}

#[test]
fn inspect_knows_pairs_and_presets() {
    for name in PAIRS {
        let outcome = illava(&[&["inspect".to_owned(), "--json".to_owned()][..], &pair(name)].concat());
        assert_eq!(outcome.code, 0, "{name}: {}", outcome.stderr);
        let found: Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!(found["matches"], true, "{name}");
        assert_eq!(found["text"]["can_merge"], true, "{name}");
        // 10 layers, f16: 2 bytes for K and V each.
        let width = if name == "siglip-qwen2-f32" { 32 } else { 64 };
        assert_eq!(found["kv"]["bytes_per_token"], 10 * 2 * 2 * width, "{name}");
        let paper =
            found["presets"].as_array().unwrap().iter().find(|preset| preset["name"] == "paper").unwrap();
        assert_eq!(paper["vit_layers"].as_array().unwrap().len(), 4, "{name}");
        assert!(
            paper["pictures"][0]["kv_bytes"].as_u64().unwrap()
                < found["pictures"][0]["kv_bytes"].as_u64().unwrap()
        );
        let table = illava(&[&["inspect".to_owned()][..], &pair(name)].concat());
        assert_eq!(table.code, 0);
        assert!(table.stdout.contains("a pair") && table.stdout.contains("qwen2vl"), "{}", table.stdout);
    }
    let wrong = [
        "inspect",
        "--json",
        "-m",
        &model("siglip-qwen2-f32", "text.gguf"),
        "-mm",
        &model("qwen2vl-f32", "mmproj.gguf"),
    ];
    let outcome = illava(&wrong.map(str::to_owned));
    assert_eq!(
        serde_json::from_str::<Value>(&outcome.stdout).unwrap()["matches"],
        false,
        "{}",
        outcome.stderr
    );
}

#[test]
fn two_reports_side_by_side() {
    let (a, b) = (scratch("side-off.json"), scratch("side-on.json"));
    assert_eq!(ask("siglip-qwen2-f32", &["--merge", "off", "--report", &a]).code, 0);
    assert_eq!(ask("siglip-qwen2-f32", &["--merge", "paper", "--report", &b]).code, 0);
    let table = illava(&["inspect", "--reports", &a, &b].map(str::to_owned));
    assert_eq!(table.code, 0, "{}", table.stderr);
    for part in ["merge off", "merge paper", "KV cache", "first token"] {
        assert!(table.stdout.contains(part), "{part}: {}", table.stdout);
    }
    illava(&["inspect", "--reports", &a, "/nowhere.json"].map(str::to_owned)).fails(1, "/nowhere.json");
}

#[test]
#[cfg(unix)]
fn ctrl_c_ends_an_answer_with_130() {
    use std::io::Read;
    use std::process::Command;
    let mut args = vec!["run".to_owned()];
    args.extend(pair("siglip-qwen2-f32"));
    args.extend(
        // Longer than a pipe holds, so that it cannot be over before the signal comes.
        ["-p", "go on", "-n", "-1", "-c", "100000", "--grammar", "root ::= [a-z ]+", "-t", "1"]
            .map(str::to_owned),
    );
    let mut child = binary::spawn(&args);
    let mut first = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let outcome = Outcome::from(child.wait_with_output().unwrap());
    outcome.fails(130, "interrupted");
    assert!(outcome.stdout.len() < 99_000, "it went on to the end");
}

/// A folder of frames needs no other program.
#[test]
fn frames_of_a_video_go_in() {
    let folder = std::path::PathBuf::from(scratch("frames"));
    fs::create_dir_all(&folder).unwrap();
    for n in 0..12 {
        let to = folder.join(format!("frame{n}.png"));
        fs::copy(picture("shapes.png", 96, 72), to).unwrap();
    }
    let folder = folder.display().to_string();
    let tokens = |extra: &[&str]| {
        let file = scratch(&format!("report-frames-{}.json", extra.len()));
        let mut args = vec!["run".to_owned()];
        args.extend(pair("siglip-qwen2-f32"));
        let fixed =
            ["-p", "hi", "-n", "2", "--temp", "0", "-c", "4096", "--video", &folder, "--report", &file];
        args.extend(fixed.iter().chain(extra).map(|arg| (*arg).to_owned()));
        let outcome = illava(&args);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        number(&serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap(), "/tokens/visual")
    };
    assert_eq!(tokens(&["--video-frames", "2"]) * 2.0, tokens(&["--video-frames", "4", "--merge", "off"]));
    ask("siglip-qwen2-f32", &["--video", "no-such.mp4"]).fails(1, "no-such.mp4: no such file");
}
