//! Sends requests to the slots and writes their answers.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::time::{SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::captions::{self, Existing};
use super::form::Form;
use super::input::{self, Input as Requests, Taken};
use super::media;
use super::outcome::{Outcome, Waiting};
use super::output::Output;
use super::record::{Line, Record, shown};
use crate::cli::flags::BatchFlags;
use crate::cli::progress::Progress;
use crate::cli::{interrupt, settings, words, worker};
use crate::completion::{Answer, Heading};
use crate::error::{Error, Kind, Result, worded};
use crate::pair::LoadSettings;
use crate::prompt::{Role, ThoughtForm};
use crate::request::{Bounds, Defaults, Reply, Request};
use crate::schedule::Choice;
use crate::stop::Stop;
use crate::worker::protocol::{Command, Event, Finish, Ready};
use crate::worker::service::{Input, Service};

/// Scope of the caches: all requests of a batch share them.
const SCOPE: &[u8] = b"batch";

pub(in crate::cli) fn batch(flags: &BatchFlags) -> Result<()> {
    let options = worker::options(&flags.worker)?;
    let defaults = Defaults {
        prompt: flags.text.prompt()?,
        system: flags.text.system()?,
        choice: options.choice.clone(),
        scope: Some(SCOPE.to_vec()),
        // The person who writes the file also runs the program: only the model limits the request.
        bounds: Bounds {
            messages: usize::MAX,
            prompt_bytes: usize::MAX,
            images: usize::MAX,
            videos: usize::MAX,
            ..Bounds::default()
        },
        // One question to many files is asked for one answer to each, the same tomorrow.
        ..settings::defaults(&flags.sampling, 0.0)?
    };
    let form = Form::of(flags.format.as_deref(), flags.output.as_deref())?;
    let stop = options.load.stop;
    interrupt::install(stop)?;
    // Input and output are opened before the model, which takes long to load.
    let captions = flags.captions.then(|| Existing::of(flags.skip_done, flags.overwrite));
    let mut requests = input::open(&flags.inputs, Taken { recursive: flags.recursive, captions }, defaults)?;
    let output = match &flags.output {
        None if flags.captions => Output::none(),
        path => Output::open(path.as_deref().unwrap_or(Path::new("-")), form, flags.resume)?,
    };
    if requests.count == Some(0) {
        return Ok(());
    }
    if output.asked_again() > 0 {
        let (again, all) = (output.asked_again(), output.resumed() + output.asked_again());
        eprintln!("note: asking again {again} of the {all} that are there, which failed");
    }
    let (inputs, received) = channel();
    let loading = Progress::new();
    let shown = loading.clone();
    let (service, ready) = Service::start(&options, inputs.clone(), move |stage| shown.loading(stage))?;
    loading.clear();
    for line in &ready.remarks {
        eprintln!("note: {}", worded(line, words::flag));
    }
    let bar = bar(requests.count, output.resumed());
    let mut driver = BatchDriver {
        inputs,
        output,
        bar,
        stop,
        folder: requests.folder.clone(),
        thoughts: ThoughtForm::of(&ready.chat_template),
        heading: Heading { id: String::new(), created: seconds(), model: ready.model.text.clone() },
        traces: flags.traces,
        reports: !flags.no_report,
        captions: flags.captions,
        asked_of: asked_of(&options.load, &options.choice),
        // The slots, and as many requests again, whose pictures are encoded ahead.
        most: options.sizes.slots as usize * 2,
        waiting: HashMap::new(),
        next: 0,
        failed: 0,
        error: None,
        ended: false,
        ready,
    };
    driver.feed(&mut requests);
    service.run(&received, |event| driver.take(event, &mut requests));
    driver.close()
}

/// State of a run.
struct BatchDriver {
    inputs: Sender<Input>,
    output: Output,
    bar: ProgressBar,
    stop: Stop,
    folder: PathBuf,
    ready: Ready,
    heading: Heading,
    /// Form of the model's thoughts.
    thoughts: Option<ThoughtForm>,
    traces: bool,
    /// Whether each answer has its report.
    reports: bool,
    /// Whether each answer becomes its picture's caption.
    captions: bool,
    /// Identity of the pair, its template and the default schedule.
    asked_of: String,
    most: usize,
    /// Requests under way, by number.
    waiting: HashMap<u64, Waiting>,
    /// Number of the next request.
    next: u64,
    failed: u64,
    /// Reason why nothing more can be written.
    error: Option<Error>,
    ended: bool,
}

