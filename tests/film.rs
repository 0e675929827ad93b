//! Strategy `free-videollm`: the question chooses frames and regions of a video, or of several pictures. The rows are
//! held to an account of this file's own, by the encoder's tokens of single frames; the rest goes through every face of the
//! real binary. tests/scorer.rs holds the choice itself to transformers.

mod binary;
#[path = "serve/http.rs"]
mod http;
#[allow(dead_code)] // Contexts are others'.
mod numbers;
#[path = "serve/served.rs"]
mod served;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use binary::{Outcome, illava, model, pair, scratch};
use http::about;
use illava::answer::{Engine, LlamaEngine};
use illava::media::policy::VideoLimits;
use illava::media::video::{Sampling, Source};
use illava::media::{Filter, Pixels, resize};
use illava::native::Wanted;
use illava::pair::{FlashAttention, KvType, LoadSettings};
use illava::schedule::{Choice, Schedule, Strategy};
use illava::see::crop::RegionScorer;
use illava::see::{EncodedImage, Encoder, Visual};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};
use served::Served;

const QUESTION: &str = "a red circle on the left";

fn scorer() -> String {
    model("scorers", "clip-F32.gguf")
}

fn call(command: &str, name: &str, rest: &[&str]) -> Outcome {
    let rest = rest.iter().map(|arg| (*arg).to_owned());
    illava(&[command.to_owned()].into_iter().chain(pair(name)).chain(rest).collect::<Vec<_>>())
}

fn read(path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Frame `n` of a film: a disc that moves and changes its colour.
fn frame(n: u32) -> RgbImage {
    let (x0, y0) = (12 + n * 53 % 72, 10 + n * 31 % 52);
    RgbImage::from_fn(96, 72, |x, y| {
        let (dx, dy) = (i64::from(x) - i64::from(x0), i64::from(y) - i64::from(y0));
        match dx * dx + dy * dy < 120 {
            true => Rgb([(n * 37 % 255) as u8, (255 - n * 4 % 255) as u8, (n * 91 % 255) as u8]),
            false => Rgb([(x * 2 + n) as u8, (y * 3) as u8, ((x + y + n * 3) % 200) as u8]),
        }
    })
}

/// A folder of `count` frames.
fn folder(name: &str, count: u32) -> String {
    let folder = PathBuf::from(scratch(name));
    fs::create_dir_all(&folder).unwrap();
    (0..count).for_each(|n| frame(n).save(folder.join(format!("{n:03}.png"))).unwrap());
    folder.display().to_string()
}

/// A video file of `count` frames; `None` without ffmpeg.
fn film(name: &str, count: u32) -> Option<String> {
    let (frames, file) = (folder(name, count), format!("{}.mkv", scratch(name)));
    let status = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-y",
            "-framerate",
            "25",
            "-i",
            &format!("{frames}/%03d.png"),
            "-c:v",
            "ffv1",
            &file,
        ])
        .status();
    if status.is_ok_and(|status| status.success()) {
        return Some(file);
    }
    assert!(std::env::var_os("ILLAVA_NEEDS_FFMPEG").is_none(), "ffmpeg is not installed");
    eprintln!("skipped: ffmpeg is not installed; ./test installs it");
    None
}

/// Report and trace of an answer about `shown`, flags that name pictures or a video.
fn answered(name: &str, pair: &str, question: &str, shown: &[&str]) -> (Value, Value) {
    let (report, trace) = (scratch(&format!("film-{name}-r.json")), scratch(&format!("film-{name}-t.json")));
    let model = scorer();
    let fixed = ["-p", question, "--temp", "0", "-n", "4", "-t", "1", "-c", "4096", "--report", &report];
    let film = ["--trace", &trace, "--strategy", "free-videollm", "--crop-model", &model];
    let outcome = call("run", pair, &[&fixed[..], &film, shown].concat());
    assert_eq!(outcome.code, 0, "{name}: {}", outcome.stderr);
    (read(&report), read(&trace))
}

