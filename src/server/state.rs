//! What all requests share.

use std::sync::Arc;

use super::admission::Admission;
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
    pub metrics: Metrics,
}

/// Handle that every request gets.
pub type Shared = Arc<App>;

impl App {
    /// # Errors
    /// A media folder that is none, or metrics under one name.
    pub fn new(settings: Settings, client: Client) -> Result<Self> {
        Ok(Self {
            keys: Keys::new(&settings.api_keys, settings.share_cache),
            media: Arc::new(Media::new(&settings.media, &settings.bounds)?),
            grammars: Grammars::new(settings.bounds.grammar_time),
            admission: Admission::new(settings.parallel, settings.queue),
            metrics: Metrics::new()?,
            settings,
            client,
        })
    }

    /// What clients call the model.
    #[must_use]
    pub fn model_name(&self) -> String {
        let file = || self.settings.model_path.file_name().map(|name| name.to_string_lossy().into_owned());
        self.settings.alias.clone().or_else(file).unwrap_or_else(|| "illava".to_owned())
    }

    /// # Errors
    /// 503 while the model loads, or where a restart takes too long.
    pub async fn ready(&self) -> ApiResult<Arc<Ready>> {
        self.client.ready_within(self.settings.bounds.restart_wait).await.ok_or_else(ApiError::loading)
    }
}
