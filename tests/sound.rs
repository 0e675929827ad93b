//! Safe code cannot crash the native side: each hole that once was there is tried, and is an error now.
//!
//! Holes that the compiler closes have a `compile_fail` example where the type is (`native::TextOutline`).
//! Models come from tools/test-models.sh, in ILLAVA_TEST_MODELS or target/test-models.
#![forbid(unsafe_code)]

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use illava::error::{Kind, Result};
use illava::native::{
    Context, ContextOptions, EncodeOptions, FlashAttention, Gguf, Grammar, KvType, LoadOptions, Next,
    Penalties, Prefill, PreprocessedImage, Sampler, Sampling, Schemas, Strategy, TextModel, TextOutline,
    Vision, VisionOptions, quantize,
};

const GREEDY: Sampling = Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 1 };

fn file(pair: &str, name: &str) -> PathBuf {
    let path = std::env::var_os("ILLAVA_TEST_MODELS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-models"), PathBuf::from)
        .join(pair)
        .join(name);
    assert!(path.is_file(), "{} is missing: run tools/test-models.sh first", path.display());
    path
}

fn model(pair: &str) -> TextModel {
    let options = LoadOptions { gpu_layers: Some(0), ..LoadOptions::default() };
    TextModel::load(&file(pair, "text.gguf"), &options, |_| true).unwrap()
}

const VISION: VisionOptions = VisionOptions {
    use_gpu: false,
    flash_attention: FlashAttention::Auto,
    threads: 1,
    min_tokens: None,
    max_tokens: None,
    repack: false,
};

fn vision(pair: &str) -> Vision {
    Vision::load(&file(pair, "mmproj.gguf"), &VISION).unwrap()
}

fn grey(vision: &mut Vision) -> PreprocessedImage {
    let side = vision.info().image_size;
    vision.picture(&vec![90; (side * side * 3) as usize], side, side).unwrap()
}

fn context() -> ContextOptions {
    ContextOptions {
        cells: 64,
        deep_cells: Vec::new(),
        merge_layers: Vec::new(),
        batch: 32,
        ubatch: 32,
        threads: 1,
        threads_batch: 1,
        flash_attention: FlashAttention::Auto,
        type_k: KvType::F16,
        type_v: KvType::F16,
        offload: false,
        stop: None,
    }
}

fn gbnf(text: &str) -> Option<Grammar> {
    Some(Grammar::Gbnf(text.to_owned()))
}

fn kind<T>(result: Result<T>) -> Kind {
    match result {
        Ok(_) => panic!("this was to fail"),
        Err(error) => error.kind(),
    }
}

