//! A request's body, read within bounds.

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::error::{ApiError, ApiResult};
use super::settings::Bounds;

/// Reads the whole body.
///
/// # Errors
/// 413 for more than the limit, 408 for a body that takes too long, 400 for one that breaks off.
pub async fn read(request: Request, bounds: &Bounds) -> ApiResult<Bytes> {
    let limit = bounds.body_bytes;
    let too_large = || {
        ApiError::invalid(format!("the body has more than {limit} bytes (--max-body)"))
            .with_status(StatusCode::PAYLOAD_TOO_LARGE)
    };
    let announced =
        request.headers().get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > limit as u64) {
        return Err(too_large());
    }
    let body = Limited::new(request.into_body(), limit).collect();
    match tokio::time::timeout(bounds.body_time, body).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(ApiError::invalid("the body broke off")),
        Err(_) => Err(ApiError::invalid(format!(
            "the body took longer than {} s (--body-timeout)",
            bounds.body_time.as_secs_f32()
        ))
        .with_status(StatusCode::REQUEST_TIMEOUT)),
    }
}
