//! Conversations on the real engine with the tiny models: what the cache holds must not change an
//! answer, nor how a picture was cut into calls.
//!
//! Models come from tools/test-models.sh, in ILLAVA_TEST_MODELS or target/test-models.

use std::path::{Path, PathBuf};

use illava::answer::{Engine, Generation, LlamaEngine, Session, Sizing};
use illava::media::Pixels;
use illava::pair::{FlashAttention, KvType, LoadSettings};
use illava::prompt::{Message, Part, Role};
use illava::report::{Half, Step, Trace};
use illava::request::Grammar;
use illava::schedule::{Amount, Choice, Half as ByHand, MergeFlag, Preset, Score, select};
use illava::see::Encoder;

const PAIRS: [&str; 3] = ["siglip-qwen2-f32", "clip-llama-f32", "qwen2vl-f32"];

fn settings(name: &str) -> LoadSettings {
    let folder = std::env::var_os("ILLAVA_TEST_MODELS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-models"), PathBuf::from)
        .join(name);
    assert!(folder.is_dir(), "{} is missing: run tools/test-models.sh first", folder.display());
    LoadSettings {
        threads: 2,
        threads_batch: 2,
        batch: 512,
        projector_offload: false,
        // Exact arithmetic, so that two ways to the same numbers agree in their greedy tokens.
        flash_attention: FlashAttention::Off,
        type_k: KvType::F32,
        type_v: KvType::F32,
        ..LoadSettings::new(folder.join("text.gguf"), folder.join("mmproj.gguf"))
    }
}

fn session(settings: &LoadSettings, choice: &Choice) -> Session<LlamaEngine> {
    let (engine, _) = LlamaEngine::load(settings, |_| ()).unwrap();
    let schedule = select(choice, &engine.facts().shape, None).unwrap();
    Session::new(engine, schedule, Sizing::Cells(1024), settings.stop)
}

fn preset(preset: Preset) -> Choice {
    Choice { merge: Some(MergeFlag::Preset(preset)), ..Choice::default() }
}

fn pixels(seed: u32) -> Pixels {
    sized(seed, 96, 72)
}

fn sized(seed: u32, width: u32, height: u32) -> Pixels {
    let rgb = (0..width * height * 3).map(|i| ((i * (7 + seed) + (i / 288) * 31) % 251) as u8).collect();
    Pixels { width, height, rgb, remark: None, moment: None }
}

/// Letters only, so that the answer can be said back in the next turn as it was.
fn limits() -> Generation {
    Generation { grammar: Some(Grammar::Gbnf("root ::= [a-z]+".into())), ..Generation::greedy(Some(6)) }
}

fn ask(session: &mut Session<LlamaEngine>, messages: &[Message]) -> (String, Trace, u64) {
    let answer = session.answer(messages, &limits(), &mut |_| ()).unwrap();
    (answer.report.text, answer.trace, answer.report.bytes.kv)
}

fn question(image: Option<usize>, text: &str) -> Message {
    let parts = image.map(Part::Image).into_iter().chain([Part::Text(text.into())]).collect();
    Message { role: Role::User, parts }
}

fn decoder_steps(trace: &Trace) -> Vec<&Step> {
    trace.steps.iter().filter(|step| step.half == Half::Decoder).collect()
}

#[test]
fn a_prompt_is_computed_without_the_encoders_buffers() {
    for name in PAIRS {
        let settings = settings(name);
        let mut session = session(&settings, &preset(Preset::Paper));
        let first = session.add_image(pixels(0), 0.0).unwrap();
        let encoder = session.engine().encoder_bytes();
        assert!(encoder > 0, "{name}");
        let messages = [question(Some(first), "what is it")];
        let answer = session.answer(&messages, &limits(), &mut |_| ()).unwrap();
        assert_eq!(session.engine().encoder_bytes(), 0, "{name}");
        // The decoder's buffers take the place of the encoder's: never both.
        let alone = session.answer(&messages, &limits(), &mut |_| ()).unwrap().report.bytes.compute;
        assert_eq!(answer.report.bytes.compute, alone.max(encoder), "{name}");
        // A picture of a later turn is encoded beside the open cache, and as the first one was. Loading reserves for
        // the largest picture, freed buffers come back as large as this one needs.
        session.add_image(pixels(0), 0.0).unwrap();
        let later = session.engine().encoder_bytes();
        assert!(later > 0 && later <= encoder, "{name}: {later} of {encoder}");
        let again = session.answer(&[question(Some(1), "what is it")], &limits(), &mut |_| ()).unwrap();
        assert_eq!(again.report.bytes.compute, alone + later, "{name}");
        assert_eq!(again.report.text, answer.report.text, "{name}");
    }
}

#[test]
fn a_second_turn_continues_after_a_merged_picture() {
    for name in PAIRS {
        for choice in [preset(Preset::Paper), preset(Preset::Qwen2Vl)] {
            let settings = settings(name);
            let mut grown = session(&settings, &choice);
            let first = grown.add_image(pixels(0), 0.0).unwrap();
            let mut messages = vec![question(Some(first), "what is it")];
            let (answer, ..) = ask(&mut grown, &messages);
            messages.push(Message::text(Role::Assistant, &answer));
            let second = grown.add_image(pixels(5), 0.0).unwrap();
            messages.push(question(Some(second), "and this"));
            let (grown_answer, grown_trace, _) = ask(&mut grown, &messages);

            let mut fresh = session(&settings, &choice);
            fresh.add_image(pixels(0), 0.0).unwrap();
            fresh.add_image(pixels(5), 0.0).unwrap();
            let (fresh_answer, fresh_trace, _) = ask(&mut fresh, &messages);
            assert_eq!(grown_answer, fresh_answer, "{name} {choice:?}");
            let kept = |trace: &Trace| -> Vec<Vec<i32>> {
                decoder_steps(trace).iter().map(|step| step.kept.clone()).collect()
            };
            assert_eq!(kept(&grown_trace), kept(&fresh_trace), "{name} {choice:?}");
            assert_eq!(grown_trace.images.len(), 2, "{name}");
        }
    }
}

