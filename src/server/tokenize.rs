//! `/tokenize`.

use axum::Json;
use axum::extract::{Request, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body;
use super::error::{ApiError, ApiResult};
use super::state::Shared;
use crate::worker::protocol::TokenText;

#[derive(Debug, Deserialize)]
struct Body {
    content: Option<String>,
    add_special: Option<bool>,
    parse_special: Option<bool>,
    with_pieces: Option<bool>,
}

/// # Errors
/// 400 for a body that is none, 503 while no worker is ready.
pub async fn tokenize(State(app): State<Shared>, request: Request) -> ApiResult<Json<Value>> {
    // It takes memory and the worker's time as well.
    let _place = app.admission.enter()?;
    app.ready().await?;
    let bounds = &app.settings.bounds;
    let bytes = body::read(request, bounds).await?;
    let body: Body = body::parse(&bytes, bounds.json_depth)?;
    let text = body.content.unwrap_or_default();
    if text.len() > bounds.prompt_bytes {
        return Err(ApiError::invalid(format!(
            "content has {} bytes, the limit is {} (--max-prompt-bytes)",
            text.len(),
            bounds.prompt_bytes
        )));
    }
    let (add, parse) = (body.add_special.unwrap_or(false), body.parse_special.unwrap_or(true));
    let tokens = app.client.tokenize(text, add, parse).await.ok_or_else(ApiError::loading)?;
    let pieces = body.with_pieces.unwrap_or(false);
    let tokens: Vec<Value> =
        tokens.iter().map(|token| if pieces { piece(token) } else { token.id.into() }).collect();
    Ok(Json(json!({ "tokens": tokens })))
}

/// A text, or its bytes where they are no whole letters, as llama.cpp does.
fn piece(token: &TokenText) -> Value {
    match std::str::from_utf8(&token.bytes) {
        Ok(text) => json!({ "id": token.id, "piece": text }),
        Err(_) => json!({ "id": token.id, "piece": token.bytes }),
    }
}
