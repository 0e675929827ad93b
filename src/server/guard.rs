//! Checks before every route: names and origins, keys, and the headers for browsers.

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::error::ApiResult;
use super::origin;
use super::settings::Access;
use super::state::Shared;

/// Scope of the cache that the request uses; set by [`key`].
#[derive(Debug, Clone)]
pub struct Scope(pub Vec<u8>);

/// Refuses unknown names and origins.
///
/// # Errors
/// 403, see [`origin::check`].
pub async fn origin(State(app): State<Shared>, request: Request, next: Next) -> ApiResult<Response> {
    origin::check(&app.settings.access, &request)?;
    Ok(next.run(request).await)
}

/// Refuses requests without a key, if the server asks for keys.
///
/// # Errors
/// 401, see [`super::keys::Keys::scope`].
pub async fn key(State(app): State<Shared>, mut request: Request, next: Next) -> ApiResult<Response> {
    let scope = app.keys.scope(request.headers())?;
    request.extensions_mut().insert(Scope(scope));
    Ok(next.run(request).await)
}

/// Writes CORS headers for the origins that may ask.
pub fn cors(access: &Access) -> CorsLayer {
    let access = access.clone();
    let may_ask = move |origin: &HeaderValue, request: &Parts| {
        let host = request.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        origin::origin_may_ask(&access, origin, host)
    };
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(may_ask))
        .allow_methods([Method::GET, Method::POST])
        // Clients send headers of their own (X-Stainless-*, X-Title, Anthropic-Version). None of them gives
        // access.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([header::RETRY_AFTER])
        // A browser sends this if a public page asks a local server. The origin was checked.
        .allow_private_network(true)
}
