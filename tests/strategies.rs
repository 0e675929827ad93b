//! The strategies that merging is compared with, through the real binary on the demo pair: equal numbers of tokens,
//! reports and traces that say what was done, and one clear line for what makes no sense.

mod binary;

use std::collections::BTreeMap;
use std::fs;

use binary::{Outcome, illava, pair, scratch};
use serde_json::Value;

const DEMO: [&str; 4] = ["-m", "models/demo/text.gguf", "--mmproj", "models/demo/mmproj.gguf"];
const SCENE: &str = "models/demo/images/scene.png";

fn call(command: &str, model: &[&str], rest: &[&str]) -> Outcome {
    illava(&[&[command], model, rest].concat().iter().map(ToString::to_string).collect::<Vec<_>>())
}

fn json(path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Report and trace of one short answer.
fn answered(name: &str, flags: &[&str]) -> (Value, Value) {
    let (report, trace) =
        (scratch(&format!("strategy-{name}-r.json")), scratch(&format!("strategy-{name}-t.json")));
    let rest = [
        "--image",
        SCENE,
        "-p",
        "what is there",
        "--temp",
        "0",
        "-n",
        "4",
        "--report",
        &report,
        "--trace",
        &trace,
    ];
    let outcome = call("run", &DEMO, &[&rest, flags].concat());
    assert_eq!(outcome.code, 0, "{name}: {}", outcome.stderr);
    (json(&report), json(&trace))
}

fn indices(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|index| index.as_i64().unwrap()).collect()
}

#[test]
fn all_leave_equally_many() {
    let file = scratch("strategies-bench.json");
    let against = "prune,random,merge,kmeans,greedy,assign,prumerge,downsample,0.25/random,paper/prune,paper,fastv,pyramiddrop,paper/fastv,\
        visionzip,hired,sparsevlm,paper/visionzip,paper/hired,paper/sparsevlm";
    let rest = [
        "--rounds",
        "1",
        "--warm-up",
        "0",
        "-n",
        "2",
        "--image",
        SCENE,
        "--against",
        against,
        "--json",
        &file,
    ];
    let outcome = call("bench", &DEMO, &rest);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let value = json(&file);
    let counts: BTreeMap<&str, (u64, u64)> = value["outcomes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|outcome| {
            let deepest =
                outcome["visual_kv"].as_array().unwrap().last().unwrap()["tokens"].as_u64().unwrap();
            let counts = (outcome["visual_after_encoder"].as_u64().unwrap(), deepest);
            assert_eq!(outcome["visual"], 196, "{outcome}");
            (outcome["name"].as_str().unwrap(), counts)
        })
        .collect();
    assert_eq!(counts["model"], (96, 48));
    assert_eq!(counts["fastv"], (196, 98), "a method has its own amount");
    assert_eq!(counts["pyramiddrop"], (196, 25));
    assert_eq!(counts["visionzip"], (76, 76));
    assert_eq!(counts["hired"], (40, 40));
    assert_eq!(counts["sparsevlm"], (196, 37));
    for name in ["fastv", "visionzip", "hired", "sparsevlm"] {
        let name = format!("paper/{name}");
        let there = counts[name.as_str()].1;
        assert!(
            there.abs_diff(counts["paper"].1) <= 1,
            "{name}: or that of the preset, but for rounding: {there}"
        );
    }
    for name in ["prune", "random", "merge", "kmeans", "greedy", "assign"] {
        assert_eq!(counts[format!("model/{name}").as_str()], (96, 48), "{name}");
    }
    assert_eq!(counts["model/prumerge"], (48, 48), "once, by the whole budget");
    assert_eq!(counts["model/downsample"], (49, 49), "7x7 is the square nearest to 48");
    assert_eq!(counts["model keep 0.25/random"].1, 49);
    assert_eq!(counts.len(), 22, "{counts:?}");
}

