//! Answer as a stream: server-sent events, or lines of JSON.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use tokio::time::timeout;

use super::admission::Place;
use super::api::{Dialect, Frame, Wire};
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
    let body = match wire {
        Wire::Events => {
            let events = frames.map(|frame| Ok::<_, Infallible>(event(frame)));
            Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response().into_body()
        }
        Wire::Lines => {
            let lines = frames.map(|frame| frame.map_or_else(String::new, |frame| frame.data + "\n"));
            Body::from_stream(lines.map(Ok::<_, Infallible>))
        }
    };
    headed(wire, body)
}

/// Returns `response`, a stream or an error. If it comes late, its head goes ahead of it with comments, as in
/// [`respond`], and an error becomes the stream's one event.
pub async fn head_first(
    dialect: &'static Dialect,
    response: impl Future<Output = Response> + Send + 'static,
) -> Response {
    let mut response = Box::pin(response);
    if let Ok(response) = timeout(HEAD, &mut response).await {
        return response;
    }
    let comment =
        move || Bytes::from_static(if dialect.wire == Wire::Events { b": waiting\n\n" } else { b"" });
    let waiting = stream::unfold(Some((response, Duration::ZERO)), move |waiting| async move {
        let (mut response, patience) = waiting?;
        match timeout(patience, &mut response).await {
            Err(_) => Some((Body::from(comment()), Some((response, KEEP_ALIVE)))),
            Ok(response) => match response.extensions().get() {
                Some(error) => Some((Body::from(failed(dialect, error)), None)),
                None => Some((response.into_body(), None)),
            },
        }
    });
    headed(dialect.wire, Body::from_stream(waiting.flat_map(Body::into_data_stream)))
}

/// Writes an error before any other event.
fn failed(dialect: &Dialect, error: &ApiError) -> String {
    let Frame { name, data } = (dialect.failed)(error);
    match dialect.wire {
        Wire::Events => {
            name.map_or_else(String::new, |name| format!("event: {name}\n")) + &format!("data: {data}\n\n")
        }
        Wire::Lines => data + "\n",
    }
}

fn headed(wire: Wire, body: Body) -> Response {
    let kind = match wire {
        Wire::Events => "text/event-stream",
        // Lines of JSON have no comments: the head alone goes first.
        Wire::Lines => "application/x-ndjson",
    };
    let unbuffered = HeaderName::from_static("x-accel-buffering");
    // nginx would gather the stream otherwise.
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache"), (unbuffered, "no")], body)
        .into_response()
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
