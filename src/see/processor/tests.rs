use std::collections::HashMap;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::*;
use crate::see::cutting::{AUTHORS_PIXELS, INTERNVL_TILES, QWEN3_PIXELS};

#[path = "../../../tests/families/levels.rs"]
mod levels;

#[derive(Deserialize)]
struct Shape {
    patch: u32,
    picture: [u32; 2],
    size: [u32; 2],
    sha256: String,
}

#[derive(Deserialize)]
struct Index {
    qwen2vl: Vec<Shape>,
}

/// Sizes and pixels of transformers' own processor, for patches of 14 pixels as published and of 8 as the test pair has.
#[test]
fn qwen2_vl_pictures_are_stretched_as_the_authors_do() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pictures.json");
    let index: Index = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(index.qwen2vl.iter().filter(|shape| shape.patch == 14).count(), 3);
    for Shape { patch, picture: [width, height], size, sha256 } in index.qwen2vl {
        let picture =
            Pixels { width, height, rgb: levels::levels(width, height, 2), remark: None, moment: None };
        let processor = Processor::of_parts(Cutting::Dynamic { pixels: AUTHORS_PIXELS }, None, patch, patch);
        let prepared = processor.prepare(&Visual::Image(&picture)).unwrap().unwrap();
        let [cut] = prepared.cuts.as_slice() else { panic!("one view") };
        assert_eq!([cut.first.width, cut.first.height], size, "{patch}: {width}x{height}");
        let sum: String = Sha256::digest(&cut.first.rgb).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sum, sha256, "{patch}: {width}x{height}: the pixels of the authors' processor");
    }
}

/// Sizes in numbers that each family was released with: tools/make_count_fixtures.py.
#[derive(Deserialize)]
struct Counts {
    sizes: Vec<(u32, u32)>,
    tokens: HashMap<String, Vec<u32>>,
    views: Vec<Views>,
    frames: Vec<Frames>,
}

#[derive(Deserialize)]
struct Views {
    family: String,
    picture: (u32, u32),
    sizes: Vec<(u32, u32)>,
    sha256: String,
}

#[derive(Deserialize)]
struct Frames {
    frames: usize,
    picture: (u32, u32),
    size: (u32, u32),
}

/// Families whose pictures are cut here, with the pixels of a token's side.
fn released() -> [(&'static str, Processor, u32); 6] {
    let of = |cutting, side: u32, unit: u32| Processor::of_parts(cutting, None, side, unit / 2);
    let bounded =
        |longest: u32, unit: u32| of(Cutting::Bounded { longest, tokens: (None, None) }, longest, unit);
    let gemma = Processor { filter: Filter::Bilinear, ..of(Cutting::Square, 896, 28) };
    [
        ("qwen2.5-vl", of(Cutting::Dynamic { pixels: AUTHORS_PIXELS }, 0, 28), 28),
        ("qwen3-vl", of(Cutting::Dynamic { pixels: QWEN3_PIXELS }, 0, 32), 32),
        ("internvl3", of(Cutting::Tiles { tiles: INTERNVL_TILES }, 448, 28), 28),
        ("gemma3", gemma, 56),
        ("pixtral", bounded(1024, 16), 16),
        ("mistral-small", bounded(1540, 28), 28),
    ]
}

fn counts() -> Counts {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/counts.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn tokens_are_those_of_the_processors() {
    let counts = counts();
    assert_eq!(counts.sizes.len(), 60);
    for (family, processor, unit) in released() {
        for (&(width, height), &tokens) in counts.sizes.iter().zip(&counts.tokens[family]) {
            let picture = Pixels { width, height, rgb: Vec::new(), remark: None, moment: None };
            let (sizes, _) = processor.outline(&Visual::Image(&picture)).unwrap().unwrap();
            let shown: u32 = sizes.iter().map(|(across, down)| (across / unit) * (down / unit)).sum();
            assert_eq!(shown, tokens, "{family}: {width}x{height}");
        }
    }
}

#[test]
fn views_are_those_of_the_processors() {
    for Views { family, picture: (width, height), sizes, sha256 } in counts().views {
        let picture =
            Pixels { width, height, rgb: levels::levels(width, height, 2), remark: None, moment: None };
        let (_, processor, _) = released().into_iter().find(|(name, ..)| *name == family).unwrap();
        let cuts = processor.prepare(&Visual::Image(&picture)).unwrap().unwrap().cuts;
        let shown: Vec<_> = cuts.iter().map(|cut| (cut.first.width, cut.first.height)).collect();
        assert_eq!(shown, sizes, "{family}: {width}x{height}");
        let mut sum = Sha256::new();
        cuts.iter().for_each(|cut| sum.update(&cut.first.rgb));
        let sum: String = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sum, sha256, "{family}: {width}x{height}: the pixels of the authors' processor");
    }
}

#[test]
fn frames_of_qwen3_vl_share_their_pixels() {
    let rule = VideoRule {
        sampling: Sampling::QWEN3VL,
        treatment: Treatment::Stamped { pixels: (4096, 25_165_824) },
    };
    let processor = Processor::of_parts(Cutting::Dynamic { pixels: QWEN3_PIXELS }, Some(rule), 0, 16);
    for Frames { frames, picture, size } in counts().frames {
        assert_eq!(processor.frame_size(picture, frames).unwrap(), size, "{frames} of {picture:?}");
    }
}
