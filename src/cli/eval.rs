//! `illava eval`: what schedules cost in accuracy and what they buy, on a question set.

use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::flags::EvalFlags;
use super::progress::Progress;
use super::{interrupt, output, settings, subjects, video};
use crate::answer::{Engine, Generation, LlamaEngine, Session, Sizing};
use crate::error::{Error, Kind, Result};
use crate::eval::{self, Form, Judge, Log, Metric, Reading, Runner, Set};
use crate::file;
use crate::pair::LoadSettings;
use crate::plot::Format;
use crate::request::check_logprobs;
use crate::schedule::Subject;
use crate::stop::Stop;

/// Variable of the environment with the key of the judge's endpoint.
const JUDGE_KEY: &str = "ILLAVA_JUDGE_KEY";

pub(super) fn eval(flags: &EvalFlags) -> Result<()> {
    let Some(path) = &flags.set else { return show_again(flags) };
    output::all_writable([&flags.json, &flags.csv, &flags.plot, &flags.log])?;
    let load = settings::load(&flags.model, None)?;
    let choice = settings::choice(&flags.merge)?;
    if flags.n_probs.is_some() && flags.log.is_none() {
        return Err(Error::usage("--n-probs: the numbers go into the log; give --log too"));
    }
    let plot = flags.plot.as_deref().map(|path| Ok((path, output::plot_format(path)?))).transpose()?;
    let reading = Reading {
        metric: flags.metric.as_deref().map(metric).transpose()?,
        split: flags.split.as_deref(),
        limit: flags.limit.map(|limit| limit as usize),
        media: flags.videos.as_deref(),
    };
    let set = eval::read(path, &reading)?;
    let judge = judge(flags, &set, path, load.stop)?;
    let longest = set.items.iter().map(|item| set.metric_of(item).longest_answer()).max();
    let predict = flags.predict.or(longest);
    let greedy = Generation::greedy(None);
    let how = Generation {
        limits: flags.ends.limits(predict)?,
        sampling: flags.penalties.over(greedy.sampling)?,
        logprobs: flags.n_probs.map(check_logprobs).transpose()?,
        ..greedy
    };
    let frames = settings::frames(&flags.frames)?;
    let videos = set.items.iter().any(|item| !item.videos.is_empty());
    interrupt::install(load.stop)?;
    let progress = Progress::new();
    let bar = progress.clone();
    let (engine, _) = LlamaEngine::load(&load, move |stage| bar.loading(stage))?;
    let choice = video::choice(&choice, videos, &engine);
    let subjects = subjects::subjects(&engine, &choice, &flags.against)?;
    if videos && !engine.facts().takes_videos() {
        eprintln!("note: this model takes no videos; their frames go in as pictures");
    }
    progress.clear();

    let mut log = match &flags.log {
        Some(path) => Log::open(path, &run_name(&load, &set, &subjects, judge.as_ref(), flags, &how))?,
        None => Log::default(),
    };
    let schedule = subjects[0].schedule.clone();
    let mut session = Session::new(engine, schedule, Sizing::Fit, load.stop);
    let runner = Runner {
        set: &set,
        subjects: &subjects,
        how: &how,
        instruction: flags.instruction.as_deref(),
        subtitles: flags.subtitles,
        judge: judge.as_ref(),
        frames,
    };
    let bar = answers_bar((set.items.len() * subjects.len()) as u64);
    let ran = runner.run(&mut session, &mut log, |done, record| {
        bar.set_position(done);
        if let Some(failure) = &record.failure {
            tracing::warn!("question {}, {}: {failure}", record.item, record.schedule);
        }
    });
    bar.finish_and_clear();
    let model = load.text.file_name().unwrap_or_default().to_string_lossy();
    let judge = judge.as_ref().map(Judge::name);
    let asked = eval::Asked { model: &model, set: &set, subjects: &subjects, judge: judge.as_deref() };
    let summary = eval::summarise(&asked, log.records());
    // The results so far, even if the run did not finish.
    if !log.records().is_empty() {
        show(flags, plot, &summary)?;
    }
    if ran.as_ref().is_err_and(|error| error.kind() == Kind::Interrupted) {
        match &flags.log {
            Some(path) => eprintln!("note: the same command goes on from {}", path.display()),
            None => eprintln!("note: a run with --log FILE would go on from here; this one begins again"),
        }
    }
    ran?;
    let answers: usize = summary.rows.iter().filter(|row| row.category.is_empty()).map(|row| row.asked).sum();
    match summary.failures.len() {
        0 => Ok(()),
        failed => Err(Error::new(
            Kind::Media,
            format!("{failed} of {answers} answers failed; they count in no accuracy"),
        )),
    }
}

