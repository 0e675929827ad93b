//! Gathers the events of the choices into answers and passes updates to the dialect's writer.

use std::time::Instant;

use serde_json::{Value, json};

use super::api::{Answer, Call, Frame, Tokens, Update, Writer, answer};
use super::choices::{ChoiceEvent, Choices};
use super::error::{ApiError, ApiResult};
use super::state::App;
use crate::prompt::{CallForm, CallParser, CallUpdate, Said, ThoughtForm, ThoughtParser};
use crate::report::milliseconds;
use crate::request::{Reasoning, Reply};

/// All choices of one body.
pub struct Gather {
    reply: Reply,
    writer: Box<dyn Writer>,
    /// Form of thoughts that are told apart.
    thoughts: Option<ThoughtForm>,
    choices: Vec<Choice>,
    left: usize,
}

/// Forms that answers are taken apart by.
#[derive(Default)]
pub struct Forms {
    pub calls: Option<CallForm>,
    pub thoughts: Option<ThoughtForm>,
}

/// Piece of an answer.
enum Parsed {
    Thought(String),
    Said(CallUpdate),
}

#[derive(Default)]
struct Choice {
    answer: Answer,
    thoughts: Option<ThoughtParser>,
    calls: Option<CallParser>,
    /// Tokens that no update has told yet: a parser may hold their text back.
    untold: Tokens,
    began: Option<Instant>,
    first: Option<Instant>,
}

impl Gather {
    /// Gathers `count` answers.
    pub fn new(count: u32, reply: Reply, writer: Box<dyn Writer>, forms: Forms) -> Self {
        let Forms { calls, thoughts } = forms;
        let choice = |_| Choice { calls: calls.map(CallParser::new), ..Choice::default() };
        let thoughts = thoughts.filter(|_| reply.reasoning != Reasoning::InText);
        Self { reply, writer, thoughts, choices: (0..count).map(choice).collect(), left: count as usize }
    }

    /// Whether every choice is done.
    pub fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Takes one event. Its piece of the stream goes to `out`.
    pub fn take(&mut self, app: &App, index: u32, event: ChoiceEvent, out: &mut Vec<Frame>) {
        let Self { reply, writer, thoughts, choices, left } = self;
        let Some(choice) = choices.get_mut(index as usize) else { return };
        let mut tell = Tell { writer: reply.stream.then_some(writer.as_mut()), out };
        match event {
            ChoiceEvent::Started(started) => {
                choice.began = Some(Instant::now());
                choice.thoughts = thoughts.map(|form| ThoughtParser::new(form, started.in_thought));
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
                let thought = choice.thoughts.as_ref().map(|thoughts| thoughts.thought_tokens(&delta.ids));
                choice.answer.thought_tokens += thought.unwrap_or(0);
                let timings = reply.timings_per_token.then(|| choice.timings());
                choice.untold.tokens.extend(delta.tokens);
                choice.untold.ids.extend(delta.ids);
                choice.tell(index, Some(&delta.text), reply.reasoning, timings, &mut tell);
            }
            ChoiceEvent::Done(done) => {
                choice.tell(index, None, reply.reasoning, None, &mut tell);
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
    /// Takes the answer's next text apart, or its end if there is none: into a thought, text and calls.
    fn parse(&mut self, text: Option<&str>, reasoning: Reasoning) -> Vec<Parsed> {
        let said = match (&mut self.thoughts, text) {
            (None, text) => text.map(|text| Said::Text(text.to_owned())).into_iter().collect(),
            (Some(thoughts), Some(text)) => thoughts.push(text),
            (Some(thoughts), None) => thoughts.finish(),
        };
        let (mut parsed, mut words) = (Vec::new(), Vec::new());
        for said in said {
            match said {
                Said::Thought(thought) => parsed.push(Parsed::Thought(thought)),
                Said::Text(text) => words.push(text),
            }
        }
        if reasoning == Reasoning::Both && self.thoughts.is_some() {
            words = text.map(str::to_owned).into_iter().collect();
        }
        match &mut self.calls {
            None => parsed.extend(words.into_iter().map(|text| Parsed::Said(CallUpdate::Text(text)))),
            Some(calls) => {
                let mut found: Vec<CallUpdate> = words.iter().flat_map(|text| calls.push(text)).collect();
                if text.is_none() {
                    found.extend(calls.finish());
                }
                parsed.extend(found.into_iter().map(Parsed::Said));
            }
        }
        parsed
    }

    /// Adds text to the answer, or ends it, and writes what it brings. The tokens so far go with the first piece, and
    /// those that are left with the end.
    fn tell(
        &mut self,
        index: u32,
        text: Option<&str>,
        reasoning: Reasoning,
        timings: Option<Value>,
        tell: &mut Tell<'_>,
    ) {
        for parsed in self.parse(text, reasoning) {
            match &parsed {
                Parsed::Thought(text) => {
                    self.answer.thought.push_str(text);
                    let (tokens, timings) = (std::mem::take(&mut self.untold), timings.clone());
                    tell.update(index, Update::Thought { text, tokens: &tokens, timings });
                }
                Parsed::Said(CallUpdate::Text(text)) => {
                    self.answer.text.push_str(text);
                    let (tokens, timings) = (std::mem::take(&mut self.untold), timings.clone());
                    tell.update(index, Update::Text { text, tokens: &tokens, timings });
                }
                Parsed::Said(call @ CallUpdate::Begin { id, name, .. }) => {
                    let (id, name) = (id.clone(), name.clone());
                    self.answer.calls.push(Call { id, name, arguments: String::new() });
                    tell.update(index, Update::Call(call));
                }
                Parsed::Said(call @ CallUpdate::Arguments { text, .. }) => {
                    if let Some(call) = self.answer.calls.last_mut() {
                        call.arguments.push_str(text);
                    }
                    tell.update(index, Update::Call(call));
                }
            }
        }
        if text.is_none() && !self.untold.tokens.is_empty() {
            let tokens = std::mem::take(&mut self.untold);
            tell.update(index, Update::Text { text: "", tokens: &tokens, timings });
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
