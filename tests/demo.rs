//! The demo pair answers as models/demo/README.md says: a sample of its fixed questions on the real engine, with
//! merging off and with the schedule that the pair recommends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use illava::answer::{Engine, Generation, LlamaEngine, Session, Sizing};
use illava::media::{self, policy};
use illava::pair::{FlashAttention, KvType, LoadSettings, Weights};
use illava::prompt::{Message, Part, Role};
use illava::schedule::{Choice, MergeFlag, select};
use illava::stop::Stop;
use serde::Deserialize;

/// Every so many questions; the set is ordered by picture, so that a sample has all kinds.
const STRIDE: usize = 7;

#[derive(Deserialize)]
struct Question {
    kind: String,
    image: PathBuf,
    question: String,
    answer: String,
}

fn settings(folder: &Path) -> LoadSettings {
    LoadSettings {
        text: folder.join("text.gguf"),
        projector: Some(folder.join("mmproj.gguf")),
        threads: 1,
        threads_batch: 1,
        batch: 512,
        ubatch: 512,
        gpu_layers: None,
        placement: illava::pair::Placement::default(),
        projector_offload: false,
        projector_repack: false,
        weights: Weights::default(),
        flash_attention: FlashAttention::Auto,
        type_k: KvType::F16,
        type_v: KvType::F16,
        image_min_tokens: None,
        image_max_tokens: None,
        crop_model: None,
        chat_template: None,
        stop: Stop::new(),
    }
}

/// Right answers and questions asked, for scenes and for pages.
fn accuracy(flag: MergeFlag) -> BTreeMap<&'static str, (usize, usize)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let settings = settings(&folder);
    let (engine, _) = LlamaEngine::load(&settings, |_| ()).expect("the demo pair loads");
    let choice = Choice { merge: Some(flag), ..Choice::default() };
    let recommended = engine.facts().pair.recommended.clone();
    let schedule =
        select(&choice, &engine.facts().shape, recommended.as_ref()).expect("the pair takes its schedule");
    let mut session = Session::new(engine, schedule, Sizing::Cells(512), settings.stop);
    let how = Generation::greedy(Some(32));

    let text = std::fs::read_to_string(folder.join("questions.jsonl")).expect("the questions are committed");
    let mut counts = BTreeMap::new();
    for line in text.lines().step_by(STRIDE) {
        let question: Question = serde_json::from_str(line).expect("a question");
        let pixels =
            media::open(&folder.join(&question.image), &policy::Limits::default()).expect("a picture");
        session.clear();
        let image = session.add_image(pixels, 0.0).expect("the picture is encoded");
        let message =
            Message { role: Role::User, parts: vec![Part::Image(image), Part::Text(question.question)] };
        let answer = session.answer(&[message], &how, &mut |_| ()).expect("an answer");
        let group = if question.kind.starts_with("page") { "pages" } else { "scenes" };
        let (right, asked) = counts.entry(group).or_default();
        *asked += 1;
        *right += usize::from(answer.report.text.trim() == question.answer);
    }
    counts
}

#[test]
fn it_answers_scenes_and_pages_with_merging_off() {
    let counts = accuracy(MergeFlag::Off);
    let (right, asked) = counts["scenes"];
    assert!(asked >= 150 && right * 100 >= asked * 92, "scenes: {right} of {asked}");
    let (right, asked) = counts["pages"];
    assert!(asked >= 40 && right * 100 >= asked * 95, "pages: {right} of {asked}");
}

#[test]
fn its_own_schedule_costs_scenes_little() {
    let (right, asked) = accuracy(MergeFlag::Model)["scenes"];
    assert!(asked >= 150 && right * 100 >= asked * 92, "scenes: {right} of {asked}");
}

#[test]
fn a_budget_by_content_keeps_scenes_and_pages() {
    let counts = accuracy(MergeFlag::Auto);
    let (right, asked) = counts["scenes"];
    assert!(asked >= 150 && right * 100 >= asked * 92, "scenes: {right} of {asked}");
    let (right, asked) = counts["pages"];
    assert!(asked >= 40 && right * 100 >= asked * 95, "pages: {right} of {asked}");
}
