//! `/v1/chat/completions`.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::Value;
use tokio::time::timeout;

use super::api::answer::{self, Cost, Heading};
use super::body;
use super::choices::{ChoiceEvent, Choices};
use super::error::{ApiError, ApiResult, Type};
use super::guard::Scope;
use super::media::VideoPlan;
use super::settings::Settings;
use super::state::Shared;
use super::stream;
use crate::error::Result;
use crate::request::{Defaults, Limits, Reference, Reply, Request as Asked, json};
use crate::worker::protocol::{Done, Ready, Started, Token};

/// # Errors
/// Everything that can be known before the answer begins.
pub async fn completions(
    State(app): State<Shared>,
    Extension(scope): Extension<Scope>,
    request: Request,
) -> ApiResult<Response> {
    let start = Instant::now();
    // A client that is turned away anyway should not send it all.
    app.admission.check()?;
    let ready = app.ready().await?;
    let body = body::read(&app, request).await?;
    let (asked, reply) = read(&body.bytes, &app.settings, scope.0)?;
    drop(body);
    check_tokens(&asked, &ready)?;
    app.grammars.check(asked.grammar.as_ref()).await?;
    // Only now: a place belongs to a request that can be answered.
    let place = app.admission.enter()?;
    let film = VideoPlan { one_span: ready.takes_videos, frames: ready.video_frames };
    let heading = Heading {
        id: format!("chatcmpl-{}", uuid::Uuid::new_v4().simple()),
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        model: app.model_name(),
    };
    let mut choices = Choices::start(&app, vec![asked], reply.choices, film, start);
    if !reply.stream {
        let body = whole(&app, &heading, reply, choices).await?;
        drop(place);
        return Ok(Json(body).into_response());
    }
    // News that come soon decide the status. A client that has to wait longer gets the head, and comments while it
    // waits, or a proxy takes the connection for dead; an error is then told inside the stream.
    let first = match timeout(stream::HEAD, choices.next()).await {
        Ok(None) => return Err(nothing()),
        Ok(Some((index, news))) => Some((index, news?)),
        Err(_) => None,
    };
    Ok(stream::respond(app, heading, reply, choices, first, place))
}

/// Choices end with news or an error, unless the runtime is being torn down.
fn nothing() -> ApiError {
    ApiError::new(Type::Unavailable, "the server is stopping")
}

/// A body as a request; the server's settings are what it gets where it says nothing.
///
/// # Errors
/// As [`json::object`] and [`json::read`].
pub fn read(body: &[u8], settings: &Settings, scope: Vec<u8>) -> Result<(Asked<Reference>, Reply)> {
    let defaults = Defaults {
        limits: Limits { max_tokens: settings.max_tokens, ..Limits::default() },
        sampling: settings.sampling.clone(),
        scope: Some(scope),
        bounds: settings.bounds.request,
        ..Defaults::default()
    };
    json::read(json::object(body, defaults.bounds.json_depth)?, &defaults)
}

fn check_tokens(asked: &Asked<Reference>, ready: &Ready) -> ApiResult<()> {
    let known = |id: i32| u32::try_from(id).is_ok_and(|id| id < ready.n_vocab);
    match asked.sampling.logit_bias.iter().find(|(id, _)| !known(*id)) {
        Some((id, _)) => Err(ApiError::invalid(format!(
            "logit_bias: token {id} is none of the {} this model has",
            ready.n_vocab
        ))),
        None => Ok(()),
    }
}

#[derive(Default)]
struct Gathered {
    text: String,
    tokens: Vec<Token>,
    started: Option<Started>,
    done: Option<Box<Done>>,
}

async fn whole(app: &Shared, heading: &Heading, reply: Reply, mut choices: Choices) -> ApiResult<Value> {
    let mut gathered: Vec<Gathered> = (0..reply.choices).map(|_| Gathered::default()).collect();
    while let Some((index, news)) = choices.next().await {
        let news = news?;
        let Some(choice) = gathered.get_mut(index as usize) else { continue };
        match news {
            ChoiceEvent::Started(started) => choice.started = Some(started),
            ChoiceEvent::Delta(delta) => {
                choice.text.push_str(&delta.text);
                choice.tokens.extend(delta.tokens);
            }
            ChoiceEvent::Done(done) => choice.done = Some(done),
        }
    }
    let mut answers = Vec::new();
    let mut costs = Vec::new();
    for (index, choice) in (0..).zip(gathered) {
        let done = choice.done.ok_or_else(nothing)?;
        let logprobs = reply.logprobs.then(|| answer::logprobs(&choice.tokens));
        answers.push(answer::choice(index, &choice.text, logprobs, &done.finish));
        app.metrics.done(&done, choice.started.as_ref());
        costs.push(Cost { started: choice.started, done });
    }
    let mut object = heading.completion(answers);
    object.insert("usage".into(), answer::usage(&costs));
    stream::add_measurements(&mut object, reply, costs);
    Ok(object.into())
}
