//! A request's body to a typed value, within bounds.

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

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

/// Parses JSON no deeper than `depth`; an error names the field.
///
/// # Errors
/// 400 for everything that is not the value wanted.
pub fn parse<T: DeserializeOwned>(body: &Bytes, depth: usize) -> ApiResult<T> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(ApiError::invalid("the body is empty; send a JSON object"));
    }
    // A list would be taken for the fields in their order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(invalid("it must be an object"));
    }
    if deeper_than(body, depth) {
        return Err(ApiError::invalid(format!(
            "the body nests arrays and objects deeper than {depth} (--max-json-depth)"
        )));
    }
    let mut parser = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut parser).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.into_inner();
        // The root has no name worth saying.
        if path == "." { invalid(&reason.to_string()) } else { invalid(&format!("{path}: {reason}")) }
    })?;
    parser.end().map_err(|error| invalid(&error.to_string()))?;
    Ok(value)
}

fn invalid(reason: &str) -> ApiError {
    ApiError::invalid(format!("the body is not the JSON expected here: {reason}"))
}

/// Looks at brackets outside of strings: cheaper than finding out while values are being built.
fn deeper_than(body: &[u8], limit: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in body {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Outer {
        #[serde(default)]
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        n: u32,
    }

    fn outer(text: &str) -> Result<Outer, String> {
        parse(&Bytes::copy_from_slice(text.as_bytes()), 4)
            .map_err(|error| error.body()["message"].as_str().unwrap().to_owned())
    }

    #[test]
    fn unknown_fields_are_nobodys_business() {
        let parsed = outer(r#"{"x": [1], "inner": [{"n": 3, "y": {}}]}"#).unwrap();
        assert_eq!(parsed.inner[0].n, 3);
    }

    #[test]
    fn errors_name_the_field() {
        for (text, part) in [
            ("", "empty"),
            (" \n", "empty"),
            ("{", "EOF"),
            ("[]", "must be an object"),
            (r#"{"inner": [{"n": "x"}]}"#, "inner[0].n"),
            (r#"{"inner": [{"n": -1}]}"#, "inner[0].n"),
            (r#"{"inner": []} {}"#, "trailing"),
            (r#"{"a":[[[[1]]]]}"#, "deeper than 4"),
            ("{\"a\": \"\u{1}\"}", "control character"),
        ] {
            let error = outer(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn brackets_in_strings_are_text() {
        assert!(outer(r#"{"a": "[[[[[[[[[\"[["}"#).is_ok());
        assert!(!deeper_than(br#"[][][][]{}[]"#, 1));
    }
}