fn engine(name: &str) -> LlamaEngine {
    let settings = LoadSettings {
        crop_model: Some(scorer().into()),
        threads: 1,
        threads_batch: 1,
        batch: 512,
        projector_offload: false,
        flash_attention: FlashAttention::Off,
        type_k: KvType::F32,
        type_v: KvType::F32,
        ..LoadSettings::new(model(name, "text.gguf"), model(name, "mmproj.gguf"))
    };
    LlamaEngine::load(&settings, |_| ()).unwrap().0
}

fn schedule(engine: &LlamaEngine, choice: Choice) -> Schedule {
    let choice = Choice { strategy: Some(Strategy::FreeVideo), ..choice };
    engine.facts().schedule(&choice).unwrap().asked(QUESTION).unwrap()
}

/// The encoder's tokens of one frame, [side, side, width], that is shown alone and squeezed into a square.
fn tokens(engine: &mut LlamaEngine, frame: &Pixels) -> (Vec<f64>, usize) {
    let info = engine.facts().vision.clone();
    let square = resize(frame, info.image_size, info.image_size, Filter::Bicubic).unwrap();
    let image = engine.encode_span(&Visual::OneOfSeveral(&square), &Schedule::default()).unwrap();
    let side = (info.image_size / info.patch_size) as usize;
    let width = image.embeddings.len() / image.plan.tokens as usize;
    // A newline may stand behind them.
    (image.embeddings[..side * side * width].iter().map(|&x| f64::from(x)).collect(), side)
}

/// Cosine of each row and the text.
fn cosines(rows: &[f32], text: &[f32]) -> Vec<f64> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    rows.chunks(text.len()).map(|row| dot(row, text) / (dot(row, row) * dot(text, text)).sqrt()).collect()
}

/// Numbers of the `count` largest, ascending.
fn largest(values: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]).then(a.cmp(b)));
    let mut found = order[..count.min(order.len())].to_vec();
    found.sort_unstable();
    found
}

/// Larger values of neighbours in each line of a square of rows, [side, pairs, width].
fn pairs(rows: &[f64], side: usize, width: usize) -> Vec<Vec<f64>> {
    let cell = |line: usize, column: usize| &rows[(line * side + column) * width..][..width];
    let pair = |line, i: usize| {
        let second = cell(line, (2 * i + 1).min(side - 1));
        cell(line, 2 * i).iter().zip(second).map(|(a, b)| a.max(*b)).collect()
    };
    (0..side)
        .flat_map(|line| (0..side.div_ceil(2)).map(move |i| (line, i)))
        .map(|(line, i)| pair(line, i))
        .collect()
}

