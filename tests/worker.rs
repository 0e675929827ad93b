//! A worker process with the tiny models: what it answers, beside what, and how it ends.
//!
//! Models come from tools/test-models.sh, in ILLAVA_TEST_MODELS or target/test-models.
#![cfg(unix)]

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use illava::answer::{Generation, LlamaEngine, Session, Sizing};
use illava::error::Kind;
use illava::media::Pixels;
use illava::pair::{FlashAttention, KvType, LoadSettings};
use illava::prompt::{Message, Part, Role};
use illava::request::{Grammar, Limits, Picture, Request, Sampling};
use illava::schedule::{Amount, Choice, Half, MergeFlag, Preset, select};
use illava::worker::frame;
use illava::worker::protocol::{Command, Delta, Done, Event, Failed, Finish, Ready, Started};

fn folder(pair: &str) -> PathBuf {
    let folder = std::env::var_os("ILLAVA_TEST_MODELS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-models"), PathBuf::from)
        .join(pair);
    assert!(folder.is_dir(), "{} is missing: run tools/test-models.sh first", folder.display());
    folder
}

struct Worker {
    child: Child,
    socket: UnixStream,
    started: HashMap<u64, Started>,
    deltas: Vec<Delta>,
    done: HashMap<u64, Done>,
    failed: HashMap<u64, Failed>,
}

impl Worker {
    fn spawn(pair: &str, args: &[&str]) -> Self {
        let (socket, other) = UnixStream::pair().unwrap();
        // A test that waits for ever says nothing.
        socket.set_read_timeout(Some(Duration::from_secs(600))).unwrap();
        let folder = folder(pair);
        let child = std::process::Command::new(env!("CARGO_BIN_EXE_illava"))
            .arg("worker")
            .arg("-m")
            .arg(folder.join("text.gguf"))
            .arg("-mm")
            .arg(folder.join("mmproj.gguf"))
            // Exact arithmetic, so that two ways to the same numbers agree in their greedy tokens.
            .args(["-t", "2", "-fa", "off", "-ctk", "f32", "-ctv", "f32"])
            .args(args)
            .stdin(Stdio::from(OwnedFd::from(other)))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (started, done, failed) = Default::default();
        Self { child, socket, started, deltas: Vec::new(), done, failed }
    }

    fn ready(pair: &str, args: &[&str]) -> (Self, Ready) {
        let mut worker = Self::spawn(pair, args);
        loop {
            match worker.read() {
                Event::Ready(ready) => return (worker, *ready),
                Event::Loading { share } => assert!((0.0..=1.0).contains(&share)),
                other => panic!("{other:?}"),
            }
        }
    }

    fn send(&mut self, request: &Command) {
        frame::write(&mut self.socket, request).unwrap();
    }

    fn ask(&mut self, request: Request) {
        self.send(&Command::Generate(Box::new(request)));
    }

    fn read(&mut self) -> Event {
        frame::read(&mut self.socket).unwrap().expect("the worker left")
    }

    /// Reads on until `id` is over.
    fn wait(&mut self, id: u64) {
        while !self.done.contains_key(&id) && !self.failed.contains_key(&id) {
            self.note();
        }
    }

    fn note(&mut self) {
        match self.read() {
            Event::Started(started) => assert!(self.started.insert(started.id, started).is_none()),
            Event::Delta(delta) => {
                assert!(self.started.contains_key(&delta.id) && !self.done.contains_key(&delta.id));
                self.deltas.push(delta);
            }
            Event::Done(done) => assert!(self.done.insert(done.id, *done).is_none()),
            Event::Failed(failed) => assert!(self.failed.insert(failed.id, failed).is_none()),
            other => panic!("{other:?}"),
        }
    }

