//! Settings of the server, as its command line gives them.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::media::video::Programs;
use crate::request::{self, Reasoning, Sampling, Thinking};
use crate::server::client::Patience;

/// All settings but those that start a worker.
#[derive(Debug, Clone)]
pub struct Settings {
    pub host: String,
    /// Port; 0 takes a free one.
    pub port: u16,
    /// Name of the model in `/v1/models`; without it, the text model's file name.
    pub alias: Option<String>,
    /// All names of the model, `alias` among them.
    pub aliases: Vec<String>,
    /// Words about the model.
    pub tags: Vec<String>,
    /// Path of the text model, as `/props` shows it.
    pub model_path: PathBuf,
    /// Keys; empty if no key is asked for.
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
    /// Defaults of requests.
    pub sampling: Sampling,
    /// Thoughts of answers whose requests say nothing of them, and their place.
    pub thinking: Thinking,
    pub reasoning: Reasoning,
    /// Variables of the chat template, behind those of a request.
    pub variables: Map<String, Value>,
    /// Tokens of an answer if a request names no number; `None` until the context is full.
    pub max_tokens: Option<u32>,
    pub patience: Patience,
    /// Time that requests under way get after the order to stop.
    pub drain: Duration,
}

/// Names and origins that browsers may use.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Names the server is called by, beside localhost and addresses; `*` is any.
    pub hosts: Vec<String>,
    /// Origins of other pages that may ask; `*` is any.
    pub origins: Vec<String>,
}

/// Sources of pictures and videos, beside the request itself.
#[derive(Debug, Clone, Default)]
pub struct MediaAccess {
    /// Folder that `file://` reads from.
    pub folder: Option<PathBuf>,
    /// Hosts that pictures may be fetched from; `*` is any. If it is empty, nothing is fetched.
    pub hosts: Vec<String>,
    /// Programs that read videos.
    pub programs: Programs,
}

/// Limits of one request.
#[derive(Debug, Clone)]
pub struct Bounds {
    pub body_bytes: usize,
    /// Limits of a body's content.
    pub request: request::Bounds,
    pub image_bytes: u64,
    pub image_pixels: u64,
    /// Pixels of all pictures of a request together, frames of videos too.
    pub request_pixels: u64,
    pub video_bytes: u64,
    /// Frames taken of one video.
    pub video_frames: u32,
    /// Pixels of all frames taken of one video; above it they are made smaller.
    pub video_pixels: u64,
    /// Time for looking at a video, and again for reading its frames.
    pub video_time: Duration,
    pub grammar_time: Duration,
    pub connections: usize,
    /// Time for a request's head, and between two pieces of its body.
    pub read_time: Duration,
    /// Time for a request's whole body.
    pub body_time: Duration,
    /// Time for fetching one picture or video, from the name's look-up to the last byte.
    pub fetch_time: Duration,
    /// Time that a request waits for a worker that is being restarted.
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
            aliases: Vec::new(),
            tags: Vec::new(),
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
            thinking: Thinking::default(),
            reasoning: Reasoning::Apart,
            variables: Map::new(),
            max_tokens: None,
            patience: Patience::default(),
            drain: Duration::from_secs(60),
        }
    }
}