/// Also where the question ranks the tokens: another question then ranks them anew.
#[test]
fn an_edited_turn_is_as_if_asked_first() {
    for (name, score) in PAIRS.iter().flat_map(|name| [(name, Score::Image), (name, Score::LastToken)]) {
        let settings = settings(name);
        let mut session = session(&settings, &Choice { score, ..preset(Preset::Paper) });
        let image = session.add_image(pixels(0), 0.0).unwrap();
        let (expected, first, _) = ask(&mut session, &[question(Some(image), "what is it")]);
        let (_, other, _) = ask(&mut session, &[question(Some(image), "where is the thing")]);
        ask(&mut session, &[question(None, "no picture at all")]);
        let (again, last, _) = ask(&mut session, &[question(Some(image), "what is it")]);
        assert_eq!(again, expected, "{name} {score:?}");
        // Up to rounding: cells that were given back are filled in another order.
        let alike = |a: &Trace, b: &Trace| {
            let (a, b) = (&decoder_steps(a)[0].scores, &decoder_steps(b)[0].scores);
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6)
        };
        assert!(alike(&first, &last), "{name} {score:?}");
        assert_eq!(alike(&first, &other), score == Score::Image, "{name} {score:?}");
    }
}

#[test]
fn a_schedule_can_change_and_come_back() {
    for name in PAIRS {
        let settings = settings(name);
        let half = ByHand { layers: vec![1], amounts: vec![Amount::Keep(0.4)] };
        let choice = Choice { llm: Some(half), ..Choice::default() };
        let mut session = session(&settings, &choice);
        let image = session.add_image(sized(0, 224, 224), 0.0).unwrap();
        let messages = [question(Some(image), "what is it")];
        let (merged, _, merged_kv) = ask(&mut session, &messages);
        let shape = session.engine().facts().shape.clone();
        let off = Choice { merge: Some(MergeFlag::Off), ..Choice::default() };
        session.set_schedule(select(&off, &shape, None).unwrap()).unwrap();
        let (_, trace, off_kv) = ask(&mut session, &messages);
        assert!(trace.steps.is_empty(), "{name}");
        assert!(merged_kv < off_kv, "{name}: {merged_kv} {off_kv}");
        session.set_schedule(select(&choice, &shape, None).unwrap()).unwrap();
        assert_eq!(ask(&mut session, &messages).0, merged, "{name}");
    }
}

/// The merge is the same however the rows are cut into calls: a picture larger than n_ubatch is
/// scored whole.
#[test]
fn a_picture_larger_than_a_batch_is_scored_whole() {
    for name in PAIRS {
        for score in [Score::Image, Score::LastToken] {
            let choice = Choice { score, ..preset(Preset::Qwen2Vl) };
            let results: Vec<(String, Vec<Vec<i32>>)> = [512, 16, 7]
                .into_iter()
                .map(|ubatch| {
                    let settings = LoadSettings { ubatch, ..settings(name) };
                    let mut session = session(&settings, &choice);
                    let image = session.add_image(pixels(0), 0.0).unwrap();
                    let (text, trace, _) = ask(&mut session, &[question(Some(image), "what is it")]);
                    let steps = decoder_steps(&trace);
                    assert_eq!(steps.len(), 3, "{name}");
                    assert!(steps.iter().all(|step| step.n_out < step.n_in), "{name}");
                    (text, steps.into_iter().map(|step| step.kept.clone()).collect())
                })
                .collect();
            assert_eq!(results[0], results[1], "{name} {score:?}");
            assert_eq!(results[0], results[2], "{name} {score:?}");
        }
    }
}

/// Survivors of an early step are rows of the span, so a later step's must be among them.
#[test]
fn steps_follow_one_another() {
    for name in PAIRS {
        let settings = settings(name);
        let choice = Choice {
            llm: Some(ByHand {
                layers: vec![1, 4, 9],
                amounts: vec![Amount::Count(3), Amount::Share(0.25), Amount::Count(0)],
            }),
            ..Choice::default()
        };
        let mut session = session(&settings, &choice);
        let image = session.add_image(pixels(0), 0.0).unwrap();
        let answer = session.answer(&[question(Some(image), "what is it")], &limits(), &mut |_| ()).unwrap();
        let steps = decoder_steps(&answer.trace);
        let visual = answer.report.tokens.visual;
        assert_eq!(steps[0].n_in, visual, "{name}");
        assert_eq!(steps[0].n_out, visual - 3, "{name}");
        assert_eq!(steps[1].n_in, steps[0].n_out, "{name}");
        assert!(steps[1].kept.iter().all(|kept| steps[0].kept.contains(kept)), "{name}");
        let held: Vec<u32> = answer.report.tokens.visual_kv.iter().map(|kv| kv.tokens).collect();
        assert_eq!(held, [visual, steps[0].n_out, steps[1].n_out, steps[1].n_out], "{name}");
    }
}
