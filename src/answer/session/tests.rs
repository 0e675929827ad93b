//! The conversation's bookkeeping on an engine without a model.

use super::super::SegmentInfo;
use super::*;
use crate::native::VisionInfo;
use crate::pair::{Facts, KvShape, Pair};
use crate::prompt::{Family, Part, Role};
use crate::report;
use crate::schedule::{Amount, HalfSchedule, Shape};
use crate::see::{Encoder, picture};

const END: i32 = 0;

/// Says back the bytes it is told to, and remembers what it was asked.
struct Fake {
    facts: Facts,
    /// Tokens to come, the next one last.
    script: Vec<i32>,
    layout: Option<CacheLayout>,
    opened: usize,
    prefills: Vec<Rows>,
    forgotten: Vec<i32>,
    decoded: Vec<(i32, i32)>,
    can_forget: bool,
    stop_at: Option<(usize, Stop)>,
}

impl Fake {
    fn new(answer: &str) -> Self {
        let vision = VisionInfo {
            projector: "mlp".into(),
            layers: 4,
            layers_run: 4,
            width: 8,
            heads: 1,
            image_size: 8,
            patch_size: 2,
            n_embd_out: 2,
            group: 1,
            class_token: false,
            dynamic_size: false,
            can_merge: true,
            mrope: false,
            weight_bytes: 10,
            repacked_bytes: 0,
            backend: "CPU".into(),
            takes_smaller: false,
        };
        let pair = Pair {
            arch: "fake".into(),
            model: report::Model::default(),
            text_name: None,
            n_embd: 2,
            n_layer: 4,
            n_ctx_train: 256,
            kv: KvShape::new(vec![1; 4], 2, 2),
            has_chat_template: true,
            text_types: Vec::new(),
            projector_types: Vec::new(),
            recommended: None,
        };
        let shape = Shape {
            vit_layers: 4,
            vit_layers_run: 4,
            vit_tokens: 16,
            group: 1,
            vit_can_merge: true,
            llm_layers: 4,
            llm_can_merge: true,
            is_qwen2vl: false,
        };
        let facts = Facts {
            pair,
            vision,
            shape,
            family: Family::Llava,
            n_pos: 1,
            weight_bytes: 20,
            threads: 1,
            load_ms: 3.0,
        };
        let script = answer.bytes().map(i32::from).chain([END]).rev().collect();
        Self {
            facts,
            script,
            layout: None,
            opened: 0,
            prefills: Vec::new(),
            forgotten: Vec::new(),
            decoded: Vec::new(),
            can_forget: true,
            stop_at: None,
        }
    }
}

impl Encoder for Fake {
    fn encode(&mut self, pixels: &Pixels, schedule: &Schedule) -> Result<EncodedImage> {
        let mut image =
            picture(pixels.width, if schedule.is_off() { pixels.width } else { pixels.width / 2 });
        if schedule.is_off() {
            image.plan.decoder.clear();
            image.plan.segments.truncate(1);
        }
        // A picture of a height above 1 has lost all but every such cell.
        if pixels.height > 1 {
            let n = i32::try_from(pixels.width).unwrap();
            image.offsets = (0..=n).map(|i| i * pixels.height as i32).collect();
        }
        image.place_at(schedule.positions, schedule.counts_sizes);
        Ok(image)
    }

    fn encoder_bytes(&self) -> u64 {
        0
    }
}

impl Engine for Fake {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Every letter is a token; the picture stands where the message has it.
    fn tokenize(&self, messages: &[Message]) -> Result<Vec<Chunk>> {
        let mut chunks = vec![Chunk::Tokens(vec![1])];
        for part in messages.iter().flat_map(|message| &message.parts) {
            chunks.push(match part {
                Part::Text(text) => Chunk::Tokens(text.bytes().map(i32::from).collect()),
                Part::Image(number) => Chunk::Image(*number),
            });
        }
        Ok(chunks)
    }

    fn open(&mut self, layout: &CacheLayout) -> Result<()> {
        self.layout = Some(layout.clone());
        self.opened += 1;
        Ok(())
    }

