use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::*;

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
        let picture = Pixels { width, height, rgb: levels::levels(width, height, 2), remark: None };
        let processor = Processor::of_parts(Cutting::Dynamic { pixels: AUTHORS_PIXELS }, None, patch, patch);
        let prepared = processor.prepare(&Visual::Image(&picture)).unwrap().unwrap();
        let [cut] = prepared.cuts.as_slice() else { panic!("one view") };
        assert_eq!([cut.first.width, cut.first.height], size, "{patch}: {width}x{height}");
        let sum: String = Sha256::digest(&cut.first.rgb).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sum, sha256, "{patch}: {width}x{height}: the pixels of the authors' processor");
    }
}
