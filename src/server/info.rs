//! What the server says of itself: `/health`, `/v1/models`, `/props`, `/slots`, `/metrics`.

use std::collections::HashMap;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::error::{ApiError, ApiResult, Type};
use super::state::Shared;
use crate::server::client;
use crate::worker::protocol::{Preset, SlotState};

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
    let meta = app.client.ready().map(|ready| {
        json!({
            "n_vocab": ready.n_vocab,
            "n_ctx_train": ready.n_ctx_train,
            "n_ctx": ready.n_ctx_slot,
            "n_embd": ready.n_embd,
            "size": ready.weight_bytes,
        })
    });
    Json(json!({
        "object": "list",
        "data": [{
            "id": name,
            "object": "model",
            "created": app.metrics.started(),
            "owned_by": "illava",
            "meta": meta,
        }],
        // Clients of llama.cpp that look for abilities find them here.
        "models": [{ "name": name, "model": name, "capabilities": ["completion", "multimodal"] }],
    }))
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
        "build_info": super::BUILD,
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
/// 501 where it is off; 503 while no worker is ready, and, if asked for, while no slot is free.
pub async fn slots(
    State(app): State<Shared>,
    Query(query): Query<HashMap<String, String>>,
) -> ApiResult<Json<Value>> {
    if !app.settings.slots {
        return Err(ApiError::new(Type::NotSupported, "the slots endpoint is off (--no-slots)"));
    }
    app.ready().await?;
    if query.contains_key("fail_on_no_slot") && !app.admission.has_free_slot() {
        return Err(ApiError::new(Type::Unavailable, "no slot available").retry_after(1));
    }
    let status = app.client.status().await.ok_or_else(ApiError::loading)?;
    let slots: Vec<Value> = status
        .slots
        .iter()
        .map(|slot| {
            json!({
                "id": slot.slot,
                "id_task": slot.request.map_or(-1, |id| i64::try_from(id).unwrap_or(i64::MAX)),
                "n_ctx": slot.n_ctx,
                "is_processing": slot.state != SlotState::Idle,
                "state": match slot.state {
                    SlotState::Idle => "idle",
                    SlotState::Encoding => "encoding",
                    SlotState::Prefill => "prefill",
                    SlotState::Generating => "generating",
                },
                "n_prompt_tokens": slot.prompt_tokens,
                "next_token": [{ "n_decoded": slot.generated_tokens }],
                "kv_tokens": slot.kv_tokens,
            })
        })
        .collect();
    Ok(Json(slots.into()))
}

/// # Errors
/// 501 where it is off.
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
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}