/// A video of fifty frames and one of three: rows by the authors' amounts, from the tokens of single frames.
#[test]
fn the_rows_are_those_of_the_frames() {
    for (name, count) in [
        ("siglip-qwen2-f32", 55),
        ("clip-llama-f32", 55),
        ("hf-llava_onevision-f32", 6),
        ("siglip-qwen2-f32", 3),
    ] {
        let Some(file) = film(&format!("film-rows-{name}-{count}"), count) else { return };
        let video =
            Source::open(file.as_ref(), VideoLimits::default()).unwrap().read(&Sampling::FREE_VIDEO).unwrap();
        let frames: Vec<&Pixels> = video.frames.iter().map(|frame| &frame.pixels).collect();
        assert_eq!(frames.len(), count.min(50) as usize, "{name}");
        let mut engine = engine(name);
        let schedule = schedule(&engine, Choice::default());
        let found = engine.encode_span(&Visual::Video(frames.clone()), &schedule).unwrap();

        let mut clip = RegionScorer::load(Path::new(&scorer()), false, 1).unwrap();
        let text = clip.text(QUESTION).unwrap();
        let patches = (clip.info().image_size / clip.info().patch_size) as usize;
        let wanted = Wanted { patches: true, ..Wanted::default() };
        let scores = clip.images(&frames, wanted, &[], &mut || ()).unwrap();
        let of_frames = cosines(&scores.features, &text);
        let asked = largest(&of_frames, 3);
        let mut even: Vec<usize> = (0..5).map(|i| i * frames.len() / 5).collect();
        even.dedup();
        for (i, frame) in found.frames.iter().enumerate() {
            assert!((f64::from(frame.score) - of_frames[i]).abs() < 1e-5, "{name}: frame {i}");
            assert_eq!(
                (frame.asked, frame.even),
                (asked.contains(&i), even.contains(&i)),
                "{name}: frame {i}"
            );
            assert_eq!(frame.region.is_some(), frame.asked || frame.even);
        }
        let (mut rows, mut outlines): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
        let singles: Vec<(Vec<f64>, usize)> = frames.iter().map(|frame| tokens(&mut engine, frame)).collect();
        for &i in asked.iter().chain(&even) {
            let (cells, side) = &singles[i];
            let width = cells.len() / (side * side);
            let size = patches * patches * text.len();
            let seen: Vec<f64> =
                scores.patches[i * size..(i + 1) * size].iter().map(|&x| f64::from(x)).collect();
            let seen: Vec<f32> =
                pairs(&seen, patches, text.len()).concat().iter().map(|&x| x as f32).collect();
            let likes = cosines(&seen, &text);
            let best = largest(&likes, (likes.len() as f64 * 0.8) as usize);
            // The mean place, by the middles of cells, on the frame's own pairs.
            let (have, want) = ((patches, patches.div_ceil(2)), (*side, side.div_ceil(2)));
            let long = |n: usize| (n as f64 * 0.8_f64.sqrt()).round_ties_even() as usize;
            let first = |sum: usize, have: usize, want: usize| {
                let mean = (sum as f64 / best.len() as f64 + 0.5) / have as f64 * want as f64 - 0.5;
                ((mean + 1e-9).max(0.0) as usize).saturating_sub(long(want) / 2).min(want - long(want))
            };
            let top = first(best.iter().map(|pair| pair / have.1).sum(), have.0, want.0);
            let left = first(best.iter().map(|pair| pair % have.1).sum(), have.1, want.1);
            let own = pairs(cells, *side, width);
            for line in top..top + long(want.0) {
                (left..left + long(want.1)).for_each(|column| rows.extend(&own[line * want.1 + column]));
            }
        }
        for (cells, side) in &singles {
            let width = cells.len() / (side * side);
            let to = 4.min(*side);
            let part = |i: usize| i * side / to..((i + 1) * side).div_ceil(to);
            for (y, x) in (0..to).flat_map(|y| (0..to).map(move |x| (y, x))) {
                let all: Vec<usize> =
                    part(y).flat_map(|line| part(x).map(move |column| line * side + column)).collect();
                outlines.extend(
                    (0..width).map(|d| {
                        all.iter().map(|cell| cells[cell * width + d]).sum::<f64>() / all.len() as f64
                    }),
                );
            }
        }
        rows.extend(outlines);
        let expected: Vec<f32> = rows.iter().map(|&x| x as f32).collect();
        assert_eq!(found.embeddings.len(), expected.len(), "{name}: {} rows", found.plan.tokens);
        let error = numbers::distance(&found.embeddings, &expected);
        assert!(error < 1e-4, "{name}: {count} frames, off by {error:.1e}");
    }
}

