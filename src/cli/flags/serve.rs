//! The flags of `serve` beside the model's.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::draw::DrawFlags;
use super::worker::WorkerFlags;
use crate::request::Reasoning;

#[derive(Debug, Args)]
pub struct ServeFlags {
    #[command(flatten)]
    pub worker: WorkerFlags,
    #[command(flatten)]
    pub answers: AnswerFlags,
    #[command(flatten)]
    pub limits: LimitFlags,

    /// File (TOML) with several models, each loaded when a request names it; instead of -m and -mm
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub models: Option<PathBuf>,
    /// Address to listen on; a comma list for several, with one port
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1",
        env = "LLAMA_ARG_HOST",
        help_heading = "Server"
    )]
    pub host: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 8080, env = "LLAMA_ARG_PORT", help_heading = "Server")]
    pub port: u16,
    /// Name of the model for clients, without it the text model's file name; in a comma list, the first by the alphabet
    /// is the name and the others are found, too
    #[arg(short, long, value_name = "NAME", env = "LLAMA_ARG_ALIAS", help_heading = "Server")]
    pub alias: Option<String>,
    /// Words about the model that /v1/models tells, as a comma list
    #[arg(long, value_name = "WORDS", env = "LLAMA_ARG_TAGS", help_heading = "Server")]
    pub tags: Option<String>,
    /// Key that clients must show; repeat it, or give a comma list
    #[arg(
        long,
        value_name = "KEY",
        value_delimiter = ',',
        env = "LLAMA_API_KEY",
        hide_env_values = true,
        help_heading = "Server"
    )]
    pub api_key: Vec<String>,
    /// File with one key a line
    #[arg(long, value_name = "FILE", env = "LLAMA_ARG_API_KEY_FILE", help_heading = "Server")]
    pub api_key_file: Option<PathBuf>,
    /// Names clients may call the server by, beside localhost and addresses; * is any
    #[arg(long, value_name = "HOSTS", value_delimiter = ',', help_heading = "Server")]
    pub allowed_hosts: Vec<String>,
    /// Origins of other web pages that may ask, for example https://app.example; * is any
    #[arg(long, value_name = "ORIGINS", value_delimiter = ',', help_heading = "Server")]
    pub cors_origins: Vec<String>,
    /// Serve /metrics for Prometheus
    #[arg(long, env = "LLAMA_ARG_ENDPOINT_METRICS", value_parser = BoolishValueParser::new(), help_heading = "Server")]
    pub metrics: bool,
    /// Serve /slots (the default)
    #[arg(long, env = "LLAMA_ARG_ENDPOINT_SLOTS", value_parser = BoolishValueParser::new(), overrides_with = "no_slots", help_heading = "Server")]
    pub slots: bool,
    /// Do not serve /slots
    #[arg(long, env = "LLAMA_ARG_NO_ENDPOINT_SLOTS", value_parser = BoolishValueParser::new(), help_heading = "Server")]
    pub no_slots: bool,
    /// Let all API keys share encoded pictures and cached prompts
    #[arg(long, help_heading = "Server")]
    pub share_cache: bool,
    /// Folder that file:// pictures and videos are read from; without it, none are
    #[arg(long, value_name = "FOLDER", env = "LLAMA_ARG_MEDIA_PATH", help_heading = "Server")]
    pub media_path: Option<PathBuf>,
    /// Hosts that pictures and videos are fetched from: example.com, *.example.com, or * for any; without it, none are
    #[arg(long, value_name = "HOSTS", value_delimiter = ',', help_heading = "Server")]
    pub allow_remote_media: Vec<String>,
}

/// Defaults of requests.
#[derive(Debug, Args)]
pub struct AnswerFlags {
    /// Tokens of an answer at most; -1 until the context is full
    #[arg(
        short = 'n',
        long = "predict",
        visible_alias = "n-predict",
        value_name = "N",
        default_value_t = -1,
        allow_negative_numbers = true,
        env = "LLAMA_ARG_N_PREDICT",
        help_heading = "Sampling"
    )]
    pub predict: i64,
    #[command(flatten)]
    pub draw: DrawFlags,
    #[command(flatten)]
    pub thoughts: ThoughtFlags,
}

