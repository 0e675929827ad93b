//! `/v1/chat/completions`.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::Value;

use super::api::answer::{self, Cost, Heading};
use super::api::chat::{Body, Chat};
use super::api::messages::{self, Conversation};
use super::body;
use super::choices::{ChoiceEvent, Choices};
use super::error::{ApiError, ApiResult, Type};
use super::guard::Scope;
use super::media::VideoPlan;
use super::state::Shared;
use super::stream::{self, Wanted};
use crate::worker::protocol::{Ready, Token};

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
    let chat = body::parse::<Body>(&bytes, bounds.json_depth)?.check(&app.settings)?;
    drop(bytes);
    check_tokens(&chat, &ready)?;
    app.grammars.check(chat.grammar.as_ref()).await?;

    let prepared = app.admission.prepare().await;
    let film = VideoPlan { one_span: ready.takes_videos, frames: ready.video_frames };
    let Conversation { mut messages, references } = chat.conversation;
    let shown = app.media.read(references, film).await?;
    messages::place(&mut messages, &shown.iter().map(Vec::len).collect::<Vec<_>>());
    let pictures: Vec<_> = shown.into_iter().flatten().collect();
    app.metrics.shown(&pictures);
    let wanted = Wanted {
        choices: chat.choices,
        include_usage: chat.include_usage,
        logprobs: chat.logprobs.is_some(),
        report: chat.report,
        trace: chat.trace,
        kept: chat.kept,
    };
    let generate = crate::request::Request {
        id: 0,
        messages,
        media: pictures,
        merge: chat.merge,
        limits: chat.limits,
        sampling: chat.sampling,
        grammar: chat.grammar,
        logprobs: chat.logprobs,
        scope: chat.cache.then_some(scope.0),
        trace: chat.trace || chat.kept,
    };
    let heading = Heading {
        id: format!("chatcmpl-{}", uuid::Uuid::new_v4().simple()),
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        model: app.model_name(),
    };
    let mut choices = Choices::start(&app, generate, chat.choices);
    // The first news decides the status: after it, an error can only be told inside the stream.
    let (index, first) = choices.next().await.ok_or_else(nothing)?;
    let first = (index, first?);
    app.metrics.first_news(start.elapsed());
    drop(prepared);
    if chat.stream {
        Ok(stream::respond(app, heading, wanted, choices, first, place))
    } else {
        whole(&app, &heading, &wanted, choices, first).await.map(|body| Json(body).into_response())
    }
}

/// Choices end with news or an error, unless the runtime is being torn down.
fn nothing() -> ApiError {
    ApiError::new(Type::Unavailable, "the server is stopping")
}

fn check_tokens(chat: &Chat, ready: &Ready) -> ApiResult<()> {
    let known = |id: i32| u32::try_from(id).is_ok_and(|id| id < ready.n_vocab);
    match chat.sampling.logit_bias.iter().find(|(id, _)| !known(*id)) {
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
    started: Option<crate::worker::protocol::Started>,
    done: Option<Box<crate::worker::protocol::Done>>,
}

async fn whole(
    app: &Shared,
    heading: &Heading,
    wanted: &Wanted,
    mut choices: Choices,
    first: (u32, ChoiceEvent),
) -> ApiResult<Value> {
    let mut gathered: Vec<Gathered> = (0..wanted.choices).map(|_| Gathered::default()).collect();
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
        let logprobs = wanted.logprobs.then(|| answer::logprobs(&choice.tokens));
        answers.push(answer::choice(index, &choice.text, logprobs, &done.finish));
        app.metrics.done(&done, choice.started.as_ref());
        costs.push(Cost { started: choice.started, done });
    }
    let mut object = heading.completion(answers);
    object.insert("usage".into(), answer::usage(&costs));
    stream::add_measurements(&mut object, wanted, costs);
    Ok(object.into())
}