/// Each of several pictures has the rows that it has as a frame of a video, those in detail once; a budget gives the size
/// of regions.
#[test]
fn several_pictures_stand_for_frames() {
    let mut engine = engine("siglip-qwen2-f32");
    let pictures: Vec<Pixels> = (0..12)
        .map(|n| Pixels { width: 96, height: 72, rgb: frame(n).into_raw(), remark: None, moment: None })
        .collect();
    let all: Vec<&Pixels> = pictures.iter().collect();
    let schedule = schedule(&engine, Choice::default());
    let video = engine.encode_span(&Visual::Video(all.clone()), &schedule).unwrap();
    let mut together = Vec::new();
    for at in 0..all.len() {
        together.push(
            engine
                .encode_span(&Visual::Among { pictures: all.clone(), at, all: [7; 32] }, &schedule)
                .unwrap(),
        );
    }
    let coarse = video.plan.tokens as usize
        - video.frames.iter().map(|f| usize::from(f.asked) + usize::from(f.even)).sum::<usize>()
            * detail(&video, &together);
    let width = video.embeddings.len() / video.plan.tokens as usize;
    let one = coarse / all.len() * width;
    for (i, image) in together.iter().enumerate() {
        assert_eq!(image.frames, video.frames[i..=i], "picture {i}");
        let tail = &image.embeddings[image.embeddings.len() - one..];
        let begin = video.embeddings.len() - (all.len() - i) * one;
        assert_eq!(numbers::distance(tail, &video.embeddings[begin..begin + one]), 0.0, "picture {i}");
        let rows = one / width + if image.frames[0].region.is_some() { detail(&video, &together) } else { 0 };
        assert_eq!(image.plan.tokens as usize, rows, "picture {i}");
    }
    assert!(together.iter().any(|image| image.frames[0].region.is_none()));
    // A picture alone is one frame.
    let alone = engine.encode_span(&Visual::Image(&pictures[0]), &schedule).unwrap();
    assert!(alone.frames[0].asked && alone.frames[0].even);
    let fewer = self::schedule(&engine, Choice { keep: Some(0.3), ..Choice::default() });
    let few = engine.encode_span(&Visual::Video(all), &fewer).unwrap();
    assert!(few.plan.tokens < video.plan.tokens, "{} of {}", few.plan.tokens, video.plan.tokens);
    let (share, goal) = (f64::from(few.plan.tokens) / f64::from(few.plan.tokens_unmerged), 0.3);
    assert!(share <= goal + 0.2, "{share}");
}

/// Rows of a region: a picture in detail has as many more than one in outline.
fn detail(video: &EncodedImage, together: &[EncodedImage]) -> usize {
    assert_eq!(video.frames.len(), together.len());
    let rows = |detailed: bool| {
        let image = together.iter().find(|image| image.frames[0].region.is_some() == detailed);
        image.expect("some are in detail and some are not").plan.tokens as usize
    };
    rows(true) - rows(false)
}

#[test]
fn report_trace_and_batch() {
    let Some(file) = film("film-report", 55) else { return };
    let (report, trace) = answered("video", "siglip-qwen2-f32", QUESTION, &["--video", &file]);
    assert_eq!(
        (&report["merge"]["strategy"], &report["merge"]["schedule"]),
        (&json!("free-videollm"), &json!("free-videollm"))
    );
    let frames = report["merge"]["frames"].as_array().unwrap();
    assert_eq!(frames.len(), 50);
    let chosen = |why: &str| -> Vec<usize> {
        let has = |frame: &Value| frame["chosen"].as_array().unwrap().contains(&json!(why));
        frames.iter().enumerate().filter(|(_, frame)| has(frame)).map(|(i, _)| i).collect()
    };
    assert_eq!((chosen("question").len(), chosen("even")), (3, vec![0, 10, 20, 30, 40]));
    let scores: Vec<f64> = frames.iter().map(|frame| frame["score"].as_f64().unwrap()).collect();
    assert_eq!(chosen("question"), largest(&scores, 3));
    assert!(report["ms"]["crop_model"].as_f64().unwrap() > 0.0);
    assert!(report["ms"]["crop_model"].as_f64() <= report["ms"]["decode_media"].as_f64());
    let tiles = trace["images"].as_array().unwrap();
    assert_eq!(tiles.len(), 50);
    for (tile, frame) in tiles.iter().zip(frames) {
        assert_eq!(
            (&tile["region"], &tile["score"], &tile["frame"]),
            (&frame["pixels"], &frame["score"], &frame["frame"])
        );
    }
    // Another question has other cosines, and the same even frames.
    let other = answered("other", "siglip-qwen2-f32", "yellow", &["--video", &file]).0;
    assert_ne!(other["merge"]["frames"], report["merge"]["frames"]);

    let model = scorer();
    let (input, output) = (scratch("film-in.jsonl"), scratch("film-out.jsonl"));
    let message =
        json!([{ "type": "video_url", "video_url": { "url": file } }, { "type": "text", "text": QUESTION }]);
    let line = json!({ "id": "a", "messages": [{ "role": "user", "content": message }], "max_tokens": 4, "merge": { "strategy": "free-videollm" } });
    fs::write(&input, line.to_string()).unwrap();
    let _ = fs::remove_file(&output);
    let rest =
        [&input, "-o", &output, "-np", "1", "-c", "4096", "--temp", "0", "-t", "1", "--crop-model", &model];
    call("batch", "siglip-qwen2-f32", &rest).exits(0, "");
    assert_eq!(read(&output)["report"]["merge"]["frames"], report["merge"]["frames"]);
}

