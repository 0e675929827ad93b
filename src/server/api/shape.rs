//! Errors in the form that each dialect's clients read, and the end of OpenAI's streams.

use axum::Json;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::answer::{self, Heading};
use super::{Answer, Frame, add_measurements};
use crate::request::Reply;
use crate::server::error::ApiError;

/// Writes an error as an event of OpenAI's streams.
pub fn openai(error: &ApiError) -> Frame {
    Frame::data(json!({ "error": error.body() }))
}

/// Ends a stream of OpenAI's chunks of `kind` with the usage: in a chunk of its own if `usage` was asked for,
/// else in the chunk with the last finish reason.
pub fn end(heading: &Heading, kind: &str, reply: Reply, answers: &[Answer], out: &mut Vec<Frame>) {
    if reply.include_usage {
        let mut chunk = heading.object(kind);
        chunk.insert("choices".into(), json!([]));
        chunk.insert("usage".into(), answer::usage(answers));
        add_measurements(&mut chunk, reply, answers);
        out.push(Frame::data(chunk));
    } else if let Some(last) = out.last_mut()
        && let Ok(Value::Object(mut chunk)) = serde_json::from_str(&last.data)
    {
        add_measurements(&mut chunk, reply, answers);
        *last = Frame::data(chunk);
    }
}

/// Gives an error the form of the path's dialect. It may come from a guard, a route or a handler.
pub async fn reshape(request: Request, next: Next) -> Response {
    let shape: fn(&Value) -> Value = match request.uri().path() {
        path if path.starts_with("/v1/messages") => anthropic,
        path if path.starts_with("/api/") => ollama,
        _ => return next.run(request).await,
    };
    let response = next.run(request).await;
    let Some(error) = response.extensions().get::<ApiError>() else { return response };
    let (mut head, _) = Json(shape(&error.body())).into_response().into_parts();
    let body = Json(shape(&error.body())).into_response().into_body();
    head.status = response.status();
    for (name, value) in response.headers() {
        if name != "content-length" {
            head.headers.insert(name, value.clone());
        }
    }
    Response::from_parts(head, body)
}

/// Returns `error`, which has OpenAI's form, in Anthropic's.
pub fn anthropic(error: &Value) -> Value {
    let kind = match error["code"].as_u64() {
        Some(401) => "authentication_error",
        Some(403) => "permission_error",
        Some(404) => "not_found_error",
        Some(413) => "request_too_large",
        Some(429) => "rate_limit_error",
        Some(503) => "overloaded_error",
        Some(500 | 501) => "api_error",
        _ => "invalid_request_error",
    };
    json!({ "type": "error", "error": { "type": kind, "message": error["message"] } })
}

/// Writes an error as an event of Anthropic's streams.
pub fn anthropic_event(error: &ApiError) -> Frame {
    Frame::typed(anthropic(&error.body()))
}

/// Returns `error`, which has OpenAI's form, in Ollama's.
pub fn ollama(error: &Value) -> Value {
    json!({ "error": error["message"] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        for (code, kind) in
            [(400, "invalid_request_error"), (401, "authentication_error"), (503, "overloaded_error")]
        {
            let error = json!({ "code": code, "message": "why", "type": "x" });
            assert_eq!(anthropic(&error)["error"], json!({ "type": kind, "message": "why" }));
            assert_eq!(ollama(&error), json!({ "error": "why" }));
        }
    }
}
