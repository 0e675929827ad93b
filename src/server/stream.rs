//! An answer as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Map, Value, json};

use super::admission::Place;
use super::api::answer::{self, Cost, Heading};
use super::choices::{ChoiceEvent, Choices};
use super::error::ApiError;
use super::state::Shared;
use crate::request::Reply;
use crate::worker::protocol::Started;

/// A comment line this often keeps proxies from closing a stream that waits for its prompt.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

struct State {
    app: Shared,
    heading: Heading,
    reply: Reply,
    choices: Choices,
    /// Events that are due before the next news.
    due: VecDeque<Event>,
    started: Vec<Option<Started>>,
    costs: Vec<Cost>,
    over: bool,
    _place: Place,
}

/// How long an error may still decide the status before the head of a stream is sent.
pub const HEAD: Duration = Duration::from_secs(2);

/// Streams what `choices` bring; `first` came already.
pub fn respond(
    app: Shared,
    heading: Heading,
    reply: Reply,
    choices: Choices,
    first: Option<(u32, ChoiceEvent)>,
    place: Place,
) -> Response {
    let mut state = State {
        app,
        heading,
        reply,
        choices,
        due: VecDeque::new(),
        started: (0..reply.choices).map(|_| None).collect(),
        costs: Vec::new(),
        over: false,
        _place: place,
    };
    match first {
        Some((index, news)) => state.take(index, Ok(news)),
        // A comment: the body begins with the head.
        None => state.due.push_back(Event::default().comment("waiting")),
    }
    let events = stream::unfold(state, |mut state| async {
        loop {
            if let Some(event) = state.due.pop_front() {
                return Some((Ok::<_, Infallible>(event), state));
            }
            if state.over {
                return None;
            }
            match state.choices.next().await {
                Some((index, news)) => state.take(index, news),
                None => state.end(),
            }
        }
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    // nginx would gather the stream otherwise.
    response
        .headers_mut()
        .insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

impl State {
    fn say(&mut self, object: impl Into<Value>) {
        self.due.push_back(Event::default().data(object.into().to_string()));
    }

    fn take(&mut self, index: u32, news: Result<ChoiceEvent, ApiError>) {
        match news {
            Ok(ChoiceEvent::Started(started)) => {
                let role = json!({ "role": "assistant", "content": "" });
                let chunk = self.heading.chunk(index, role, None, None);
                self.say(chunk);
                if let Some(slot) = self.started.get_mut(index as usize) {
                    *slot = Some(started);
                }
            }
            Ok(ChoiceEvent::Delta(delta)) => {
                let logprobs = self.reply.logprobs.then(|| answer::logprobs(&delta.tokens));
                let chunk = self.heading.chunk(index, json!({ "content": delta.text }), logprobs, None);
                self.say(chunk);
            }
            Ok(ChoiceEvent::Done(done)) => {
                let reason = answer::finish_reason(&done.finish);
                let mut chunk = self.heading.chunk(index, json!({}), None, Some(reason));
                let started = self.started.get_mut(index as usize).and_then(Option::take);
                self.app.metrics.done(&done, started.as_ref());
                self.costs.push(Cost { started, done });
                let last = self.costs.len() == self.reply.choices as usize;
                if last && !self.reply.include_usage {
                    add_measurements(&mut chunk, self.reply, std::mem::take(&mut self.costs));
                }
                self.say(chunk);
                if last {
                    if self.reply.include_usage {
                        let mut chunk = self.heading.last_chunk();
                        chunk.insert("usage".into(), answer::usage(&self.costs));
                        add_measurements(&mut chunk, self.reply, std::mem::take(&mut self.costs));
                        self.say(chunk);
                    }
                    self.due.push_back(Event::default().data("[DONE]"));
                    self.over = true;
                }
            }
            Err(error) => {
                self.say(json!({ "error": error.body() }));
                self.over = true;
            }
        }
    }

    /// The choices ended without a word: only where the runtime is being torn down.
    fn end(&mut self) {
        let error = ApiError::new(super::error::Type::Unavailable, "the server is stopping");
        self.take(0, Err(error));
    }
}

/// `timings`, and the report, the trace and what was kept where they were asked for.
pub fn add_measurements(object: &mut Map<String, Value>, reply: Reply, costs: Vec<Cost>) {
    let Some(cost) = costs.into_iter().next() else { return };
    object.insert("timings".into(), answer::timings(&cost.done));
    // All are plain data of this program, whose serialisation cannot fail.
    if reply.report {
        object.insert("report".into(), serde_json::to_value(&cost.done.report).unwrap_or_default());
    }
    if reply.trace {
        object.insert("trace".into(), serde_json::to_value(&cost.done.trace).unwrap_or_default());
    }
    if reply.kept {
        let fates = cost.done.trace.as_ref().map(crate::report::fates).unwrap_or_default();
        object.insert("kept".into(), serde_json::to_value(fates).unwrap_or_default());
    }
}