/// Shows rows that earlier calls have written, and draws them together.
fn show_again(flags: &EvalFlags) -> Result<()> {
    output::all_writable([&flags.plot])?;
    let plot = flags.plot.as_deref().map(|path| Ok((path, output::plot_format(path)?))).transpose()?;
    let mut summaries: Vec<eval::Summary> = Vec::new();
    for path in &flags.from {
        let failed = |reason: String| Error::new(Kind::File, format!("{}: {reason}", path.display()));
        let text = file::text(path).map_err(|error| failed(error.to_string()))?;
        summaries.push(serde_json::from_str(&text).map_err(|error| {
            failed(format!("not the rows of an evaluation ({error}); give a file that --json has written"))
        })?);
    }
    for summary in &summaries {
        output::say(&eval::table(summary, output::width()))?;
    }
    if let Some((path, format)) = plot {
        let form = if flags.bars { Form::Bars } else { Form::Curves };
        output::write(path, eval::figure(&summaries, form, format))?;
    }
    Ok(())
}

fn show(flags: &EvalFlags, plot: Option<(&Path, Format)>, summary: &eval::Summary) -> Result<()> {
    output::say(&eval::table(summary, output::width()))?;
    if let Some(path) = &flags.json {
        output::write_json(path, summary)?;
    }
    if let Some(path) = &flags.csv {
        output::write(path, eval::csv(summary))?;
    }
    if let Some((path, format)) = plot {
        output::write(path, eval::curve(summary, format))?;
    }
    Ok(())
}

fn metric(name: &str) -> Result<Metric> {
    Metric::named(name).ok_or_else(|| {
        let names: Vec<&str> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        Error::usage(format!("--metric {name}: choose {}", names.join(", ")))
    })
}

/// Reaches the judge of a set that needs one, before a model is loaded.
fn judge(flags: &EvalFlags, set: &Set, path: &Path, stop: Stop) -> Result<Option<Judge>> {
    if !set.metric.is_judged() {
        return Ok(None);
    }
    let Some(url) = &flags.judge else {
        return Err(Error::usage(format!(
            "{}: answers are marked by a judge model ({}); give --judge URL, or another --metric",
            path.display(),
            set.metric.name()
        )));
    };
    let key = std::env::var(JUDGE_KEY).ok();
    Judge::new(url, flags.judge_model.as_deref(), key.as_deref(), stop).map(Some)
}

/// Identity of a log: everything that an answer depends on except the schedule, whose name each record has.
fn run_name(
    load: &LoadSettings,
    set: &Set,
    subjects: &[Subject],
    judge: Option<&Judge>,
    flags: &EvalFlags,
    how: &Generation,
) -> String {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |data| data.len());
    let schedules: Vec<String> =
        subjects.iter().map(|subject| format!("{}={:?}", subject.name, subject.schedule)).collect();
    // A field stands only if it differs from the default. Logs of sets without videos and of greedy answers
    // keep their form.
    let mut frames = match (flags.frames.video_fps, flags.frames.video_frames) {
        (None, None) => String::new(),
        asked => format!(" {asked:?}"),
    };
    let predict = how.limits.max_tokens;
    if *how != Generation::greedy(predict) {
        frames.push_str(&format!(" {how:?}"));
    }
    if flags.subtitles {
        frames.push_str(" subtitles");
    }
    if let Some(judge) = judge {
        frames.push_str(&format!(" {}", judge.name()));
    }
    let instruction = flags.instruction.as_deref().unwrap_or(eval::instruction(set.metric));
    let text = format!(
        "{:?} {} {:?} {} {} {:?} {} {instruction:?} {} {}",
        load.text,
        size(&load.text),
        load.projector.as_deref().unwrap_or(Path::new("")),
        load.projector.as_deref().map_or(0, size),
        set.name,
        set.metric,
        set.items.len(),
        predict.unwrap_or_default(),
        schedules.join(" ") + &frames,
    );
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

fn answers_bar(length: u64) -> ProgressBar {
    use std::io::IsTerminal;
    let bar = ProgressBar::new(length);
    if std::io::stderr().is_terminal() {
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} answers, {per_sec}, {eta} left")
        {
            bar.set_style(style);
        }
    } else {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}
