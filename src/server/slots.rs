//! The worker's slots: how they stand, and what can be done to one.

use std::collections::HashMap;

use axum::Json;
use axum::extract::{Path, Query, State};
use serde_json::{Value, json};

use super::error::{ApiError, ApiResult, Type};
use super::state::Shared;
use crate::worker::protocol::SlotState;

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

/// `?action=erase` empties a slot's cache.
///
/// # Errors
/// 501 for the other actions, and where slots are off; 400 for a slot that there is not, or that is busy.
pub async fn act(
    State(app): State<Shared>,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> ApiResult<Json<Value>> {
    if !app.settings.slots {
        return Err(ApiError::new(Type::NotSupported, "the slots endpoint is off (--no-slots)"));
    }
    let ready = app.ready().await?;
    let slot = id.parse::<u32>().ok().filter(|slot| *slot < ready.slots).ok_or_else(|| {
        ApiError::invalid(format!("the slots are numbered from 0 to {}", ready.slots.saturating_sub(1)))
    })?;
    match query.get("action").map(String::as_str) {
        Some("erase") => match app.client.erase(slot).await.ok_or_else(ApiError::loading)? {
            Some(tokens) => Ok(Json(json!({ "id_slot": slot, "n_erased": tokens }))),
            None => Err(ApiError::new(Type::Unavailable, format!("slot {slot} is answering")).retry_after(1)),
        },
        Some("save" | "restore") => Err(ApiError::new(
            Type::NotSupported,
            "a slot's cache is held in segments with pictures in them, which no file format here keeps; encoded pictures survive in --picture-folder, and a prompt that comes again is computed from them",
        )),
        _ => Err(ApiError::invalid("action: use erase")),
    }
}
