//! A decoder that counts instead of computing, and a bench to drive slots on it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::answer::*;
use crate::error::{Error, Kind, Result};
use crate::media::Pixels;
use crate::pair::facts;
use crate::prompt::Chunk;
use crate::schedule::{Amount, HalfSchedule, Schedule, Score};
use crate::see::{EncodeJob, Encoded, EncodedImage, Expected, VisualInput, picture as encoded_picture};

const END: i32 = 0;
/// Rows computed at once.
const UBATCH: usize = 4;
/// Cells of a slot.
pub const CELLS: u32 = 32;

/// Merges half of a picture at layer 2.
pub fn schedule() -> Schedule {
    Schedule {
        name: "test".into(),
        decoder: HalfSchedule { steps: vec![(2, Amount::Keep(0.5))] },
        ..Schedule::default()
    }
}

/// An answer of `length` letters, `max_tokens` at most, that ends before any of `stop`.
pub fn ending(length: u32, max_tokens: Option<u32>, stop: &[&str]) -> Generation {
    let mut how = Generation::greedy(max_tokens);
    how.limits.stop = stop.iter().map(ToString::to_string).collect();
    how.sampling.seed = Some(length);
    how
}

/// BOS and a token for each letter; U+0001 stands for the next picture. The answer is `length`
/// letters of the alphabet.
pub fn job(id: u64, prompt: &str, length: u32) -> Job {
    let mut chunks = vec![Chunk::Tokens(vec![1])];
    let mut pictures = 0;
    for letter in prompt.chars() {
        if letter == '\u{1}' {
            chunks.push(Chunk::Image(pictures));
            pictures += 1;
        } else {
            chunks.push(Chunk::Tokens(vec![letter as i32]));
        }
    }
    Job {
        id,
        scope: Some(Vec::new()),
        prompt: chunks,
        pictures: Vec::new(),
        schedule: schedule(),
        how: ending(length, None, &[]),
        trace: false,
        slot: None,
        arrived: Instant::now(),
        spent: Spent::default(),
    }
}

/// A picture that brings `tokens`; with none it cannot be encoded.
pub fn picture(content: u8, tokens: u32) -> PromptPicture {
    let pixels = Pixels { width: tokens, height: 1, rgb: Vec::new(), remark: None, moment: None };
    let input = Arc::new(VisualInput::Image(pixels));
    PromptPicture {
        key: [content; 32],
        source: PictureSource::Pixels { input, several: false },
        expected: Expected::default(),
    }
}

#[derive(Default)]
pub struct Fake {
    log: Vec<String>,
    /// Positions each sequence holds, in order.
    held: Vec<Vec<i32>>,
    /// Rows still to be computed, and the positions already there.
    runs: HashMap<usize, (Rows, usize, usize)>,
    /// Tokens drawn and to be drawn.
    answers: HashMap<usize, (u32, u32)>,
    pub broken: bool,
}

impl Fake {
    /// The positions that a sequence holds.
    pub fn held(&self, slot: usize) -> &[i32] {
        &self.held[slot]
    }
}

impl Decoder for Fake {
    fn begin(&mut self, slot: usize, rows: &Rows, _score: Score) -> Result<()> {
        self.log.push(format!("begin {slot}: {} rows", rows.tokens.len()));
        assert!(self.held[slot].last() < rows.positions.first(), "positions go on");
        let before = self.held[slot].len();
        self.runs.insert(slot, (rows.clone(), 0, before));
        Ok(())
    }

    fn step(&mut self, slot: usize) -> Result<Option<Vec<MergeStep>>> {
        self.log.push(format!("step {slot}"));
        let (rows, done, _) = self.runs.get_mut(&slot).unwrap();
        let end = (*done + UBATCH).min(rows.tokens.len());
        self.held[slot].extend(&rows.positions[*done..end]);
        *done = end;
        if end < rows.tokens.len() {
            return Ok(None);
        }
        let (rows, ..) = self.runs.remove(&slot).unwrap();
        let spans = rows.spans.iter().enumerate().filter(|(_, (_, _, r))| r[0] > 0);
        let step = |(span, (_, n, r)): (usize, &(usize, usize, Vec<u32>))| MergeStep {
            span,
            layer: 2,
            n_in: u32::try_from(*n).unwrap(),
            n_out: u32::try_from(*n).unwrap() - r[0],
            ..MergeStep::default()
        };
        Ok(Some(spans.map(step).collect()))
    }

