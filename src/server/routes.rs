//! Paths to handlers, and what lies around all of them.

use std::any::Any;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use super::error::{ApiError, Type};
use super::state::Shared;
use super::{chat, guard, info, tokenize, web};

/// All routes.
pub fn router(app: Shared) -> Router {
    let open = Router::new()
        .route("/health", get(info::health))
        .route("/v1/health", get(info::health))
        .route("/models", get(info::models))
        .route("/v1/models", get(info::models));
    let with_key = Router::new()
        .route("/chat/completions", post(chat::completions))
        .route("/v1/chat/completions", post(chat::completions))
        .route("/tokenize", post(tokenize::tokenize))
        .route("/props", get(info::props))
        .route("/slots", get(info::slots))
        .route("/metrics", get(info::metrics))
        .route_layer(from_fn_with_state(Shared::clone(&app), guard::key));
    let no_sniffing = SetResponseHeaderLayer::overriding(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    open.merge(with_key)
        .fallback_service(get(web::file).fallback(nothing_here))
        .method_not_allowed_fallback(wrong_method)
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

fn panicked(reason: Box<dyn Any + Send + 'static>) -> Response {
    let reason = reason
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| reason.downcast_ref::<&str>().copied())
        .unwrap_or_default();
    tracing::error!("a request's handler broke off: {reason}");
    ApiError::new(Type::Server, "this server has a fault; its log has the place").into_response()
}
