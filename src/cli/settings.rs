//! Settings made of flags: every value is checked, every default decided.

use std::ffi::OsString;
use std::path::PathBuf;

use super::flags::{self, FrameFlags, MergeFlags, ModelFlags, RunFlags, SamplingFlags};
use super::{images, model_files, output};
use crate::answer::Generation;
use crate::error::{Error, Field, Result};
use crate::media::policy::VideoLimits;
use crate::media::video::FrameChoice;
use crate::pair::{FlashAttention, KvType, LoadSettings};
use crate::request::{Defaults, Sampling, check_logprobs};
use crate::schedule::{
    Amount, Choice, Grid, Half, MergeFlag, Positions, parse_amounts, parse_keeps, parse_layers, parse_scores,
};
use crate::stop::Stop;

/// Settings of `run`.
#[derive(Debug)]
pub struct Run {
    pub load: LoadSettings,
    pub choice: Choice,
    pub how: Generation,
    pub cells: Option<u32>,
    /// Files, data: URIs and file:// URLs.
    pub images: Vec<OsString>,
    pub videos: Vec<OsString>,
    pub frames: FrameChoice,
    pub prompt: Option<String>,
    pub system: Option<String>,
    pub report: Option<PathBuf>,
    pub trace: Option<PathBuf>,
}

impl Run {
    /// # Errors
    /// [`crate::error::Kind::Usage`] naming the flag and what it takes.
    pub fn new(flags: &RunFlags) -> Result<Self> {
        let (choice, how) = (choice(&flags.merge)?, generation(&flags.sampling)?);
        let frames = frames(&flags.videos.frames)?;
        if flags.sampling.n_probs.is_some() && flags.report.is_none() {
            return Err(Error::usage("--n-probs: the numbers go into the report; give --report too"));
        }
        output::all_writable([&flags.report, &flags.trace])?;
        Ok(Self {
            load: load(&flags.model, flags.template.template()?)?,
            choice,
            how,
            // llama.cpp takes 0 for the model's own size. Here 0 means the size that fits.
            cells: flags.model.ctx_size.filter(|&n| n > 0),
            images: images::listed(&flags.image),
            videos: flags.videos.video.clone(),
            frames,
            prompt: flags.text.prompt()?,
            system: flags.text.system()?,
            report: flags.report.clone(),
            trace: flags.trace.clone(),
        })
    }
}

/// # Errors
/// [`crate::error::Kind::Usage`] for numbers out of bounds.
pub(super) fn frames(flags: &FrameFlags) -> Result<FrameChoice> {
    let most = VideoLimits::default().max_frames;
    if let Some(fps) = flags.video_fps.filter(|fps| !(*fps > 0.0 && *fps <= 1000.0)) {
        return Err(Error::usage(format!("--video-fps {fps}: give a number above 0 and up to 1000")));
    }
    let frames = flags.video_frames.map(|n| positive("--video-frames", n, most)).transpose()?;
    Ok(FrameChoice { fps: flags.video_fps, frames })
}

/// # Errors
/// [`crate::error::Kind::Usage`] naming the flag and what it takes.
pub(super) fn load(flags: &ModelFlags, chat_template: Option<String>) -> Result<LoadSettings> {
    let cores = cores();
    let threads = all_threads(flags.threads)?;
    let settings = LoadSettings {
        text: PathBuf::new(),
        projector: None,
        crop_model: flags.crop_model.clone(),
        threads,
        threads_batch: flags.threads_batch.map_or(Ok(threads), |n| self::threads("-tb", n, cores))?,
        batch: positive("-b", flags.batch_size, 1 << 20)?,
        ubatch: positive("-ub", flags.ubatch_size, 1 << 20)?,
        gpu_layers: flags.devices.layers()?,
        placement: flags.devices.placement()?,
        projector_offload: flags.devices.encoder_may_go(),
        projector_repack: flags.mmproj_repack,
        weights: flags::weights(&flags.weights)?,
        flash_attention: flash_attention(&flags.flash_attn)?,
        type_k: kv_type("-ctk", &flags.cache_type_k)?,
        type_v: kv_type("-ctv", &flags.cache_type_v)?,
        image_min_tokens: picture_tokens("--image-min-tokens", flags.image_min_tokens)?,
        image_max_tokens: picture_tokens("--image-max-tokens", flags.image_max_tokens)?,
        chat_template,
        stop: Stop::new(),
    };
    // The model comes last: a wrong value should not cost a download.
    let (text, projector) = model_files::find(flags.model.as_ref(), flags.mmproj.as_ref(), &flags.hub)?;
    Ok(LoadSettings { text, projector, ..settings })
}

