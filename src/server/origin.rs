//! Rights of a page in a browser: the names that the server answers to, and the other pages that may ask it.
//!
//! A page of another site can make a browser send requests here: by a name that resolves to this machine (DNS
//! rebinding), or as a form. The server therefore refuses unknown names, and every `Origin` that is neither
//! itself nor allowed.

use axum::http::{HeaderValue, Request, Version, header};
use url::{Host, Url};

use super::error::{ApiError, ApiResult, Type};
use super::settings::Access;

/// Checks `Host` and `Origin`. HTTP/1.0 has no `Host`: checks of load balancers come without one, browsers
/// never do.
///
/// # Errors
/// 403 that names the flag to use; 400 for a request that must have a `Host` and has none.
pub fn check<B>(access: &Access, request: &Request<B>) -> ApiResult<()> {
    let headers = request.headers();
    let named = headers
        .get(header::HOST)
        .map(HeaderValue::as_bytes)
        .or_else(|| request.uri().authority().map(|authority| authority.as_str().as_bytes()));
    let host = named.and_then(|host| std::str::from_utf8(host).ok()).unwrap_or_default();
    if named.is_none_or(<[u8]>::is_empty) {
        if request.version() > Version::HTTP_10 {
            return Err(ApiError::invalid("the request has no Host header; HTTP/1.1 needs one"));
        }
    } else if !host_is_ours(access, host) {
        return Err(ApiError::new(
            Type::Permission,
            format!("the server does not answer to the host `{}`; add it with --allowed-hosts", shown(host)),
        ));
    }
    match headers.get(header::ORIGIN) {
        Some(origin) if !origin_may_ask(access, origin, host) => Err(ApiError::new(
            Type::Permission,
            format!(
                "pages of `{}` may not ask this server; add them with --cors-origins",
                shown(&String::from_utf8_lossy(origin.as_bytes()))
            ),
        )),
        _ => Ok(()),
    }
}

/// Whether a page of `origin` may read the answer.
#[must_use]
pub fn origin_may_ask(access: &Access, origin: &HeaderValue, host: &str) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    if access.origins.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin)) {
        return true;
    }
    let Ok(origin) = Url::parse(origin) else { return false };
    if !matches!(origin.scheme(), "http" | "https") {
        return false;
    }
    let Some(name) = origin.host() else { return false };
    let same = parse(host).is_some_and(|own| own.host() == Some(name.clone()) && own.port() == origin.port());
    same || is_local(&name)
}

fn host_is_ours(access: &Access, host: &str) -> bool {
    if access.hosts.iter().any(|allowed| allowed == "*") {
        return true;
    }
    let Some(url) = parse(host) else { return false };
    let Some(name) = url.host() else { return false };
    match &name {
        // An address is no name: it cannot be made to point elsewhere.
        Host::Ipv4(_) | Host::Ipv6(_) => true,
        Host::Domain(domain) => {
            is_local(&name) || access.hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(domain))
        }
    }
}

fn parse(host: &str) -> Option<Url> {
    // A character that could end the host would turn the rest into a path or a password.
    if host.is_empty() || host.contains(['/', '\\', '@', '?', '#']) {
        return None;
    }
    Url::parse(&format!("http://{host}")).ok()
}

fn is_local(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
        }
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        Access { hosts: vec!["vision.example".into()], origins: vec!["https://app.example".into()] }
    }

    fn asked(access: &Access, host: &'static str, origin: Option<&'static str>) -> bool {
        let mut request = Request::get("/").header(header::HOST, host);
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        check(access, &request.body(()).unwrap()).is_ok()
    }

    #[test]
    fn names_the_server_answers_to() {
        for (host, ours) in [
            ("localhost", true),
            ("localhost:8080", true),
            ("LOCALHOST:1", true),
            ("page.localhost:8080", true),
            ("127.0.0.1:8080", true),
            ("192.168.1.7:8080", true),
            ("[::1]:8080", true),
            ("vision.example", true),
            ("Vision.Example:443", true),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("vision.example.evil.example", false),
            ("evil.example@localhost", false),
            ("localhost#.evil.example", false),
            ("evil.example/localhost", false),
            ("", false),
            ("[::1", false),
        ] {
            assert_eq!(asked(&access(), host, None), ours, "{host}");
        }
        assert!(asked(&Access { hosts: vec!["*".into()], ..Access::default() }, "evil.example", None));
    }

    #[test]
    fn a_request_without_a_host() {
        for (version, fits) in [(Version::HTTP_10, true), (Version::HTTP_11, false)] {
            let request = Request::get("/").version(version).body(()).unwrap();
            assert_eq!(check(&access(), &request).is_ok(), fits, "{version:?}");
        }
    }

    #[test]
    fn pages_that_may_ask() {
        for (host, origin, may) in [
            ("localhost:8080", "http://localhost:8080", true),
            ("localhost:8080", "http://localhost:3000", true),
            ("127.0.0.1:8080", "http://127.0.0.1:5173", true),
            ("192.168.1.7:8080", "http://192.168.1.7:8080", true),
            ("192.168.1.7:8080", "http://192.168.1.8:8080", false),
            ("localhost:8080", "https://app.example", true),
            ("localhost:8080", "http://app.example", false),
            ("localhost:8080", "https://app.example.evil.example", false),
            ("localhost:8080", "null", false),
            ("localhost:8080", "file://", false),
            ("localhost:8080", "chrome-extension://abc", false),
            ("localhost:8080", "https://evil.example", false),
        ] {
            assert_eq!(asked(&access(), host, Some(origin)), may, "{origin} at {host}");
        }
    }
}