#[test]
fn explain_bench_and_eval() {
    let (film, model) = (folder("film-faces", 12), scorer());
    let pair = "siglip-qwen2-f32";
    let own = ["--strategy", "free-videollm", "--crop-model", model.as_str(), "-t", "1", "-n", "2"];
    let out = scratch("film-explain");
    let rest = [&["--video", film.as_str(), "-p", QUESTION, "--out", &out][..], &own].concat();
    call("explain", pair, &rest).exits(0, "");
    let page = fs::read_to_string(Path::new(&out).join("explain.html")).unwrap();
    let report = read(&format!("{out}/report.json"));
    let frames = report["merge"]["frames"].as_array().unwrap();
    let detailed = frames.iter().filter(|frame| !frame["pixels"].is_null()).count();
    assert!((5..=8).contains(&detailed), "frames 0, 2, 4, 7, 9 and those of the question");
    assert_eq!(page.matches("in detail: pixels").count(), detailed);
    assert!(page.contains("one at even distances") && page.contains("chosen for the question"), "{page}");
    // Frame 1 of the sheet is in outline, and so pale, unless the question chose it.
    let pale = frames.iter().position(|frame| frame["pixels"].is_null()).unwrap() as u32;
    let strip = image::open(Path::new(&out).join("kept-1.png")).unwrap().into_rgb8();
    let at = |n: u32| {
        let (wide, tall) = ((strip.width() - 16) / 4, (strip.width() - 16) / 4 * 3 / 4);
        strip.get_pixel(8 + n % 4 * wide + wide / 2, 8 + n / 4 * tall + tall / 2).0
    };
    let grey = |pixel: [u8; 3]| pixel.iter().max().unwrap() - pixel.iter().min().unwrap();
    assert!(grey(at(pale)) < 90, "{:?}", at(pale));
    let again = scratch("film-explain-again");
    let trace = format!("{out}/trace.json");
    let outcome =
        illava(&["explain", "--from", &trace, "--video", &film, "--out", &again].map(ToOwned::to_owned));
    outcome.exits(0, "");
    let same = |name: &str| {
        fs::read(Path::new(&out).join(name)).unwrap() == fs::read(Path::new(&again).join(name)).unwrap()
    };
    assert!(same("kept-1.png"), "the trace tells the whole picture");

    let json = scratch("film-bench.json");
    let rest = ["--merge", "paper", "--against", "free-videollm", "--crop-model", &model, "--video", &film];
    let rest = [&rest[..], &["-r", "1", "--warm-up", "0", "-n", "2", "-p", "4", "-t", "1", "--json", &json]]
        .concat();
    call("bench", pair, &rest).exits(0, "");
    assert!(fs::read_to_string(&json).unwrap().contains("paper/free-videollm"));

    let set = scratch("film-set.jsonl");
    fs::write(&set, json!({ "video": film, "question": QUESTION, "answer": "circle" }).to_string()).unwrap();
    let log = scratch("film-log.jsonl");
    let _ = fs::remove_file(&log);
    let rest = [&["--set", set.as_str(), "--log", &log][..], &own].concat();
    let outcome = call("eval", pair, &rest);
    outcome.exits(0, "");
    assert!(outcome.stdout.contains("free-videollm"), "{}", outcome.stdout);
}

