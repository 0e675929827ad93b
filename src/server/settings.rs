//! What the server was told on its command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::media::video::Programs;
use crate::request::{self, Sampling};
use crate::server::client::Patience;

/// Everything but how a worker is started.
#[derive(Debug, Clone)]
pub struct Settings {
    pub host: String,
    /// 0 takes a free one.
    pub port: u16,
    /// What `/v1/models` calls the model; without it, the text model's file name.
    pub alias: Option<String>,
    /// Path of the text model, as `/props` shows it.
    pub model_path: PathBuf,
    /// Empty: no key is asked for.
    pub api_keys: Vec<String>,
    /// Answers under way at once.
    pub parallel: u32,
    /// Requests that may wait beside those.
    pub queue: u32,
    pub metrics: bool,
    pub slots: bool,
    /// Whether slots can be saved and restored.
    pub saves_slots: bool,
    /// Whether requests of different keys may share encoded pictures and cached prompts.
    pub share_cache: bool,
    pub access: Access,
    pub media: MediaAccess,
    pub bounds: Bounds,
    /// What requests that say nothing get.
    pub sampling: Sampling,
    /// Tokens of an answer where a request names no number; `None` until the context is full.
    pub max_tokens: Option<u32>,
    pub patience: Patience,
    /// How long requests under way may take after the order to stop.
    pub drain: Duration,
}

/// Who may talk to the server from a browser.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Names the server is called by, beside localhost and addresses; `*` is any.
    pub hosts: Vec<String>,
    /// Origins of other pages that may ask; `*` is any.
    pub origins: Vec<String>,
}

/// Where pictures and videos may come from, beside the request itself.
#[derive(Debug, Clone, Default)]
pub struct MediaAccess {
    /// The folder that `file://` reads from.
    pub folder: Option<PathBuf>,
    /// Hosts that pictures may be fetched from; `*` is any. Empty: nothing is fetched.
    pub hosts: Vec<String>,
    /// What reads videos.
    pub programs: Programs,
}

/// What one request may cost.
#[derive(Debug, Clone)]
pub struct Bounds {
    pub body_bytes: usize,
    /// What a body may hold.
    pub request: request::Bounds,
    pub image_bytes: u64,
    pub image_pixels: u64,
    /// All pictures of a request together, frames of videos too.
    pub request_pixels: u64,
    pub video_bytes: u64,
    /// Frames taken of one video.
    pub video_frames: u32,
    /// All frames taken of one video; above it they are made smaller.
    pub video_pixels: u64,
    /// Looking at a video, and again reading its frames.
    pub video_time: Duration,
    pub grammar_time: Duration,
    pub connections: usize,
    /// A request's head, and between two pieces of its body.
    pub read_time: Duration,
    /// A request's whole body.
    pub body_time: Duration,
    /// Fetching one picture or video, from the name's look-up to the last byte.
    pub fetch_time: Duration,
    /// How long a request waits for a worker that is being restarted.
    pub restart_wait: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            body_bytes: 64 << 20,
            request: request::Bounds::default(),
            image_bytes: 32 << 20,
            image_pixels: 120_000_000,
            request_pixels: 200_000_000,
            video_bytes: 256 << 20,
            video_frames: 768,
            video_pixels: 100_000_000,
            video_time: Duration::from_secs(60),
            grammar_time: Duration::from_secs(2),
            connections: 1024,
            read_time: Duration::from_secs(15),
            body_time: Duration::from_secs(60),
            fetch_time: Duration::from_secs(20),
            restart_wait: Duration::from_secs(5),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 8080,
            alias: None,
            model_path: PathBuf::new(),
            api_keys: Vec::new(),
            parallel: 1,
            queue: 64,
            metrics: false,
            slots: true,
            saves_slots: false,
            share_cache: false,
            access: Access::default(),
            media: MediaAccess::default(),
            bounds: Bounds::default(),
            sampling: Sampling::default(),
            max_tokens: None,
            patience: Patience::default(),
            drain: Duration::from_secs(60),
        }
    }
}
