//! Gathers the events of the choices into answers and passes updates to the dialect's writer.

use std::time::Instant;

use serde_json::{Value, json};

use super::api::{Answer, Call, Frame, Update, Writer, answer};
use super::choices::{ChoiceEvent, Choices};
use super::error::{ApiError, ApiResult};
use super::state::App;
use crate::prompt::{CallForm, CallParser, CallUpdate};
use crate::report::milliseconds;
use crate::request::Reply;
use crate::worker::protocol::Delta;

/// All choices of one body.
pub struct Gather {
    reply: Reply,
    writer: Box<dyn Writer>,
    choices: Vec<Choice>,
    left: usize,
}

#[derive(Default)]
struct Choice {
    answer: Answer,
    calls: Option<CallParser>,
    began: Option<Instant>,
    first: Option<Instant>,
}

impl Gather {
    pub fn new(count: u32, reply: Reply, writer: Box<dyn Writer>, form: Option<CallForm>) -> Self {
        let choice = |_| Choice { calls: form.map(CallParser::new), ..Choice::default() };
        Self { reply, writer, choices: (0..count).map(choice).collect(), left: count as usize }
    }

    /// Whether every choice is done.
    pub fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Takes one event. Its piece of the stream goes to `out`.
    pub fn take(&mut self, app: &App, index: u32, event: ChoiceEvent, out: &mut Vec<Frame>) {
        let Self { reply, writer, choices, left } = self;
        let Some(choice) = choices.get_mut(index as usize) else { return };
        let mut tell = Tell { writer: reply.stream.then_some(writer.as_mut()), out };
        match event {
            ChoiceEvent::Started(started) => {
                choice.began = Some(Instant::now());
                tell.update(index, Update::Started(&started));
                let cached = started.cached_tokens;
                choice.answer.started = Some(started);
                if reply.progress {
                    tell.update(index, Update::Progress(choice.progress(cached)));
                }
            }
            ChoiceEvent::Delta(delta) => {
                if choice.first.is_none() {
                    choice.first = Some(Instant::now());
                    if let Some(started) = choice.answer.started.as_ref().filter(|_| reply.progress) {
                        tell.update(index, Update::Progress(choice.progress(started.prompt_tokens)));
                    }
                }
                choice.answer.ids.extend(&delta.ids);
                choice.answer.tokens.extend(delta.tokens.iter().cloned());
                let timings = reply.timings_per_token.then(|| choice.timings());
                let found = choice.calls.as_mut().map(|calls| calls.push(&delta.text));
                choice.tell(index, &delta, found, timings, &mut tell);
            }
            ChoiceEvent::Done(done) => {
                if let Some(rest) = choice.calls.as_mut().map(CallParser::finish) {
                    let delta =
                        Delta { id: done.id, text: String::new(), tokens: Vec::new(), ids: Vec::new() };
                    choice.tell(index, &delta, Some(rest), None, &mut tell);
                }
                app.metrics.done(&done, choice.answer.started.as_ref());
                choice.answer.done = Some(done);
                tell.update(index, Update::Done(&choice.answer));
                *left -= 1;
                if *left == 0 && reply.stream {
                    let answers = self.answers();
                    self.writer.end(&answers, out);
                }
            }
        }
    }

    /// Writes an error into a stream.
    pub fn failed(&mut self, error: &ApiError, out: &mut Vec<Frame>) {
        self.writer.failed(error, out);
    }

    /// Returns the answers as one object.
    ///
    /// # Errors
    /// The first that ended a choice.
    pub async fn whole(mut self, app: &App, mut choices: Choices) -> ApiResult<Value> {
        while let Some((index, event)) = choices.next().await {
            self.take(app, index, event?, &mut Vec::new());
            if self.is_over() {
                let answers = self.answers();
                return Ok(self.writer.whole(&answers));
            }
        }
        // Choices end with an update or an error, unless the runtime is being torn down.
        Err(ApiError::stopping())
    }

    fn answers(&mut self) -> Vec<Answer> {
        self.choices.iter_mut().map(|choice| std::mem::take(&mut choice.answer)).collect()
    }
}

impl Choice {
    /// Adds text to the answer and writes it, as it is or through the parser of calls.
    fn tell(
        &mut self,
        index: u32,
        delta: &Delta,
        found: Option<Vec<CallUpdate>>,
        timings: Option<Value>,
        tell: &mut Tell<'_>,
    ) {
        let Some(found) = found else {
            self.answer.text.push_str(&delta.text);
            tell.update(index, Update::Text { text: &delta.text, delta, timings });
            return;
        };
        for update in found {
            match &update {
                CallUpdate::Text(text) => {
                    self.answer.text.push_str(text);
                    tell.update(index, Update::Text { text, delta, timings: timings.clone() });
                }
                CallUpdate::Begin { id, name, .. } => {
                    self.answer.calls.push(Call {
                        id: id.clone(),
                        name: name.clone(),
                        arguments: String::new(),
                    });
                    tell.update(index, Update::Call(&update));
                }
                CallUpdate::Arguments { text, .. } => {
                    if let Some(call) = self.answer.calls.last_mut() {
                        call.arguments.push_str(text);
                    }
                    tell.update(index, Update::Call(&update));
                }
            }
        }
    }

    /// Returns llama.cpp's `prompt_progress` with `processed` tokens of the prompt done.
    fn progress(&self, processed: u32) -> Value {
        let started = self.answer.started.as_ref();
        json!({
            "total": started.map_or(0, |started| started.prompt_tokens),
            "cache": started.map_or(0, |started| started.cached_tokens),
            "processed": processed,
            "time_ms": self.began.map_or(0.0, milliseconds),
        })
    }

    /// Returns llama.cpp's `timings` of the answer so far, by this process's clock.
    fn timings(&self) -> Value {
        let (Some(started), Some(began), Some(first)) = (&self.answer.started, self.began, self.first) else {
            return Value::Null;
        };
        let prompt = started.prompt_tokens.saturating_sub(started.cached_tokens);
        let prompt_ms = (first - began).as_secs_f64() * 1000.0;
        answer::rates(
            started.cached_tokens,
            (prompt, prompt_ms),
            (count(self.answer.ids.len()), milliseconds(first)),
        )
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Writer of a stream, or of a whole answer, which has no updates.
struct Tell<'a> {
    writer: Option<&'a mut dyn Writer>,
    out: &'a mut Vec<Frame>,
}

impl Tell<'_> {
    fn update(&mut self, index: u32, update: Update<'_>) {
        if let Some(writer) = &mut self.writer {
            writer.update(index, update, self.out);
        }
    }
}
