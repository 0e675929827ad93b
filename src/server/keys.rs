//! API keys: compared in constant time, and the separate caches of their holders.

use std::fmt;

use axum::http::{HeaderMap, header};
use subtle::{Choice, ConstantTimeEq};

use super::error::{ApiError, ApiResult, Type};

/// Scope of all requests if the server asks for no keys.
const EVERYONE: &[u8] = b"everyone";

/// Hashes of the keys. Comparing hashes does not reveal a key's length either.
#[derive(Clone, Default)]
pub struct Keys {
    hashes: Vec<[u8; 32]>,
    share_cache: bool,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.hashes.len())
    }
}

impl Keys {
    #[must_use]
    pub fn new(keys: &[String], share_cache: bool) -> Self {
        Self { hashes: keys.iter().map(|key| hash(key.as_bytes())).collect(), share_cache }
    }

    /// Returns the scope of the cache that the request uses.
    ///
    /// # Errors
    /// 401 if a key is asked for and none of them is given.
    pub fn scope(&self, headers: &HeaderMap) -> ApiResult<Vec<u8>> {
        if self.hashes.is_empty() {
            return Ok(EVERYONE.to_vec());
        }
        let wrong = || ApiError::new(Type::Authentication, "Invalid API Key");
        let given = hash(given(headers).ok_or_else(wrong)?);
        // Every key is compared, even after a match.
        let fits = self.hashes.iter().fold(Choice::from(0), |fits, key| fits | key.ct_eq(&given));
        if !bool::from(fits) {
            return Err(wrong());
        }
        Ok(if self.share_cache { EVERYONE.to_vec() } else { given.to_vec() })
    }
}

fn hash(key: &[u8]) -> [u8; 32] {
    *blake3::hash(key).as_bytes()
}

fn given(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(value) = headers.get("x-api-key") {
        return Some(value.as_bytes());
    }
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn who_may_enter() {
        let keys = Keys::new(&["one".into(), "two".into()], false);
        for (name, value, fits) in [
            ("authorization", "Bearer one", true),
            ("authorization", "bearer two", true),
            ("authorization", "Bearer  two ", true),
            ("x-api-key", "one", true),
            ("authorization", "Bearer on", false),
            ("authorization", "Bearer onee", false),
            ("authorization", "Bearer", false),
            ("authorization", "Basic one", false),
            ("x-api-key", "", false),
            ("cookie", "one", false),
        ] {
            assert_eq!(keys.scope(&headers(name, value)).is_ok(), fits, "{name}: {value}");
        }
        assert!(Keys::default().scope(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn caches_are_shared_only_where_told() {
        let (one, two) = (headers("x-api-key", "one"), headers("x-api-key", "two"));
        let of = |share, headers| Keys::new(&["one".into(), "two".into()], share).scope(headers).unwrap();
        assert_ne!(of(false, &one), of(false, &two));
        assert_eq!(of(false, &one), of(false, &one));
        assert_eq!(of(true, &one), of(true, &two));
    }
}