#[test]
fn a_server_takes_it_by_request() {
    let model = scorer();
    let served = Served::start("siglip-qwen2-f32", &["-np", "1", "-c", "4096", "--crop-model", &model]);
    let ask = |numbers: &[u32], question: &str, merge: Value| {
        let pictures: Vec<String> = numbers.iter().map(|&n| http::png_of(&frame(n))).collect();
        let pictures: Vec<&str> = pictures.iter().map(String::as_str).collect();
        let mut body = about(&pictures, question);
        let more = json!({ "max_tokens": 2, "temperature": 0, "merge": merge, "report": true });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = served.caller.post("/v1/chat/completions", &body).json();
        assert!(answer["error"].is_null(), "{answer}");
        answer["report"].clone()
    };
    let film = json!({ "strategy": "free-videollm" });
    let eight: Vec<u32> = (0..8).collect();
    let first = ask(&eight, QUESTION, film.clone());
    let frames = first["merge"]["frames"].as_array().unwrap();
    assert_eq!(frames.len(), 8);
    assert!(
        frames.iter().enumerate().all(|(i, frame)| frame["image"] == json!(i) && frame["frame"].is_null())
    );
    assert!(
        frames.iter().any(|frame| frame["pixels"].is_null())
            && frames.iter().any(|frame| !frame["pixels"].is_null())
    );
    let encoder = |report: &Value| report["ms"]["encoder"].as_f64().unwrap();
    assert!(encoder(&first) > 0.0);
    let again = ask(&eight, QUESTION, film.clone());
    assert_eq!((encoder(&again), &again["merge"]["frames"]), (0.0, &first["merge"]["frames"]));
    assert!(encoder(&ask(&eight, "yellow", film.clone())) > 0.0, "another question");
    let other: Vec<u32> = (0..7).chain([20]).collect();
    assert!(encoder(&ask(&other, QUESTION, film)) > 0.0, "each picture depends on the others");
    assert!(ask(&eight[..2], QUESTION, json!("off"))["merge"]["frames"].is_null());
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let (film, model) = (folder("film-no", 6), scorer());
    let run = |name: &str, flags: &[&str]| {
        let fixed = [
            "--video",
            &film,
            "-p",
            QUESTION,
            "-n",
            "1",
            "-t",
            "1",
            "-c",
            "4096",
            "--strategy",
            "free-videollm",
        ];
        call("run", name, &[&fixed[..], flags].concat())
    };
    run("siglip-qwen2-f32", &[]).fails(2, "--strategy free-videollm: no text-image model is loaded");
    let crop = ["--crop-model", model.as_str()];
    run("qwen2vl-f32", &crop).fails(1, "--strategy free-videollm: it pools the tokens of each frame");
    run("siglip-qwen2-f32", &[&crop[..], &["--merge", "off"]].concat()).fails(2, "nothing is to go");
    run("siglip-qwen2-f32", &[&crop[..], &["--llm-layers", "2", "--llm-r", "3"]].concat())
        .fails(2, "it acts before the decoder");
    run("siglip-qwen2-f32", &[&crop[..], &["--score", "last-token"]].concat()).fails(2, "decides nothing");
    let silent =
        ["--video", &film, "-p", " ", "-n", "1", "--strategy", "free-videollm", "--crop-model", &model];
    call("run", "siglip-qwen2-f32", &silent).fails(1, "--strategy free-videollm: the prompt has no text");
}