#[test]
fn a_sampler_outlives_its_model() {
    let model = model("clip-llama-f32");
    let n = usize::try_from(model.n_vocab()).unwrap();
    for grammar in [gbnf("root ::= [a-z]+"), Some(Grammar::JsonSchema(r#"{"type":"object"}"#.into()))] {
        let mut sampler = Sampler::new(&model.clone(), &GREEDY, grammar.as_ref()).unwrap();
        drop(model.clone());
        assert!(sampler.sample(&vec![0.0; n]).unwrap().is_some());
    }
    let mut sampler = Sampler::new(&model, &GREEDY, gbnf("root ::= [a-z]+").as_ref()).unwrap();
    drop(model);
    // The vocabulary of a model that was freed would be read here.
    for _ in 0..10 {
        assert!(sampler.sample(&vec![0.0; n]).unwrap().is_some());
    }
}

#[test]
fn logits_of_another_length_are_an_error() {
    let model = model("clip-llama-f32");
    let n = usize::try_from(model.n_vocab()).unwrap();
    for grammar in [None, gbnf("root ::= [a-z]+")] {
        let mut sampler = Sampler::new(&model, &GREEDY, grammar.as_ref()).unwrap();
        for length in [0, 1, n - 1, n + 1, 10 * n] {
            assert_eq!(kind(sampler.sample(&vec![0.0; length])), Kind::Native, "{length}");
        }
        for logit in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            sampler.sample(&vec![logit; n]).unwrap();
        }
    }
}

#[test]
fn a_grammar_that_a_bias_contradicts_allows_nothing() {
    let model = model("clip-llama-f32");
    let n = usize::try_from(model.n_vocab()).unwrap();
    let letter =
        (0..model.n_vocab()).find(|&token| model.piece(token) == b"a").expect("a token for a letter");
    let penalties = Penalties { bias: vec![(letter, f32::NEG_INFINITY)], ..Penalties::default() };
    for temperature in [0.0, 1.0] {
        let sampling = Sampling { temperature, ..GREEDY };
        let grammar = gbnf("root ::= \"a\"");
        let schemas = &mut Schemas::default();
        let mut sampler =
            Sampler::with_penalties(&model, &sampling, &penalties, grammar.as_ref(), schemas).unwrap();
        // llama.cpp throws where a grammar is given a token that it does not allow.
        assert_eq!(sampler.sample(&vec![0.0; n]).unwrap(), None, "{temperature}");
    }
}

#[test]
fn grammars_and_numbers_without_bounds_are_refused() {
    let model = model("clip-llama-f32");
    let deep = format!("root ::= {}\"a\"{}", "(".repeat(20_000), ")".repeat(20_000));
    // The check for left recursion goes as deep as a chain of rules.
    let chain: String = (0..1_900).map(|i| format!("r{i} ::= r{} | \"b\"\n", i + 1)).collect();
    let chain = format!("root ::= r0\n{chain}r1900 ::= \"a\"\n");
    for text in ["", "root ::= (", "other ::= \"a\"", "root ::= root \"a\"", "root ::= \"\0\"", deep.as_str()]
    {
        assert_eq!(kind(Sampler::new(&model, &GREEDY, gbnf(text).as_ref())), Kind::Usage, "{text:.40}");
    }
    Sampler::new(&model, &GREEDY, gbnf(&chain).as_ref()).unwrap();
    let schema = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
    let schema = Grammar::JsonSchema(schema);
    assert_eq!(kind(Sampler::new(&model, &GREEDY, Some(&schema))), Kind::Usage);

    let schemas = &mut Schemas::default();
    for penalties in [
        Penalties { last_n: u32::MAX, repeat: 1.1, ..Penalties::default() },
        Penalties { last_n: 64, repeat: f32::NAN, ..Penalties::default() },
        Penalties { bias: vec![(i32::MAX, 1.0)], ..Penalties::default() },
    ] {
        assert_eq!(
            kind(Sampler::with_penalties(&model, &GREEDY, &penalties, None, schemas)),
            Kind::Usage,
            "{penalties:?}"
        );
    }
}

#[test]
fn schemas_serve_one_model_after_another() {
    let grammar = Grammar::JsonSchema(r#"{"type":"object"}"#.into());
    let schemas = &mut Schemas::default();
    for pair in ["clip-llama-f32", "qwen2vl-f32", "clip-llama-f32"] {
        let model = model(pair);
        let n = usize::try_from(model.n_vocab()).unwrap();
        let mut sampler =
            Sampler::with_penalties(&model, &GREEDY, &Penalties::default(), Some(&grammar), schemas).unwrap();
        let token = sampler.sample(&vec![0.0; n]).unwrap().expect("an object can begin");
        assert!(model.piece(token).starts_with(b"{"), "{pair}");
    }
}

#[test]
fn an_outline_knows_what_its_model_can_do() {
    let path = file("clip-llama-f32", "text.gguf");
    assert_eq!(TextOutline::load(&path).unwrap().can_merge(), model("clip-llama-f32").can_merge());
}

#[test]
fn contexts_refuse_what_would_end_the_process() {
    let model = model("clip-llama-f32");
    for wrong in [
        ContextOptions { cells: 0, ..context() },
        ContextOptions { cells: u32::MAX, ..context() },
        ContextOptions { batch: u32::MAX, ..context() },
        ContextOptions { threads: 0, ..context() },
        ContextOptions { threads_batch: u32::MAX, ..context() },
        ContextOptions { merge_layers: vec![u32::MAX], ..context() },
        ContextOptions { merge_layers: vec![3, 3], ..context() },
    ] {
        assert!(Context::new(&model, &wrong, 1).is_err(), "{wrong:?}");
    }
    let mut made = Context::new(&model, &context(), 1).unwrap();
    assert!(made.last_logits().is_err());
    let huge = [(usize::MAX, 2, Vec::new())];
    let positions = [0];
    for rows in [
        Prefill::default(),
        Prefill { tokens: &[1], ..Prefill::default() },
        Prefill { tokens: &[-1], positions: &positions, ..Prefill::default() },
        Prefill { tokens: &[i32::MAX], positions: &positions, ..Prefill::default() },
        Prefill { tokens: &[1], positions: &positions, spans: &huge, ..Prefill::default() },
    ] {
        assert!(made.prefill(0, &rows).is_err(), "{rows:?}");
    }
    assert!(made.decode(&[Next { sequence: 0, token: i32::MAX, position: 0 }]).is_err());
}

#[test]
fn sequences_refuse_what_would_end_the_process() {
    let model = model("clip-llama-f32");
    let mut made = Context::new(&model, &context(), 3).unwrap();
    let next = |sequence, position| Next { sequence, token: 1, position };
    // llama.cpp asserts that a batch is no larger than the context's, and asks for no more logits than it has sequences.
    let many: Vec<Next> = (0..100).map(|position| next(0, position)).collect();
    for batch in [&[][..], &many, &many[..4], &[next(3, 0)]] {
        assert_eq!(kind(made.decode(batch)), Kind::Native, "{} tokens", batch.len());
    }
    let positions = [0, 1];
    let rows = Prefill { tokens: &[1, 2], positions: &positions, ..Prefill::default() };
    made.begin(0, &rows).unwrap();
    assert_eq!(kind(made.decode(&[next(0, 0)])), Kind::Native, "its prefill is under way");
    while made.step(0).unwrap().is_none() {}
    made.decode(&[next(0, 2), next(1, 0)]).unwrap();
    assert_eq!(kind(made.share(0, 1, 2)), Kind::Native, "sequence 1 holds a token");
    made.share(0, 2, 2).unwrap();
    assert!(made.share(0, 3, 2).is_err() && made.step(2).is_err() && made.logits(7).is_err());
}

/// The library keeps an output for each sequence, and asserted that a batch has as many rows.
#[test]
fn a_batch_has_a_row_for_each_sequence() {
    let model = model("clip-llama-f32");
    let mut made = Context::new(&model, &ContextOptions { batch: 1, ubatch: 1, ..context() }, 9).unwrap();
    let next: Vec<Next> = (0..9).map(|sequence| Next { sequence, token: 1, position: 0 }).collect();
    made.decode(&next).unwrap();
    assert_eq!(made.logits(8).unwrap().len(), usize::try_from(model.n_vocab()).unwrap());
    assert_eq!(kind(Context::new(&model, &ContextOptions { cells: 8, ..context() }, 9)), Kind::Native);
}

/// Words of this vocabulary are split by `std::regex`, which recurses with every letter: 4,000 overflowed this thread.
#[test]
fn a_long_word_needs_no_deep_stack_of_its_caller() {
    let mut bytes = std::fs::read(file("siglip-qwen2-f32", "text.gguf")).unwrap();
    let key = b"tokenizer.ggml.pre";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 12;
    assert_eq!(&bytes[at..at + 5], b"qwen2");
    bytes[at..at + 5].copy_from_slice(b"bloom");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bloom.gguf");
    std::fs::write(&path, bytes).unwrap();
    let options = LoadOptions { gpu_layers: Some(0), ..LoadOptions::default() };
    let model = TextModel::load(&path, &options, |_| true).unwrap();
    let word = "x".repeat(50_000);
    let pieces: Vec<u8> =
        model.tokenize(&word, true).into_iter().flat_map(|token| model.piece(token)).collect();
    assert_eq!(String::from_utf8(pieces).unwrap(), word);
    assert_eq!(model.tokenize(&"x".repeat(1000), true).len(), 1000);
}

/// The library maps the input: a file cut short under it is a bus error.
#[test]
fn a_model_is_not_quantised_into_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (model, link) = (folder.path().join("model.gguf"), folder.path().join("link.gguf"));
    std::fs::copy(file("clip-llama-f32", "text.gguf"), &model).unwrap();
    std::fs::hard_link(&model, &link).unwrap();
    for output in [&model, &link] {
        assert_eq!(kind(quantize(&model, output, 2, 1)), Kind::Usage);
    }
    // The program writes beside the name that was asked for, and gives the file its name at the end.
    let part = folder.path().join("new.gguf.part");
    std::fs::rename(&link, &part).unwrap();
    assert_eq!(kind(illava::pair::quantize(&part, &folder.path().join("new.gguf"), "Q8_0", 1)), Kind::Usage);
    Gguf::open(&part).unwrap();
}

#[test]
fn a_panic_in_a_callback_goes_on_in_rust() {
    let path = file("clip-llama-f32", "text.gguf");
    let panicked = catch_unwind(|| TextModel::load(&path, &LoadOptions::default(), |_| panic!("told")));
    assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"told"));
    let path = file("clip-llama-f32", "mmproj.gguf");
    let panicked = catch_unwind(|| Vision::load_with_progress(&path, &VISION, |_| panic!("told")));
    assert_eq!(panicked.map(|_| ()).unwrap_err().downcast_ref(), Some(&"told"));

    let mut vision = vision("clip-llama-f32");
    let picture = grey(&mut vision);
    let options = EncodeOptions {
        steps: &[],
        strategy: Strategy::Merge,
        reference_grid: false,
        threads: 1,
        stop: &[],
        class_scores: false,
        count_sizes: false,
        held: &[],
    };
    let whole = vision.encode(&picture, 0, &options).unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        vision.encode_in_pieces(&picture, 0, &options, || panic!("between")).map(|_| ())
    }));
    assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"between"));
    assert_eq!(vision.encode(&picture, 0, &options).unwrap().embeddings, whole.embeddings);
}

