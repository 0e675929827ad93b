//! A request's body, read within bounds of size, time and memory.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::error::{ApiError, ApiResult, Type};
use super::settings::Bounds;

/// Bytes of one permit.
const UNIT: usize = 1 << 10;

/// Memory for bodies that are being read: as many whole bodies as the queue has places. A body takes only the
/// bytes that have arrived, so a stalled one takes nothing from the others.
pub struct Bodies(Arc<Semaphore>);

/// Whole body with its share of that memory.
pub struct Body {
    pub bytes: Bytes,
    _held: Vec<OwnedSemaphorePermit>,
}

impl Bodies {
    #[must_use]
    pub fn new(places: usize, bounds: &Bounds) -> Self {
        let units = (bounds.body_bytes / UNIT + 1).saturating_mul(places);
        Self(Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))))
    }

    /// Takes a share of the memory.
    ///
    /// # Errors
    /// 429 if there is not so much left.
    pub fn take(&self, bytes: usize) -> ApiResult<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        Arc::clone(&self.0).try_acquire_many_owned(units).map_err(|_| {
            let line = "bodies that are being read take all the memory there is for them (--max-body times --queue); try again later";
            ApiError::new(Type::RateLimit, line).retry_after(2)
        })
    }
}

/// Reads the whole body, unless `stopping` ends first.
///
/// # Errors
/// 413 above the limit, 415 for a compressed body, 408 for one that takes too long or pauses too long. 400 if
/// it breaks off, 429 if all bodies together are too large, 503 if the server stops.
pub async fn read(
    bodies: &Bodies,
    bounds: &Bounds,
    stopping: impl Future<Output = ()>,
    request: Request,
) -> ApiResult<Body> {
    tokio::pin!(stopping);
    check_head(&request, bounds.body_bytes)?;
    let mut body = request.into_body();
    let mut bytes = Vec::new();
    let mut held = Vec::new();
    let end = Instant::now() + bounds.body_time;
    loop {
        let pause = Instant::now() + bounds.read_time;
        let frame = tokio::select! {
            biased;
            () = &mut stopping => return Err(ApiError::stopping()),
            frame = timeout_at(end.min(pause), body.frame()) => frame,
        };
        let frame = match frame {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => return Err(ApiError::invalid("the body broke off")),
            Err(_) if end <= pause => {
                return Err(late("took longer than", bounds.body_time, "--body-timeout"));
            }
            Err(_) => return Err(late("paused for", bounds.read_time, "--head-timeout")),
        };
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > bounds.body_bytes {
            return Err(too_large(bounds.body_bytes));
        }
        // A permit is taken for each unit, not for each piece: a piece may have one byte.
        let (had, has) = (bytes.len().div_ceil(UNIT), (bytes.len() + data.len()).div_ceil(UNIT));
        if has > had {
            held.push(bodies.take((has - had) * UNIT)?);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Body { bytes: bytes.into(), _held: held })
}

fn check_head(request: &Request, limit: usize) -> ApiResult<()> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(coding) =
        header(header::CONTENT_ENCODING).filter(|coding| !coding.eq_ignore_ascii_case("identity"))
    {
        let coding: String = coding.chars().take(40).collect();
        return Err(ApiError::invalid(format!(
            "Content-Encoding {coding}: not supported; send the body as it is"
        ))
        .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let announced = header(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) { Err(too_large(limit)) } else { Ok(()) }
}

fn too_large(limit: usize) -> ApiError {
    ApiError::invalid(format!("the body has more than {limit} bytes (--max-body); send smaller pictures"))
        .with_status(StatusCode::PAYLOAD_TOO_LARGE)
}

fn late(what: &str, time: Duration, flag: &str) -> ApiError {
    ApiError::invalid(format!("the body {what} {} s ({flag})", time.as_secs_f32()))
        .with_status(StatusCode::REQUEST_TIMEOUT)
}
