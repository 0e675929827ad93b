//! Routes from paths to handlers, and the layers around all of them.

use std::any::Any;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use super::answering::answer;
use super::api::{PATHS, PROMPTS, reshape};
use super::error::{ApiError, Type};
use super::guard::Scope;
use super::state::Shared;
use super::{guard, info, ollama, prompts, slots, tokenize, web};

const EMBEDDINGS: &str = "embeddings: the pair that is loaded answers questions; serve a model that was made for embeddings beside it";

/// Paths of other servers that no pair can answer here, with the reasons.
const MISSING: &[(&str, &str)] = &[
    ("/embedding", EMBEDDINGS),
    ("/embeddings", EMBEDDINGS),
    ("/v1/embeddings", EMBEDDINGS),
    ("/api/embed", EMBEDDINGS),
    ("/api/embeddings", EMBEDDINGS),
    (
        "/infill",
        "infill: models of pictures and text are not trained to fill gaps; send a prompt with the model's own marks to /completion",
    ),
    (
        "/rerank",
        "rerank: the pair that is loaded ranks nothing; serve a model that was made for ranking beside it",
    ),
    (
        "/v1/rerank",
        "rerank: the pair that is loaded ranks nothing; serve a model that was made for ranking beside it",
    ),
];

/// All routes.
pub fn router(app: Shared) -> Router {
    let open = Router::new()
        .route("/health", get(info::health))
        .route("/v1/health", get(info::health))
        .route("/models", get(info::models))
        .route("/v1/models", get(info::models))
        .route("/v1/models/{*id}", get(info::model))
        .route("/api/version", get(ollama::version));
    let mut with_key = Router::new()
        .route("/tokenize", post(tokenize::tokenize))
        .route("/detokenize", post(tokenize::detokenize))
        .route("/props", get(info::props))
        .route("/slots", get(slots::slots))
        .route("/slots/{id}", post(slots::act))
        .route("/api/tags", get(ollama::tags))
        .route("/api/ps", get(ollama::ps))
        .route("/api/show", post(ollama::show))
        .route("/metrics", get(info::metrics));
    for (path, dialect) in PATHS {
        let answer = move |State(app), Extension(Scope(scope)), request| answer(app, scope, request, dialect);
        with_key = with_key.route(path, post(answer));
    }
    for (path, dialect, told) in PROMPTS {
        let count = move |State(app), Extension(Scope(scope)), request| {
            prompts::prompt(app, scope, request, dialect, *told)
        };
        with_key = with_key.route(path, post(count));
    }
    for (path, reason) in MISSING {
        with_key = with_key.route(path, post(move || async { ApiError::new(Type::NotSupported, *reason) }));
    }
    let with_key = with_key.route_layer(from_fn_with_state(Shared::clone(&app), guard::key));
    let no_sniffing = SetResponseHeaderLayer::overriding(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    open.merge(with_key)
        .fallback_service(get(web::file).fallback(nothing_here))
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(reshape))
        .layer(guard::cors(&app.settings.access))
        .layer(from_fn_with_state(Shared::clone(&app), guard::origin))
        .layer(no_sniffing)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(Shared::clone(&app), count))
        .with_state(app)
}

async fn count(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    app.metrics.answered(response.status().as_u16());
    response
}

async fn nothing_here() -> ApiError {
    ApiError::new(Type::NotFound, "no such endpoint")
}

async fn wrong_method(request: Request) -> ApiError {
    ApiError::invalid(format!("{} is not for {}", request.uri().path(), request.method()))
        .with_status(axum::http::StatusCode::METHOD_NOT_ALLOWED)
}

pub(super) fn panicked(reason: Box<dyn Any + Send + 'static>) -> Response {
    let reason = reason
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| reason.downcast_ref::<&str>().copied())
        .unwrap_or_default();
    tracing::error!("a request's handler broke off: {reason}");
    ApiError::new(Type::Server, "this server has a fault; its log has the place").into_response()
}