/// Processors that this process may use.
fn cores() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cores).unwrap_or(1)
}

/// Returns `-t`, or one thread for each core without it.
///
/// # Errors
/// [`crate::error::Kind::Usage`] naming the flag and what it takes.
pub(super) fn all_threads(given: Option<i64>) -> Result<u32> {
    given.map_or_else(|| Ok(cores()), |n| threads("-t", n, cores()))
}

/// Reads a number of threads; -1 is one for each core, as in llama.cpp.
fn threads(flag: &str, n: i64, cores: u32) -> Result<u32> {
    match n {
        -1 => Ok(cores),
        n => positive(flag, u32::try_from(n).unwrap_or(0), 512).map_err(|_| {
            Error::usage(format!("{flag} {n}: give a number from 1 to 512, or -1 for one on each core"))
        }),
    }
}

fn picture_tokens(flag: &str, n: Option<u32>) -> Result<Option<u32>> {
    n.map(|n| positive(flag, n, 1 << 20)).transpose()
}

pub(super) fn positive(flag: &str, n: u32, most: u32) -> Result<u32> {
    if (1..=most).contains(&n) {
        Ok(n)
    } else {
        Err(Error::usage(format!("{flag} {n}: give a number from 1 to {most}")))
    }
}

fn flash_attention(text: &str) -> Result<FlashAttention> {
    match text {
        "on" | "1" => Ok(FlashAttention::On),
        "off" | "0" => Ok(FlashAttention::Off),
        "auto" | "-1" => Ok(FlashAttention::Auto),
        _ => Err(Error::usage(format!("-fa {text}: choose on, off or auto"))),
    }
}

/// # Errors
/// [`crate::error::Kind::Usage`] with the names there are.
pub(super) fn kv_type(flag: &str, text: &str) -> Result<KvType> {
    KvType::named(text).ok_or_else(|| {
        let names: Vec<&str> = KvType::ALL.iter().map(|kind| kind.name()).collect();
        Error::usage(format!("{flag} {text}: choose {}", names.join(", ")))
    })
}

/// # Errors
/// [`crate::error::Kind::Usage`] naming the flag and the value.
pub(super) fn choice(flags: &MergeFlags) -> Result<Choice> {
    let vit = match (&flags.vit_layers, &flags.vit_r) {
        (Some(layers), Some(r)) => Some(Half {
            layers: parse_layers(Field::VitLayers, layers)?,
            amounts: parse_amounts(Field::VitR, r)?,
        }),
        _ => None,
    };
    let llm = match (&flags.llm_layers, &flags.llm_r, &flags.llm_keep) {
        (Some(layers), r, keep) => Some(Half {
            layers: parse_layers(Field::LlmLayers, layers)?,
            amounts: match (r, keep) {
                (Some(r), _) => parse_amounts(Field::LlmR, r)?,
                (None, Some(keep)) => parse_keeps(Field::LlmKeep, keep)?,
                // As many as their scores need.
                (None, None) if flags.llm_mass.is_some() => vec![Amount::Keep(1.0)],
                (None, None) => {
                    return Err(Error::usage("--llm-layers needs --llm-r, --llm-keep or --llm-mass"));
                }
            },
        }),
        _ => None,
    };
    let (vit_score, score) = parse_scores(&flags.score)?;
    Ok(Choice {
        merge: flags.merge.as_deref().map(MergeFlag::parse).transpose()?,
        keep: given_share("--keep", flags.keep.as_deref())?,
        keep_min: given_share("--keep-min", flags.keep_min.as_deref())?,
        keep_max: given_share("--keep-max", flags.keep_max.as_deref())?,
        vit,
        llm,
        llm_mass: given_share("--llm-mass", flags.llm_mass.as_deref())?,
        score,
        vit_score,
        grid: Grid::parse(&flags.grid)?,
        positions: flags.positions.as_deref().map(Positions::parse).transpose()?,
        strategy: flags.strategy.strategy()?,
        strategy_seed: flags.strategy.strategy_seed,
        vit_sizes: flags.strategy.vit_sizes()?,
    })
}