#[test]
fn loading_and_encoding_can_be_stopped() {
    let mut asked = 0;
    let stopped = TextModel::load(&file("clip-llama-f32", "text.gguf"), &LoadOptions::default(), |_| {
        asked += 1;
        asked < 3
    });
    assert_eq!((kind(stopped), asked), (Kind::Interrupted, 3));
    let stopped = Vision::load_with_progress(&file("clip-llama-f32", "mmproj.gguf"), &VISION, |_| false);
    assert_eq!(kind(stopped), Kind::Interrupted);

    let mut vision = vision("clip-llama-f32");
    let picture = grey(&mut vision);
    let (other, stop) = (AtomicBool::new(false), AtomicBool::new(true));
    let options = EncodeOptions {
        steps: &[(2, 4)],
        strategy: Strategy::Merge,
        reference_grid: false,
        threads: 1,
        stop: &[&other, &stop],
        class_scores: false,
        count_sizes: false,
        held: &[],
    };
    assert_eq!(kind(vision.encode(&picture, 0, &options)), Kind::Interrupted);
    stop.store(false, Ordering::Relaxed);
    let whole = vision.encode(&picture, 0, &options).unwrap();
    let mut pauses = 0;
    let halfway = vision.encode_in_pieces(&picture, 0, &options, || {
        pauses += 1;
        stop.store(pauses == 10, Ordering::Relaxed);
    });
    assert_eq!((kind(halfway), pauses), (Kind::Interrupted, 10));
    stop.store(false, Ordering::Relaxed);
    assert_eq!(vision.encode(&picture, 0, &options).unwrap().embeddings, whole.embeddings);
}

