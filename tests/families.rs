//! Each model family against Hugging Face transformers with its own processor: the tiles' pixels,
//! the prompt's tokens, the rows of every span and the logits of 16 greedy tokens.
//!
//! Expected values: tools/make_family_fixtures.py. The pairs are tools/make_checkpoint.py's
//! checkpoints through tools/convert.py, in ILLAVA_TEST_MODELS or target/test-models.

mod families {
    pub mod fixture;
    pub mod levels;
    pub mod merging;
    pub mod run;
}

use families::fixture::{Case, Fixture};
use families::run::{Pair, SETTINGS, Setting};
use illava::answer::{Engine, LlamaEngine};
use illava::prompt::Chunk;
use illava::schedule::Schedule;
use illava::see::{EncodedImage, Encoder, Visual};
use sha2::{Digest, Sha256};

/// Largest difference of a pixel, of 255 levels.
const PIXEL_TOLERANCE: f32 = 2.0;

fn tiles_are_the_processors(pair: &Pair, fixture: &Fixture, case: &Case) {
    let mut sizes = Vec::new();
    let mut samples = Vec::new();
    for visual in case.visuals(&case.pictures()) {
        let inputs = pair
            .engine
            .encoder
            .as_ref()
            .unwrap()
            .inputs(&visual)
            .unwrap()
            .expect("these files say how pictures are cut");
        for (width, height, values) in inputs {
            sizes.push([width, height]);
            let (mean, std) = pair.normalisation;
            let row = width as usize * 3;
            for line in values.chunks(row).step_by(fixture.stride) {
                for pixel in line.chunks(3).step_by(fixture.stride) {
                    samples.extend((0..3).map(|c| (pixel[c] * std[c] + mean[c]) * 255.0));
                }
            }
        }
    }
    assert_eq!(sizes, case.tiles, "{}: sizes of the tiles", case.name);
    let expected = fixture.bytes(&format!("{}.tiles", case.name));
    assert_eq!(samples.len(), expected.len(), "{}: pixels", case.name);
    let worst = samples.iter().zip(expected).map(|(a, &b)| (a - f32::from(b)).abs()).fold(0.0, f32::max);
    assert!(worst <= PIXEL_TOLERANCE, "{}: a pixel is off by {worst} of 255", case.name);
}

fn prompt_is_the_processors(pair: &Pair, case: &Case) {
    let chunks = pair.engine.tokenize(&[case.message()]).expect("the prompt is tokenised");
    let parts: Vec<Option<Vec<i32>>> = chunks
        .into_iter()
        .map(|chunk| match chunk {
            Chunk::Tokens(tokens) => Some(tokens),
            Chunk::Image(_) => None,
        })
        .collect();
    assert_eq!(parts, case.expected_parts(), "{}: token ids", case.name);
}

fn case_is_as_transformers(pair: &mut Pair, fixture: &Fixture, case: &Case, setting: &Setting) {
    let pictures = case.pictures();
    let images: Vec<EncodedImage> = case
        .visuals(&pictures)
        .iter()
        .map(|visual| pair.engine.encode_span(visual, &Schedule::default()).expect("it is encoded"))
        .collect();
    let rows: Vec<u32> = images.iter().map(|image| image.plan.tokens).collect();
    assert_eq!(rows, case.spans, "{}: rows of the spans", case.name);
    assert!(images.iter().all(|image| image.plan.tokens_unmerged == image.plan.tokens));
    let logits = pair.greedy(case, &images, &[], setting);
    let expected = fixture.floats(&format!("{}.logits", case.name));
    families::run::assert_steps(&logits, expected, &case.greedy, setting, &case.name);
}

fn family(name: &str, least: usize) {
    family_with(name, least, &SETTINGS);
}

fn family_with(name: &str, least: usize, settings: &[Setting]) {
    let fixture = Fixture::load("families.json");
    for setting in settings {
        let mut pair = Pair::load(name, setting);
        let mut ran = 0;
        for case in fixture.cases.iter().filter(|case| case.family == name) {
            if setting.weights == "f32" {
                tiles_are_the_processors(&pair, &fixture, case);
                prompt_is_the_processors(&pair, case);
            }
            case_is_as_transformers(&mut pair, &fixture, case, setting);
            ran += 1;
        }
        assert!(ran >= least, "{name}: only {ran} cases");
    }
}

