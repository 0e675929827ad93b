//! `/v1/chat/completions`.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::Value;

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
    // Before the body: who is turned away anyway should not send it all.
    let place = app.admission.enter()?;
    let ready = app.ready().await?;
    let bounds = &app.settings.bounds;
    let bytes = body::read(request, bounds).await?;
    let (mut asked, reply) = read(&bytes, &app.settings, scope.0)?;
    drop(bytes);
    check_tokens(&asked, &ready)?;
    app.grammars.check(asked.grammar.as_ref()).await?;

    let prepared = app.admission.prepare().await;
    let film = VideoPlan { one_span: ready.takes_videos, frames: ready.video_frames };
    let shown = app.media.read(std::mem::take(&mut asked.media), film).await?;
    let asked = asked.showing(shown);
    app.metrics.shown(&asked.media);
    let heading = Heading {
        id: format!("chatcmpl-{}", uuid::Uuid::new_v4().simple()),
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        model: app.model_name(),
    };
    let mut choices = Choices::start(&app, asked, reply.choices);
    // The first news decides the status: after it, an error can only be told inside the stream.
    let (index, first) = choices.next().await.ok_or_else(nothing)?;
    let first = (index, first?);
    app.metrics.first_news(start.elapsed());
    drop(prepared);
    if reply.stream {
        Ok(stream::respond(app, heading, reply, choices, first, place))
    } else {
        whole(&app, &heading, reply, choices, first).await.map(|body| Json(body).into_response())
    }
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

async fn whole(
    app: &Shared,
    heading: &Heading,
    reply: Reply,
    mut choices: Choices,
    first: (u32, ChoiceEvent),
) -> ApiResult<Value> {
    let mut gathered: Vec<Gathered> = (0..reply.choices).map(|_| Gathered::default()).collect();
    let mut next = Some(first);
    while let Some((index, news)) = next {
        if let Some(choice) = gathered.get_mut(index as usize) {
            match news {
                ChoiceEvent::Started(started) => choice.started = Some(started),
                ChoiceEvent::Delta(delta) => {
                    choice.text.push_str(&delta.text);
                    choice.tokens.extend(delta.tokens);
                }
                ChoiceEvent::Done(done) => choice.done = Some(done),
            }
        }
        next = match choices.next().await {
            Some((index, news)) => Some((index, news?)),
            None => None,
        };
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