#[test]
fn a_picture_of_another_encoder_is_an_error() {
    let mut qwen = vision("qwen2vl-f32");
    let mut clip = vision("clip-llama-f32");
    let options = EncodeOptions {
        steps: &[],
        strategy: Strategy::Merge,
        reference_grid: false,
        threads: 1,
        stop: &[],
        class_scores: false,
        count_sizes: false,
        held: &[],
    };
    // Both take this size, but only one takes two frames at once.
    let side = clip.info().image_size;
    let frame = vec![0.1; (side * side * 3) as usize];
    let frames = qwen.picture_from_frames(&frame, &frame, side, side).unwrap();
    assert!(qwen.encode(&frames, 0, &options).is_ok());
    assert!(clip.encode(&frames, 0, &options).is_err());
    let large = qwen.picture_from_pixels(&vec![0.1; 160 * 64 * 3], 160, 64).unwrap();
    assert!(clip.encode(&large, 0, &options).is_err());
    assert!(clip.encode(&large, 1, &options).is_err());
    // Flags for one patch too few, and for a strategy that reads none.
    let picture = grey(&mut clip);
    let patches = (side / clip.info().patch_size).pow(2) as usize;
    for (strategy, n, taken) in [
        (Strategy::Bipartite, patches, true),
        (Strategy::Bipartite, patches - 1, false),
        (Strategy::Prune, patches, false),
    ] {
        let flags = vec![1; n];
        let held = EncodeOptions { steps: &[(1, 2)], strategy, held: &flags, ..options };
        assert_eq!(clip.encode(&picture, 0, &held).is_ok(), taken, "{strategy:?}, {n} of {patches} flags");
    }

    // Pictures that the library cuts have inputs and marks for one encoder alone.
    let mut gemma = [vision("projector-gemma3"), vision("projector-gemma3")];
    for one in &mut gemma {
        one.set_text(&model("projector-gemma3")).unwrap();
    }
    let picture = grey(&mut gemma[0]);
    assert!(!gemma[0].parts(&picture).unwrap().is_empty());
    let [own, other] = &mut gemma;
    own.encode(&picture, 0, &options).unwrap();
    for stranger in [&mut qwen, &mut clip, other] {
        assert_eq!(kind(stranger.parts(&picture)), Kind::Native);
        assert_eq!(kind(stranger.tiles(&picture)), Kind::Native);
        assert_eq!(kind(stranger.encode(&picture, 0, &options)), Kind::Native);
    }
    let side = own.info().image_size;
    let cut_here = own.picture_from_pixels(&vec![0.1; (side * side * 3) as usize], side, side);
    assert!(cut_here.and_then(|picture| own.encode(&picture, 0, &options)).is_err());
}