#[test]
fn llava_onevision_is_as_in_transformers() {
    family("llava_onevision", 8);
}

#[test]
fn llava_next_is_as_in_transformers() {
    family("llava_next", 7);
    family("llava_next_mistral", 1);
}

#[test]
fn llava_1_5_is_as_in_transformers() {
    family("llava", 7);
}

/// The rope factors of Llama 3.1 and a SigLIP tower without tiles; of the types F32 alone, to save minutes. The
/// library's own roundings of pixels and of GELU to f16 move these logits by 1.2e-4 in transformers, too.
#[test]
fn llava_on_llama_3_1_is_as_in_transformers() {
    let exact = Setting { tolerance: 2e-4, ..SETTINGS[0] };
    family_with("llava_llama3", 2, &[exact]);
}

#[test]
fn qwen2_vl_is_as_in_transformers() {
    family("qwen2_vl", 8);
}

/// Files of other converters have neither `illava.*` nor bounds; the authors' processor has the published ones.
#[test]
fn qwen2_vl_files_of_others_are_resized_as_in_transformers() {
    #[derive(serde::Deserialize)]
    struct Expected {
        qwen2vl: Vec<Shape>,
    }
    #[derive(serde::Deserialize)]
    struct Shape {
        patch: u32,
        picture: [u32; 2],
        size: [u32; 2],
        sha256: String,
    }
    let mut settings = Pair::settings("qwen2_vl", &SETTINGS[0]);
    let mut bytes = std::fs::read(settings.projector.as_ref().unwrap()).unwrap();
    for gone in ["illava.", "clip.vision.image_min_pixels", "clip.vision.image_max_pixels"] {
        let places: Vec<usize> =
            (0..bytes.len() - gone.len()).filter(|&at| bytes[at..].starts_with(gone.as_bytes())).collect();
        places.into_iter().for_each(|at| bytes[at] = b'_');
    }
    let folder = tempfile::tempdir().unwrap();
    let changed = folder.path().join("mmproj.gguf");
    std::fs::write(&changed, bytes).unwrap();
    settings.projector = Some(changed);
    let (engine, remarks) = LlamaEngine::load(&settings, |_| ()).expect("the pair loads");
    assert!(remarks.iter().all(|line| !line.contains("resizes pictures")), "{remarks:?}");
    let (mean, std) = Pair::load("qwen2_vl", &SETTINGS[0]).normalisation;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pictures.json");
    let expected: Expected = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let shapes: Vec<Shape> = expected
        .qwen2vl
        .into_iter()
        .filter(|shape| shape.patch == engine.facts().vision.patch_size)
        .collect();
    assert_eq!(shapes.len(), 3);
    for shape in shapes {
        let picture = families::fixture::picture(shape.picture, 2);
        let inputs = engine
            .encoder
            .as_ref()
            .unwrap()
            .inputs(&Visual::Image(&picture))
            .unwrap()
            .expect("it is cut here");
        let [(width, height, values)] = inputs.as_slice() else { panic!("one view") };
        assert_eq!([*width, *height], shape.size, "{:?}", shape.picture);
        let level = |(i, value): (usize, &f32)| ((value * std[i % 3] + mean[i % 3]) * 255.0).round() as u8;
        let levels: Vec<u8> = values.iter().enumerate().map(level).collect();
        let sum: String = Sha256::digest(&levels).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sum, shape.sha256, "{:?}: the pixels of the authors' processor", shape.picture);
    }
}

/// Kept tokens are compared on F32 files: an order must not hang on rounding.
#[test]
fn merging_is_as_in_the_reference() {
    let fixture = Fixture::load("families-merging.json");
    for (name, least) in [("llava", 8), ("llava_next", 8), ("llava_onevision", 12), ("qwen2_vl", 9)] {
        let setting = &SETTINGS[0];
        let mut pair = Pair::load(name, setting);
        let mut ran = 0;
        for case in fixture.cases.iter().filter(|case| case.family == name) {
            families::merging::case_is_as_the_reference(&mut pair, &fixture, case, setting);
            ran += 1;
        }
        assert!(ran >= least, "{name}: only {ran} cases");
    }
}