impl BatchDriver {
    /// Sends requests until enough are under way. Ends the service after the last one.
    fn feed(&mut self, requests: &mut Requests) {
        while self.waiting.len() < self.most && self.error.is_none() && !self.stop.is_asked() && !self.ended {
            let Some(Line { id, openai, record }) = requests.items.next() else {
                self.ended = true;
                break;
            };
            let number = self.next;
            self.next += 1;
            let digest = self.digest(&record);
            match self.output.wants(number, &id, &digest) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => {
                    self.error = Some(error);
                    break;
                }
            }
            match record.and_then(|record| self.request(number, record)) {
                Ok((request, reply)) => {
                    let continues = request.messages.last().is_some_and(|last| last.role == Role::Assistant);
                    let (thoughts, answer, parser) = (self.thoughts, Answer::default(), None);
                    let waiting = Waiting { id, reply, openai, digest, continues, thoughts, answer, parser };
                    self.waiting.insert(number, waiting);
                    self.send(Command::Generate(Box::new(request)));
                }
                Err(error) => self.fail(number, id, openai, digest, &error),
            }
        }
        let over = self.waiting.is_empty() && self.ended;
        if over || self.error.is_some() || self.stop.is_asked() {
            self.send(Command::Shutdown);
        }
    }

    /// Returns the digest of the pair and the request: prompt, pictures by name, schedule, sampling and
    /// limits. It is empty for a line that is no request.
    fn digest(&self, record: &Result<Record>) -> String {
        record.as_ref().map_or_else(
            |_| String::new(),
            |record| {
                blake3::hash(format!("{}{record:?}", self.asked_of).as_bytes()).to_hex()[..16].to_owned()
            },
        )
    }

    fn request(&self, number: u64, record: Record) -> Result<(Request, Reply)> {
        let Record { mut request, mut reply } = record;
        reply.trace |= self.traces;
        let media = std::mem::take(&mut request.media);
        let plan = self.ready.plan(request.merge.as_ref());
        let shown = media.iter().map(|one| media::read(one, &self.folder, plan));
        let request = request.showing(shown.collect::<Result<_>>()?);
        Ok((Request { id: number, trace: reply.trace || reply.kept, ..request }, reply))
    }

    fn take(&mut self, event: Event, requests: &mut Requests) {
        match event {
            Event::Started(started) => {
                if let Some(waiting) = self.waiting.get_mut(&started.id) {
                    waiting.start(started);
                }
            }
            Event::Delta(delta) => {
                if let Some(waiting) = self.waiting.get_mut(&delta.id) {
                    waiting.push(delta);
                }
            }
            Event::Done(done) => {
                let Some(mut waiting) = self.waiting.remove(&done.id) else { return };
                // An answer that was cut short is not written: --resume asks again.
                if done.finish != Finish::Cancelled {
                    let number = done.id;
                    waiting.end(&done);
                    self.caption(&waiting, waiting.text());
                    self.put(number, waiting.line(number, done, &self.heading, self.reports));
                }
                return self.feed(requests);
            }
            Event::Failed(failed) => {
                let Some(waiting) = self.waiting.remove(&failed.id) else { return };
                if failed.kind != Kind::Interrupted {
                    let error = Error::new(failed.kind, failed.message);
                    self.fail(failed.id, waiting.id, waiting.openai, waiting.digest, &error);
                }
                return self.feed(requests);
            }
            _ => {}
        }
        if self.stop.is_asked() {
            self.send(Command::Shutdown);
        }
    }

    fn caption(&mut self, waiting: &Waiting, text: &str) {
        if !self.captions {
            return;
        }
        let picture = self.folder.join(shown(&waiting.id));
        if let Err(error) = captions::write(&picture, text) {
            self.error.get_or_insert(error);
        }
    }

    fn fail(&mut self, number: u64, id: Value, openai: bool, digest: String, error: &Error) {
        self.failed += 1;
        self.bar.suspend(|| eprintln!("{id}: {}", error.worded(words::line)));
        self.put(number, Outcome::failure(number, id, openai, digest, error));
    }

    fn put(&mut self, number: u64, outcome: Outcome) {
        if let Err(error) = self.output.put(number, outcome) {
            self.error.get_or_insert(error);
        }
        self.bar.inc(1);
    }

    fn send(&self, request: Command) {
        // The service outlives this end only while it still answers.
        let _ = self.inputs.send(Input::Command(request));
    }

    fn close(mut self) -> Result<()> {
        self.bar.finish_and_clear();
        let finished = self.output.finish();
        if let Some(error) = self.error {
            return Err(error);
        }
        finished?;
        if self.stop.is_asked() {
            return Err(Error::interrupted());
        }
        if self.failed > 0 {
            return Err(Error::new(
                Kind::Media,
                format!(
                    "{} of {} requests failed, each with a line above; --resume asks them again",
                    self.failed, self.next
                ),
            ));
        }
        Ok(())
    }
}

fn asked_of(load: &LoadSettings, choice: &Choice) -> String {
    let file = |path: &Path| {
        let size = std::fs::metadata(path).map_or(0, |data| data.len());
        format!("{:?} {size} ", path.file_name().unwrap_or_default())
    };
    let projector = load.projector.as_deref().map(file).unwrap_or_default();
    format!("{}{projector}{choice:?} {:?} ", file(&load.text), load.chat_template)
}

/// Returns the seconds since 1970.
fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Shows progress, on a terminal only.
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
    // Answers of an earlier run say nothing about the rate of this one.
    bar.reset_eta();
    bar
}
