//! Requests to slots to answers.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::BatchFlags;
use super::input::{self, Input as Requests};
use super::output::Output;
use super::record::{Defaults, Outcome, Record, What, finish_name};
use crate::cli::progress::Progress;
use crate::cli::{interrupt, settings, worker};
use crate::error::{Error, Kind, Result};
use crate::media::{self, policy};
use crate::report::milliseconds;
use crate::request::{self, Grammar, Limits, Picture};
use crate::stop::Stop;
use crate::worker::protocol::{Command, Done, Event, Finish};
use crate::worker::service::{Input, Service};

/// Whose pictures are shared: one batch is one asker.
const SCOPE: &[u8] = b"batch";

pub(in crate::cli) fn batch(flags: &BatchFlags) -> Result<()> {
    let options = worker::options(&flags.worker)?;
    let limits = settings::limits(&flags.sampling)?;
    let defaults = Defaults {
        prompt: flags.prompt.clone(),
        system: flags.system_prompt.clone(),
        choice: options.choice.clone(),
        max_tokens: limits.tokens,
        sampling: flags.sampling.draw.sampling()?,
        folder: std::path::PathBuf::new(),
    };
    let grammar = limits.grammar.map(|grammar| match grammar {
        crate::answer::Grammar::Gbnf(text) => Grammar::Gbnf(text),
        crate::answer::Grammar::JsonSchema(text) => Grammar::JsonSchema(text),
    });
    let stop = options.load.stop;
    interrupt::install(stop)?;
    // Both ends before the model, which takes its time.
    let requests = input::open(&flags.input, defaults)?;
    let output = Output::open(&flags.output, flags.resume)?;
    let (inputs, received) = channel();
    let loading = Progress::new();
    let shown = loading.clone();
    let (service, ready) = Service::start(&options, inputs.clone(), move |stage| shown.loading(stage))?;
    loading.clear();
    for line in &ready.remarks {
        eprintln!("note: {line}");
    }
    let bar = bar(requests.count, output.resumed());
    let mut driver = BatchDriver {
        inputs,
        output,
        bar,
        stop,
        grammar,
        traces: flags.traces,
        // The slots, and as many requests again whose pictures are encoded ahead.
        most: options.sizes.slots as usize * 2,
        waiting: HashMap::new(),
        next: 0,
        failed: 0,
        error: None,
        ended: false,
    };
    let mut requests = requests;
    driver.feed(&mut requests);
    service.run(&received, |event| driver.take(event, &mut requests));
    driver.close()
}

/// What is under way.
struct BatchDriver {
    inputs: Sender<Input>,
    output: Output,
    bar: ProgressBar,
    stop: Stop,
    grammar: Option<Grammar>,
    traces: bool,
    most: usize,
    /// Requests under way, by number.
    waiting: HashMap<u64, Value>,
    /// The number of the next request.
    next: u64,
    failed: u64,
    /// Why nothing more can be written.
    error: Option<Error>,
    ended: bool,
}

impl BatchDriver {
    /// Sends requests until enough are under way; ends the service when there are no more.
    fn feed(&mut self, requests: &mut Requests) {
        while self.waiting.len() < self.most && self.error.is_none() && !self.stop.is_asked() && !self.ended {
            let Some((id, record)) = requests.items.next() else {
                self.ended = true;
                break;
            };
            let number = self.next;
            self.next += 1;
            if let Err(error) = self.output.check(number, &id) {
                self.error = Some(error);
                break;
            }
            if number < self.output.resumed() {
                continue;
            }
            match record.and_then(|record| self.request(number, record)) {
                Ok(request) => {
                    self.waiting.insert(number, id);
                    self.send(Command::Generate(Box::new(request)));
                }
                Err(error) => self.put(number, id, What::failure(&error)),
            }
        }
        let over = self.waiting.is_empty() && self.ended;
        if over || self.error.is_some() || self.stop.is_asked() {
            self.send(Command::Shutdown);
        }
    }

    fn request(&self, number: u64, record: Record) -> Result<request::Request> {
        let grammar = record.json_schema.map(Grammar::JsonSchema).or_else(|| self.grammar.clone());
        Ok(request::Request {
            id: number,
            messages: record.messages,
            media: record.images.iter().map(|path| picture(path)).collect::<Result<_>>()?,
            merge: record.merge,
            limits: Limits { max_tokens: record.max_tokens, stop: record.stop, ignore_eos: false },
            sampling: record.sampling,
            grammar,
            logprobs: None,
            scope: Some(SCOPE.to_vec()),
            trace: self.traces,
        })
    }

    fn take(&mut self, event: Event, requests: &mut Requests) {
        match event {
            Event::Done(done) => {
                let Some(id) = self.waiting.remove(&done.id) else { return };
                // An answer that was cut short is none: --resume asks again.
                if done.finish != Finish::Cancelled {
                    self.put(done.id, id, answer(*done));
                }
            }
            Event::Failed(failed) => {
                let Some(id) = self.waiting.remove(&failed.id) else { return };
                if failed.kind != Kind::Interrupted {
                    self.put(failed.id, id, What::failure(&Error::new(failed.kind, failed.message)));
                }
            }
            _ => {
                if self.stop.is_asked() {
                    self.send(Command::Shutdown);
                }
                return;
            }
        }
        self.feed(requests);
    }

    fn put(&mut self, number: u64, id: Value, what: What) {
        if let What::Failure { error } = &what {
            self.failed += 1;
            self.bar.suspend(|| eprintln!("{id}: {}", error.message));
        }
        if let Err(error) = self.output.put(number, Outcome { id, what }) {
            self.error.get_or_insert(error);
        }
        self.bar.inc(1);
    }

    fn send(&self, request: Command) {
        // The service outlives this end only while it still answers.
        let _ = self.inputs.send(Input::Command(request));
    }

    fn close(self) -> Result<()> {
        self.bar.finish_and_clear();
        if let Some(error) = self.error {
            return Err(error);
        }
        if self.stop.is_asked() {
            return Err(Error::interrupted());
        }
        if self.failed > 0 {
            return Err(Error::new(
                Kind::Media,
                format!("{} of {} requests failed; the output says why", self.failed, self.next),
            ));
        }
        Ok(())
    }
}

fn picture(path: &Path) -> Result<Picture> {
    let start = Instant::now();
    let pixels = media::open(path, &policy::Limits::default())?;
    let decode_ms = milliseconds(start);
    Ok(Picture::new(pixels, decode_ms))
}

fn answer(done: Done) -> What {
    What::Answer {
        text: done.report.text.clone(),
        finish: finish_name(&done.finish),
        stop: if let Finish::StopString(string) = done.finish { Some(string) } else { None },
        report: Box::new(done.report),
        trace: done.trace,
    }
}

/// On a terminal only.
fn bar(count: Option<u64>, done: u64) -> ProgressBar {
    let bar = match count {
        Some(count) => ProgressBar::new(count),
        None => ProgressBar::no_length(),
    };
    if std::io::stderr().is_terminal() {
        let template = match count {
            Some(_) => "{bar:30} {pos}/{len}, {per_sec}, {eta} left",
            None => "{spinner} {pos}, {per_sec}, {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
    } else {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar.set_position(done);
    // What an earlier run did says nothing about the rate of this one.
    bar.reset_eta();
    bar
}