/// Opening a pipe waits for its other end, so a test of this once hung.
#[test]
fn a_model_is_a_regular_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = vec![folder.path().to_owned(), folder.path().join("missing.gguf")];
    if cfg!(unix) {
        let pipe = folder.path().join("pipe.gguf");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        wrong.extend([pipe, "/dev/null".into()]);
    }
    for path in &wrong {
        let name = path.display();
        assert_eq!(kind(Gguf::open(path)), Kind::File, "{name}");
        assert_eq!(kind(TextModel::load(path, &LoadOptions::default(), |_| true)), Kind::File, "{name}");
        assert_eq!(kind(TextOutline::load(path)), Kind::File, "{name}");
        assert_eq!(kind(Vision::load(path, &VISION)), Kind::File, "{name}");
        assert_eq!(kind(quantize(path, &folder.path().join("out.gguf"), 2, 1)), Kind::File, "{name}");
    }
}

#[test]
fn an_error_has_the_reason_of_its_own_thread() {
    let folder = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        for version in 100..108_u32 {
            let path = folder.path().join(format!("{version}.gguf"));
            scope.spawn(move || {
                let mut file = std::fs::File::create(&path).unwrap();
                file.write_all(b"GGUF").unwrap();
                file.write_all(&version.to_le_bytes()).unwrap();
                file.write_all(&[0; 64]).unwrap();
                for _ in 0..500 {
                    let error = Gguf::open(&path).unwrap_err().to_string();
                    assert!(error.contains(&format!("version {version} ")), "{error}");
                }
            });
        }
    });
}
