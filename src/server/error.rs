//! Errors in the form of OpenAI's clients, with llama.cpp's types.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::error::{Error, Field, Kind};
use crate::server::client::{Death, Refusal};
use crate::worker::protocol::Failed;

/// Type of an error, as llama.cpp names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    InvalidRequest,
    Authentication,
    Permission,
    NotFound,
    ContextSize,
    RateLimit,
    NotSupported,
    Unavailable,
    Server,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Type::InvalidRequest => "invalid_request_error",
            Type::Authentication => "authentication_error",
            Type::Permission => "permission_error",
            Type::NotFound => "not_found_error",
            Type::ContextSize => "exceed_context_size_error",
            Type::RateLimit => "rate_limit_error",
            Type::NotSupported => "not_supported_error",
            Type::Unavailable => "unavailable_error",
            Type::Server => "server_error",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Type::InvalidRequest | Type::ContextSize => StatusCode::BAD_REQUEST,
            Type::Authentication => StatusCode::UNAUTHORIZED,
            Type::Permission => StatusCode::FORBIDDEN,
            Type::NotFound => StatusCode::NOT_FOUND,
            Type::RateLimit => StatusCode::TOO_MANY_REQUESTS,
            Type::NotSupported => StatusCode::NOT_IMPLEMENTED,
            Type::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Type::Server => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Error on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    kind: Type,
    status: StatusCode,
    message: String,
    /// Seconds until another attempt makes sense.
    retry_after: Option<u32>,
    /// Tokens of the prompt, and tokens that a slot holds.
    context: Option<(u32, u32)>,
}

pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    #[must_use]
    pub fn new(kind: Type, message: impl Into<String>) -> Self {
        Self { kind, status: kind.status(), message: message.into(), retry_after: None, context: None }
    }

    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Type::InvalidRequest, message)
    }

    /// Returns the same with another status, if HTTP has a more exact one than the type.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// No worker is ready.
    #[must_use]
    pub fn loading() -> Self {
        Self::new(Type::Unavailable, "Loading model").retry_after(1)
    }

    /// The server was told to stop before the answer began.
    #[must_use]
    pub fn stopping() -> Self {
        Self::new(Type::Unavailable, "the server is stopping: ask it again when it is back, or another")
            .retry_after(5)
    }

    /// The worker died under the request.
    #[must_use]
    pub fn died(death: &Death) -> Self {
        Self::new(
            Type::Unavailable,
            format!(
                "the worker ended ({}) before the answer did; another is being started: ask again",
                death.cause
            ),
        )
        .retry_after(1)
    }

    /// Returns an error about a body. Fields have the names that `own` gives them, else their usual ones.
    #[must_use]
    pub fn worded(error: &Error, own: fn(Field) -> Option<&'static str>) -> Self {
        Self {
            message: error.worded(|field| own(field).unwrap_or_else(|| name(field))),
            ..error.clone().into()
        }
    }

    /// Returns the value of the field `error`.
    #[must_use]
    pub fn body(&self) -> Value {
        let mut error =
            json!({ "code": self.status.as_u16(), "message": self.message, "type": self.kind.name() });
        if let Some((prompt, context)) = self.context {
            error["n_prompt_tokens"] = prompt.into();
            error["n_ctx"] = context.into();
        }
        error
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.body() }))).into_response();
        // The other dialects' forms are made from this one.
        response.extensions_mut().insert(self.clone());
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if self.kind == Type::Authentication {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The request is at fault, unless the cause is the native library or the system.
impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            Kind::Context => Type::ContextSize,
            Kind::Native | Kind::Closed => Type::Server,
            Kind::Interrupted => Type::Unavailable,
            Kind::Usage | Kind::Schedule | Kind::File | Kind::Media | Kind::Model | Kind::Prompt => {
                Type::InvalidRequest
            }
        };
        Self::new(kind, error.worded(name))
    }
}

/// Names a field of the body as the body does, and a setting of the server by its flag, which the operator
/// knows.
fn name(field: Field) -> &'static str {
    match field {
        Field::ContextSize => "-c",
        Field::ChatTemplate => "--chat-template",
        Field::ImageMaxTokens => "--image-max-tokens",
        Field::MicroBatch => "-ub",
        Field::MaxPrompt => "--max-prompt-bytes",
        Field::MaxImages => "--max-images",
        Field::MaxVideos => "--max-videos",
        Field::MaxGrammar => "--max-grammar-bytes",
        Field::MaxDepth => "--max-json-depth",
        Field::MaxChoices => "--max-choices",
        field => field.name(),
    }
}

impl From<Failed> for ApiError {
    fn from(failed: Failed) -> Self {
        let context = failed.context;
        Self { context, ..Error::new(failed.kind, failed.message).into() }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotReady => Self::loading(),
            Refusal::Deadly(death) => Self::new(
                Type::Server,
                format!(
                    "two workers ended while they answered this request, the last one by {}; it is not tried again",
                    death.cause
                ),
            ),
            Refusal::TooLarge(reason) => Self::invalid(reason).with_status(StatusCode::PAYLOAD_TOO_LARGE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_error_has_its_type_and_status() {
        for (kind, status, name) in [
            (Kind::Usage, 400, "invalid_request_error"),
            (Kind::Media, 400, "invalid_request_error"),
            (Kind::Context, 400, "exceed_context_size_error"),
            (Kind::Native, 500, "server_error"),
            (Kind::Interrupted, 503, "unavailable_error"),
        ] {
            let error = ApiError::from(Error::new(kind, "why"));
            assert_eq!(error.body(), json!({ "code": status, "message": "why", "type": name }));
            assert_eq!(error.into_response().status().as_u16(), status);
        }
    }

    #[test]
    fn what_is_too_long_says_both_numbers() {
        let failed = Failed { id: 1, kind: Kind::Context, message: "long".into(), context: Some((900, 512)) };
        let body = ApiError::from(failed).body();
        assert_eq!((&body["n_prompt_tokens"], &body["n_ctx"]), (&json!(900), &json!(512)));
    }

    #[test]
    fn who_should_come_back_is_told_when() {
        assert_eq!(ApiError::loading().into_response().headers()["retry-after"], "1");
        let error = ApiError::new(Type::Authentication, "Invalid API Key");
        assert_eq!(error.into_response().headers()["www-authenticate"], "Bearer");
    }
}
