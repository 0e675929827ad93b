//! Ollama's endpoints about models: they show the one that is loaded.

use std::path::Path;

use axum::Json;
use axum::extract::{Request, State};
use serde_json::{Map, Value, json};

use super::error::ApiResult;
use super::state::Shared;
use crate::prompt::ThoughtForm;
use crate::request::{Fields, json as parse};
use crate::worker::protocol::Ready;

/// Version of Ollama whose fields these are. Clients compare it with the one they need.
const VERSION: &str = "0.12.0";

pub async fn version() -> Json<Value> {
    Json(json!({ "version": VERSION }))
}

/// # Errors
/// 503 while no worker is ready.
pub async fn tags(State(app): State<Shared>) -> ApiResult<Json<Value>> {
    let ready = app.ready().await?;
    Ok(Json(json!({ "models": [model(&app, &ready)] })))
}

/// # Errors
/// As [`tags`].
pub async fn ps(State(app): State<Shared>) -> ApiResult<Json<Value>> {
    let ready = app.ready().await?;
    let mut model = model(&app, &ready);
    // The model stays loaded as long as the server runs.
    model["expires_at"] = "2318-01-01T00:00:00Z".into();
    model["size_vram"] = 0.into();
    model["context_length"] = ready.n_ctx_slot.into();
    Ok(Json(json!({ "models": [model] })))
}

/// # Errors
/// As [`tags`]; 400 for a body that is no JSON object.
pub async fn show(State(app): State<Shared>, request: Request) -> ApiResult<Json<Value>> {
    let ready = app.ready().await?;
    let body = app.body(request).await?;
    let mut body = Fields::new(parse::object(&body.bytes, app.settings.bounds.request.json_depth)?, "");
    for name in ["model", "name"] {
        body.text(name)?;
    }
    let arch = &ready.model.arch;
    let mut info = Map::new();
    for (name, value) in [
        ("general.architecture".to_owned(), json!(arch)),
        ("general.basename".to_owned(), json!(ready.name)),
        (format!("{arch}.context_length"), json!(ready.n_ctx_train)),
        (format!("{arch}.embedding_length"), json!(ready.n_embd)),
        (format!("{arch}.block_count"), json!(ready.n_layer)),
        ("tokenizer.ggml.vocab_size".to_owned(), json!(ready.n_vocab)),
    ] {
        info.insert(name, value);
    }
    let mut capabilities = vec!["completion", "vision", "tools"];
    capabilities.extend(ThoughtForm::of(&ready.chat_template).map(|_| "thinking"));
    Ok(Json(json!({
        "modelfile": "", "parameters": "", "license": "", "template": ready.chat_template,
        "details": details(&ready), "model_info": info,
        "capabilities": capabilities,
        "modified_at": modified(&app.settings.model_path),
    })))
}

/// Describes a model that is not loaded by its file.
pub(super) fn unloaded(name: &str, path: &Path) -> Value {
    let file = std::fs::metadata(path);
    let size = file.as_ref().map_or(0, std::fs::Metadata::len);
    let digest = blake3::hash(format!("{name} {size}").as_bytes());
    json!({ "name": name, "model": name, "modified_at": modified(path), "size": size,
            "digest": digest.to_hex().as_str(), "details": { "format": "gguf" } })
}

pub(super) fn model(app: &Shared, ready: &Ready) -> Value {
    let name = app.model_name();
    // A hash of the model's facts tells models apart without reading all of a file.
    let digest = blake3::hash(format!("{:?} {}", ready.model, ready.weight_bytes).as_bytes());
    json!({ "name": name, "model": name, "modified_at": modified(&app.settings.model_path), "size": ready.weight_bytes,
            "digest": digest.to_hex().as_str(), "details": details(ready) })
}

fn details(ready: &Ready) -> Value {
    json!({ "parent_model": "", "format": "gguf", "family": ready.model.arch,
            "families": [ready.model.arch, "clip"], "parameter_size": "",
            "quantization_level": ready.model.text_type })
}

fn modified(path: &Path) -> String {
    let time = std::fs::metadata(path).and_then(|file| file.modified());
    let time = time.unwrap_or(std::time::UNIX_EPOCH);
    chrono::DateTime::<chrono::Utc>::from(time).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
