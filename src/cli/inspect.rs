//! `illava inspect`: facts of a pair, as tables or JSON, and two reports side by side.

use std::path::Path;

use comfy_table::{CellAlignment, Table};

use super::flags::InspectFlags;
use super::{images, model_files, output, settings};
use crate::error::{Error, Kind, Result};
use crate::file;
use crate::media::policy::Limits;
use crate::pair::{
    CropFacts, InspectOptions, Inspection, PictureFacts, PresetFacts, ProjectorFacts, TypeShare,
};
use crate::report::{self, Report};

pub(super) fn inspect(flags: &InspectFlags) -> Result<()> {
    if let [a, b] = flags.reports.as_slice() {
        return output::say(&format!("{}\n", report::compare(&read(a)?, &read(b)?, output::width())));
    }
    let type_k = settings::kv_type("-ctk", &flags.cache_type_k)?;
    let type_v = settings::kv_type("-ctv", &flags.cache_type_v)?;
    let grid = crate::schedule::Grid::parse(&flags.grid)?;
    let sizes = flags.size.iter().map(|text| size(text)).collect::<Result<Vec<_>>>()?;
    let (text, projector) = model_files::find(flags.model.as_ref(), flags.mmproj.as_ref(), &flags.hub)?;
    let asked = InspectOptions {
        type_k,
        type_v,
        image_max_tokens: flags.image_max_tokens,
        repack: flags.mmproj_repack,
        sizes: &sizes,
        grid,
        strategy: flags.strategy.strategy()?,
    };
    let mut found = Inspection::new(&text, projector.as_deref(), &asked)?;
    found.crop_model = crop_model(flags)?;
    if flags.json {
        return output::write_json(Path::new("-"), &found);
    }
    output::say(&show(&found, output::width()))
}

/// Facts of the text-image model, and the regions that it chooses.
fn crop_model(flags: &InspectFlags) -> Result<Option<CropFacts>> {
    let Some(path) = &flags.crop_model else { return Ok(None) };
    let pictures = images::listed(&flags.image).into_iter();
    let pictures = pictures.map(|name| Ok((images::shown(&name), images::open(&name)?.0)));
    let pictures = pictures.collect::<Result<Vec<_>>>()?;
    let question = flags.prompt.as_deref().unwrap_or_default();
    if !pictures.is_empty() && question.trim().is_empty() {
        return Err(Error::usage("-p: no text says what to look for in the pictures; give a question"));
    }
    CropFacts::new(path, &pictures, question, settings::all_threads(None)?).map(Some)
}

fn size(text: &str) -> Result<(u32, u32)> {
    let most = Limits::default().max_side;
    let side = |text: &str| text.trim().parse().ok().filter(|side| (1..=most).contains(side));
    text.split_once(['x', 'X'])
        .and_then(|(width, height)| Some((side(width)?, side(height)?)))
        .filter(|&(width, height)| u64::from(width) * u64::from(height) <= Limits::default().max_pixels)
        .ok_or_else(|| {
            Error::usage(format!(
                "--size {text}: give width and height in pixels, as 2000x1500, each up to {most}"
            ))
        })
}

fn read(path: &Path) -> Result<Report> {
    let failed = |reason: String| Error::new(Kind::File, format!("{}: {reason}", path.display()));
    let text = file::text(path).map_err(|error| failed(error.to_string()))?;
    serde_json::from_str(&text)
        .map_err(|error| failed(format!("not a report of `illava run --report` ({error})")))
}

