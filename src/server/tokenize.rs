//! `/tokenize` and `/detokenize`.

use axum::Json;
use axum::extract::{Request, State};
use serde_json::{Value, json as object};

use super::error::{ApiError, ApiResult};
use super::state::Shared;
use crate::request::{Fields, json};
use crate::worker::protocol::TokenText;

/// # Errors
/// 400 for a body that is no JSON object, 503 while no worker is ready.
pub async fn tokenize(State(app): State<Shared>, request: Request) -> ApiResult<Json<Value>> {
    app.admission.check()?;
    app.ready().await?;
    let bounds = &app.settings.bounds;
    let body = app.body(request).await?;
    // Tokenising takes memory and the worker's time as well.
    let _place = app.admission.enter()?;
    let mut body = Fields::new(json::object(&body.bytes, bounds.request.json_depth)?, "");
    let text = body.text("content")?.unwrap_or_default();
    if text.len() > bounds.request.prompt_bytes {
        return Err(ApiError::invalid(format!(
            "content has {} bytes, the limit is {} (--max-prompt-bytes); send it in parts",
            text.len(),
            bounds.request.prompt_bytes
        )));
    }
    let (add, parse) =
        (body.flag("add_special")?.unwrap_or(false), body.flag("parse_special")?.unwrap_or(true));
    let tokens = app.client.tokenize(text, add, parse).await.ok_or_else(ApiError::loading)?;
    let pieces = body.flag("with_pieces")?.unwrap_or(false);
    let tokens: Vec<Value> =
        tokens.iter().map(|token| if pieces { piece(token) } else { token.id.into() }).collect();
    Ok(Json(object!({ "tokens": tokens })))
}

/// # Errors
/// As [`tokenize`]; also for a token that the model does not have.
pub async fn detokenize(State(app): State<Shared>, request: Request) -> ApiResult<Json<Value>> {
    app.admission.check()?;
    let ready = app.ready().await?;
    let bounds = &app.settings.bounds;
    let body = app.body(request).await?;
    let _place = app.admission.enter()?;
    let mut body = Fields::new(json::object(&body.bytes, bounds.request.json_depth)?, "");
    let tokens = body.wholes("tokens")?.unwrap_or_default();
    let known = |id: &i64| {
        i32::try_from(*id).ok().filter(|id| (0..i64::from(ready.n_vocab)).contains(&i64::from(*id)))
    };
    let tokens: Vec<i32> = match tokens.iter().map(known).collect::<Option<_>>() {
        Some(tokens) => tokens,
        None => {
            let line = format!("tokens: one is none of the {} that this model has", ready.n_vocab);
            return Err(ApiError::invalid(line));
        }
    };
    let bytes = app.client.detokenize(tokens).await.ok_or_else(ApiError::loading)?;
    Ok(Json(object!({ "content": String::from_utf8_lossy(&bytes) })))
}

/// Returns a text, or its bytes if they are not valid UTF-8, as llama.cpp does.
fn piece(token: &TokenText) -> Value {
    match std::str::from_utf8(&token.bytes) {
        Ok(text) => object!({ "id": token.id, "piece": text }),
        Err(_) => object!({ "id": token.id, "piece": token.bytes }),
    }
}