    fn cancel(&mut self, slot: usize) {
        if let Some((_, _, before)) = self.runs.remove(&slot) {
            self.held[slot].truncate(before);
        }
    }

    fn decode(&mut self, next: &[Next]) -> Result<()> {
        self.log.push(format!("decode {:?}", next.iter().map(|next| next.sequence).collect::<Vec<_>>()));
        for next in next {
            assert!(self.held[next.sequence].last() < Some(&next.position));
            self.held[next.sequence].push(next.position);
        }
        if self.broken { Err(Error::new(Kind::Native, "broken")) } else { Ok(()) }
    }

    fn start_sampling(&mut self, slot: usize, how: &Generation, _seen: &[i32]) -> Result<Vec<(i32, f32)>> {
        self.answers.insert(slot, (0, how.sampling.seed.unwrap()));
        Ok(how.sampling.logit_bias.clone())
    }

    fn sample(&mut self, slot: usize, _from: Logits, top: Option<u32>) -> Result<Option<Drawn>> {
        let (drawn, length) = self.answers.get_mut(&slot).unwrap();
        let token = if drawn == length { END } else { i32::from(b'a') + *drawn as i32 };
        *drawn += 1;
        Ok(Some(Drawn { token, logprobs: top.map(|_| (-0.5, vec![(i32::from(b'z'), -0.1)])) }))
    }

    fn forget_from(&mut self, slot: usize, position: i32) -> bool {
        self.held[slot].retain(|held| *held < position);
        true
    }

    fn clear(&mut self, slot: usize) {
        self.held[slot].clear();
    }

    fn share(&mut self, from: usize, to: usize, position: i32) -> Result<()> {
        self.log.push(format!("share {from} -> {to} before {position}"));
        assert!(self.held[to].is_empty());
        self.held[to] = self.held[from].iter().copied().filter(|held| *held < position).collect();
        Ok(())
    }

    fn save(&mut self, slot: usize) -> Result<Vec<u8>> {
        Ok(self.held[slot].iter().flat_map(|position| position.to_le_bytes()).collect())
    }

    fn restore(&mut self, slot: usize, cells: &[u8]) -> Result<()> {
        assert!(self.held[slot].is_empty());
        let position = |bytes: &[u8]| i32::from_le_bytes(bytes.try_into().unwrap());
        self.held[slot] = cells.chunks(4).map(position).collect();
        if self.broken { Err(Error::new(Kind::Context, "broken")) } else { Ok(()) }
    }

    fn piece(&self, token: i32) -> Vec<u8> {
        vec![u8::try_from(token).unwrap()]
    }

    fn mark(&self, _: i32) -> Option<String> {
        None
    }

    fn ends_generation(&self, token: i32) -> bool {
        token == END
    }

    fn segments(&self) -> Vec<SegmentInfo> {
        let cells = CELLS * u32::try_from(self.held.len()).unwrap();
        let segment = |layers| SegmentInfo { layers, cells, used: 0, bytes: u64::from(cells) * 20 };
        vec![segment((0, 2)), segment((2, 4))]
    }

    fn compute_bytes(&self) -> u64 {
        0
    }
}

/// Slots on a fake decoder, and everything they said.
pub struct Bench {
    pub slots: Scheduler<Fake>,
    pub encoded: usize,
    /// Positions from one row of a picture to the next.
    pub apart: i32,
    jobs: Vec<EncodeJob>,
    said: Vec<Output>,
}

impl Bench {
    pub fn new(slots: usize) -> Self {
        let decoder = Fake { held: vec![Vec::new(); slots], ..Fake::default() };
        let settings = Settings {
            slots,
            cells: vec![CELLS, CELLS],
            merge_layers: vec![2],
            picture_bytes: 1 << 20,
            positions: Sizing::Cells(CELLS).positions(256),
            pair: Some([7; 32]),
            sole: None,
        };
        Self {
            slots: Scheduler::new(decoder, Arc::new(facts()), settings),
            encoded: 0,
            apart: 1,
            jobs: Vec::new(),
            said: Vec::new(),
        }
    }