fn given_share(flag: &str, text: Option<&str>) -> Result<Option<f64>> {
    let read = |text| {
        share(text)
            .ok_or_else(|| Error::usage(format!("{flag} {text}: give a share, for example 0.35 or 35%")))
    };
    text.map(read).transpose()
}

/// Reads a share as people write it: `0.35` or `35%`.
pub(super) fn share(text: &str) -> Option<f64> {
    match text.trim().strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().ok().map(|percent| percent / 100.0),
        None => text.trim().parse().ok(),
    }
}

/// Returns the most tokens of an answer that `-n` allows, or `None` for as many as the context holds. Older
/// llama.cpp had -2 for that too.
///
/// # Errors
/// [`crate::error::Kind::Usage`] naming the flag and what it takes.
pub(super) fn answer_tokens(n: i64) -> Result<Option<u32>> {
    match (n, u32::try_from(n)) {
        (-2 | -1, _) => Ok(None),
        (_, Ok(n)) if n > 0 => Ok(Some(n)),
        _ => Err(Error::usage(format!(
            "{} {n}: give a number from 1 to {}, or -1 until the context is full",
            Field::MaxTokens,
            u32::MAX
        ))),
    }
}

/// Returns the defaults of requests; `temperature` is the command's.
///
/// # Errors
/// [`crate::error::Kind::Usage`] naming the flag and what it takes.
pub(super) fn defaults(flags: &SamplingFlags, temperature: f32) -> Result<Defaults> {
    let tokens = answer_tokens(flags.predict)?;
    Ok(Defaults {
        limits: flags.ends.limits(tokens)?,
        sampling: flags.draw.sampling(temperature)?,
        grammar: flags.form.form()?,
        logprobs: flags.n_probs.map(check_logprobs).transpose()?,
        ..Defaults::default()
    })
}

