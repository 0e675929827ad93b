//! One way from a body to an answer, for every dialect.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::api::{Dialect, Heading, Opened, Wire};
use super::choices::Choices;
use super::error::{ApiError, ApiResult};
use super::gather::{Forms, Gather};
use super::media::FetchedVideos;
use super::settings::Settings;
use super::state::{App, Shared};
use super::stream;
use crate::error::Result;
use crate::prompt::{CallForm, ThoughtForm};
use crate::request::{Defaults, Fields, Limits, Reference, Reply, Request as Asked, grammar_of_calls, json};
use crate::worker::protocol::Ready;

/// # Errors
/// Every error that can be known before the answer begins.
pub async fn answer(
    app: Shared,
    scope: Vec<u8>,
    request: Request,
    dialect: &'static Dialect,
) -> ApiResult<Response> {
    let start = Instant::now();
    // A client that is refused anyway should not send the whole body.
    app.admission.check()?;
    let ready = app.ready().await?;
    let opened = open(&app, scope, request, dialect, &ready).await?;
    let streams = opened.reply.stream;
    let response = respond(app, opened, ready, start, dialect.wire);
    if !streams {
        return response.await;
    }
    let response = async { response.await.unwrap_or_else(IntoResponse::into_response) };
    Ok(stream::head_first(dialect, response).await)
}

async fn respond(
    app: Shared,
    opened: Opened,
    ready: Arc<Ready>,
    start: Instant,
    wire: Wire,
) -> ApiResult<Response> {
    let Opened { requests, reply, tools, writer } = opened;
    let (mut all, mut memory) = (Vec::new(), Vec::new());
    for mut request in requests {
        let (videos, held) = fetch(&app, &mut request).await?;
        let plan = ready.plan(request.merge.as_ref());
        all.push((request, videos, plan));
        memory.push(held);
    }
    // The place is taken only now, for a request that can be answered.
    let place = app.admission.enter()?.holding(memory);
    let count = u32::try_from(all.len()).unwrap_or(u32::MAX).saturating_mul(reply.choices);
    let template = &ready.chat_template;
    let forms = Forms {
        calls: tools.map(|_| CallForm::of(template)),
        thoughts: ThoughtForm::of(template).filter(|_| all.iter().all(|(asked, ..)| asked.raw.is_empty())),
    };
    let gather = Gather::new(count, reply, writer, forms);
    let mut choices = Choices::start(&app, all, reply.choices, start);
    if !reply.stream {
        let whole = gather.whole(&app, choices).await?;
        drop(place);
        return Ok(Json(whole).into_response());
    }
    // Updates that come soon decide the status. If they come late, the client gets the head first, and
    // comments while it waits: a proxy would take a silent connection for dead. An error then goes into the
    // stream.
    let first = match timeout(stream::HEAD, choices.next()).await {
        Ok(None) => return Err(ApiError::stopping()),
        Ok(Some((index, update))) => Some((index, update?)),
        Err(_) => None,
    };
    Ok(stream::respond(app, gather, choices, first, place, wire))
}

/// Fetches the media that a request names by URL. Returns its videos, and the memory that its pictures take.
///
/// # Errors
/// As [`Media::fetch`](super::media::Media::fetch); 429 if bodies take all memory, 503 if the server stops.
pub async fn fetch(
    app: &App,
    request: &mut Asked<Reference>,
) -> ApiResult<(FetchedVideos, OwnedSemaphorePermit)> {
    let fetched = tokio::select! {
        biased;
        () = app.stopping() => return Err(ApiError::stopping()),
        fetched = app.media.fetch(&mut request.media) => fetched?,
    };
    Ok((fetched.videos, app.bodies.take(fetched.bytes)?))
}

/// Reads a body, parses it, and checks it against the model.
///
/// # Errors
/// As [`App::body`]; 400 if the dialect or the model does not know a field or value.
pub async fn open(
    app: &App,
    scope: Vec<u8>,
    request: Request,
    dialect: &Dialect,
    ready: &Ready,
) -> ApiResult<Opened> {
    let body = app.body(request).await?;
    let settings = &app.settings;
    let heading = Heading {
        id: format!("{}{}", dialect.prefix, uuid::Uuid::new_v4().simple()),
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        model: app.model_name(),
    };
    let map = json::object(&body.bytes, settings.bounds.request.json_depth)?;
    drop(body);
    let thinks = ThoughtForm::of(&ready.chat_template).is_some();
    let mut defaults = defaults(settings, scope);
    // The server's own wish for thoughts is none of the request.
    defaults.thinking.asked = defaults.thinking.asked.filter(|&asked| thinks || !asked);
    let mut opened = (dialect.open)(Fields::new(map, ""), &defaults, heading)
        .map_err(|error| ApiError::worded(&error, dialect.name))?;
    for asked in &mut opened.requests {
        check_tokens(asked, ready)?;
        if dialect.strict_thoughts && asked.thinking.asked == Some(true) && !thinks {
            return Err(ApiError::invalid(
                "this model's chat template knows no thoughts; leave out think, thinking and reasoning",
            ));
        }
        if let Some(tools) = &opened.tools {
            let form = CallForm::of(&ready.chat_template);
            asked.marks = form.marks();
            asked.grammar = grammar_of_calls(tools, form, asked.grammar.take())?;
        }
        app.grammars.check(asked.grammar.as_ref()).await?;
    }
    Ok(opened)
}

/// Defaults of the server for fields that a body lacks.
fn defaults(settings: &Settings, scope: Vec<u8>) -> Defaults {
    Defaults {
        limits: Limits { max_tokens: settings.max_tokens, ..Limits::default() },
        sampling: settings.sampling.clone(),
        scope: Some(scope),
        bounds: settings.bounds.request,
        tools: true,
        thinking: settings.thinking,
        reasoning: settings.reasoning,
        variables: settings.variables.clone(),
        ..Defaults::default()
    }
}

/// Parses a body into a request.
///
/// # Errors
/// As [`json::object`] and [`json::read`].
pub fn read(body: &[u8], settings: &Settings, scope: Vec<u8>) -> Result<(Asked<Reference>, Reply)> {
    let defaults = Defaults { tools: false, ..defaults(settings, scope) };
    json::read(json::object(body, defaults.bounds.json_depth)?, &defaults)
}

fn check_tokens(asked: &Asked<Reference>, ready: &Ready) -> ApiResult<()> {
    let biased = asked.sampling.logit_bias.iter().map(|(id, _)| ("logit_bias", *id));
    let prompt = asked.raw.iter().flat_map(|part| part.tokens()).map(|id| ("prompt", *id));
    let known = |id: i32| u32::try_from(id).is_ok_and(|id| id < ready.n_vocab);
    match biased.chain(prompt).find(|(_, id)| !known(*id)) {
        Some((name, id)) => Err(ApiError::invalid(format!(
            "{name}: token {id} is none of the {} this model has",
            ready.n_vocab
        ))),
        None => Ok(()),
    }
}