/// Thoughts ahead of answers.
#[derive(Debug, Args)]
pub struct ThoughtFlags {
    /// Whether answers begin with a thought; auto is the chat template's own choice
    #[arg(
        long,
        value_name = "WHEN",
        value_parser = ["on", "off", "auto"],
        default_value = "auto",
        env = "LLAMA_ARG_REASONING",
        help_heading = "Thoughts"
    )]
    pub reasoning: String,
    /// Place of thoughts: apart from the text (deepseek, auto), in it (none), or both (deepseek-legacy)
    #[arg(
        long,
        value_name = "PLACE",
        value_parser = Reasoning::NAMES,
        default_value = "auto",
        env = "LLAMA_ARG_THINK",
        help_heading = "Thoughts"
    )]
    pub reasoning_format: String,
    /// Tokens of a thought at most, then it is closed; -1 is no limit
    #[arg(
        long,
        value_name = "N",
        default_value_t = -1,
        allow_negative_numbers = true,
        env = "LLAMA_ARG_THINK_BUDGET",
        help_heading = "Thoughts"
    )]
    pub reasoning_budget: i64,
    /// Variables of the chat template, as a JSON object; those of a request come first
    #[arg(long, value_name = "JSON", env = "LLAMA_CHAT_TEMPLATE_KWARGS", help_heading = "Thoughts")]
    pub chat_template_kwargs: Option<String>,
}

/// Limits of one request.
#[derive(Debug, Args)]
pub struct LimitFlags {
    /// Requests that may wait for a slot; one more gets 429
    #[arg(long, value_name = "N", default_value_t = 64, help_heading = "Limits")]
    pub queue: u32,
    /// Connections at once
    #[arg(long, value_name = "N", default_value_t = 1024, help_heading = "Limits")]
    pub max_connections: u32,
    /// Bytes of a request's body, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 64, help_heading = "Limits")]
    pub max_body: u32,
    /// Arrays and objects inside one another
    #[arg(long, value_name = "N", default_value_t = 64, help_heading = "Limits")]
    pub max_json_depth: u32,
    /// Bytes of text in a conversation
    #[arg(long, value_name = "N", default_value_t = 1 << 20, help_heading = "Limits")]
    pub max_prompt_bytes: u32,
    /// Pictures in a request
    #[arg(long, value_name = "N", default_value_t = 32, help_heading = "Limits")]
    pub max_images: u32,
    /// Bytes of one picture's file, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 32, help_heading = "Limits")]
    pub max_image_bytes: u32,
    /// Pixels of one picture, in millions
    #[arg(long, value_name = "MP", default_value_t = 120, help_heading = "Limits")]
    pub max_image_pixels: u32,
    /// Pixels of all pictures and frames of a request, in millions (at most 350)
    #[arg(long, value_name = "MP", default_value_t = 200, help_heading = "Limits")]
    pub max_request_pixels: u32,
    /// Videos in a request
    #[arg(long, value_name = "N", default_value_t = 4, help_heading = "Limits")]
    pub max_videos: u32,
    /// Bytes of one video's file, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256, help_heading = "Limits")]
    pub max_video_bytes: u32,
    /// Frames taken of one video; the model's own rule with no more than these
    #[arg(long, value_name = "N", default_value_t = 768, help_heading = "Limits")]
    pub max_video_frames: u32,
    /// Pixels of all frames taken of one video, in millions; above it they are made smaller
    #[arg(long, value_name = "MP", default_value_t = 100, help_heading = "Limits")]
    pub max_video_pixels: u32,
    /// Seconds that looking at a video may take, and again reading its frames
    #[arg(long, value_name = "S", default_value_t = 60.0, help_heading = "Limits")]
    pub video_timeout: f32,
    /// Bytes of a grammar or JSON schema
    #[arg(long, value_name = "N", default_value_t = 64 << 10, help_heading = "Limits")]
    pub max_grammar_bytes: u32,
    /// Seconds a JSON schema may take to compile
    #[arg(long, value_name = "S", default_value_t = 2.0, help_heading = "Limits")]
    pub grammar_timeout: f32,
    /// Answers to one request (n)
    #[arg(long, value_name = "N", default_value_t = 8, help_heading = "Limits")]
    pub max_choices: u32,
    /// Seconds a request's head may take
    #[arg(long, value_name = "S", default_value_t = 15.0, help_heading = "Limits")]
    pub head_timeout: f32,
    /// Seconds a request's body may take
    #[arg(long, value_name = "S", default_value_t = 60.0, help_heading = "Limits")]
    pub body_timeout: f32,
    /// Seconds the fetching of a picture or video may take
    #[arg(long, value_name = "S", default_value_t = 20.0, help_heading = "Limits")]
    pub fetch_timeout: f32,
    /// Seconds a worker may be silent before it is killed
    #[arg(long, value_name = "S", default_value_t = 300.0, help_heading = "Limits")]
    pub worker_timeout: f32,
    /// Seconds answers under way get after SIGTERM
    #[arg(long, value_name = "S", default_value_t = 60.0, help_heading = "Limits")]
    pub drain_timeout: f32,
}
