//! Measures the distance between answers with merging and without, for `python -m real evidence`:
//! `cargo run --release --example nearness -- rows|answers TEXT.gguf MMPROJ.gguf THREADS < jobs.jsonl`.
//!
//! A job is a line `{"image": FILE, "prompt": TEXT, "settings": [...]}`; a setting is the field `merge` of a request
//! (docs/serve.md). For each setting one line of JSON goes to standard output:
//!
//! - `rows`: `{"tokens", "width", "sizes"}`, and behind its line break the rows that the picture brings to the text
//!   model, [tokens, width] floats of four bytes, little-endian. `sizes` is empty if the strategy keeps none.
//! - `answers`: `{"tokens", "deepest", "kl", "agrees", "said"}` against merging off. `kl` is a Kullback-Leibler
//!   divergence from off in nats, over the whole vocabulary. It is the mean over the next 8 tokens of off's greedy
//!   answer, each behind the same tokens. `agrees`: the greedy answers are the same as far as that.

use std::io::{BufRead, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use illava::answer::{Engine, LlamaEngine, Session, Sizing};
use illava::prompt::{Message, Part, Role};
use illava::request::json::{self, Defaults};
use illava::schedule::Schedule;
use illava::see::EncodedImage;
use illava::{Choice, Error, Generation, Kind, LoadSettings, MergeFlag, Pixels, Result, Stop};
use serde_json::{Map, Value};

/// Tokens of an answer that are compared.
const COMPARED: u32 = 8;

/// Notes on an answer, and the tokens that it is made to say.
#[derive(Default)]
struct Notes {
    forced: Option<Vec<i32>>,
    /// Log-probabilities of the whole vocabulary before each token.
    seen: Vec<Vec<f64>>,
    /// The likeliest token each time.
    best: Vec<i32>,
}

impl Notes {
    /// Notes a row of logits. Returns the token to say next, if there is one.
    fn take(&mut self, logits: &[f32]) -> Option<i32> {
        let forced = self.forced.as_ref().and_then(|tokens| tokens.get(self.seen.len()).copied());
        let (best, most) = logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (token, &logit)| {
            if logit > best.1 { (token, logit) } else { best }
        });
        let most = f64::from(most);
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - most).exp()).sum();
        self.seen.push(logits.iter().map(|&logit| f64::from(logit) - most - sum.ln()).collect());
        self.best.push(i32::try_from(best).unwrap_or(0));
        forced
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

fn rows(session: &mut Session<LlamaEngine>, job: &Job, out: &mut impl Write) -> Result<()> {
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
fn ask(session: &mut Session<LlamaEngine>, job: &Job, choice: &Choice, most: u32) -> Result<(u32, u32)> {
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

/// Returns the Kullback-Leibler divergence of two rows of log-probabilities, in nats.
fn divergence(off: &[f64], merged: &[f64]) -> f64 {
    off.iter().zip(merged).filter(|(p, _)| p.is_finite()).map(|(p, q)| p.exp() * (p - q)).sum()
}

fn locked(notes: &Mutex<Notes>) -> MutexGuard<'_, Notes> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the notes of the last answer. The next answer says `forced`.
fn take(notes: &Mutex<Notes>, forced: Option<Vec<i32>>) -> Notes {
    std::mem::replace(&mut *locked(notes), Notes { forced, ..Notes::default() })
}

fn answers(
    session: &mut Session<LlamaEngine>,
    notes: &Mutex<Notes>,
    job: &Job,
    out: &mut impl Write,
) -> Result<()> {
    let off = Choice { merge: Some(MergeFlag::Off), ..Choice::default() };
    ask(session, job, &off, COMPARED)?;
    let reference = take(notes, None);
    let text: Vec<u8> = reference
        .best
        .iter()
        .filter(|&&token| !session.engine().text.model().ends_generation(token))
        .flat_map(|&token| session.engine().text.model().piece(token))
        .collect();
    for choice in &job.settings {
        take(notes, Some(reference.best.clone()));
        let (tokens, deepest) = ask(session, job, choice, COMPARED)?;
        let watched = take(notes, None);
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
    let (mut engine, _) = LlamaEngine::load(&settings, |_| ())?;
    let notes = Arc::new(Mutex::new(Notes::default()));
    let watching = Arc::clone(&notes);
    engine.watch = Some(Arc::new(move |logits| locked(&watching).take(logits)));
    let mut session = Session::new(engine, Schedule::default(), Sizing::Fit, Stop::new());
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let job = job(&line.map_err(broken)?)?;
        match mode {
            "rows" => rows(&mut session, &job, &mut out)?,
            _ => answers(&mut session, &notes, &job, &mut out)?,
        }
    }
    Ok(())
}
