//! `illava bench`: merging off against on, part by part.

use std::path::Path;

use super::flags::BenchFlags;
use super::progress::Progress;
use super::{interrupt, output, run, settings};
use crate::bench::{self, Format, Subject, Work};
use crate::engine::{Engine, Real};
use crate::error::{Error, Kind, Result};
use crate::media::Pixels;
use crate::schedule::{Choice, Grid, MergeFlag, Schedule, Score, select};

/// Side of the generated picture: above what any tower takes, so that nothing is enlarged.
const GENERATED: u32 = 1024;

pub(super) fn bench(flags: &BenchFlags) -> Result<()> {
    let load = settings::load(&flags.model, None)?;
    let choice = settings::choice(&flags.merge)?;
    if let Some(plot) = &flags.plot {
        format(plot)?;
    }
    interrupt::install(load.stop)?;
    let pictures = if flags.image.is_empty() {
        vec![generated()]
    } else {
        flags.image.iter().map(|path| Ok(run::open(path)?.0)).collect::<Result<_>>()?
    };
    let progress = Progress::new();
    let bar = progress.clone();
    let (mut engine, _) = Real::load(&load, move |stage| bar.loading(stage))?;
    let subjects = subjects(&engine, &choice, &flags.against)?;
    let work = Work {
        pictures: &pictures,
        words: flags.prompt_words,
        answer: flags.predict,
        rounds: flags.rounds,
        warm_up: flags.warm_up,
    };
    let rounds = work.rounds + work.warm_up;
    let measured = bench::measure(&mut engine, &subjects, &work, |round, name| {
        if load.stop.is_asked() {
            return Err(Error::interrupted());
        }
        progress.say(format!("round {} of {rounds}: {name}", round + 1));
        Ok(())
    })?;
    progress.clear();
    output::say(&bench::table(&measured))?;
    if let Some(path) = &flags.json {
        output::write_json(path, &measured)?;
    }
    if let Some(path) = &flags.plot {
        let picture = bench::chart(&measured, format(path)?)
            .map_err(|error| Error::new(Kind::File, format!("{}: {error}", path.display())))?;
        std::fs::write(path, picture)
            .map_err(|error| Error::new(Kind::File, format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

/// # Errors
/// [`Kind::Usage`] naming the endings there are.
pub(super) fn format(path: &Path) -> Result<Format> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("png") => Ok(Format::Png),
        Some("svg") => Ok(Format::Svg),
        _ => Err(Error::usage(format!("--plot {}: give a file that ends in .png or .svg", path.display()))),
    }
}

/// Off first, then the schedule the flags mean, then the others asked for, each once.
fn subjects(engine: &Real, choice: &Choice, others: &[String]) -> Result<Vec<Subject>> {
    let off = Choice {
        merge: Some(MergeFlag::parse("off")?),
        keep: None,
        vit: None,
        llm: None,
        score: Score::default(),
        grid: Grid::default(),
    };
    let mut schedules = vec![run::choose(engine, &off)?, run::choose(engine, choice)?];
    for name in others {
        let facts = engine.facts();
        let other = Choice { merge: Some(MergeFlag::parse(name)?), ..off.clone() };
        schedules.push(select(&other, &facts.shape, facts.pair.recommended.as_ref())?);
    }
    let mut subjects: Vec<Subject> = Vec::new();
    for schedule in schedules {
        let name = label(&schedule);
        if subjects.iter().all(|subject| subject.name != name) {
            subjects.push(Subject { name, schedule });
        }
    }
    Ok(subjects)
}

/// What a schedule goes by in tables.
pub(super) fn label(schedule: &Schedule) -> String {
    match schedule.keep {
        Some(keep) => format!("{} keep {keep}", schedule.name),
        None => schedule.name.clone(),
    }
}

/// A picture with something in every tile: times do not depend on what is seen, only on how much.
fn generated() -> Pixels {
    let rgb = (0..GENERATED * GENERATED)
        .flat_map(|i| {
            let (x, y) = (i % GENERATED, i / GENERATED);
            #[allow(clippy::cast_possible_truncation)]
            [(x / 4) as u8, (y / 4) as u8, ((x ^ y) / 4) as u8]
        })
        .collect();
    Pixels { width: GENERATED, height: GENERATED, rgb, remark: None }
}
