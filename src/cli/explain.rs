//! `illava explain`: pictures of what was kept, one page that shows it step by step, and the numbers behind both.

use std::path::Path;

use image::RgbImage;

use super::flags::ExplainFlags;
use super::{output, run, settings};
use crate::engine::Answer;
use crate::error::{Error, Kind, Result};
use crate::explain::{self, Shown};
use crate::media::Pixels;
use crate::report;

/// Where merging does not depend on the question, any will do.
const QUESTION: &str = "What is in the picture?";

pub(super) fn explain(flags: &ExplainFlags) -> Result<()> {
    let mut settings = settings::Run::new(&flags.run)?;
    if settings.images.is_empty() && settings.videos.is_empty() {
        return Err(Error::usage("nothing to explain: give a picture with --image, or --video"));
    }
    settings.prompt.get_or_insert_with(|| QUESTION.to_owned());
    let (answer, pictures) = run::answered(&settings)?;
    write(&flags.out, flags.panel_width, flags.run.prompt.as_deref(), &answer, &pictures)
}

fn write(
    folder: &Path,
    width: u32,
    question: Option<&str>,
    answer: &Answer,
    pictures: &[Pixels],
) -> Result<()> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Error::new(Kind::File, format!("{}: {error}", folder.display())))?;
    let fates = report::fates(&answer.trace);
    let pictures: Vec<Option<RgbImage>> = fates
        .iter()
        .map(|fate| {
            let pixels = pictures.get(fate.index)?;
            RgbImage::from_raw(pixels.width, pixels.height, pixels.rgb.clone())
        })
        .collect();
    for (fate, picture) in fates.iter().zip(&pictures) {
        for (name, shown) in [("kept", Shown::Kept), ("heat", Shown::Heat)] {
            let path = folder.join(format!("{name}-{}.png", fate.index + 1));
            explain::strip(fate, picture.as_ref(), shown, width)
                .save(&path)
                .map_err(|error| Error::new(Kind::File, format!("{}: {error}", path.display())))?;
            say(&path)?;
        }
    }
    let look = explain::Look { fates: &fates, pictures: &pictures, question, report: Some(&answer.report) };
    let page = folder.join("explain.html");
    std::fs::write(&page, explain::page(&look)?)
        .map_err(|error| Error::new(Kind::File, format!("{}: {error}", page.display())))?;
    say(&page)?;
    for (name, json) in [
        ("trace.json", serde_json::to_value(&answer.trace)),
        ("report.json", serde_json::to_value(&answer.report)),
    ] {
        let path = folder.join(name);
        let json = json.map_err(|error| Error::new(Kind::Native, format!("{name}: {error}")))?;
        output::write_json(&path, &json)?;
        say(&path)?;
    }
    Ok(())
}

fn say(path: &Path) -> Result<()> {
    output::say(&format!("{}\n", path.display()))
}
