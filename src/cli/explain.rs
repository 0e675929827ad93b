//! `illava explain`: pictures of the kept tokens, one page that shows the steps, and the numbers behind both.
//! It explains a new answer or a trace.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use image::RgbImage;

use super::flags::ExplainFlags;
use super::{images, output, run, settings, video};
use crate::error::{Error, Kind, Result};
use crate::explain::{self, PanelColours};
use crate::file;
use crate::media::Pixels;
use crate::media::video::Sampling;
use crate::report::{self, Fate, Report, Trace};
use crate::see::VisualInput;

/// Prompt for schedules that do not depend on the question.
const QUESTION: &str = "What is in the picture?";

pub(super) fn explain(flags: &ExplainFlags) -> Result<()> {
    if let Some(path) = &flags.from {
        let trace = read(path)?;
        let fates = report::fates(&trace)?;
        let pictures = pictures_of(&fates, &trace, flags)?;
        let names = names(flags, &fates, &trace);
        return write(flags, &fates, &pictures, &names, flags.run.text.prompt()?.as_deref(), None);
    }
    let mut settings = settings::Run::new(&flags.run)?;
    output::folder(&flags.out)?;
    if settings.images.is_empty() && settings.videos.is_empty() {
        return Err(Error::usage("nothing to explain: give a picture with --image, or --video"));
    }
    let asked_nothing = settings.prompt.is_none();
    settings.prompt.get_or_insert_with(|| QUESTION.to_owned());
    let (answer, seen) = run::answered(&settings)?;
    let fates = report::fates(&answer.trace)?;
    let pictures: Vec<Vec<RgbImage>> = fates
        .iter()
        .map(|fate| match seen.get(fate.index) {
            Some(VisualInput::Image(pixels)) => picture(pixels).into_iter().collect(),
            Some(VisualInput::Video(frames)) => frames.iter().filter_map(picture).collect(),
            Some(VisualInput::Among { .. }) | None => Vec::new(),
        })
        .collect();
    let question = (!asked_nothing).then_some(settings.prompt.as_deref()).flatten();
    let names = names(flags, &fates, &answer.trace);
    write(flags, &fates, &pictures, &names, question, Some(&answer.report))?;
    for (name, json) in [
        ("trace.json", serde_json::to_value(&answer.trace)),
        ("report.json", serde_json::to_value(&answer.report)),
    ] {
        let path = flags.out.join(name);
        let json = json.map_err(|error| Error::new(Kind::Native, format!("{name}: {error}")))?;
        output::write_json(&path, &json)?;
        say(&path)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Trace> {
    let failed = |reason: String| Error::new(Kind::File, format!("{}: {reason}", path.display()));
    let text = file::text(path).map_err(|error| failed(error.to_string()))?;
    let trace: Trace = serde_json::from_str(&text)
        .map_err(|error| failed(format!("not a trace of `illava run --trace` ({error})")))?;
    if trace.images.is_empty() {
        return Err(failed("no picture in this trace".into()));
    }
    Ok(trace)
}

/// Finds the pictures and videos of a trace: those given, in the order they had, else those that it names and
/// that still exist. Without any, cells are drawn on black.
fn pictures_of(fates: &[Fate], trace: &Trace, flags: &ExplainFlags) -> Result<Vec<Vec<RgbImage>>> {
    let mut given = images::listed(&flags.run.image);
    given.extend(flags.run.videos.video.iter().cloned());
    if given.len() > fates.len() {
        return Err(Error::usage(format!(
            "{} pictures and videos are given, the trace is of {}; give as many",
            given.len(),
            fates.len()
        )));
    }
    let mut pictures = Vec::new();
    for (i, fate) in fates.iter().enumerate() {
        let named = trace.files.get(fate.index).map(OsString::from);
        pictures.push(match (given.get(i), named) {
            (Some(what), _) => open(what, fate)?,
            (None, Some(what)) => match open(&what, fate) {
                Ok(found) => found,
                Err(error) => {
                    eprintln!("note: {error}; the cells are drawn without it");
                    Vec::new()
                }
            },
            (None, None) => Vec::new(),
        });
    }
    Ok(pictures)
}

/// Returns the picture of `fate`, or the frames that it is of.
fn open(what: &OsStr, fate: &Fate) -> Result<Vec<RgbImage>> {
    if !explain::is_video(fate) {
        let (pixels, _) = images::open(what)?;
        if (pixels.width, pixels.height) != (fate.width, fate.height) {
            return Err(Error::new(
                Kind::Media,
                format!(
                    "{}: {}x{} pixels, the trace is of a picture of {}x{}",
                    what.display(),
                    pixels.width,
                    pixels.height,
                    fate.width,
                    fate.height
                ),
            ));
        }
        return Ok(picture(&pixels).into_iter().collect());
    }
    let per_tile = fate.tiles.get(1).and_then(|tile| tile.frame).unwrap_or(1).max(1);
    let count = u32::try_from(fate.tiles.len() * per_tile).unwrap_or(u32::MAX);
    // Pairs of frames are Qwen2-VL's, whose authors round positions. LLaVA-OneVision's authors cut them.
    let sampling = match per_tile {
        1 if fate.tiles.iter().any(|tile| tile.score.is_some()) => Sampling::Middles { frames: count },
        1 => Sampling::Uniform { frames: count, multiple: 1 },
        n => Sampling::Rate { fps: 1.0, min: count, max: count, multiple: u32::try_from(n).unwrap_or(1) },
    };
    let video = video::open(what)?.read(&sampling)?;
    Ok(video.frames.iter().filter_map(|frame| picture(&frame.pixels)).collect())
}

fn picture(pixels: &Pixels) -> Option<RgbImage> {
    RgbImage::from_raw(pixels.width, pixels.height, pixels.rgb.clone())
}

/// Returns the names of pictures for each fate: as given, or as the trace has them, without folders.
fn names(flags: &ExplainFlags, fates: &[Fate], trace: &Trace) -> Vec<Option<String>> {
    let mut given = images::listed(&flags.run.image);
    given.extend(flags.run.videos.video.iter().cloned());
    let name = |(i, fate): (usize, &Fate)| {
        let what = given.get(i).cloned().or_else(|| trace.files.get(fate.index).map(OsString::from))?;
        // A data: URI has no name.
        let short = Path::new(&what).file_name().filter(|_| !what.to_string_lossy().starts_with("data:"));
        Some(short?.to_string_lossy().into_owned())
    };
    fates.iter().enumerate().map(name).collect()
}

/// Writes strips, heat maps and the page. `pictures` are those of each fate: one, the frames of a video, or
/// none.
fn write(
    flags: &ExplainFlags,
    fates: &[Fate],
    pictures: &[Vec<RgbImage>],
    names: &[Option<String>],
    question: Option<&str>,
    report: Option<&Report>,
) -> Result<()> {
    let folder = &flags.out;
    std::fs::create_dir_all(folder)
        .map_err(|error| Error::new(Kind::File, format!("{}: {error}", folder.display())))?;
    let drawn = fates.iter().zip(pictures).map(|(fate, pictures)| match explain::is_video(fate) {
        true => explain::sheet(fate, pictures),
        false => (fate.clone(), pictures.first().cloned()),
    });
    let (fates, pictures): (Vec<Fate>, Vec<Option<RgbImage>>) = drawn.unzip();
    for (fate, picture) in fates.iter().zip(&pictures) {
        for (name, shown) in [("kept", PanelColours::Kept), ("heat", PanelColours::Heat)] {
            let path = folder.join(format!("{name}-{}.png", fate.index + 1));
            // A sheet of frames is shown larger, up to its own size.
            let width = match explain::is_video(fate) {
                true => fate.width.min(3 * flags.panel_width),
                false => flags.panel_width,
            };
            explain::strip(fate, picture.as_ref(), shown, width)
                .save(&path)
                .map_err(|error| Error::new(Kind::File, format!("{}: {error}", path.display())))?;
            say(&path)?;
        }
    }
    let look = explain::Look { fates: &fates, pictures: &pictures, names, question, report };
    let page = folder.join("explain.html");
    std::fs::write(&page, explain::page(&look)?)
        .map_err(|error| Error::new(Kind::File, format!("{}: {error}", page.display())))?;
    say(&page)
}

fn say(path: &Path) -> Result<()> {
    output::say(&format!("{}\n", path.display()))
}