fn show(found: &Inspection, width: Option<u16>) -> String {
    let text = &found.text;
    let yes = |b: bool| if b { "yes" } else { "no" };
    let mut facts = Table::new();
    let mut fact = |name: &str, value: String| {
        facts.add_row([name.to_owned(), value]);
    };
    fact("text model", format!("{} ({}, {})", found.model.text, found.model.arch, found.model.text_type));
    fact("", format!("{} layers, {} wide, context {}", text.layers, text.n_embd, text.context_trained));
    fact("", types(&text.types));
    if text.repacked_bytes > 0 {
        fact(
            "",
            format!(
                "{} laid out anew for this CPU on loading; --no-repack maps the file instead",
                bytes(text.repacked_bytes)
            ),
        );
    }
    fact("", format!("chat template: {}; merges: {}", yes(text.has_chat_template), yes(text.can_merge)));
    match &found.projector {
        Some(projector) => of_projector(found, projector, &mut fact),
        None => fact("projector", "none: texts alone".to_owned()),
    }
    if let Some(crop) = &found.crop_model {
        of_crop_model(crop, &mut fact);
    }
    let verdict = found.mismatch.as_ref().map_or("yes".to_owned(), |reason| format!("no: {reason}"));
    if found.projector.is_some() {
        fact("a pair", verdict);
    }
    if let Some(fault) = &text.chat_template_fault {
        fact("cannot run", fault.clone());
    }
    fact(
        "KV cache",
        format!("{} a token (K {}, V {})", bytes(found.kv.bytes_per_token), found.kv.type_k, found.kv.type_v),
    );
    if let Some(own) = &found.recommended {
        let evaluated = own.evaluated.as_deref().unwrap_or("not said on what");
        fact(
            "recommended",
            format!(
                "encoder layers {:?} remove {:?}; decoder layers {:?} keep {:?}",
                own.vit_layers, own.vit_r, own.llm_layers, own.llm_keep
            ),
        );
        fact("evaluated", evaluated.to_owned());
    }
    if found.pictures.is_empty() {
        return format!("{}\n", report::fitted(facts, width));
    }
    let mut merging = Table::new();
    merging.set_header([
        "picture",
        "schedule",
        "encoder layers",
        "decoder layers",
        "tokens",
        "visual KV",
        "of off",
    ]);
    for (i, picture) in found.pictures.iter().enumerate() {
        let size = match picture.frames {
            Some(frames) => format!("{frames} frames {}x{}", picture.width, picture.height),
            None if found.projector.as_ref().is_some_and(|projector| projector.dynamic_size)
                || found.pictures.len() > 1 =>
            {
                format!("{}x{}, {} tiles", picture.width, picture.height, picture.tiles.len())
            }
            None => "any size".to_owned(),
        };
        merging.add_row([
            size,
            "off".into(),
            String::new(),
            String::new(),
            picture.tokens.to_string(),
            bytes(picture.kv_bytes),
            "1.00".into(),
        ]);
        for preset in &found.presets {
            merging.add_row(row(preset, i, picture));
        }
    }
    for column in 4..=6 {
        if let Some(column) = merging.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let merged = || found.presets.iter().flat_map(|preset| &preset.pictures);
    let mut notes = String::new();
    if merged().any(|merged| merged.estimated) {
        notes += "~ depends on the picture; here survivors are spread evenly\n";
    }
    if merged().any(|merged| merged.kept_by_pooling) {
        notes += "cells that are pooled or capped seldom lose all their parts, so few rows are saved there; --grid reference keeps the saving\n";
    }
    format!("{}\n\n{}\n{notes}", report::fitted(facts, width), report::fitted(merging, width))
}

fn of_projector(found: &Inspection, projector: &ProjectorFacts, fact: &mut impl FnMut(&str, String)) {
    let yes = |b: bool| if b { "yes" } else { "no" };
    fact(
        "projector",
        format!("{} ({}, {})", found.model.projector, projector.kind, found.model.projector_type),
    );
    fact(
        "",
        format!(
            "{} of {} layers used, {} wide, {} heads, {} px in patches of {}{}",
            projector.layers_run,
            projector.layers,
            projector.width,
            projector.heads,
            projector.image_size,
            projector.patch_size,
            if projector.class_token { ", class token" } else { "" }
        ),
    );
    fact("", types(&projector.types));
    fact("", format!("merges: {}; takes videos: {}", yes(projector.can_merge), yes(projector.takes_videos)));
    if projector.repacked_bytes > 0 {
        fact("", format!("repacked: {} of {}", bytes(projector.repacked_bytes), bytes(projector.bytes)));
    }
    fact("pictures", projector.cuts.clone());
    if let Some(rule) = &projector.videos {
        fact("videos", rule.clone());
    }
    for line in &projector.missing {
        fact("missing", line.clone());
    }
    if projector.missing.is_empty() {
        fact("missing", "nothing".to_owned());
    }
}

fn of_crop_model(crop: &CropFacts, fact: &mut impl FnMut(&str, String)) {
    let (size, tokens) = (crop.image_size, crop.text_tokens);
    let reads = format!("{size} px in patches of {}, texts of {tokens} tokens", crop.patch_size);
    fact("crop model", format!("{} ({}), {reads}, {}", crop.name, crop.kind, bytes(crop.bytes)));
    for region in &crop.regions {
        let [left, top, right, bottom] = region.pixels;
        fact(
            "crop",
            format!(
                "{}, {}x{}: pixels {left}, {top} to {right}, {bottom} ({} {:.3}), {:.0} ms",
                region.picture, region.width, region.height, region.rule, region.score, region.ms
            ),
        );
        let (read, whole) = region.question_tokens;
        if read < whole {
            fact("", format!("it reads {read} tokens of the question, which has {whole}"));
        }
    }
}

fn row(preset: &PresetFacts, i: usize, picture: &PictureFacts) -> [String; 7] {
    let name = preset.label.clone();
    let Some(merged) = preset.pictures.get(i) else {
        let error = preset.error.clone().unwrap_or_default();
        return [String::new(), name, error, String::new(), String::new(), String::new(), String::new()];
    };
    let tokens: Vec<String> = merged.visual_kv.iter().map(|kv| kv.tokens.to_string()).collect();
    #[allow(clippy::cast_precision_loss)]
    let ratio = merged.kv_bytes as f64 / picture.kv_bytes.max(1) as f64;
    [
        String::new(),
        name,
        steps(&preset.vit_layers, &merged.vit_r),
        steps(&preset.llm_layers, &merged.llm_r),
        format!("{} > {}{}", picture.tokens, if merged.estimated { "~" } else { "" }, tokens.join(" > ")),
        bytes(merged.kv_bytes),
        format!("{ratio:.2}"),
    ]
}

/// Writes `5-92 6-92`: layer and tokens removed.
fn steps(layers: &[u32], r: &[u32]) -> String {
    layers.iter().zip(r).map(|(layer, r)| format!("{layer}:-{r}")).collect::<Vec<_>>().join(" ")
}

fn types(types: &[TypeShare]) -> String {
    types.iter().map(|t| format!("{} {}", t.name, bytes(t.bytes))).collect::<Vec<_>>().join(", ")
}

#[allow(clippy::cast_precision_loss)]
fn bytes(n: u64) -> String {
    report::quantity(n as f64)
}