#[test]
fn reports_and_traces_say_what_was_done() {
    let mut kept = BTreeMap::new();
    let rules = ["merge", "prune", "random", "bipartite", "kmeans", "assign", "prumerge", "downsample"];
    let methods =
        ["fastv", "pyramiddrop", "visionzip", "hired", "sparsevlm", "zipvl", "look-m", "look-m-averaged"];
    for name in rules.into_iter().chain(methods) {
        let (report, trace) = answered(name, &["--strategy", name, "--strategy-seed", "3"]);
        assert_eq!(report["merge"]["strategy"], name);
        assert_eq!(report["merge"]["strategy_seed"], if name == "random" { 3 } else { 0 });
        assert_eq!(trace["strategy"], name);
        let steps = trace["steps"].as_array().unwrap();
        assert_eq!(steps.is_empty(), name == "downsample");
        for step in steps {
            let (n_in, n_out) = (step["n_in"].as_u64().unwrap(), step["n_out"].as_u64().unwrap());
            let removed = usize::try_from(n_in - n_out).unwrap();
            let merged = indices(&step["merged"]);
            assert_eq!(indices(&step["kept"]).len() as u64, n_out);
            assert_eq!(merged.len(), removed + usize::from(name == "merge"), "{name}");
            assert_eq!(step["into"].is_null(), name != "merge", "{name}");
            let ranks = ["merge", "prune", "assign", "prumerge"].contains(&name) || methods.contains(&name);
            assert_eq!(
                step["scores"].as_array().unwrap().len() as u64,
                if ranks { n_in } else { 0 },
                "{name}"
            );
            match step.get("groups") {
                None => {
                    let none = ["merge", "prune", "random", "fastv", "pyramiddrop", "hired", "zipvl"];
                    // A thinned cache merges otherwise in every layer and head.
                    assert!(none.contains(&name) || name.starts_with("look-m"), "{name}");
                }
                Some(groups) => {
                    let groups: Vec<Vec<i64>> = groups.as_array().unwrap().iter().map(indices).collect();
                    let gone: usize = groups.iter().map(|group| group.len() - 1).sum();
                    // SparseVLM drops some, and what recycles the others is no longer one of them.
                    assert!(if name == "sparsevlm" { gone < removed } else { gone == removed }, "{name}");
                    let stays = indices(&step["kept"]);
                    assert!(groups.iter().all(|group| stays.contains(group.last().unwrap())), "{name}");
                }
            }
        }
        if let Some(first) = steps.first() {
            kept.insert(name, indices(&first["kept"]));
        }
    }
    assert_eq!(kept["prune"], kept["merge"], "the same are kept");
    assert_eq!(kept["assign"], kept["merge"], "the same are kept");
    let again = |seed| {
        indices(&answered("again", &["--strategy", "random", "--strategy-seed", seed]).1["steps"][0]["kept"])
    };
    assert_eq!(again("3"), kept["random"], "a seed repeats");
    assert_ne!(again("4"), kept["random"]);
}

#[test]
fn balanced_counts_sizes_from_step_to_step() {
    let (report, trace) = answered("balanced", &["--merge", "balanced"]);
    assert_eq!(report["merge"]["strategy"], "bipartite");
    assert_eq!(report["merge"]["vit_sizes"], true);
    assert_eq!(
        report["merge"]["vit_layers"],
        serde_json::json!([4, 5, 6, 7]),
        "three quarters of 5, 6, 7, 8"
    );
    let steps = trace["steps"].as_array().unwrap();
    let encoder: Vec<&Value> = steps.iter().filter(|step| step["half"] == "encoder").collect();
    assert_eq!(encoder.len(), 4);
    for step in encoder {
        let sizes: Vec<f64> = step["sizes"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).collect();
        assert_eq!(sizes.len() as u64, step["n_out"].as_u64().unwrap());
        assert!((sizes.iter().sum::<f64>() - 196.0).abs() < 1e-9, "the tokens there were");
    }
    let (plain, _) = answered("balanced-off", &["--merge", "balanced", "--vit-sizes", "off"]);
    assert_eq!(plain["merge"]["vit_sizes"], false);
    let (paper, trace) = answered("paper", &["--merge", "paper"]);
    assert_eq!(
        (paper["merge"]["strategy"].as_str(), paper["merge"]["vit_sizes"].as_bool()),
        (Some("merge"), Some(false))
    );
    assert!(trace["steps"].as_array().unwrap().iter().all(|step| step.get("sizes").is_none()));
}