    fn text(&self, id: u64) -> String {
        self.deltas.iter().filter(|delta| delta.id == id).map(|delta| delta.text.as_str()).collect()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pixels(seed: u32) -> Pixels {
    let (width, height) = (96, 72);
    let rgb = (0..width * height * 3).map(|i| ((i * (7 + seed) + (i / 288) * 31) % 251) as u8).collect();
    Pixels { width, height, rgb, remark: None, moment: None }
}

fn preset(preset: Preset) -> Choice {
    Choice { merge: Some(MergeFlag::Preset(preset)), ..Choice::default() }
}

fn off() -> Choice {
    Choice { merge: Some(MergeFlag::Off), ..Choice::default() }
}

fn messages(image: bool, text: &str) -> Vec<Message> {
    let parts = image.then_some(Part::Image(0)).into_iter().chain([Part::Text(text.into())]).collect();
    vec![Message { role: Role::User, parts }]
}

/// Letters only, most likely first.
fn generate(id: u64, picture: Option<u32>, text: &str, merge: Choice) -> Request {
    Request {
        id,
        messages: messages(picture.is_some(), text),
        raw: Vec::new(),
        tools: None,
        variables: serde_json::Map::new(),
        thinking: illava::request::Thinking::default(),
        marks: Vec::new(),
        media: picture.map(|seed| Picture::new(pixels(seed), 0.0)).into_iter().collect(),
        merge: Some(merge),
        limits: Limits { max_tokens: Some(6), ..Limits::default() },
        sampling: Sampling { temperature: 0.0, seed: Some(1), ..Sampling::default() },
        grammar: Some(Grammar::Gbnf("root ::= [a-z]+".into())),
        logprobs: None,
        scope: Some(b"s".to_vec()),
        trace: false,
        text_bias: Vec::new(),
        slot: None,
        headless: false,
    }
}

/// Answers of a conversation of its own.
struct Alone(Session<LlamaEngine>);

impl Alone {
    fn new(pair: &str) -> Self {
        let folder = folder(pair);
        let settings = LoadSettings {
            threads: 2,
            threads_batch: 2,
            batch: 512,
            projector_offload: false,
            flash_attention: FlashAttention::Off,
            type_k: KvType::F32,
            type_v: KvType::F32,
            ..LoadSettings::new(folder.join("text.gguf"), folder.join("mmproj.gguf"))
        };
        let (engine, _) = LlamaEngine::load(&settings, |_| ()).unwrap();
        Self(Session::new(engine, illava::schedule::Schedule::default(), Sizing::Cells(1024), settings.stop))
    }

    fn answer(&mut self, picture: Option<u32>, text: &str, merge: &Choice) -> String {
        use illava::answer::Engine;
        self.0.clear();
        let facts = self.0.engine().facts();
        let schedule = select(merge, &facts.shape, facts.pair.recommended.as_ref()).unwrap();
        self.0.set_schedule(schedule).unwrap();
        if let Some(seed) = picture {
            self.0.add_image(pixels(seed), 0.0).unwrap();
        }
        let grammar = Some(Grammar::Gbnf("root ::= [a-z]+".into()));
        let limits = Generation { grammar, ..Generation::greedy(Some(6)) };
        self.0.answer(&messages(picture.is_some(), text), &limits, &mut |_| ()).unwrap().report.text
    }
}

#[test]
fn answers_side_by_side_are_those_of_each_alone() {
    for pair in ["siglip-qwen2-f32", "clip-llama-f32", "qwen2vl-f32"] {
        let mut alone = Alone::new(pair);
        // Small ubatches, so that prompts and answers of all interleave.
        let (mut worker, ready) = Worker::ready(pair, &["-np", "3", "-c", "1536", "-ub", "16"]);
        assert_eq!((ready.slots, ready.n_ctx_slot), (3, 512));
        assert!(
            ready.presets.iter().any(|p| p.name == "paper" && p.unusable.is_none()),
            "{:?}",
            ready.presets
        );
        let asked: Vec<(Option<u32>, &str, Choice)> = vec![
            (Some(1), "what is it", preset(Preset::Paper)),
            (None, "a text without a picture that is longer than a ubatch", off()),
            (Some(1), "what is it", off()),
            (Some(2), "and this one here", preset(Preset::Qwen2Vl)),
            (Some(1), "who made it", preset(Preset::Paper)),
            (Some(2), "another", preset(Preset::Image)),
        ];
        for (id, (picture, text, merge)) in (0..).zip(&asked) {
            worker.ask(generate(id, *picture, text, merge.clone()));
        }
        for (id, (picture, text, merge)) in (0..).zip(&asked) {
            worker.wait(id);
            let done = worker.done.get(&id).unwrap_or_else(|| panic!("{:?}", worker.failed));
            assert_eq!(done.report.text, alone.answer(*picture, text, merge), "{pair}: {text} {merge:?}");
            assert_eq!(worker.text(id), done.report.text);
            assert!(matches!(done.finish, Finish::Length | Finish::Stop), "{:?}", done.finish);
            assert_eq!(done.report.seed, 1);
        }
    }
}

#[test]
fn a_second_question_needs_neither_encoder_nor_the_pictures_prefill() {
    let (mut worker, _) = Worker::ready("siglip-qwen2-f32", &["-np", "2", "-c", "1024"]);
    let merge = preset(Preset::Paper);
    worker.ask(Request { trace: true, ..generate(1, Some(1), "what is it", merge.clone()) });
    worker.wait(1);
    worker.ask(Request { trace: true, ..generate(2, Some(1), "who made it", merge.clone()) });
    worker.wait(2);
    let (first, second) = (worker.done[&1].clone(), worker.done[&2].clone());
    assert_eq!((first.cached_tokens, first.cached_pictures), (0, 0));
    assert_eq!(second.cached_pictures, 1);
    assert!(second.cached_tokens > second.report.tokens.visual_after_encoder);
    assert_eq!(second.cached_tokens + second.computed_tokens, second.prompt_tokens);
    assert_eq!(second.report.ms.encoder, 0.0);
    assert_eq!(first.trace.as_ref().unwrap().steps, second.trace.as_ref().unwrap().steps);
    // A scope of its own shares nothing.
    worker.ask(Request { scope: Some(b"t".to_vec()), ..generate(3, Some(1), "who made it", merge) });
    worker.wait(3);
    let third = &worker.done[&3];
    assert_eq!((third.cached_tokens, third.cached_pictures), (0, 0));
    assert_eq!(third.report.text, second.report.text);
}

#[test]
fn pictures_are_found_again_on_disk() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().to_str().unwrap();
    let mut texts = Vec::new();
    for round in 0..3 {
        let (mut worker, _) = Worker::ready("siglip-qwen2-f32", &["-c", "1024", "--picture-folder", folder]);
        worker.ask(generate(1, Some(1), "what is it", preset(Preset::Paper)));
        worker.wait(1);
        worker.send(&Command::Status { id: 9 });
        let Event::Status(status) = worker.read() else { panic!("no status") };
        assert_eq!((status.id, status.slots.len(), status.pictures.entries), (9, 4, 1));
        // Encoded, read, and encoded again after the file was damaged.
        assert_eq!(
            (status.pictures.disk_hits, status.pictures.misses),
            if round == 1 { (1, 0) } else { (0, 1) }
        );
        texts.push(worker.done[&1].report.text.clone());
        if round == 1 {
            let file = std::fs::read_dir(cache.path()).unwrap().next().unwrap().unwrap().path();
            let mut bytes = std::fs::read(&file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0xff;
            std::fs::write(&file, bytes).unwrap();
        }
    }
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
}

#[test]
fn what_is_wrong_with_a_request_is_said_and_costs_nobody_else() {
    let (mut worker, ready) = Worker::ready("siglip-qwen2-f32", &["-np", "2", "-c", "512"]);
    let base = |id| generate(id, None, "hello", off());
    let by_hand =
        Choice { llm: Some(Half { layers: vec![9], amounts: vec![Amount::Count(1)] }), ..Choice::default() };
    assert!(!ready.merge_layers.contains(&9));
    let too_large = Picture { rgb: vec![0; 5], ..Picture::new(pixels(1), 0.0) };
    let cases: Vec<(Request, Kind, &str)> = vec![
        (generate(0, None, &"long ".repeat(2000), off()), Kind::Context, "a slot takes 256"),
        (generate(0, None, &"x".repeat(1 << 20), off()), Kind::Context, "256"),
        (generate(0, Some(1), "hello", by_hand), Kind::Schedule, "layer 9"),
        (Request { grammar: Some(Grammar::Gbnf("root ::= [".into())), ..base(0) }, Kind::Usage, "grammar"),
        (Request { grammar: Some(Grammar::JsonSchema("{".into())), ..base(0) }, Kind::Usage, "schema"),
        (
            Request { media: vec![too_large], ..generate(0, Some(1), "hello", off()) },
            Kind::Media,
            "picture 1",
        ),
        (Request { media: Vec::new(), ..generate(0, Some(1), "hello", off()) }, Kind::Prompt, "picture"),
        (
            Request { sampling: Sampling { repeat_penalty: 0.0, ..Sampling::default() }, ..base(0) },
            Kind::Usage,
            "repeat_penalty 0",
        ),
        (
            Request { sampling: Sampling { logit_bias: vec![(-1, 1.0)], ..Sampling::default() }, ..base(0) },
            Kind::Usage,
            "logit_bias",
        ),
        (
            Request { sampling: Sampling { temperature: f32::NAN, ..Sampling::default() }, ..base(0) },
            Kind::Usage,
            "temperature",
        ),
    ];
    worker.ask(generate(99, Some(1), "hello", off()));
    for (id, (request, kind, part)) in (100..).zip(cases) {
        worker.ask(Request { id, ..request });
        worker.wait(id);
        let failed = worker.failed.get(&id).unwrap_or_else(|| panic!("{part}: {:?}", worker.done.get(&id)));
        assert_eq!(failed.kind, kind, "{}", failed.message);
        // The face that shows the message names the settings.
        let message = illava::error::worded(&failed.message, illava::error::Field::name);
        assert!(message.contains(part), "{part}: {message}");
    }
    worker.wait(99);
    assert!(worker.done.contains_key(&99));
}

#[test]
fn sampling_reaches_the_model() {
    let (mut worker, _) = Worker::ready("siglip-qwen2-f32", &["-c", "1024"]);
    let base = |id| Request { grammar: None, logprobs: Some(2), ..generate(id, None, "hello", off()) };
    worker.ask(base(1));
    worker.wait(1);
    let tokens = |worker: &Worker, id: u64| -> Vec<(i32, f32, Vec<i32>)> {
        let deltas = worker.deltas.iter().filter(|delta| delta.id == id).flat_map(|delta| &delta.tokens);
        deltas.map(|t| (t.id, t.logprob, t.top.iter().map(|top| top.id).collect())).collect()
    };
    let greedy = tokens(&worker, 1);
    assert!(!greedy.is_empty());
    for (id, logprob, top) in &greedy {
        assert!(*logprob <= 0.0 && top.len() == 2 && top[0] == *id, "the most likely token stands first");
    }
    // A forbidden token does not come; a token that is pushed comes always.
    let bias = vec![(greedy[0].0, f32::NEG_INFINITY)];
    worker.ask(Request { sampling: Sampling { logit_bias: bias, ..base(0).sampling }, ..base(2) });
    worker.wait(2);
    assert_eq!(tokens(&worker, 2)[0].0, greedy[0].2[1]);
    let bias = vec![(greedy[0].0, 1e4)];
    let pushed = Sampling { logit_bias: bias.clone(), ..base(0).sampling };
    worker.ask(Request { sampling: pushed, ..base(3) });
    worker.wait(3);
    assert!(tokens(&worker, 3).iter().all(|(id, ..)| *id == greedy[0].0));
    let penalised =
        Sampling { logit_bias: vec![(greedy[0].0, 5.0)], presence_penalty: 1e4, ..base(0).sampling };
    worker.ask(Request { sampling: penalised, ..base(4) });
    worker.wait(4);
    let ids: Vec<i32> = tokens(&worker, 4).iter().map(|(id, ..)| *id).collect();
    assert!(ids.iter().enumerate().all(|(i, id)| !ids[..i].contains(id)), "no token twice: {ids:?}");
    // The same seed draws the same, and without one the report has what was drawn.
    for id in [5, 6, 7] {
        let seed = (id < 7).then_some(11);
        worker.ask(Request { sampling: Sampling { temperature: 2.0, seed, ..base(0).sampling }, ..base(id) });
        worker.wait(id);
    }
    assert_eq!(worker.done[&5].report.text, worker.done[&6].report.text);
    assert_eq!(worker.done[&5].report.seed, 11);
    // A stop string ends it, and is not shown.
    let text = worker.done[&1].report.text.clone();
    let end: String = text.chars().rev().take(1).collect();
    let limits = Limits { max_tokens: Some(6), stop: vec![end.clone()], ignore_eos: false };
    worker.ask(Request { limits, ..base(8) });
    worker.wait(8);
    assert_eq!(worker.done[&8].finish, Finish::StopString(end.clone()));
    assert_eq!(worker.text(8), text.split(end.as_str()).next().unwrap());
    // JSON, because a schema asks for it.
    let schema = r#"{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}"#;
    let limits = Limits { max_tokens: Some(200), ..Limits::default() };
    worker.ask(Request { limits, grammar: Some(Grammar::JsonSchema(schema.into())), ..base(9) });
    worker.wait(9);
    let text = &worker.done[&9].report.text;
    let partial = worker.done[&9].finish == Finish::Length;
    assert!(
        text.trim_start().starts_with('{')
            && (partial || serde_json::from_str::<serde_json::Value>(text).is_ok())
    );
}

#[test]
fn cancelling_frees_the_slot() {
    let (mut worker, _) = Worker::ready("siglip-qwen2-f32", &["-np", "1", "-c", "2048", "-ub", "8"]);
    let endless = |id| Request {
        limits: Limits { max_tokens: None, stop: Vec::new(), ignore_eos: true },
        grammar: None,
        ..generate(id, Some(1), "hello", off())
    };
    worker.ask(endless(1));
    while worker.deltas.is_empty() {
        worker.note();
    }
    worker.ask(endless(2));
    worker.ask(generate(3, None, "hello", off()));
    worker.send(&Command::Cancel { id: 2 });
    worker.send(&Command::Cancel { id: 1 });
    worker.send(&Command::Cancel { id: 55 });
    worker.wait(3);
    for id in [1, 2] {
        worker.wait(id);
        assert_eq!(worker.done[&id].finish, Finish::Cancelled);
    }
    assert_ne!(worker.done[&3].finish, Finish::Cancelled);
    // Without an end it is the context that ends it.
    worker.ask(Request { media: Vec::new(), messages: messages(false, "x"), ..endless(4) });
    worker.wait(4);
    assert_eq!(worker.done[&4].finish, Finish::ContextFull);
    worker.send(&Command::Tokenize { id: 5, text: "hello".into(), add_special: false, parse_special: false });
    let Event::Tokens { id: 5, tokens } = worker.read() else { panic!("no tokens") };
    let text: Vec<u8> = tokens.into_iter().flat_map(|token| token.bytes).collect();
    assert_eq!(String::from_utf8(text).unwrap().trim(), "hello");
}

#[test]
fn its_end_is_the_sockets_end() {
    let (mut worker, _) = Worker::ready("siglip-qwen2-f32", &["-np", "1", "-c", "1024"]);
    worker.ask(Request { limits: Limits::default(), ..generate(1, Some(1), "hello", off()) });
    worker.socket.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(worker.child.wait().unwrap().success());

    let (mut worker, _) = Worker::ready("siglip-qwen2-f32", &["-np", "1", "-c", "1024"]);
    worker.send(&Command::Shutdown);
    assert!(worker.child.wait().unwrap().success());
}

#[test]
fn what_cannot_be_loaded_is_said() {
    let pair = "siglip-qwen2-f32";
    for (pair, args, kind, part) in [
        ("hf-llava-f32", vec!["-np", "4", "-c", "64"], Kind::Usage, "a picture of this pair takes 25"),
        (pair, vec!["-m", "/nowhere/text.gguf"], Kind::File, "text.gguf"),
        (pair, vec!["-np", "4", "-c", "4"], Kind::Usage, "4 slots leave each 1 cells"),
        (pair, vec!["--llm-layers", "99", "--llm-keep", "0.5"], Kind::Schedule, "99"),
        (pair, vec!["--picture-folder", "/dev/null/x"], Kind::File, "/dev/null/x"),
    ] {
        let mut worker = Worker::spawn(pair, &args);
        let failure = loop {
            match worker.read() {
                Event::Loading { .. } => {}
                Event::LoadFailed { kind, message } => break (kind, message),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(failure.0, kind, "{}", failure.1);
        assert!(failure.1.contains(part), "{}", failure.1);
        assert_eq!(worker.child.wait().unwrap().code(), Some(i32::from(kind.exit_code())));
    }
}
