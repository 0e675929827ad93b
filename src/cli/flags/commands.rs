//! Flags of `run`, `explain`, `bench`, `eval` and `inspect`, and the flags of model, merging and sampling
//! that commands share.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::device::DeviceFlags;
use super::draw::{DrawFlags, PenaltyFlags, StopFlags};
use super::names;
use super::strategy::StrategyFlags;
use super::text::{FormFlags, PromptFlags, TemplateFlags};
use super::video::{FrameFlags, VideoFlags};
use super::weight::WeightFlags;

#[derive(Debug, Args)]
pub struct RunFlags {
    /// Picture to ask about: a file, a data: URI or a file:// URL; several at once, in a comma list or with the flag again
    #[arg(long, value_name = "FILE", num_args = 1.., help_heading = "Prompt")]
    pub image: Vec<OsString>,
    #[command(flatten)]
    pub text: PromptFlags,
    #[command(flatten)]
    pub videos: VideoFlags,
    #[command(flatten)]
    pub template: TemplateFlags,

    /// Write the report of the answer as JSON; - is stdout
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub report: Option<PathBuf>,
    /// Write every merge step as JSON; - is stdout
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub trace: Option<PathBuf>,

    #[command(flatten)]
    pub model: ModelFlags,
    #[command(flatten)]
    pub merge: MergeFlags,
    #[command(flatten)]
    pub sampling: SamplingFlags,
}

#[derive(Debug, Args)]
pub struct ExplainFlags {
    #[command(flatten)]
    pub run: RunFlags,
    /// Show this trace instead of answering anew: no model is loaded; --image and --video give what it is of
    #[arg(long, value_name = "TRACE.json", help_heading = "Prompt")]
    pub from: Option<PathBuf>,
    /// Folder for the pictures, the page and the numbers
    #[arg(long, value_name = "FOLDER", default_value = "explain", help_heading = "Output")]
    pub out: PathBuf,
    /// Pixels across one panel of a strip
    #[arg(long, value_name = "N", default_value_t = 240, value_parser = clap::value_parser!(u32).range(32..=2048), help_heading = "Output")]
    pub panel_width: u32,
}