    pub fn submit(&mut self, job: Job) {
        self.slots.submit(job);
    }

    pub fn turns(&mut self, n: usize) {
        for _ in 0..n {
            self.slots.turn();
            self.collect();
        }
    }

    fn collect(&mut self) {
        for output in self.slots.take_output() {
            match output {
                Output::Encode(job) => self.jobs.push(*job),
                other => self.said.push(other),
            }
        }
    }

    /// Pictures handed out and not encoded yet.
    pub fn waiting(&self) -> usize {
        self.jobs.len()
    }

    /// Encodes what waits.
    pub fn encode(&mut self) {
        for job in std::mem::take(&mut self.jobs) {
            let cancelled = job.cancelled.load(Ordering::Relaxed);
            self.encoded += usize::from(!cancelled);
            let tokens = job.source.visual(job.several).size().0;
            let image = if cancelled {
                Err(Error::interrupted())
            } else if tokens == 0 {
                Err(Error::new(Kind::Media, "no picture"))
            } else {
                let mut image = EncodedImage {
                    tiles: vec![crate::native::Tile { size: (tokens, 1), grid: (tokens, 1) }],
                    ..encoded_picture(tokens, tokens)
                };
                image.offsets = (0..=i32::try_from(tokens).unwrap()).map(|i| i * self.apart).collect();
                image.place_at(job.schedule.positions, false);
                Ok(image)
            };
            let encoded = Encoded { ticket: job.ticket, image, from_disk: false, compute_bytes: 0 };
            self.slots.encoded(encoded);
        }
    }

    /// Until all is over.
    pub fn run(&mut self) {
        for _ in 0..1000 {
            self.turns(1);
            self.encode();
            if !self.slots.is_busy() {
                self.collect();
                return;
            }
        }
        panic!("it does not end");
    }

    /// Returns the decoder's calls since the last time.
    pub fn log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.slots.decoder.log)
    }

    pub fn done(&self, id: u64) -> Done {
        let mut done = self.said.iter().filter_map(|output| match output {
            Output::Done(done) if done.id == id => Some(done.as_ref().clone()),
            _ => None,
        });
        let first = done.next().unwrap_or_else(|| panic!("{id} is not done: {:?}", self.said));
        assert!(done.next().is_none(), "{id} is done twice");
        first
    }

    pub fn failed(&self, id: u64) -> Failed {
        let failed = self.said.iter().find_map(|output| match output {
            Output::Failed(failed) if failed.id == id => Some(failed.clone()),
            _ => None,
        });
        failed.unwrap_or_else(|| panic!("{id} did not fail: {:?}", self.said))
    }

    pub fn started(&self, id: u64) -> Started {
        let started = self.said.iter().find_map(|output| match output {
            Output::Started(started) if started.id == id => Some(started.clone()),
            _ => None,
        });
        started.unwrap_or_else(|| panic!("{id} did not start"))
    }

    fn deltas(&self, id: u64) -> impl Iterator<Item = &Delta> {
        self.said.iter().filter_map(move |output| match output {
            Output::Delta(delta) if delta.id == id => Some(delta),
            _ => None,
        })
    }

    pub fn text(&self, id: u64) -> String {
        self.deltas(id).map(|delta| delta.text.as_str()).collect()
    }

    pub fn tokens(&self, id: u64) -> Vec<Token> {
        self.deltas(id).flat_map(|delta| delta.tokens.clone()).collect()
    }

    /// Ids in the order they were done.
    pub fn order(&self) -> Vec<u64> {
        let ids = self.said.iter().filter_map(|output| match output {
            Output::Done(done) => Some(done.id),
            _ => None,
        });
        ids.collect()
    }

    /// Checks that the decoder holds the entries that the slots list as cached.
    pub fn is_consistent(&self) {
        for (i, view) in self.slots.view().iter().enumerate() {
            assert_eq!(view.kv_tokens[0] as usize, self.slots.decoder.held[i].len(), "slot {i}");
        }
    }
}
