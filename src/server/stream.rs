//! Answer as a stream: server-sent events, or lines of JSON.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};

use super::admission::Place;
use super::api::{Frame, Wire};
use super::choices::{ChoiceEvent, Choices};
use super::error::ApiError;
use super::gather::Gather;
use super::state::Shared;

/// Interval of comment lines, which keep proxies from closing a stream that waits for its prompt.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Time that an error may still decide the status before the head of a stream is sent.
pub const HEAD: Duration = Duration::from_secs(2);

struct State {
    app: Shared,
    gather: Gather,
    choices: Choices,
    /// Frames that are due before the next update; `None` is a comment.
    due: VecDeque<Option<Frame>>,
    over: bool,
    _place: Place,
}

/// Streams the events of `choices`; `first` came already.
pub fn respond(
    app: Shared,
    gather: Gather,
    choices: Choices,
    first: Option<(u32, ChoiceEvent)>,
    place: Place,
    wire: Wire,
) -> Response {
    let mut state = State { app, gather, choices, due: VecDeque::new(), over: false, _place: place };
    match first {
        Some((index, update)) => state.take(index, Ok(update)),
        // The body begins with the head.
        None => state.due.push_back(None),
    }
    let frames = stream::unfold(state, |mut state| async {
        loop {
            if let Some(frame) = state.due.pop_front() {
                return Some((frame, state));
            }
            if state.over {
                return None;
            }
            match state.choices.next().await {
                Some((index, update)) => state.take(index, update),
                // The choices ended without a last event: the runtime is being torn down.
                None => state.take(0, Err(ApiError::stopping())),
            }
        }
    });
    let mut response = match wire {
        Wire::Events => {
            let events = frames.map(|frame| Ok::<_, Infallible>(event(frame)));
            Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
        }
        Wire::Lines => {
            // Lines of JSON have no comments: the head alone goes first.
            let lines = frames.filter_map(|frame| async { frame.map(|frame| frame.data + "\n") });
            let body = Body::from_stream(lines.map(Ok::<_, Infallible>));
            ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
        }
    };
    // nginx would gather the stream otherwise.
    response
        .headers_mut()
        .insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

fn event(frame: Option<Frame>) -> Event {
    match frame {
        None => Event::default().comment("waiting"),
        Some(Frame { name: None, data }) => Event::default().data(data),
        Some(Frame { name: Some(name), data }) => Event::default().event(name).data(data),
    }
}

impl State {
    fn take(&mut self, index: u32, update: Result<ChoiceEvent, ApiError>) {
        let mut out = Vec::new();
        match update {
            Ok(event) => {
                self.gather.take(&self.app, index, event, &mut out);
                self.over = self.gather.is_over();
            }
            Err(error) => {
                self.gather.failed(&error, &mut out);
                self.over = true;
            }
        }
        self.due.extend(out.into_iter().map(Some));
    }
}