#[derive(Debug, Args)]
pub struct BenchFlags {
    #[command(flatten)]
    pub model: ModelFlags,
    #[command(flatten)]
    pub merge: MergeFlags,
    /// Another schedule to measure beside off and the one above: a preset, a share as in --keep, a strategy, or one with the other as paper/random; repeat it, or give a comma list
    #[arg(long, value_name = "PRESET|R[/STRATEGY]", value_delimiter = ',', value_parser = names::SUBJECTS, hide_possible_values = true, help_heading = "Bench")]
    pub against: Vec<String>,
    /// Picture to encode; several at once, in a comma list or with the flag again [default: a generated one]
    #[arg(long, value_name = "FILE", num_args = 1.., help_heading = "Bench")]
    pub image: Vec<OsString>,
    #[command(flatten)]
    pub videos: VideoFlags,
    /// Words of the question
    #[arg(short = 'p', long, visible_alias = "n-prompt", value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Bench")]
    pub prompt_words: u32,
    /// Tokens to generate
    #[arg(short = 'n', long, visible_alias = "n-gen", value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Bench")]
    pub predict: u32,
    /// Rounds that count
    #[arg(short = 'r', long, visible_alias = "repetitions", value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000), help_heading = "Bench")]
    pub rounds: u32,
    /// Rounds before those that count
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=10_000), help_heading = "Bench")]
    pub warm_up: u32,
    /// Output format: md (a table), csv (a line for each schedule and part) or json (every sample)
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "md", value_parser = names::PRINTED, hide_possible_values = true, help_heading = "Output")]
    pub output: String,
    /// Write every sample as JSON; - is stdout
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// Draw the parts as stacked bars; the name ends in .png or .svg
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub plot: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct EvalFlags {
    #[command(flatten)]
    pub model: ModelFlags,
    #[command(flatten)]
    pub merge: MergeFlags,
    /// Question set: .jsonl, .json, .parquet or .tsv as public benchmarks come, or a folder of parquet files
    #[arg(long, value_name = "FILE", required_unless_present = "from", help_heading = "Evaluation")]
    pub set: Option<PathBuf>,
    /// Split of a folder of parquet files [default: the first with answers of test, validation, dev, train]
    #[arg(long, value_name = "NAME", help_heading = "Evaluation")]
    pub split: Option<String>,
    /// Folder of a public set's videos [default: the set's own, and below]
    #[arg(long, value_name = "FOLDER", help_heading = "Evaluation")]
    pub videos: Option<PathBuf>,
    /// Put the subtitles of a video's frames into the prompt, where a set has them
    #[arg(long, help_heading = "Evaluation")]
    pub subtitles: bool,
    /// Schedules beside off and the one above: a preset, a share as in --keep, a strategy, or one with the other as paper/random; repeat it, or give a comma list
    #[arg(long, value_name = "PRESET|R[/STRATEGY]", value_delimiter = ',', value_parser = names::SUBJECTS, hide_possible_values = true, help_heading = "Evaluation")]
    pub against: Vec<String>,
    /// How answers are marked: exact, words, choice, anls, relaxed, yes_no, vqa ... [default: by the set's columns]
    #[arg(long, value_name = "NAME", value_parser = names::METRICS, hide_possible_values = true, help_heading = "Evaluation")]
    pub metric: Option<String>,
    /// Put after each question [default: by the metric]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, help_heading = "Evaluation")]
    pub instruction: Option<String>,
    #[command(flatten)]
    pub frames: FrameFlags,
    /// The first N questions only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Evaluation")]
    pub limit: Option<u32>,
    /// Tokens of an answer at most [default: 32; 64 or 512 for metrics of longer answers]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Evaluation")]
    pub predict: Option<u32>,
    /// OpenAI-compatible endpoint of a model that marks answers of MM-Vet, LLaVA-Bench, Video-ChatGPT, VideoDC and ActivityNet-QA, as http://host:8080/v1; ILLAVA_JUDGE_KEY holds its key
    #[arg(long, value_name = "URL", help_heading = "Evaluation")]
    pub judge: Option<String>,
    /// Model of the judge [default: the only one it has]
    #[arg(long, value_name = "NAME", requires = "judge", help_heading = "Evaluation")]
    pub judge_model: Option<String>,
    #[command(flatten)]
    pub penalties: PenaltyFlags,
    #[command(flatten)]
    pub ends: StopFlags,
    /// Log-probabilities of the answers' tokens into the log, with N alternatives each
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub n_probs: Option<u32>,
    /// Every answer, one JSON object a line; a call that was stopped goes on from it
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub log: Option<PathBuf>,
    /// Write the rows as JSON; - is stdout
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// Write the rows as CSV
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub csv: Option<PathBuf>,
    /// Ask nothing: show the rows that --json has written; repeat it to draw several sets and models in one figure
    #[arg(long, value_name = "FILE", conflicts_with_all = ["set", "log", "json", "csv"], help_heading = "Output")]
    pub from: Vec<PathBuf>,
    /// Draw bars of accuracy, memory and throughput in place of curves
    #[arg(long, requires = "from", help_heading = "Output")]
    pub bars: bool,
    /// Draw accuracy against throughput; the name ends in .png or .svg
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub plot: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ModelFlags {
    /// Text model, GGUF
    #[arg(short, long, value_name = "FILE", env = "LLAMA_ARG_MODEL", help_heading = "Model")]
    pub model: Option<PathBuf>,
    /// Image encoder and projector, GGUF (short: -mm)
    #[arg(long, value_name = "FILE", env = "LLAMA_ARG_MMPROJ", help_heading = "Model")]
    pub mmproj: Option<PathBuf>,
    #[command(flatten)]
    pub hub: HubFlags,
    /// KV cache cells; without it, what the prompt and the answer need
    #[arg(short, long, value_name = "N", env = "LLAMA_ARG_CTX_SIZE", help_heading = "Model")]
    pub ctx_size: Option<u32>,
    /// Rows of one call
    #[arg(
        short,
        long,
        value_name = "N",
        default_value_t = 2048,
        env = "LLAMA_ARG_BATCH",
        help_heading = "Model"
    )]
    pub batch_size: u32,
    /// Rows computed at once (short: -ub)
    #[arg(long, value_name = "N", default_value_t = 512, env = "LLAMA_ARG_UBATCH", help_heading = "Model")]
    pub ubatch_size: u32,
    /// Threads; -1, as without it, is one for each core
    #[arg(
        short,
        long,
        value_name = "N",
        allow_negative_numbers = true,
        env = "LLAMA_ARG_THREADS",
        help_heading = "Model"
    )]
    pub threads: Option<i64>,
    /// Threads for pictures and prompts; without it, as --threads (short: -tb)
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = "Model")]
    pub threads_batch: Option<i64>,
    #[command(flatten)]
    pub devices: DeviceFlags,
    /// Flash attention: on, off or auto (short: -fa)
    #[arg(
        long,
        value_name = "MODE",
        default_value = "auto",
        env = "LLAMA_ARG_FLASH_ATTN",
        value_parser = names::ON_OFF_AUTO, hide_possible_values = true, help_heading = "Model"
    )]
    pub flash_attn: String,
    /// Type of the K cache: f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0, q5_1 (short: -ctk)
    #[arg(
        long,
        value_name = "TYPE",
        default_value = "f16",
        env = "LLAMA_ARG_CACHE_TYPE_K",
        value_parser = names::KV_TYPES, hide_possible_values = true, help_heading = "Model"
    )]
    pub cache_type_k: String,
    /// Type of the V cache (short: -ctv)
    #[arg(
        long,
        value_name = "TYPE",
        default_value = "f16",
        env = "LLAMA_ARG_CACHE_TYPE_V",
        value_parser = names::KV_TYPES, hide_possible_values = true, help_heading = "Model"
    )]
    pub cache_type_v: String,
    /// Lay a quantised image encoder out anew for the CPU's fastest kernels, as is done with text models
    #[arg(long, help_heading = "Model")]
    pub mmproj_repack: bool,
    #[command(flatten)]
    pub weights: WeightFlags,
    /// Tokens of one picture at least, for models whose number follows its size: small pictures are enlarged
    #[arg(long, value_name = "N", env = "LLAMA_ARG_IMAGE_MIN_TOKENS", help_heading = "Model")]
    pub image_min_tokens: Option<u32>,
    /// Tokens of one picture at most, for models whose number follows its size: smaller, or fewer tiles
    #[arg(long, value_name = "N", env = "LLAMA_ARG_IMAGE_MAX_TOKENS", help_heading = "Model")]
    pub image_max_tokens: Option<u32>,
    /// Text-image model of --strategy crop and free-videollm, which finds the regions and frames that the question
    /// is about: a GGUF file of tools/convert_scorer.py
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pub crop_model: Option<PathBuf>,
    /// Say more on stderr; repeat it for more
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,
}