#[test]
fn the_class_token_ranks_where_there_is_one() {
    let pair = pair("clip-llama-f32");
    let model = pair.each_ref().map(String::as_str);
    let file = scratch("strategies-class.json");
    let run =
        ["--image", SCENE, "-p", "x", "-n", "1", "--vit-layers", "1", "--vit-r", "9", "--report", &file];
    let outcome = call("run", &model, &[&run[..], &["--score", "class"]].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_eq!(json(&file)["merge"]["vit_score"], "class");
    call("run", &DEMO, &["--image", SCENE, "-p", "x", "--merge", "paper", "--score", "class"])
        .fails(1, "has no class token");
}

/// Tokens left behind each step, by what the step is of.
fn left(trace: &Value, half: &str, of: &str) -> Vec<(u64, u64)> {
    let steps = trace["steps"].as_array().unwrap().iter().filter(|step| step["half"] == half);
    steps.map(|step| (step[of].as_u64().unwrap_or(0), step["n_out"].as_u64().unwrap())).collect()
}

#[test]
fn hired_gives_each_tile_what_the_whole_picture_looks_at() {
    let pair = pair("hf-llava_next-f32");
    let model = pair.each_ref().map(String::as_str);
    let (report, trace) = (scratch("strategies-hired-r.json"), scratch("strategies-hired-t.json"));
    let rest = ["--image", SCENE, "-p", "x", "-n", "1", "--strategy", "hired", "--keep", "0.25"];
    let outcome = call("run", &model, &[&rest[..], &["--report", &report, "--trace", &trace]].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let (report, trace) = (json(&report), json(&trace));
    assert_eq!(report["merge"]["vit_score"], "class");
    let tiles = left(&trace, "encoder", "tile");
    assert!(tiles.len() > 2, "{tiles:?}");
    let entered: u64 =
        trace["steps"].as_array().unwrap().iter().map(|step| step["n_in"].as_u64().unwrap()).sum();
    let total: u64 = tiles.iter().map(|(_, n)| n).sum();
    assert!(total.abs_diff(entered / 4) <= tiles.len() as u64, "{total} of {entered}");
    let whole = tiles[0].1;
    assert!(whole.abs_diff(total / 2) <= 1 || whole == entered / tiles.len() as u64, "{tiles:?}");
    assert!(tiles[1..].iter().any(|(_, n)| *n != tiles[1].1), "tiles differ: {tiles:?}");
}

#[test]
fn the_scores_say_how_many_stay() {
    let run = |name: &str, mass: &str| {
        let flags = ["--llm-layers", "1,2", "--llm-mass", mass, "--strategy", "prune", "--score", "question"];
        let (report, trace) = answered(&format!("mass-{name}"), &flags);
        let held: Vec<u64> = report["tokens"]["visual_kv"]
            .as_array()
            .unwrap()
            .iter()
            .map(|segment| segment["tokens"].as_u64().unwrap())
            .collect();
        let steps = left(&trace, "decoder", "layer");
        assert_eq!(
            held[1..],
            steps.iter().map(|(_, n)| *n).collect::<Vec<_>>(),
            "{name}: the report's cells"
        );
        for step in trace["steps"].as_array().unwrap() {
            let mut scores: Vec<f64> =
                step["scores"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).collect();
            scores.sort_by(|a, b| b.total_cmp(a));
            let n_out = usize::try_from(step["n_out"].as_u64().unwrap()).unwrap();
            let share = |n: usize| scores[..n].iter().sum::<f64>() / scores.iter().sum::<f64>();
            let mass: f64 = mass.parse().unwrap();
            assert!(share(n_out) >= mass - 1e-6 && share(n_out - 1) < mass + 1e-6, "{name} {n_out}");
        }
        held
    };
    let (most, half) = (run("most", "0.95"), run("half", "0.5"));
    assert!(half[2] < most[2] && most[2] < 196, "{half:?} {most:?}");
}

#[test]
fn explain_shows_where_each_cell_went() {
    for (name, gone_into_something) in [("prune", false), ("greedy", true)] {
        let out = scratch(&format!("strategies-explain-{name}"));
        let rest = ["--image", SCENE, "-p", "what is there", "-n", "1", "--strategy", name, "--out", &out];
        let outcome = call("explain", &DEMO, &rest);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let trace: illava::report::Trace =
            serde_json::from_str(&fs::read_to_string(format!("{out}/trace.json")).unwrap()).unwrap();
        let fate = &illava::report::fates(&trace).unwrap()[0];
        let gone: Vec<_> = fate.tiles[0].cells.iter().filter(|cell| cell.gone > 0).collect();
        assert_eq!(gone.len(), 196 - 48, "{name}");
        assert!(gone.iter().all(|cell| cell.into.is_some() == gone_into_something), "{name}");
    }
}

#[test]
fn smaller_pictures_of_a_model_that_takes_any_size() {
    let pair = pair("qwen2vl-f32");
    let file = scratch("strategies-qwen.json");
    let rest = ["--rounds", "1", "--warm-up", "0", "-n", "2", "--merge", "qwen2vl", "--image", SCENE];
    let rest = [&rest[..], &["--against", "downsample,prumerge,greedy", "--json", &file]].concat();
    let outcome = call("bench", &pair.each_ref().map(String::as_str), &rest);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let value = json(&file);
    let deepest = |i: usize| {
        value["outcomes"][i]["visual_kv"].as_array().unwrap().last().unwrap()["tokens"].as_f64().unwrap()
    };
    assert!(deepest(1) < deepest(0) * 0.6, "{value}");
    assert!(
        (deepest(2) - deepest(1)).abs() <= deepest(1) * 0.1,
        "downsample: {} for {}",
        deepest(2),
        deepest(1)
    );
    assert_eq!((deepest(3), deepest(4)), (deepest(1), deepest(1)));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let run = ["--image", SCENE, "-p", "x", "-n", "1"];
    for (flags, part) in [
        (&["--strategy", "best"][..], "--strategy best: choose merge, prune"),
        (&["--strategy", "prune", "--merge", "off"], "nothing is to go"),
        (&["--strategy", "kmeans", "--score", "last-token"], "--score last-token"),
        (&["--strategy", "prumerge", "--llm-layers", "2", "--llm-r", "5"], "acts before the decoder"),
        (&["--strategy", "merge", "--vit-sizes", "on"], "keeps no sizes"),
        (&["--vit-sizes", "maybe"], "--vit-sizes maybe: choose on or off"),
        (&["--strategy", "bipartite", "--score", "class"], "looks at no attention"),
        (&["--score", "best"], "--score best: choose image, last-token"),
        (&["--strategy", "fastv", "--vit-layers", "2", "--vit-r", "5"], "leave out --vit-layers"),
        (&["--strategy", "hired", "--llm-layers", "2", "--llm-keep", "0.5"], "acts before the decoder"),
        (&["--strategy", "sparsevlm", "--merge", "auto"], "give the share with --keep"),
        (&["--llm-layers", "2", "--llm-mass", "2"], "--llm-mass 2: give a share above 0 and below 1"),
        (&["--merge", "balanced", "--llm-mass", "0.9"], "--llm-mass: the strategy bipartite ranks nothing"),
        (&["--strategy", "downsample", "--llm-layers", "2", "--llm-r", "5"], "acts before the decoder"),
    ] {
        call("run", &DEMO, &[&run, flags].concat()).fails(2, part);
    }
    call("bench", &DEMO, &["--against", "paper/best"]).fails(2, "--strategy best");
}
