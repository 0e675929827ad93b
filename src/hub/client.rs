//! HTTP client of the hub: the contents of a repository, and a file from some byte on.

use std::io::Read;

use headers::{ContentLength, ContentRange, Header, HeaderMapExt, Range};
use ureq::config::RedirectAuthHeaders;
use ureq::http::header::{AUTHORIZATION, RANGE};
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};
use url::Url;

use super::listing::{self, Listed};
use super::name::Repo;
use super::settings::Settings;
use crate::error::{Error, Field, Kind, Result};

/// Largest list of files in bytes.
const LISTING_BYTES: u64 = 32 << 20;

pub(super) struct Client {
    agent: Agent,
    endpoint: Url,
    repo: Repo,
    /// Value of the header, if there is a token.
    authorization: Option<String>,
}

/// Error with its remedy.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// No host answered: the cache may do.
    pub(super) unreachable: bool,
    /// Another attempt may succeed.
    pub(super) passing: bool,
}

/// Content of a file from a byte on.
pub(super) struct Content {
    /// First byte that comes: the one asked for, or 0 from a server that knows no ranges.
    pub(super) from: u64,
    pub(super) body: Box<dyn Read>,
}

impl Client {
    /// # Errors
    /// [`Kind::Usage`] if the token cannot stand in a header.
    pub(super) fn new(settings: &Settings, repo: &Repo) -> Result<Self> {
        if settings.token.as_ref().is_some_and(|token| !token.0.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(Error::usage(
                "HF_TOKEN: not a token (it has spaces or letters outside ASCII); copy it again",
            ));
        }
        let agent = Agent::config_builder()
            .user_agent(concat!("illava/", env!("CARGO_PKG_VERSION")))
            // Other hosts hold the content. They get no token.
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .https_only(settings.endpoint.scheme() == "https")
            .http_status_as_error(false)
            .timeout_connect(Some(settings.patience.connect))
            .timeout_recv_response(Some(settings.patience.silence))
            .timeout_per_read(Some(settings.patience.silence))
            .build()
            .new_agent();
        Ok(Self {
            agent,
            endpoint: settings.endpoint.clone(),
            repo: repo.clone(),
            authorization: settings.token.as_ref().map(|token| format!("Bearer {}", token.0)),
        })
    }

    /// Lists the files of the repository at `main`.
    pub(super) fn list(&self) -> std::result::Result<Listed, Failure> {
        let mut url = self.url(&["api", "models", &self.repo.user, &self.repo.name, "revision", "main"]);
        url.set_query(Some("blobs=true"));
        let response = self.get(&url, None).map_err(|error| self.lost(&error))?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(&response, None));
        }
        let mut json = Vec::new();
        response
            .into_body()
            .into_reader()
            .take(LISTING_BYTES)
            .read_to_end(&mut json)
            .map_err(|error| self.lost(&ureq::Error::Io(error)))?;
        listing::read(&json).map_err(|reason| {
            let line = format!(
                "{hf} {}: {} answered with {reason}; is HF_ENDPOINT right?",
                self.repo,
                self.endpoint,
                hf = Field::Repository
            );
            Failure { error: Error::new(Kind::File, line), unreachable: false, passing: false }
        })
    }

    /// Opens the content of `path` at `commit` from byte `from` on, of `size` bytes in all.
    ///
    /// Returns `None` if the server has no such bytes: `from` must then be wrong.
    pub(super) fn content(
        &self,
        commit: &str,
        path: &str,
        from: u64,
        size: u64,
    ) -> std::result::Result<Option<Content>, Failure> {
        let head = [self.repo.user.as_str(), &self.repo.name, "resolve", commit];
        let url = self.url(&head.into_iter().chain(path.split('/')).collect::<Vec<_>>());
        let response = self.get(&url, Some(from)).map_err(|error| self.lost(&error))?;
        let other_size = |found: u64| {
            let line = format!(
                "{hf} {}: {path} has {found} bytes, the repository lists {size}; try again later, or another mirror",
                self.repo,
                hf = Field::Repository
            );
            Failure { error: Error::new(Kind::File, line), unreachable: false, passing: false }
        };
        let starts = match response.status() {
            StatusCode::OK => {
                let length = response.headers().typed_get::<ContentLength>();
                if let Some(ContentLength(found)) = length.filter(|found| found.0 != size) {
                    return Err(other_size(found));
                }
                0
            }
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().typed_get::<ContentRange>();
                let total = range.as_ref().and_then(ContentRange::bytes_len);
                if let Some(found) = total.filter(|found| *found != size) {
                    return Err(other_size(found));
                }
                match range.and_then(|range| range.bytes_range()) {
                    Some((first, _)) if first == from => from,
                    _ => return Ok(None),
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE => return Ok(None),
            _ => return Err(self.refused(&response, Some(path))),
        };
        Ok(Some(Content { from: starts, body: Box::new(response.into_body().into_reader()) }))
    }

    fn url(&self, parts: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        // An http or https address always has segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(parts);
        }
        url
    }

    fn get(&self, url: &Url, from: Option<u64>) -> std::result::Result<Response<Body>, ureq::Error> {
        let mut request = self.agent.get(url.as_str());
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(range) = from.filter(|from| *from > 0).and_then(|from| Range::bytes(from..).ok()) {
            let mut values = Vec::new();
            range.encode(&mut values);
            for value in values {
                request = request.header(RANGE, value);
            }
        }
        request.call()
    }

    /// Makes the error of no answer at all.
    fn lost(&self, error: &ureq::Error) -> Failure {
        let host = self.endpoint.host_str().unwrap_or_default();
        let reason = match error {
            ureq::Error::HostNotFound => "unknown host".to_owned(),
            ureq::Error::Timeout(_) => "no answer in time".to_owned(),
            other => other.to_string(),
        };
        let line = format!(
            "{hf} {}: {host} cannot be reached ({reason}); check the network, or HF_ENDPOINT",
            self.repo,
            hf = Field::Repository
        );
        let passing =
            !matches!(error, ureq::Error::HostNotFound | ureq::Error::BadUri(_) | ureq::Error::Tls(_));
        Failure { error: Error::new(Kind::File, line), unreachable: true, passing }
    }

    /// Makes the error of an answer without the content.
    fn refused(&self, response: &Response<Body>, path: Option<&str>) -> Failure {
        let (status, repo) = (response.status(), &self.repo);
        let code = response.headers().get("x-error-code").and_then(|value| value.to_str().ok());
        let token = self.authorization.is_some();
        let gated = code == Some("GatedRepo");
        let what = path.map_or_else(String::new, |path| format!("{path}: "));
        let line = match status {
            _ if gated && token => format!(
                "gated; accept its conditions on {} with the account of HF_TOKEN",
                self.url(&[&repo.user, &repo.name])
            ),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if token => {
                format!("{status}; HF_TOKEN may not read it: check the token and the name")
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                format!(
                    "{status}; the name is wrong, or it is private or gated: set HF_TOKEN to a token that may read it"
                )
            }
            StatusCode::NOT_FOUND => match path {
                Some(_) => "not in the repository any more; start again".to_owned(),
                None => format!("{} has no such repository; check the name", self.endpoint),
            },
            StatusCode::TOO_MANY_REQUESTS => {
                format!("{status}; wait a while{}", if token { "" } else { ", or set HF_TOKEN" })
            }
            _ => format!("{} answered {status}; try again later", self.endpoint),
        };
        Failure {
            error: Error::new(Kind::File, format!("{hf} {repo}: {what}{line}", hf = Field::Repository)),
            unreachable: false,
            passing: status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS,
        }
    }
}