/// A model by its name on the Hugging Face hub, instead of -m and -mm.
#[derive(Debug, Args)]
pub struct HubFlags {
    /// Repository of the text model and its projector, downloaded once; QUANT is Q4_K_M, or what there is [env: LLAMA_ARG_HF_REPO] (short: -hf)
    // Without `env`: clap would count the variable beside -m on the command line as both given.
    #[arg(long, value_name = "USER/REPO[:QUANT]", overrides_with = "model", help_heading = "Model")]
    pub hf_repo: Option<String>,
    /// The text model's file in that repository, instead of QUANT [env: LLAMA_ARG_HF_FILE] (short: -hff)
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pub hf_file: Option<String>,
    /// Leave the repository's projector out: text alone
    #[arg(long, env = "LLAMA_ARG_NO_MMPROJ", conflicts_with = "mmproj", value_parser = clap::builder::FalseyValueParser::new(), help_heading = "Model")]
    pub no_mmproj: bool,
    /// Use only what has been downloaded before
    #[arg(long, env = "LLAMA_ARG_OFFLINE", value_parser = clap::builder::FalseyValueParser::new(), help_heading = "Model")]
    pub offline: bool,
}

#[derive(Debug, Args)]
pub struct MergeFlags {
    /// Preset: off, model, balanced, paper, image, video or qwen2vl; without it, model if the pair carries one, else balanced
    #[arg(long, value_name = "PRESET", value_parser = names::MERGES, hide_possible_values = true, help_heading = "Merging")]
    pub merge: Option<String>,
    /// Share of visual tokens that reaches the upper decoder layers, as 0.35 or 35%
    #[arg(long, value_name = "R", allow_negative_numbers = true, help_heading = "Merging")]
    pub keep: Option<String>,
    /// With --merge auto, the least share of its tokens that a picture keeps [default: 0.05]
    #[arg(long, value_name = "R", allow_negative_numbers = true, help_heading = "Merging")]
    pub keep_min: Option<String>,
    /// With --merge auto, the most [default: 1]
    #[arg(long, value_name = "R", allow_negative_numbers = true, help_heading = "Merging")]
    pub keep_max: Option<String>,
    /// Encoder layers that merge, for example 5,6,7,8
    #[arg(long, value_name = "LAYERS", requires = "vit_r", help_heading = "Merging")]
    pub vit_layers: Option<String>,
    /// Tokens each of them removes: a count, a percentage, or one for each layer
    #[arg(long, value_name = "R", requires = "vit_layers", help_heading = "Merging")]
    pub vit_r: Option<String>,
    /// Decoder layers that merge
    #[arg(long, value_name = "LAYERS", help_heading = "Merging")]
    pub llm_layers: Option<String>,
    /// Tokens each of them removes: a count, a percentage, or one for each layer
    #[arg(
        long,
        value_name = "R",
        requires = "llm_layers",
        conflicts_with = "llm_keep",
        help_heading = "Merging"
    )]
    pub llm_r: Option<String>,
    /// Share each of them keeps, 0 < R <= 1, or one for each layer
    #[arg(long, value_name = "R", requires = "llm_layers", help_heading = "Merging")]
    pub llm_keep: Option<String>,
    /// Share of the attention that the tokens kept at each of them hold: as few stay as do; the amounts say
    /// how many at most
    #[arg(long, value_name = "R", allow_negative_numbers = true, help_heading = "Merging")]
    pub llm_mass: Option<String>,
    /// Score that ranks tokens: image, last-token, question, raters or prompt in the decoder, class (its class
    /// token) in the encoder; or one of each, as in class,last-token
    #[arg(long, value_name = "SCORE", default_value = "image", value_parser = names::SCORES, hide_possible_values = true, help_heading = "Merging")]
    pub score: String,
    /// Grid after the encoder: faithful or reference
    #[arg(long, value_name = "GRID", default_value = "faithful", value_parser = names::GRIDS, hide_possible_values = true, help_heading = "Merging")]
    pub grid: String,
    /// Positions of a merged picture's rows in the decoder: own (each in its cell's place, counted by its
    /// size) or closed (one after another, counted once) [default: own with the faithful grid]
    #[arg(long, value_name = "POSITIONS", value_parser = names::POSITIONS, hide_possible_values = true, help_heading = "Merging")]
    pub positions: Option<String>,
    #[command(flatten)]
    pub strategy: StrategyFlags,
}