    fn segments(&self) -> Vec<SegmentInfo> {
        let Some(layout) = &self.layout else { return Vec::new() };
        let cuts: Vec<u32> = [0].into_iter().chain(layout.merge_layers.clone()).chain([4]).collect();
        let cells = [layout.cells].into_iter().chain(layout.deep.clone());
        cuts.windows(2)
            .zip(cells)
            .map(|(pair, cells)| SegmentInfo {
                layers: (pair[0], pair[1]),
                cells,
                used: 0,
                bytes: u64::from(cells) * u64::from(pair[1] - pair[0]) * 100,
            })
            .collect()
    }

    fn prefill(&mut self, rows: &Rows, _: bool) -> Result<Vec<MergeStep>> {
        self.prefills.push(rows.clone());
        let step = |(span, (_, n, r)): (usize, &(usize, usize, Vec<u32>))| MergeStep {
            span,
            layer: 2,
            n_in: *n as u32,
            n_out: *n as u32 - r.first().copied().unwrap_or(0),
            ..MergeStep::default()
        };
        Ok(rows.spans.iter().enumerate().map(step).collect())
    }

    fn decode(&mut self, token: i32, position: i32) -> Result<()> {
        self.decoded.push((token, position));
        if let Some((n, stop)) = self.stop_at
            && self.decoded.len() == n
        {
            stop.ask();
            return Err(Error::interrupted());
        }
        Ok(())
    }

    fn forget_from(&mut self, position: i32) -> bool {
        self.forgotten.push(position);
        self.can_forget
    }

    fn start_sampling(&mut self, _: &Sampling, _: Option<&Grammar>) -> Result<()> {
        Ok(())
    }

    fn sample(&mut self) -> Result<Option<i32>> {
        Ok(self.script.pop())
    }

    fn ends_generation(&self, token: i32) -> bool {
        token == END
    }

    fn piece(&self, token: i32) -> Vec<u8> {
        u8::try_from(token).map_or_else(|_| Vec::new(), |byte| vec![byte])
    }

    fn compute_bytes(&self) -> u64 {
        7
    }
}

fn merging() -> Schedule {
    Schedule {
        name: "paper".into(),
        encoder: HalfSchedule { steps: vec![(1, Amount::Count(4))] },
        decoder: HalfSchedule { steps: vec![(2, Amount::Keep(0.5))] },
        ..Schedule::default()
    }
}

fn pixels(tokens: u32) -> Pixels {
    Pixels { width: tokens, height: 1, rgb: Vec::new(), remark: None }
}

fn limits(tokens: Option<u32>) -> Limits {
    let sampling = Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 5 };
    Limits { tokens, sampling, grammar: None }
}

fn ask(text: &str) -> Vec<Message> {
    vec![Message { role: Role::User, parts: vec![Part::Image(0), Part::Text(text.into())] }]
}

fn session(answer: &str, sizing: Sizing) -> Session<Fake> {
    let mut session = Session::new(Fake::new(answer), merging(), sizing, Stop::new());
    session.add_image(pixels(8), 1.0).unwrap();
    session
}

#[test]
fn one_answer_with_its_report() {
    let mut session = session("cat", Sizing::Fit);
    let mut shown = String::new();
    let answer = session.answer(&ask("what?"), &limits(Some(9)), &mut |text| shown.push_str(text)).unwrap();
    assert_eq!((shown.as_str(), answer.finish), ("cat", Finish::Stop));
    let report = answer.report;
    assert_eq!(report.text, "cat");
    assert_eq!((report.tokens.text, report.tokens.visual, report.tokens.visual_after_encoder), (6, 16, 8));
    assert_eq!(
        report.tokens.visual_kv,
        [report::VisualKv { layers: [0, 2], tokens: 8 }, report::VisualKv { layers: [2, 4], tokens: 4 }]
    );
    assert_eq!((report.tokens.generated, report.seed), (3, 5));
    assert_eq!(
        (report.merge.llm_layers, report.merge.llm_r, report.merge.vit_layers),
        (vec![2], vec![4], vec![1])
    );
    assert!(report.bytes.kv < report.bytes.kv_without_merge);
    assert!(report.ms.first_token >= report.ms.decode_media + report.ms.encoder + report.ms.projector);
    assert_eq!(
        answer.trace.prompt,
        [
            report::PromptPart::Tokens { tokens: vec![1] },
            report::PromptPart::Span { span: 0, n: 8, cells: None, positions: None, sizes: None },
            report::PromptPart::Tokens { tokens: "what?".bytes().map(i32::from).collect() }
        ]
    );
    assert_eq!(answer.trace.steps.iter().map(|step| step.span).collect::<Vec<_>>(), [Some(0)]);
    // One row of begin, eight of the picture, five letters; answers follow at 14.
    assert_eq!(session.engine().prefills[0].positions, (0..14).collect::<Vec<_>>());
    assert_eq!(session.engine().decoded, [(99, 14), (97, 15), (116, 16)]);
}

