//! `illava bench`: merging off against on, part by part.

use std::path::Path;

use super::flags::BenchFlags;
use super::progress::Progress;
use super::{images, interrupt, output, settings, subjects, video};
use crate::answer::{LlamaEngine, Session, Sizing};
use crate::bench::{self, Work};
use crate::error::{Error, Result};
use crate::media::Pixels;
use crate::schedule::{Strategy, Subject};
use crate::see::VisualInput;

/// Side of the generated picture in pixels, above the input size of any encoder, so that nothing is enlarged.
const GENERATED: u32 = 1024;

pub(super) fn bench(flags: &BenchFlags) -> Result<()> {
    output::all_writable([&flags.json, &flags.plot])?;
    let load = settings::load(&flags.model, None)?;
    let choice = settings::choice(&flags.merge)?;
    let printed = Printed::named(&flags.output)?;
    let plot = flags.plot.as_deref().map(|path| Ok((path, output::plot_format(path)?))).transpose()?;
    let frames = settings::frames(&flags.videos.frames)?;
    interrupt::install(load.stop)?;
    let mut shown = images::listed(&flags.image)
        .iter()
        .map(|name| Ok(VisualInput::Image(images::open(name)?.0)))
        .collect::<Result<Vec<_>>>()?;
    let videos = flags.videos.video.iter().map(|what| video::open(what)).collect::<Result<Vec<_>>>()?;
    if shown.is_empty() && videos.is_empty() {
        shown.push(VisualInput::Image(generated()));
    }
    let progress = Progress::new();
    let bar = progress.clone();
    let (engine, _) = LlamaEngine::load(&load, move |stage| bar.loading(stage))?;
    let choice = video::choice(&choice, !videos.is_empty(), &engine);
    let subjects = subjects::subjects(&engine, &choice, &flags.against)?;
    let mut film = Vec::new();
    let chooses = |subject: &Subject| subject.schedule.strategy.chooses_frames();
    if let Some(subject) = subjects.iter().find(|subject| chooses(subject)) {
        film.clone_from(&shown);
        for source in &videos {
            film.extend(video::read(source, frames, (&engine, subject.schedule.strategy), load.stop)?.0);
        }
    }
    for source in &videos {
        shown.extend(video::read(source, frames, (&engine, Strategy::default()), load.stop)?.0);
    }
    let work = Work {
        shown: &shown,
        film: &film,
        words: flags.prompt_words,
        answer: flags.predict,
        rounds: flags.rounds,
        warm_up: flags.warm_up,
    };
    let rounds = work.rounds + work.warm_up;
    let mut session = Session::new(engine, subjects[0].schedule.clone(), Sizing::Fit, load.stop);
    let measured = bench::measure(&mut session, &subjects, &work, |round, name| {
        if load.stop.is_asked() {
            return Err(Error::interrupted());
        }
        progress.say(format!("round {} of {rounds}: {name}", round + 1));
        Ok(())
    })?;
    progress.clear();
    match printed {
        Printed::Table => output::say(&bench::table(&measured, output::width()))?,
        Printed::Csv => output::say(&bench::csv(&measured))?,
        Printed::Json => output::write_json(Path::new("-"), &measured)?,
    }
    if let Some(path) = &flags.json {
        output::write_json(path, &measured)?;
    }
    if let Some((path, format)) = plot {
        output::write(path, bench::chart(&measured, format))?;
    }
    Ok(())
}

/// Format of stdout, by llama-bench's names.
enum Printed {
    Table,
    Csv,
    Json,
}

impl Printed {
    fn named(name: &str) -> Result<Self> {
        match name {
            "md" => Ok(Self::Table),
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            other => Err(Error::usage(format!("-o {other}: choose md, csv or json"))),
        }
    }
}

/// Makes a picture with some content in every tile. Times depend on the amount of pixels, not on their
/// values.
fn generated() -> Pixels {
    let rgb = (0..GENERATED * GENERATED)
        .flat_map(|i| {
            let (x, y) = (i % GENERATED, i / GENERATED);
            #[allow(clippy::cast_possible_truncation)]
            [(x / 4) as u8, (y / 4) as u8, ((x ^ y) / 4) as u8]
        })
        .collect();
    Pixels { width: GENERATED, height: GENERATED, rgb, remark: None, moment: None }
}