#[derive(Debug, Args)]
pub struct SamplingFlags {
    /// Tokens of the answer at most; -1 until the context is full
    #[arg(
        short = 'n',
        long = "predict",
        visible_alias = "n-predict",
        value_name = "N",
        default_value_t = 512,
        allow_negative_numbers = true,
        env = "LLAMA_ARG_N_PREDICT",
        help_heading = "Sampling"
    )]
    pub predict: i64,
    #[command(flatten)]
    pub draw: DrawFlags,
    #[command(flatten)]
    pub ends: StopFlags,
    /// Report the log-probability of each token, with N alternatives
    #[arg(long, value_name = "N", help_heading = "Sampling")]
    pub n_probs: Option<u32>,
    #[command(flatten)]
    pub form: FormFlags,
}

#[derive(Debug, Args)]
pub struct InspectFlags {
    /// Text model, GGUF
    #[arg(short, long, value_name = "FILE", env = "LLAMA_ARG_MODEL")]
    pub model: Option<PathBuf>,
    /// Image encoder and projector, GGUF (short: -mm)
    #[arg(long, value_name = "FILE", env = "LLAMA_ARG_MMPROJ")]
    pub mmproj: Option<PathBuf>,
    #[command(flatten)]
    pub hub: HubFlags,
    /// Type of the K cache (short: -ctk)
    #[arg(long, value_name = "TYPE", default_value = "f16", env = "LLAMA_ARG_CACHE_TYPE_K", value_parser = names::KV_TYPES, hide_possible_values = true)]
    pub cache_type_k: String,
    /// Type of the V cache (short: -ctv)
    #[arg(long, value_name = "TYPE", default_value = "f16", env = "LLAMA_ARG_CACHE_TYPE_V", value_parser = names::KV_TYPES, hide_possible_values = true)]
    pub cache_type_v: String,
    /// Tokens of one picture at most, for models whose number follows its size: smaller, or fewer tiles
    #[arg(long, value_name = "N", env = "LLAMA_ARG_IMAGE_MAX_TOKENS")]
    pub image_max_tokens: Option<u32>,
    /// Load the image encoder as `run --mmproj-repack` does, and say how much of it that lays out anew
    #[arg(long)]
    pub mmproj_repack: bool,
    /// Size of a picture in pixels instead of common ones, as 2000x1500; repeat it
    #[arg(long, value_name = "WxH")]
    pub size: Vec<String>,
    /// Grid after the encoder: faithful or reference
    #[arg(long, value_name = "GRID", default_value = "faithful", value_parser = names::GRIDS, hide_possible_values = true)]
    pub grid: String,
    #[command(flatten)]
    pub strategy: StrategyFlags,
    /// Text-image model of --strategy crop, to show its facts and the region that it chooses of each --image
    #[arg(long, value_name = "FILE")]
    pub crop_model: Option<PathBuf>,
    /// Picture for the crop model; several at once, in a comma list or with the flag again
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "crop_model", requires = "prompt")]
    pub image: Vec<OsString>,
    /// Question that the crop model looks for in the pictures
    #[arg(short, long, value_name = "TEXT", requires = "image")]
    pub prompt: Option<String>,
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
    /// Print two reports of `run --report` side by side instead
    #[arg(long, num_args = 2, value_names = ["A.json", "B.json"])]
    pub reports: Vec<PathBuf>,
    /// Say more on stderr; repeat it for more
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}