#[test]
fn a_second_turn_computes_only_what_is_new() {
    let mut session = session("cat", Sizing::Cells(128));
    session.answer(&ask("what?"), &limits(None), &mut |_| ()).unwrap();
    let mut messages = ask("what?");
    messages.push(Message::text(Role::Assistant, "cat"));
    messages.push(Message::text(Role::User, "sure?"));
    session.engine.script = vec![END];
    let answer = session.answer(&messages, &limits(None), &mut |_| ()).unwrap();
    let rows = &session.engine().prefills[1];
    assert_eq!(rows.tokens, "sure?".bytes().map(i32::from).collect::<Vec<_>>());
    assert_eq!(rows.positions, [17, 18, 19, 20, 21]);
    assert_eq!((session.engine().opened, session.engine().forgotten.len()), (1, 0));
    // The trace still knows what happened to the picture in the first turn.
    assert_eq!(answer.trace.steps.len(), 1);
    assert_eq!(answer.report.ms.encoder, 0.0);
}

/// A session with one picture of 8 rows, `apart` positions from each other.
fn spread(apart: u32, sizing: Sizing) -> Session<Fake> {
    let mut schedule = merging();
    schedule.counts_sizes = true;
    let mut session = Session::new(Fake::new("cat"), schedule, sizing, Stop::new());
    session.add_image(Pixels { height: apart, ..pixels(8) }, 1.0).unwrap();
    session
}

#[test]
fn rows_of_a_picture_stand_where_its_cells_did() {
    let mut session = spread(3, Sizing::Fit);
    let answer = session.answer(&ask("what?"), &limits(Some(9)), &mut |_| ()).unwrap();
    let rows = &session.engine().prefills[0];
    assert_eq!(rows.positions, [0, 1, 4, 7, 10, 13, 16, 19, 22, 25, 26, 27, 28, 29]);
    assert!(rows.counts_sizes);
    assert_eq!(session.engine().decoded, [(99, 30), (97, 31), (116, 32)]);
    let layout = session.engine().layout.as_ref().unwrap();
    assert!(layout.deep[0] < 33, "cells are for rows, not for positions: {layout:?}");
    assert_eq!(answer.report.merge.positions, "own");
    assert!(answer.report.remarks.is_empty());
    let report::PromptPart::Span { positions, .. } = &answer.trace.prompt[1] else { panic!("a span") };
    assert_eq!(positions.as_ref().unwrap(), &[0, 3, 6, 9, 12, 15, 18, 21]);
}

/// The model was trained for 256 positions.
#[test]
fn positions_close_up_where_own_ones_would_pass_the_last() {
    let mut session = spread(32, Sizing::Fit);
    let answer = session.answer(&ask("what?"), &limits(Some(9)), &mut |_| ()).unwrap();
    let rows = &session.engine().prefills[0];
    assert_eq!(rows.positions, (0..14).collect::<Vec<_>>());
    assert!(!rows.counts_sizes, "sizes go with own positions");
    assert_eq!(answer.report.merge.positions, "closed");
    let [remark] = answer.report.remarks.as_slice() else { panic!("one remark") };
    assert!(remark.contains("262") && remark.contains("256"), "{remark}");
    // A larger context that a person asked for has them.
    let mut larger = spread(32, Sizing::Cells(512));
    let answer = larger.answer(&ask("what?"), &limits(Some(9)), &mut |_| ()).unwrap();
    assert_eq!((answer.report.merge.positions.as_str(), answer.finish), ("own", Finish::Stop));
    // The answer ends with the positions, though there are cells.
    let mut full = spread(31, Sizing::Cells(200));
    full.engine.script = vec![i32::from(b'a'); 50];
    let answer = full.answer(&ask("what?"), &limits(None), &mut |_| ()).unwrap();
    assert_eq!((answer.finish, answer.report.tokens.generated), (Finish::ContextFull, 3));
}

