//! The conversation's bookkeeping on an engine without a model.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard};

use super::*;
use crate::answer::{Drawn, Logits, MergeStep, Next, Rows, SegmentInfo};
use crate::pair::facts;
use crate::prompt::{Part, Role};
use crate::report;
use crate::schedule::{Amount, HalfSchedule, Score};
use crate::see::{Visual, picture};

const END: i32 = 0;

/// Says back the bytes it is told to, and remembers what it was asked.
struct Fake {
    facts: Arc<Facts>,
    state: Arc<Mutex<State>>,
}

/// State that the engine and its decoders share.
struct State {
    /// Tokens to come, the next one last.
    script: Vec<i32>,
    opened: usize,
    prefills: Vec<Rows>,
    forgotten: Vec<i32>,
    decoded: Vec<(i32, i32)>,
    can_forget: bool,
    stop_at: Option<(usize, Stop)>,
}

/// A context of the fake.
struct Context {
    layout: CacheLayout,
    state: Arc<Mutex<State>>,
}

impl Fake {
    fn new(answer: &str) -> Self {
        let state = State {
            script: answer.bytes().map(i32::from).chain([END]).rev().collect(),
            opened: 0,
            prefills: Vec::new(),
            forgotten: Vec::new(),
            decoded: Vec::new(),
            can_forget: true,
            stop_at: None,
        };
        Self { facts: Arc::new(facts()), state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Encoder for Fake {
    fn encode_until(
        &mut self,
        visual: &Visual<'_>,
        schedule: &Schedule,
        _: &AtomicBool,
    ) -> Result<EncodedImage> {
        let width = visual.size().0;
        let mut image = picture(width, if schedule.is_off() { width } else { width / 2 });
        if schedule.is_off() {
            image.plan.decoder.clear();
            image.plan.segments.truncate(1);
        }
        // A picture of a height above 1 has lost all but every such cell.
        let height = visual.size().1;
        if height > 1 {
            let n = i32::try_from(width).unwrap();
            image.offsets = (0..=n).map(|i| i * height as i32).collect();
        }
        image.place_at(schedule.positions, schedule.counts_sizes);
        Ok(image)
    }

    fn encoder_bytes(&self) -> u64 {
        0
    }

    fn free_buffers(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Engine for Fake {
    type Decoder = Context;

    fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    /// Every letter is a token; the picture stands where the message has it.
    fn tokenize(&self, messages: &[Message]) -> Result<Vec<Chunk>> {
        let mut chunks = vec![Chunk::Tokens(vec![1])];
        for part in messages.iter().flat_map(|message| &message.parts) {
            chunks.push(match part {
                Part::Text(text) => Chunk::Tokens(text.bytes().map(i32::from).collect()),
                Part::Image(number) => Chunk::Image(*number),
                Part::Call(_) | Part::CallId(_) | Part::Thought(_) => continue,
            });
        }
        Ok(chunks)
    }

    fn open(&self, layout: &CacheLayout) -> Result<Context> {
        self.state().opened += 1;
        Ok(Context { layout: layout.clone(), state: Arc::clone(&self.state) })
    }
}

impl Decoder for Context {
    fn begin(&mut self, _: usize, rows: &Rows, _: Score) -> Result<()> {
        self.state.lock().unwrap().prefills.push(rows.clone());
        Ok(())
    }

    fn step(&mut self, _: usize) -> Result<Option<Vec<MergeStep>>> {
        let step = |(span, (_, n, r)): (usize, &(usize, usize, Vec<u32>))| MergeStep {
            span,
            layer: 2,
            n_in: *n as u32,
            n_out: *n as u32 - r.first().copied().unwrap_or(0),
            ..MergeStep::default()
        };
        let state = self.state.lock().unwrap();
        Ok(state.prefills.last().map(|rows| rows.spans.iter().enumerate().map(step).collect()))
    }

    fn cancel(&mut self, _: usize) {}

    fn decode(&mut self, next: &[Next]) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        state.decoded.push((next[0].token, next[0].position));
        if let Some((n, stop)) = state.stop_at
            && state.decoded.len() == n
        {
            stop.ask();
            return Err(Error::interrupted());
        }
        Ok(())
    }

    fn start_sampling(&mut self, _: usize, _: &Generation, _: &[i32]) -> Result<Vec<(i32, f32)>> {
        Ok(Vec::new())
    }

    fn sample(&mut self, _: usize, _: Logits, top: Option<u32>) -> Result<Option<Drawn>> {
        let token = self.state.lock().unwrap().script.pop();
        Ok(token.map(|token| Drawn { token, logprobs: top.map(|_| (-0.5, Vec::new())) }))
    }

    fn forget_from(&mut self, _: usize, position: i32) -> bool {
        let mut state = self.state.lock().unwrap();
        state.forgotten.push(position);
        state.can_forget
    }

    /// A cache that cannot forget is begun again.
    fn clear(&mut self, _: usize) {
        self.state.lock().unwrap().opened += 1;
    }

    fn share(&mut self, _: usize, _: usize, _: i32) -> Result<()> {
        Ok(())
    }

    fn save(&mut self, _: usize) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn restore(&mut self, _: usize, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn piece(&self, token: i32) -> Vec<u8> {
        u8::try_from(token).map_or_else(|_| Vec::new(), |byte| vec![byte])
    }

    fn mark(&self, _: i32) -> Option<String> {
        None
    }

    fn ends_generation(&self, token: i32) -> bool {
        token == END
    }

    fn segments(&self) -> Vec<SegmentInfo> {
        let layout = &self.layout;
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
    Pixels { width: tokens, height: 1, rgb: Vec::new(), remark: None, moment: None }
}

fn limits(tokens: Option<u32>) -> Generation {
    let mut how = Generation::greedy(tokens);
    how.sampling.seed = Some(5);
    how
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
    assert_eq!(session.engine().state().prefills[0].positions, (0..14).collect::<Vec<_>>());
    assert_eq!(session.engine().state().decoded, [(99, 14), (97, 15), (116, 16)]);
}

#[test]
fn a_second_turn_computes_only_what_is_new() {
    let mut session = session("cat", Sizing::Cells(128));
    session.answer(&ask("what?"), &limits(None), &mut |_| ()).unwrap();
    let mut messages = ask("what?");
    messages.push(Message::text(Role::Assistant, "cat"));
    messages.push(Message::text(Role::User, "sure?"));
    session.engine.state().script = vec![END];
    let answer = session.answer(&messages, &limits(None), &mut |_| ()).unwrap();
    let rows = session.engine().state().prefills[1].clone();
    assert_eq!(rows.tokens, "sure?".bytes().map(i32::from).collect::<Vec<_>>());
    assert_eq!(rows.positions, [17, 18, 19, 20, 21]);
    let state = session.engine().state();
    assert_eq!((state.opened, state.forgotten.len()), (1, 0));
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
    let rows = session.engine().state().prefills[0].clone();
    assert_eq!(rows.positions, [0, 1, 4, 7, 10, 13, 16, 19, 22, 25, 26, 27, 28, 29]);
    assert!(rows.counts_sizes);
    assert_eq!(session.engine().state().decoded, [(99, 30), (97, 31), (116, 32)]);
    let (layout, _) = session.open.as_ref().unwrap();
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
    let rows = session.engine().state().prefills[0].clone();
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
    full.engine.state().script = vec![i32::from(b'a'); 50];
    let answer = full.answer(&ask("what?"), &limits(None), &mut |_| ()).unwrap();
    assert_eq!((answer.finish, answer.report.tokens.generated), (Finish::ContextFull, 3));
}

#[test]
fn an_edited_turn_forgets_from_where_it_differs() {
    let mut session = session("cat", Sizing::Cells(128));
    session.answer(&ask("what?"), &limits(None), &mut |_| ()).unwrap();
    session.engine.state().script = vec![END];
    session.answer(&ask("where?"), &limits(None), &mut |_| ()).unwrap();
    assert_eq!(session.engine().state().forgotten, [11], "begin, picture, w, h stay");
    assert_eq!(session.engine().state().prefills[1].positions, [11, 12, 13, 14]);
    // The same again: one row is computed anew, for its logits.
    session.engine.state().script = vec![END];
    session.answer(&ask("where?"), &limits(None), &mut |_| ()).unwrap();
    assert_eq!(session.engine().state().prefills[2].tokens, [i32::from(b'?')]);
}

#[test]
fn a_cache_that_cannot_forget_is_begun_again() {
    let mut session = session("cat", Sizing::Cells(128));
    session.answer(&ask("what?"), &limits(None), &mut |_| ()).unwrap();
    session.engine.state().script = vec![END];
    session.engine.state().can_forget = false;
    session.answer(&ask("where?"), &limits(None), &mut |_| ()).unwrap();
    assert_eq!(session.engine().state().opened, 2);
    assert_eq!(session.engine().state().prefills[1].positions.len(), 15);
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
    session.engine.state().stop_at = Some((2, stop));
    let answer = session.answer(&ask("what?"), &limits(None), &mut |_| ()).unwrap();
    assert_eq!((answer.finish, answer.report.text.as_str()), (Finish::Cancelled, "ca"));
    assert_eq!(session.engine().state().forgotten, [15], "the token that was cut off");
}

#[test]
fn another_schedule_begins_again() {
    let mut session = session("cat", Sizing::Cells(128));
    session.answer(&ask("what?"), &limits(None), &mut |_| ()).unwrap();
    session.set_schedule(Schedule { name: "off".into(), ..Schedule::default() }).unwrap();
    session.engine.state().script = vec![END];
    let answer = session.answer(&ask("what?"), &limits(None), &mut |_| ()).unwrap();
    assert_eq!(session.engine().state().opened, 2);
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

#[test]
fn a_stop_text_ends_the_answer_and_log_probabilities_come_with_it() {
    let mut session = session("cat", Sizing::Fit);
    let mut how = Generation { logprobs: Some(0), ..limits(Some(9)) };
    how.limits.stop = vec!["t".into()];
    let mut shown = String::new();
    let answer = session.answer(&ask("what?"), &how, &mut |text| shown.push_str(text)).unwrap();
    assert_eq!((shown.as_str(), answer.report.text.as_str()), ("ca", "ca"));
    assert_eq!(answer.finish, Finish::StopString("t".into()));
    assert_eq!(answer.tokens.iter().map(|token| token.id).collect::<Vec<_>>(), [99, 97]);
}

/// The report and the trace have the session's own numbers, even if a message leaves pictures out.
#[test]
fn a_picture_that_is_not_shown_is_left_out() {
    let mut session = session("cat", Sizing::Fit);
    session.add_image(pixels(6), 1.0).unwrap();
    let message = Message { role: Role::User, parts: vec![Part::Image(1), Part::Text("what?".into())] };
    let answer = session.answer(&[message], &limits(Some(9)), &mut |_| ()).unwrap();
    assert_eq!(answer.report.tokens.visual_after_encoder, 6);
    assert_eq!(answer.trace.images.iter().map(|tile| tile.index).collect::<Vec<_>>(), [1]);
    assert_eq!(session.engine().state().prefills[0].tokens.len(), 12);
}
