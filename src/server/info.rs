//! Facts of the server: `/health`, `/v1/models`, `/props`, `/metrics`.

use std::collections::HashMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::error::{ApiError, ApiResult, Type};
use super::state::Shared;
use crate::server::client;
use crate::worker::protocol::Preset;

/// # Errors
/// 503 while no worker is ready.
pub async fn health(State(app): State<Shared>) -> ApiResult<Json<Value>> {
    match app.client.state() {
        client::State::Ready(_) => Ok(Json(json!({ "status": "ok" }))),
        client::State::Restarting(death) => Err(ApiError::new(
            Type::Unavailable,
            format!("the worker ended ({}); another is being started", death.cause),
        )
        .retry_after(1)),
        _ => Err(ApiError::loading()),
    }
}

pub async fn models(State(app): State<Shared>) -> Json<Value> {
    let name = app.model_name();
    Json(json!({
        "object": "list",
        "data": [described(&app)],
        // Clients of llama.cpp read the model's abilities here.
        "models": [{ "name": name, "model": name, "capabilities": ["completion", "multimodal"] }],
    }))
}

/// # Errors
/// 404 for any model but the one that is served.
pub async fn model(State(app): State<Shared>, Path(id): Path<String>) -> ApiResult<Json<Value>> {
    if id == app.model_name() || app.settings.aliases.contains(&id) {
        return Ok(Json(described(&app)));
    }
    let id: String = id.chars().take(100).collect();
    Err(ApiError::new(
        Type::NotFound,
        format!("the model `{id}` is not served here; /v1/models names the one that is"),
    ))
}

pub(super) fn described(app: &Shared) -> Value {
    let meta = app.client.ready().map(|ready| {
        json!({
            "n_vocab": ready.n_vocab,
            "n_ctx_train": ready.n_ctx_train,
            "n_ctx": ready.n_ctx_slot,
            "n_embd": ready.n_embd,
            "size": ready.weight_bytes,
        })
    });
    json!({
        "id": app.model_name(),
        "aliases": app.settings.aliases,
        "tags": app.settings.tags,
        "object": "model",
        "created": app.metrics.started(),
        "owned_by": "illava",
        "meta": meta,
    })
}

/// # Errors
/// 503 while no worker is ready.
pub async fn props(State(app): State<Shared>) -> ApiResult<Json<Value>> {
    let ready = app.ready().await?;
    let own = &app.settings.sampling;
    let usable = |preset: &&Preset| preset.unusable.is_none();
    Ok(Json(json!({
        "default_generation_settings": {
            "n_ctx": ready.n_ctx_slot,
            "params": {
                "temperature": own.temperature,
                "top_k": own.top_k,
                "top_p": own.top_p,
                "min_p": own.min_p,
                "repeat_penalty": own.repeat_penalty,
                "repeat_last_n": own.repeat_last_n,
                "presence_penalty": own.presence_penalty,
                "frequency_penalty": own.frequency_penalty,
                "seed": own.seed.map_or(-1, i64::from),
                "n_predict": app.settings.max_tokens.map_or(-1, i64::from),
            },
        },
        "total_slots": ready.slots,
        "model_alias": app.model_name(),
        "model_path": app.settings.model_path,
        "modalities": { "vision": true, "audio": false, "video": app.media.reads_videos() },
        "chat_template": ready.chat_template,
        "bos_token": ready.bos_text,
        "eos_token": ready.eos_text,
        "build_info": crate::completion::BUILD,
        "illava": {
            "model": ready.model,
            "can_merge": ready.encoder_can_merge || ready.decoder_can_merge,
            "encoder_can_merge": ready.encoder_can_merge,
            "decoder_can_merge": ready.decoder_can_merge,
            "default_schedule": ready.default_schedule,
            "default_positions": ready.default_positions,
            "presets": ready.presets.iter().filter(usable).map(|preset| &preset.name).collect::<Vec<_>>(),
            "unusable_presets": ready
                .presets
                .iter()
                .filter_map(|preset| Some((preset.name.clone(), preset.unusable.clone()?)))
                .collect::<HashMap<_, _>>(),
            "merge_layers": ready.merge_layers,
            "kv_segments": ready.segments,
        },
    })))
}

/// # Errors
/// 501 if it is off.
pub async fn metrics(State(app): State<Shared>) -> ApiResult<Response> {
    if !app.settings.metrics {
        return Err(ApiError::new(
            Type::NotSupported,
            "the metrics endpoint is off; start the server with --metrics",
        ));
    }
    let restarts = app.client.restarts();
    // A worker that died meanwhile would be counted twice.
    let status = app.client.status().await.filter(|_| app.client.restarts() == restarts);
    let text = app.metrics.text(&app.admission, app.client.restarts(), status.as_ref());
    // llama.cpp's clients tell a restart from a counter that fell by this.
    let started = (HeaderName::from_static("process-start-time-unix"), app.metrics.started().to_string());
    let kind = (header::CONTENT_TYPE, prometheus::TEXT_FORMAT.to_owned());
    Ok(([kind, started], text).into_response())
}