#[test]
fn an_edited_turn_forgets_from_where_it_differs() {
    let mut session = session("cat", Sizing::Cells(128));
    session.answer(&ask("what?"), &limits(None), &mut |_| ()).unwrap();
    session.engine.script = vec![END];
    session.answer(&ask("where?"), &limits(None), &mut |_| ()).unwrap();
    assert_eq!(session.engine().forgotten, [11], "begin, picture, w, h stay");
    assert_eq!(session.engine().prefills[1].positions, [11, 12, 13, 14]);
    // The same again: one row is computed anew, for its logits.
    session.engine.script = vec![END];
    session.answer(&ask("where?"), &limits(None), &mut |_| ()).unwrap();
    assert_eq!(session.engine().prefills[2].tokens, [i32::from(b'?')]);
}

#[test]
fn a_cache_that_cannot_forget_is_begun_again() {
    let mut session = session("cat", Sizing::Cells(128));
    session.answer(&ask("what?"), &limits(None), &mut |_| ()).unwrap();
    session.engine.script = vec![END];
    session.engine.can_forget = false;
    session.answer(&ask("where?"), &limits(None), &mut |_| ()).unwrap();
    assert_eq!(session.engine().opened, 2);
    assert_eq!(session.engine().prefills[1].positions.len(), 15);
}

#[test]
fn endings() {
    for (most, sizing, finish, text) in [
        (Some(2), Sizing::Fit, Finish::Length, "ca"),
        (Some(9), Sizing::Fit, Finish::Stop, "cat"),
        // 14 rows and one cell: the second token finds no room for a third.
        (None, Sizing::Cells(15), Finish::ContextFull, "ca"),
    ] {
        let mut session = session("cat", sizing);
        let answer = session.answer(&ask("what?"), &limits(most), &mut |_| ()).unwrap();
        assert_eq!((answer.finish, answer.report.text.as_str()), (finish, text));
    }
}

#[test]
fn an_interruption_keeps_what_was_said() {
    let stop = Stop::new();
    let mut session = Session::new(Fake::new("cat"), merging(), Sizing::Cells(128), stop);
    session.add_image(pixels(8), 1.0).unwrap();
    session.engine.stop_at = Some((2, stop));
    let answer = session.answer(&ask("what?"), &limits(None), &mut |_| ()).unwrap();
    assert_eq!((answer.finish, answer.report.text.as_str()), (Finish::Interrupted, "ca"));
    assert_eq!(session.engine().forgotten, [15], "the token that was cut off");
}

#[test]
fn another_schedule_begins_again() {
    let mut session = session("cat", Sizing::Cells(128));
    session.answer(&ask("what?"), &limits(None), &mut |_| ()).unwrap();
    session.set_schedule(Schedule { name: "off".into(), ..Schedule::default() }).unwrap();
    session.engine.script = vec![END];
    let answer = session.answer(&ask("what?"), &limits(None), &mut |_| ()).unwrap();
    assert_eq!(session.engine().opened, 2);
    assert_eq!(answer.report.merge.strategy, "off");
    assert_eq!(answer.report.bytes.kv, answer.report.bytes.kv_without_merge);
}

#[test]
fn what_does_not_fit_names_both_numbers() {
    let mut session = session("cat", Sizing::Cells(12));
    let error = session.answer(&ask("what?"), &limits(None), &mut |_| ()).unwrap_err();
    assert_eq!(error.kind(), Kind::Context);
    assert!(
        error.to_string().contains("14 tokens (8 of pictures)") && error.to_string().contains("12"),
        "{error}"
    );
}

#[test]
fn a_picture_nobody_gave() {
    let mut session = session("cat", Sizing::Fit);
    session.clear();
    assert_eq!(session.answer(&ask("what?"), &limits(None), &mut |_| ()).unwrap_err().kind(), Kind::Prompt);
}

#[test]
fn merging_makes_the_cache_smaller() {
    let mut session = Session::new(Fake::new("cat"), merging(), Sizing::Fit, Stop::new());
    session.add_image(pixels(80), 1.0).unwrap();
    let report = session.answer(&ask("what?"), &limits(Some(9)), &mut |_| ()).unwrap().report;
    // 6 + 80 + 9 rows in the first half of the layers, 6 + 40 + 9 in the second; 6 + 160 + 9 without merging.
    assert_eq!(report.bytes.kv, (256 + 55) * 2 * 100);
    assert_eq!(report.bytes.kv_without_merge, 256 * 4 * 100);
}
