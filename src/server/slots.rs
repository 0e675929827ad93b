//! State of the worker's slots, and actions on one.

use std::collections::HashMap;
use std::time::Instant;

use axum::extract::{Path, Query, Request, State};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::error::{ApiError, ApiResult, Type};
use super::guard::Scope;
use super::state::Shared;
use crate::request::Fields;
use crate::request::json::object;
use crate::worker::protocol::{SlotFile, SlotOrder, SlotState};

/// # Errors
/// 501 if slots are off; 503 while no worker is ready, and, if asked for, while no slot is free.
pub async fn slots(
    State(app): State<Shared>,
    Query(query): Query<HashMap<String, String>>,
) -> ApiResult<Json<Value>> {
    if !app.settings.slots {
        return Err(ApiError::new(
            Type::NotSupported,
            "the slots endpoint is off; start the server without --no-slots",
        ));
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
                "next_token": [{
                    "n_decoded": slot.generated_tokens,
                    "n_remain": slot.max_tokens.map_or(-1, |most| {
                        i64::from(most.saturating_sub(slot.generated_tokens))
                    }),
                }],
                "kv_tokens": slot.kv_tokens,
            })
        })
        .collect();
    Ok(Json(slots.into()))
}

/// Carries out an action: `?action=erase` empties a slot's cache, `save` and `restore` move it to a file and
/// back.
///
/// # Errors
/// 501 if slots are off or are not saved, 400 for an unknown slot or file, 503 for a busy slot.
pub async fn act(
    State(app): State<Shared>,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    Extension(Scope(scope)): Extension<Scope>,
    request: Request,
) -> ApiResult<Json<Value>> {
    // As in llama-server, --slot-save-path enables the actions even if the list is off.
    if !app.settings.slots && !app.settings.saves_slots {
        return Err(ApiError::new(
            Type::NotSupported,
            "the slots endpoint is off; start the server without --no-slots",
        ));
    }
    let ready = app.ready().await?;
    let slot = id.parse::<u32>().ok().filter(|slot| *slot < ready.slots).ok_or_else(|| {
        ApiError::invalid(format!("the slots are numbered from 0 to {}", ready.slots.saturating_sub(1)))
    })?;
    let restore = match query.get("action").map(String::as_str) {
        Some("erase") => {
            return match app.client.erase(slot).await.ok_or_else(ApiError::loading)? {
                Some(tokens) => Ok(Json(json!({ "id_slot": slot, "n_erased": tokens }))),
                None => {
                    Err(ApiError::new(Type::Unavailable, format!("slot {slot} is answering")).retry_after(1))
                }
            };
        }
        Some("save") => false,
        Some("restore") => true,
        _ => return Err(ApiError::invalid("action: use save, restore or erase")),
    };
    if !app.settings.saves_slots {
        return Err(ApiError::new(
            Type::NotSupported,
            "slots are not saved: start the server with --slot-save-path",
        ));
    }
    let body = app.body(request).await?;
    let mut body = Fields::new(object(&body.bytes, app.settings.bounds.request.json_depth)?, "");
    let name = body.text("filename")?.unwrap_or_default();
    if !names_a_file(&name) {
        return Err(ApiError::invalid(
            "filename: give a name of 1 to 200 letters, digits, dots, dashes, underscores and spaces that begins and ends with a letter or digit",
        ));
    }
    let begun = Instant::now();
    let order = SlotOrder { id: 0, slot, restore, name: name.clone(), scope };
    let SlotFile { tokens, bytes } = app.client.move_slot(order).await.ok_or_else(ApiError::loading)??;
    let ms = begun.elapsed().as_secs_f64() * 1e3;
    Ok(Json(if restore {
        json!({ "id_slot": slot, "filename": name, "n_restored": tokens, "n_read": bytes, "timings": { "restore_ms": ms } })
    } else {
        json!({ "id_slot": slot, "filename": name, "n_saved": tokens, "n_written": bytes, "timings": { "save_ms": ms } })
    }))
}

/// Whether `name` is a valid name of a file on every system, without a folder.
fn names_a_file(name: &str) -> bool {
    let ends = |letter: char| letter.is_alphanumeric();
    name.len() <= 200
        && name.starts_with(ends)
        && name.ends_with(ends)
        && name.chars().all(|letter| letter.is_alphanumeric() || "._- ".contains(letter))
}
