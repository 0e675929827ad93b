//! Client of an OpenAI-compatible endpoint.

use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::StatusCode;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE};
use url::Url;

use crate::error::{Error, Field, Kind, Result, printable};
use crate::stop::Stop;

/// Attempts at one question.
const ATTEMPTS: u32 = 4;
/// Longest wait for one reply.
const PATIENCE: Duration = Duration::from_secs(180);
/// Wait before the second attempt. It doubles for each further one.
const PAUSE: Duration = Duration::from_secs(1);
/// Tokens of a reply at most: a number, an object or two numbers, and some words.
const TOKENS: u32 = 256;
/// Bytes of a reply at most.
const LONGEST: u64 = 4 << 20;

/// Judge at an endpoint.
pub struct Client {
    agent: Agent,
    endpoint: Url,
    model: String,
    authorization: Option<String>,
    pause: Duration,
    stop: Stop,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("judge", &self.name()).finish_non_exhaustive()
    }
}

impl Client {
    /// Describes the judge at `url`, as `http://host:8080/v1`. Without `model` the endpoint must serve one only,
    /// which is taken.
    ///
    /// # Errors
    /// [`Kind::Usage`] for an address or a key that cannot be one, and if there is a choice of models.
    /// [`Kind::Model`] if the endpoint does not answer.
    pub fn new(url: &str, model: Option<&str>, key: Option<&str>, stop: Stop) -> Result<Self> {
        let wrong = |why: &str| {
            Error::usage(format!("{} {url}: {why}; give one as http://host:8080/v1", Field::Judge))
        };
        let text = url.trim_end_matches('/').trim_end_matches("/chat/completions");
        let endpoint = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(endpoint.scheme(), "http" | "https") || endpoint.host().is_none() {
            return Err(wrong("is no address of a server"));
        }
        let key = key.filter(|key| !key.is_empty());
        if key.is_some_and(|key| !key.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(Error::usage(
                "the judge's key: not a key (it has spaces or letters outside ASCII); copy it again",
            ));
        }
        let agent = Agent::config_builder()
            .user_agent(concat!("illava/", env!("CARGO_PKG_VERSION")))
            .https_only(endpoint.scheme() == "https")
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .new_agent();
        let authorization = key.map(|key| format!("Bearer {key}"));
        let mut client = Self {
            agent,
            endpoint,
            model: model.unwrap_or_default().to_owned(),
            authorization,
            pause: PAUSE,
            stop,
        };
        if model.is_none() {
            client.model = client.only_model()?;
        }
        Ok(client)
    }

    /// Returns the model and its host, for reports.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} at {}", self.model, self.endpoint.host_str().unwrap_or_default())
    }

    /// Returns the judge's reply, drawn at temperature 0. A server that is busy or out of reach is asked up to
    /// four times.
    ///
    /// # Errors
    /// [`Kind::Model`] with the server's reason; [`Kind::Interrupted`] if the person asked to stop.
    pub fn ask(&self, system: &str, text: &str) -> Result<String> {
        let body = json!({
            "model": self.model,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": TOKENS,
        });
        let reply = self.send("chat/completions", Some(&body))?;
        let said = reply["choices"][0]["message"]["content"].as_str().unwrap_or_default().trim();
        match said.is_empty() {
            true => Err(self.failed("gave no text")),
            false => Ok(said.to_owned()),
        }
    }

    fn only_model(&self) -> Result<String> {
        let reply = self.send("models", None)?;
        let names: Vec<&str> =
            reply["data"].as_array().into_iter().flatten().filter_map(|model| model["id"].as_str()).collect();
        let (judge, field, endpoint) = (Field::Judge, Field::JudgeModel, &self.endpoint);
        match names.as_slice() {
            [only] => Ok((*only).to_owned()),
            [] => Err(Error::usage(format!("{judge} {endpoint}: lists no model; give {field}"))),
            _ => {
                let some = names.iter().take(10).copied().collect::<Vec<_>>().join(", ");
                Err(Error::usage(format!(
                    "{judge} {endpoint}: has several models; give {field}, one of {some}"
                )))
            }
        }
    }

    fn send(&self, path: &str, body: Option<&Value>) -> Result<Value> {
        let url = format!("{}/{path}", self.endpoint.as_str().trim_end_matches('/'));
        let mut pause = self.pause;
        for attempt in 1.. {
            if self.stop.is_asked() {
                return Err(Error::interrupted());
            }
            match self.once(&url, body) {
                Ok(reply) => return Ok(reply),
                Err((why, passing)) if attempt == ATTEMPTS || !passing => return Err(self.failed(&why)),
                Err(_) => std::thread::sleep(pause),
            }
            pause *= 2;
        }
        Err(self.failed("was not asked"))
    }

    /// Sends one request. A failure tells whether another attempt may succeed.
    fn once(&self, url: &str, body: Option<&Value>) -> std::result::Result<Value, (String, bool)> {
        let lost = |error: ureq::Error| (error.to_string(), !matches!(error, ureq::Error::BadUri(_)));
        let response = match body {
            Some(body) => {
                let mut request = self.agent.post(url).header(CONTENT_TYPE, "application/json");
                if let Some(authorization) = &self.authorization {
                    request = request.header(AUTHORIZATION, authorization);
                }
                request.send(body.to_string())
            }
            None => {
                let mut request = self.agent.get(url);
                if let Some(authorization) = &self.authorization {
                    request = request.header(AUTHORIZATION, authorization);
                }
                request.call()
            }
        };
        let mut response = response.map_err(lost)?;
        let status = response.status();
        let text = response.body_mut().with_config().limit(LONGEST).read_to_string().map_err(lost)?;
        if status != StatusCode::OK {
            let passing = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
            return Err((format!("answered {status}: {}", printable(&text, 200)), passing));
        }
        serde_json::from_str(&text)
            .map_err(|_| ("answered with something that is not JSON".to_owned(), false))
    }

    fn failed(&self, why: &str) -> Error {
        let name = if self.model.is_empty() { self.endpoint.to_string() } else { self.name() };
        Error::new(Kind::Model, format!("judge {name}: {why}; the same command asks it again"))
    }
}
