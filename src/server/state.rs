//! State that all requests share.

use std::sync::Arc;

use axum::extract::Request;
use tokio::sync::watch;

use super::admission::Admission;
use super::body::{self, Bodies, Body};
use super::error::{ApiError, ApiResult};
use super::grammar::Grammars;
use super::keys::Keys;
use super::media::Media;
use super::metrics::Metrics;
use super::settings::Settings;
use crate::error::Result;
use crate::server::client::Client;
use crate::worker::protocol::Ready;

pub struct App {
    pub settings: Settings,
    pub client: Client,
    pub keys: Keys,
    pub media: Arc<Media>,
    pub grammars: Grammars,
    pub admission: Admission,
    pub bodies: Bodies,
    pub metrics: Metrics,
    /// Whether the server was told to stop.
    pub stop: watch::Sender<bool>,
}

/// Handle that every request gets.
pub type Shared = Arc<App>;

impl App {
    /// # Errors
    /// A media folder that is none, or two metrics of one name.
    pub fn new(settings: Settings, client: Client) -> Result<Self> {
        let admission = Admission::new(settings.parallel, settings.queue);
        Ok(Self {
            keys: Keys::new(&settings.api_keys, settings.share_cache),
            media: Arc::new(Media::new(&settings.media, &settings.bounds)?),
            grammars: Grammars::new(settings.bounds.grammar_time),
            bodies: Bodies::new(admission.capacity(), &settings.bounds),
            admission,
            metrics: Metrics::new()?,
            stop: watch::Sender::new(false),
            settings,
            client,
        })
    }

    /// Name of the model for clients.
    #[must_use]
    pub fn model_name(&self) -> String {
        let file = || self.settings.model_path.file_name().map(|name| name.to_string_lossy().into_owned());
        self.settings.alias.clone().or_else(file).unwrap_or_else(|| "illava".to_owned())
    }

    /// Reads a request's whole body within the server's bounds.
    ///
    /// # Errors
    /// As [`body::read`].
    pub async fn body(&self, request: Request) -> ApiResult<Body> {
        body::read(&self.bodies, &self.settings.bounds, self.stopping(), request).await
    }

    /// Resolves when the server is told to stop. A request that has not begun by then is refused.
    pub async fn stopping(&self) {
        // The sender lives as long as this value, so waiting does not fail.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// # Errors
    /// 503 while the model loads, or if a restart takes too long.
    pub async fn ready(&self) -> ApiResult<Arc<Ready>> {
        self.client.ready_within(self.settings.bounds.restart_wait).await.ok_or_else(ApiError::loading)
    }
}
