//! Measures how near merging stays to merging off, for `python -m real evidence`:
//! `cargo run --release --example nearness -- rows|answers TEXT.gguf MMPROJ.gguf THREADS < jobs.jsonl`.
//!
//! A job is a line `{"image": FILE, "prompt": TEXT, "settings": [...]}`; a setting is the field `merge` of a request
//! (docs/serve.md). For each setting one line of JSON goes to standard output:
//!
//! - `rows`: `{"tokens", "width", "sizes"}`, and behind its line break the rows that the picture brings to the text
//!   model, [tokens, width] floats of four bytes, little-endian. `sizes` is empty where nobody counts.
//! - `answers`: `{"tokens", "deepest", "kl", "agrees", "said"}` against merging off. `kl` is the mean over the next 8
//!   tokens of off's greedy answer, each behind the same tokens before it, of the Kullback-Leibler divergence of the
//!   whole vocabulary from off, in nats. `agrees`: the greedy answers are the same as far as that.

use std::cell::RefCell;
use std::io::{BufRead, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use illava::answer::{
    CacheLayout, Decoder, Drawn, Engine, LlamaDecoder, LlamaEngine, Logits, MergeStep, Next, Rows,
    SegmentInfo, Session, Sizing,
};
use illava::pair::Facts;
use illava::prompt::{Chunk, Message, Part, Role};
use illava::request::json::{self, Defaults};
use illava::schedule::Schedule;
use illava::see::{EncodedImage, Encoder, Visual};
use illava::{Choice, Error, Generation, Kind, LoadSettings, MergeFlag, Pixels, Result, Stop};
use serde_json::{Map, Value};

/// Tokens of an answer that are compared.
const COMPARED: u32 = 8;

/// What is noted of an answer, and what it is made to say.
#[derive(Default)]
struct Watch {
    forced: Option<Vec<i32>>,
    /// Log-probabilities of the whole vocabulary before each token.
    seen: Vec<Vec<f32>>,
    /// The likeliest token each time.
    best: Vec<i32>,
}

/// A decoder that notes each distribution and says the forced token, if there is one.
struct Watched {
    inner: LlamaDecoder,
    watch: Rc<RefCell<Watch>>,
}

impl Decoder for Watched {
    fn sample(&mut self, slot: usize, from: Logits, _: Option<u32>) -> Result<Option<Drawn>> {
        let Some(drawn) = self.inner.sample(slot, from, Some(u32::MAX))? else { return Ok(None) };
        let all = drawn.logprobs.map(|(_, all)| all).unwrap_or_default();
        let mut row = vec![f32::NEG_INFINITY; all.len()];
        for &(token, logprob) in &all {
            if let Some(place) = usize::try_from(token).ok().and_then(|token| row.get_mut(token)) {
                *place = logprob;
            }
        }
        let mut watch = self.watch.borrow_mut();
        let at = watch.seen.len();
        let forced = watch.forced.as_ref().and_then(|tokens| tokens.get(at)).copied();
        watch.seen.push(row);
        watch.best.push(drawn.token);
        Ok(Some(Drawn { token: forced.unwrap_or(drawn.token), logprobs: None }))
    }

    fn begin(&mut self, slot: usize, rows: &Rows, last_token_score: bool) -> Result<()> {
        self.inner.begin(slot, rows, last_token_score)
    }
    fn step(&mut self, slot: usize) -> Result<Option<Vec<MergeStep>>> {
        self.inner.step(slot)
    }
    fn cancel(&mut self, slot: usize) {
        self.inner.cancel(slot);
    }
    fn decode(&mut self, next: &[Next]) -> Result<()> {
        self.inner.decode(next)
    }
    fn start_sampling(&mut self, slot: usize, how: &Generation, seen: &[i32]) -> Result<Vec<(i32, f32)>> {
        self.inner.start_sampling(slot, how, seen)
    }
    fn forget_from(&mut self, slot: usize, position: i32) -> bool {
        self.inner.forget_from(slot, position)
    }
    fn clear(&mut self, slot: usize) {
        self.inner.clear(slot);
    }
    fn share(&mut self, from: usize, to: usize, position: i32) -> Result<()> {
        self.inner.share(from, to, position)
    }
    fn save(&mut self, slot: usize) -> Result<Vec<u8>> {
        self.inner.save(slot)
    }

    fn restore(&mut self, slot: usize, cells: &[u8]) -> Result<()> {
        self.inner.restore(slot, cells)
    }

    fn piece(&self, token: i32) -> Vec<u8> {
        self.inner.piece(token)
    }
    fn mark(&self, token: i32) -> Option<String> {
        self.inner.mark(token)
    }
    fn ends_generation(&self, token: i32) -> bool {
        self.inner.ends_generation(token)
    }
    fn segments(&self) -> Vec<SegmentInfo> {
        self.inner.segments()
    }
    fn compute_bytes(&self) -> u64 {
        self.inner.compute_bytes()
    }
}

/// The pair, its decoders watched.
struct Pair {
    engine: LlamaEngine,
    watch: Rc<RefCell<Watch>>,
}

impl Encoder for Pair {
    fn encode_until(
        &mut self,
        visual: &Visual<'_>,
        schedule: &Schedule,
        cancelled: &AtomicBool,
    ) -> Result<EncodedImage> {
        self.engine.encode_until(visual, schedule, cancelled)
    }
    fn encoder_bytes(&self) -> u64 {
        self.engine.encoder_bytes()
    }
    fn free_buffers(&mut self) -> Result<()> {
        self.engine.free_buffers()
    }
}

impl Engine for Pair {
    type Decoder = Watched;

    fn facts(&self) -> &Arc<Facts> {
        self.engine.facts()
    }
    fn tokenize(&self, messages: &[Message]) -> Result<Vec<Chunk>> {
        self.engine.tokenize(messages)
    }
    fn open(&self, layout: &CacheLayout) -> Result<Watched> {
        Ok(Watched { inner: self.engine.open(layout)?, watch: Rc::clone(&self.watch) })
    }
}

struct Job {
    picture: Pixels,
    prompt: String,
    settings: Vec<Choice>,
}

fn job(line: &str) -> Result<Job> {
    let body = json::object(line.as_bytes(), 8)?;
    let text = |name: &str| {
        let value = body.get(name).and_then(Value::as_str);
        value.ok_or_else(|| Error::new(Kind::Usage, format!("a job without {name}: give a text")))
    };
    let settings = body.get("settings").and_then(Value::as_array).into_iter().flatten();
    let choice = |merge: &Value| {
        let request: Map<String, Value> =
            [("prompt".to_owned(), Value::from("?")), ("merge".to_owned(), merge.clone())]
                .into_iter()
                .collect();
        Ok(json::read(request, &Defaults::default())?.0.merge.unwrap_or_default())
    };
    Ok(Job {
        picture: Pixels::open(text("image")?)?,
        prompt: text("prompt")?.to_owned(),
        settings: settings.map(choice).collect::<Result<_>>()?,
    })
}

fn rows(session: &mut Session<Pair>, job: &Job, out: &mut impl Write) -> Result<()> {
    for choice in &job.settings {
        session.clear();
        let schedule = session.engine().facts().schedule(choice)?;
        session.set_schedule(schedule)?;
        let number = session.add_image(job.picture.clone(), 0.0)?;
        let Some(image) = session.image(number) else { continue };
        let tokens = image.plan.tokens as usize;
        let head = serde_json::json!({
            "tokens": tokens, "width": image.embeddings.len() / tokens.max(1), "sizes": image.sizes,
        });
        let bytes: Vec<u8> = image.embeddings.iter().flat_map(|value| value.to_le_bytes()).collect();
        writeln!(out, "{head}")
            .and_then(|()| out.write_all(&bytes))
            .and_then(|()| out.flush())
            .map_err(broken)?;
    }
    Ok(())
}

/// Asks the job's question by one schedule; returns visual tokens behind the encoder and in the deepest segment.
fn ask(session: &mut Session<Pair>, job: &Job, choice: &Choice, most: u32) -> Result<(u32, u32)> {
    session.clear();
    let schedule = session.engine().facts().schedule(choice)?;
    session.set_schedule(schedule)?;
    let number = session.add_image(job.picture.clone(), 0.0)?;
    let tokens = session.image(number).map(EncodedImage::tokens_by_segment).unwrap_or_default();
    let message = Message {
        role: Role::User,
        parts: vec![Part::Image(number), Part::Text(format!("\n{}", job.prompt))],
    };
    session.answer(&[message], &Generation::greedy(Some(most)), &mut |_| ())?;
    Ok((tokens.first().copied().unwrap_or(0), tokens.last().copied().unwrap_or(0)))
}

/// Of log-probabilities, in nats.
fn divergence(off: &[f32], merged: &[f32]) -> f64 {
    let terms = off.iter().zip(merged).filter(|(p, _)| p.is_finite());
    terms.map(|(&p, &q)| f64::from(p).exp() * (f64::from(p) - f64::from(q))).sum()
}

fn answers(
    session: &mut Session<Pair>,
    watch: &RefCell<Watch>,
    job: &Job,
    out: &mut impl Write,
) -> Result<()> {
    let off = Choice { merge: Some(MergeFlag::Off), ..Choice::default() };
    *watch.borrow_mut() = Watch::default();
    ask(session, job, &off, COMPARED)?;
    let reference = watch.take();
    let text: Vec<u8> = reference
        .best
        .iter()
        .filter(|&&token| !session.engine().engine.text.model().ends_generation(token))
        .flat_map(|&token| session.engine().engine.text.model().piece(token))
        .collect();
    for choice in &job.settings {
        *watch.borrow_mut() = Watch { forced: Some(reference.best.clone()), ..Watch::default() };
        let (tokens, deepest) = ask(session, job, choice, COMPARED)?;
        let watched = watch.take();
        let both = reference.seen.iter().zip(&watched.seen);
        let each: Vec<f64> = both.map(|(off, merged)| divergence(off, merged)).collect();
        #[allow(clippy::cast_precision_loss)]
        let kl = each.iter().sum::<f64>() / each.len().max(1) as f64;
        let line = serde_json::json!({
            "tokens": tokens, "deepest": deepest, "kl": kl, "agrees": watched.best == reference.best,
            "said": String::from_utf8_lossy(&text),
        });
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(broken)?;
    }
    Ok(())
}

#[allow(clippy::needless_pass_by_value)]
fn broken(error: std::io::Error) -> Error {
    Error::new(Kind::File, format!("standard streams: {error}"))
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (mode, [text, projector, threads]) = match &arguments[..] {
        [mode, files @ ..] if files.len() == 3 && matches!(mode.as_str(), "rows" | "answers") => {
            (mode.as_str(), [&files[0], &files[1], &files[2]])
        }
        _ => {
            eprintln!("usage: nearness rows|answers TEXT.gguf MMPROJ.gguf THREADS < jobs.jsonl");
            std::process::exit(2);
        }
    };
    let threads =
        threads.parse().map_err(|_| Error::new(Kind::Usage, format!("{threads} threads: give a number")))?;
    let settings = LoadSettings {
        threads,
        threads_batch: threads,
        ..LoadSettings::new(text.as_str(), projector.as_str())
    };
    let (engine, _) = LlamaEngine::load(&settings, |_| ())?;
    let watch = Rc::new(RefCell::new(Watch::default()));
    let pair = Pair { engine, watch: Rc::clone(&watch) };
    let mut session = Session::new(pair, Schedule::default(), Sizing::Fit, Stop::new());
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let job = job(&line.map_err(broken)?)?;
        match mode {
            "rows" => rows(&mut session, &job, &mut out)?,
            _ => answers(&mut session, &watch, &job, &mut out)?,
        }
    }
    Ok(())
}
