//! Prompts that are shown or counted, but not answered.

use axum::Json;
use axum::extract::Request;
use serde_json::{Value, json};

use super::answering;
use super::api::{Counted, Dialect, Opened};
use super::error::{ApiError, ApiResult};
use super::state::Shared;

/// # Errors
/// As for an answer to the same body, before it begins.
pub async fn prompt(
    app: Shared,
    scope: Vec<u8>,
    request: Request,
    dialect: &'static Dialect,
    told: Counted,
) -> ApiResult<Json<Value>> {
    app.admission.check()?;
    let ready = app.ready().await?;
    let Opened { requests, .. } = answering::open(&app, scope, request, dialect, &ready).await?;
    let mut asked = requests.into_iter().next().ok_or_else(ApiError::stopping)?;
    let (videos, memory) = answering::fetch(&app, &mut asked).await?;
    let _place = app.admission.enter()?.holding(vec![memory]);
    let _prepared = app.admission.prepare().await;
    let plan = ready.plan(asked.merge.as_ref());
    let shown = app.media.read(std::mem::take(&mut asked.media), videos, plan).await?;
    let prompt = app.client.describe(asked.showing(shown)).await.ok_or_else(ApiError::loading)??;
    Ok(Json(match told {
        Counted::Text => json!({ "prompt": prompt.text }),
        Counted::InputTokens => json!({ "object": "response.input_tokens", "input_tokens": prompt.tokens }),
        Counted::Tokens => json!({ "input_tokens": prompt.tokens }),
    }))
}