/// Returns the defaults of a session.
fn generation(flags: &SamplingFlags) -> Result<Generation> {
    let Defaults { limits, sampling, grammar, logprobs, .. } =
        defaults(flags, Sampling::default().temperature)?;
    Ok(Generation { limits, sampling, grammar, logprobs, ..Generation::default() })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::argv;
    use super::super::flags::{Cli, Command};
    use super::*;
    use crate::cli::words;
    use crate::schedule::{Preset, Score, Strategy, TowerScore};

    fn settings(extra: &[&str]) -> Result<Run> {
        let args = ["illava", "run", "-m", "t", "-mm", "p"].iter().chain(extra).map(Into::into);
        let cli =
            Cli::try_parse_from(argv::read(args)?.args).map_err(|error| Error::usage(error.to_string()))?;
        let Command::Run(flags) = cli.command else { panic!("not run") };
        Run::new(&flags)
    }

    #[test]
    fn schedules() {
        let half = |layers: &[u32], amount| Some(Half { layers: layers.to_vec(), amounts: vec![amount] });
        let cases = [
            (vec![], Choice::default()),
            (vec!["--merge", "off"], Choice { merge: Some(MergeFlag::Off), ..Choice::default() }),
            (
                vec!["--merge", "paper", "--keep", "0.3"],
                Choice {
                    merge: Some(MergeFlag::Preset(Preset::Paper)),
                    keep: Some(0.3),
                    ..Choice::default()
                },
            ),
            (
                vec!["--vit-layers", "5,6", "--vit-r", "12.5%"],
                Choice { vit: half(&[5, 6], Amount::Share(0.125)), ..Choice::default() },
            ),
            (
                vec!["--llm-layers", "8", "--llm-keep", "0.70"],
                Choice { llm: half(&[8], Amount::Keep(0.7)), ..Choice::default() },
            ),
            (
                vec!["--llm-layers", "8", "--llm-r", "108", "--score", "last-token"],
                Choice { llm: half(&[8], Amount::Count(108)), score: Score::LastToken, ..Choice::default() },
            ),
            (vec!["--grid", "reference"], Choice { grid: Grid::Reference, ..Choice::default() }),
            (
                vec!["--positions", "closed"],
                Choice { positions: Some(Positions::Closed), ..Choice::default() },
            ),
            (
                vec!["--strategy", "random", "--strategy-seed", "7"],
                Choice { strategy: Some(Strategy::Random(7)), strategy_seed: 7, ..Choice::default() },
            ),
            (
                vec!["--score", "class,last-token", "--vit-sizes", "off"],
                Choice {
                    score: Score::LastToken,
                    vit_score: TowerScore::Class,
                    vit_sizes: Some(false),
                    ..Choice::default()
                },
            ),
        ];
        for (args, expected) in cases {
            assert_eq!(settings(&args).unwrap().choice, expected, "{args:?}");
        }
    }

    #[test]
    fn of_file_and_repository_the_last_counts() {
        let run = settings(&["-hf", "a/b", "-m", "again", "-mm", "p"]).unwrap();
        assert_eq!((run.load.text, run.load.projector), ("again".into(), Some("p".into())));
        // The repository's name is checked, which shows that it counts.
        let error = settings(&["-hf", "nonsense"]).unwrap_err();
        assert!(error.worded(words::flag).starts_with("-hf nonsense"), "{error}");
    }

    #[test]
    fn frames_of_a_video() {
        let run =
            settings(&["--video", "a.mp4", "--video", "b,c", "--video-fps", "1", "--video-frames", "16"])
                .unwrap();
        assert_eq!(run.videos, ["a.mp4", "b,c"].map(OsString::from));
        assert_eq!(run.frames, FrameChoice { fps: Some(1.0), frames: Some(16) });
        assert_eq!(settings(&[]).unwrap().frames, FrameChoice::default());
    }

    #[test]
    fn wrong_values_name_the_flag() {
        let deep = format!("root ::= {}", "(".repeat(20_000));
        let nested = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
        for (args, part) in [
            (vec!["--merge", "most"], "--merge most"),
            (vec!["--vit-layers", "5"], "--vit-r"),
            (vec!["--llm-layers", "5"], "--llm-r, --llm-keep or --llm-mass"),
            (vec!["--llm-layers", "5", "--llm-keep", "0"], "--llm-keep 0"),
            (vec!["--llm-layers", "5", "--llm-keep", "0.5", "--llm-r", "3"], "cannot be used with"),
            (vec!["--score", "x"], "--score x"),
            (vec!["--grid", "x"], "--grid x"),
            (vec!["--positions", "x"], "--positions x: choose own or closed"),
            (vec!["--strategy", "x"], "--strategy x"),
            (vec!["-fa", "maybe"], "-fa maybe"),
            (vec!["-ctk", "q9"], "-ctk q9"),
            (vec!["-ngl", "some"], "-ngl some"),
            (vec!["-t", "0"], "-t 0"),
            (vec!["--video-fps", "0"], "--video-fps 0"),
            (vec!["--video-fps", "NaN"], "--video-fps"),
            (vec!["--video-frames", "0"], "--video-frames 0"),
            (vec!["--video-frames", "769"], "from 1 to 768"),
            (vec!["-n", "0"], "-n 0"),
            (vec!["-n", "-5"], "-n -5: give a number from 1"),
            (vec!["--temp", "-1"], "--temp -1: give a number from 0"),
            (vec!["--top-p", "-1"], "--top-p -1"),
            (vec!["--repeat-penalty", "-1"], "--repeat-penalty -1: give a number from 0.01"),
            (vec!["--top-p", "1.5"], "--top-p 1.5"),
            (vec!["--seed", "-2"], "--seed -2"),
            (vec!["--temp", "NaN"], "--temp"),
            (vec!["--repeat-penalty", "0"], "--repeat-penalty 0"),
            (vec!["--presence-penalty", "inf"], "--presence-penalty inf"),
            (vec!["--logit-bias", "5"], "--logit-bias 5"),
            (vec!["--n-probs", "21"], "--n-probs 21"),
            (vec!["--n-probs", "2"], "give --report too"),
            (vec!["-r", &"x".repeat(300)], "--stop: a text of 300 bytes"),
            (vec!["--grammar", &deep], "--grammar: brackets deeper"),
            (vec!["--json-schema", &nested], "--json-schema: it nests deeper"),
        ] {
            let error = settings(&args).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Usage);
            let said = error.worded(words::flag);
            assert!(said.contains(part), "{args:?}: {said}");
        }
    }
}
