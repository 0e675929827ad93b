//! One function for each parser of illava that reads what a stranger sends. Each takes any bytes and panics on a fault:
//! the parser may refuse, but never panic, and an error is one line.
//!
//! `tools/fuzz.sh` runs each under libFuzzer; the test below runs each on its seeds.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use illava::error::Result;
use illava::eval;
use illava::media::video::Sampling;
use illava::pair::Pair;
use illava::report::{Trace, fates};
use illava::request::{Defaults, Grammar, Reference, VideoPlan, json};
use illava::server::media::Media;
use illava::server::settings::{Bounds, MediaAccess};
use illava::worker::frame;
use illava::worker::protocol::{Command, Event};

/// Takes any bytes, and panics on a fault.
pub type Target = fn(&[u8]);

/// The name and function of each target.
pub const TARGETS: [(&str, Target); 8] = [
    ("request", request),
    ("batch_line", batch_line),
    ("grammar", grammar),
    ("gguf", gguf),
    ("data_uri", data_uri),
    ("trace", trace),
    ("questions", questions),
    ("frame", frame),
];

fn one_line<T>(result: Result<T>) -> Option<T> {
    result.map_err(|error| assert!(!error.to_string().contains('\n'), "{error}")).ok()
}

fn read(data: &[u8], defaults: &Defaults) {
    let Some(body) = one_line(json::object(data, defaults.bounds.json_depth)) else { return };
    if let Some((request, reply)) = one_line(json::read(body.clone(), defaults)) {
        assert!(reply.choices >= 1 && reply.choices <= defaults.bounds.choices);
        // Checked values stay as they are, and reading twice gives the same.
        assert_eq!(request.limits.clone().checked().ok(), Some(request.limits.clone()));
        assert_eq!(json::read(body, defaults).ok().map(|(again, _)| again), Some(request));
    }
}

/// A body of `POST /v1/chat/completions`.
pub fn request(data: &[u8]) {
    read(data, &Defaults { scope: Some(b"key".to_vec()), ..Defaults::default() });
}

/// A line of `illava batch`, where a prompt and a system message stand in for those that it lacks.
pub fn batch_line(data: &[u8]) {
    let text = |text: &str| Some(text.to_owned());
    read(data, &Defaults { prompt: text("What is this?"), system: text("Be brief."), ..Defaults::default() });
}

/// The bounds of GBNF (first byte even) and of a JSON schema.
pub fn grammar(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(rest).into_owned();
    let grammar = if first % 2 == 0 { Grammar::Gbnf(text) } else { Grammar::JsonSchema(text) };
    one_line(grammar.checked());
}

/// The headers of two GGUF files: of a text model (first byte even) beside a good projector, or the other way round.
pub fn gguf(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/demo");
    let file = written("gguf", rest);
    one_line(match first % 2 {
        0 => Pair::open(file.path(), Some(&demo.join("mmproj.gguf"))),
        _ => Pair::open(&demo.join("text.gguf"), Some(file.path())),
    });
}

/// The address of a picture, with every door but `data:` shut.
pub fn data_uri(data: &[u8]) {
    let Ok(url) = std::str::from_utf8(data) else { return };
    // Once: it looks for ffmpeg.
    static MEDIA: LazyLock<Arc<Media>> = LazyLock::new(|| {
        let bounds = Bounds { image_pixels: 10_000, ..Bounds::default() };
        Arc::new(Media::new(&MediaAccess::default(), &bounds).expect("settings without folders and hosts"))
    });
    let plan = VideoPlan { one_span: true, frames: Sampling::Uniform { frames: 1, multiple: 1 } };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let _ = runtime.block_on(MEDIA.read(vec![Reference::Image(url.to_owned())], HashMap::new(), plan));
}

/// A trace file of `illava explain --from`.
pub fn trace(data: &[u8]) {
    if let Ok(trace) = serde_json::from_slice::<Trace>(data) {
        std::hint::black_box(one_line(fates(&trace)));
    }
}

/// A question set: JSONL, TSV, Parquet or a JSON table by the first byte.
pub fn questions(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let ending = ["jsonl", "tsv", "parquet", "json"][usize::from(first % 4)];
    one_line(eval::read(written(ending, rest).path(), &eval::Reading::default()));
}

/// Frames between server and worker, in both directions.
pub fn frame(data: &[u8]) {
    let (mut commands, mut events) = (data, data);
    while let Ok(Some(_)) = frame::read::<Command>(&mut commands) {}
    while let Ok(Some(_)) = frame::read::<Event>(&mut events) {}
}

/// A file with this content, gone when it is dropped.
fn written(ending: &str, content: &[u8]) -> tempfile::NamedTempFile {
    let mut file =
        tempfile::Builder::new().suffix(&format!(".{ending}")).tempfile().expect("a temporary file");
    file.write_all(content).expect("room for it");
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_takes_its_seeds_and_what_is_cut_off_them() {
        for (name, target) in TARGETS {
            target(&[]);
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
            let seeds: Vec<_> = std::fs::read_dir(&folder)
                .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
                .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
                .collect();
            assert!(!seeds.is_empty(), "{}", folder.display());
            for seed in seeds {
                for cut in (0..8).map(|part| seed.len() * part / 8).chain([seed.len()]) {
                    target(&seed[..cut]);
                }
            }
        }
    }
}
