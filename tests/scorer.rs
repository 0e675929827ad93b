//! Text-image models: token ids, features, logits and maps against transformers, regions against a float64 account.
//!
//! Expected values: tools/make_scorer_fixtures.py. Models: tools/test-models.sh.

use std::path::{Path, PathBuf};

use illava::error::Kind;
use illava::media::Pixels;
use illava::native::{Scorer, Wanted};
use illava::see::crop::{self, Area, RegionScorer};
use safetensors::SafeTensors;
use serde::Deserialize;

#[allow(dead_code)] // Contexts are others'.
mod numbers;

#[derive(Deserialize)]
struct Index {
    texts: Vec<Text>,
    models: Vec<Model>,
    windows: Vec<Windows>,
    maps: Vec<Map>,
    patches: Vec<Patches>,
    frames: Vec<Frames>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<i32>,
}

#[derive(Deserialize)]
struct Model {
    kind: String,
    prompts: Vec<String>,
}

#[derive(Deserialize)]
struct Windows {
    picture: (u32, u32),
    windows: Vec<Area>,
}

#[derive(Deserialize)]
struct Map {
    map: usize,
    picture: (u32, u32),
    #[serde(rename = "box")]
    area: Area,
}

#[derive(Deserialize)]
struct Patches {
    similarity: usize,
    share: f64,
    picture: (u32, u32),
    #[serde(rename = "box")]
    area: Area,
}

#[derive(Deserialize)]
struct Frames {
    cosines: Vec<f32>,
    count: usize,
    frames: Vec<usize>,
}

/// The index, and the bytes of the tensors.
struct Fixture {
    index: Index,
    tensors: Vec<u8>,
}

impl Fixture {
    fn load() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let text = std::fs::read_to_string(folder.join("scorer.json")).expect("the index is committed");
        let index = serde_json::from_str(&text).expect("the index is valid");
        let tensors = std::fs::read(folder.join("scorer.safetensors")).expect("the tensors are committed");
        Self { index, tensors }
    }

    fn tensor(&self, name: &str) -> (Vec<usize>, Vec<u8>) {
        let tensors = SafeTensors::deserialize(&self.tensors).expect("the tensors are valid");
        let view = tensors.tensor(name).unwrap_or_else(|_| panic!("no tensor {name}"));
        (view.shape().to_vec(), view.data().to_vec())
    }

    fn floats(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let (shape, data) = self.tensor(name);
        (shape, data.as_chunks().0.iter().copied().map(f32::from_le_bytes).collect())
    }
}

fn path(kind: &str, weights: &str) -> PathBuf {
    let models = std::env::var_os("ILLAVA_TEST_MODELS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-models"), PathBuf::from);
    let path = models.join(format!("scorers/{kind}-{weights}.gguf"));
    assert!(path.exists(), "{} is missing: run tools/test-models.sh", path.display());
    path
}

fn load(kind: &str, weights: &str) -> RegionScorer {
    RegionScorer::load(&path(kind, weights), false, 1).expect("the model loads")
}

#[test]
fn texts_have_the_ids_of_transformers() {
    let fixture = Fixture::load();
    assert!(fixture.index.texts.len() >= 25);
    // One has its tokenizer from vocab.json and merges.txt, the other from tokenizer.json.
    for kind in ["clip", "clipseg"] {
        let scorer = load(kind, "F32");
        for case in &fixture.index.texts {
            let tokens = scorer.tokenize(&case.text);
            assert_eq!(tokens.ids, case.ids, "{kind}: {:?}", case.text);
            assert!(tokens.whole >= tokens.ids.len() && tokens.ids.len() <= 24, "{:?}", case.text);
        }
        assert_eq!(scorer.tokenize(&"x".repeat(60)).whole, 62);
        assert_eq!(scorer.tokenize("a<|endoftext|>b").pooled, 2, "the first end counts");
    }
}

#[test]
fn models_compute_what_transformers_computes() {
    let fixture = Fixture::load();
    assert_eq!(fixture.index.models.len(), 3);
    for model in &fixture.index.models {
        let kind = &model.kind;
        let (shape, bytes) = fixture.tensor(&format!("{kind}.pictures"));
        let side = shape[1];
        let picture = |rgb: &[u8]| {
            let side = u32::try_from(side).unwrap();
            Pixels { width: side, height: side, rgb: rgb.to_vec(), remark: None, moment: None }
        };
        let pictures: Vec<Pixels> = bytes.chunks_exact(3 * side * side).map(picture).collect();
        let pictures: Vec<&Pixels> = pictures.iter().collect();
        for (weights, tolerance) in [("F32", 1e-4), ("F16", 6e-3), ("Q8_0", 4e-2)] {
            let mut scorer = load(kind, weights);
            let near = |name: &str, actual: &[f32]| {
                let error = numbers::distance(actual, &fixture.floats(&format!("{kind}.{name}")).1);
                assert!(error <= tolerance, "{kind} {weights}: {name} off by {error:.1e}");
            };
            let texts: Vec<Vec<f32>> =
                model.prompts.iter().map(|text| scorer.text(text).expect("features")).collect();
            near("texts", &texts.concat());
            let wanted = Wanted { patches: true, ..Wanted::default() };
            let scores = scorer.images(&pictures, wanted, &[], &mut || ()).expect("scores");
            near("features", &scores.features);
            near("patches", &scores.patches);
            let scale = scorer.info().logit_scale;
            let columns: Vec<Vec<f32>> =
                texts.iter().map(|text| crop::cosines(&scores.features, text)).collect();
            let logits: Vec<f32> =
                (0..pictures.len()).flat_map(|i| columns.iter().map(move |c| c[i] * scale)).collect();
            near("logits", &logits);
            assert_eq!(scorer.info().has_map, kind != "clip");
            if scorer.info().has_map {
                let maps = texts.iter().map(|text| {
                    let wanted = Wanted { map: Some(text), ..Wanted::default() };
                    scorer.images(&pictures, wanted, &[], &mut || ()).expect("a map").map
                });
                near("maps", &maps.collect::<Vec<_>>().concat());
            }
        }
    }
}

#[test]
fn regions_are_those_of_the_account() {
    let fixture = Fixture::load();
    for case in &fixture.index.windows {
        assert_eq!(crop::windows(case.picture.0, case.picture.1), case.windows, "{:?}", case.picture);
    }
    for case in &fixture.index.maps {
        let (shape, logits) = fixture.floats(&format!("map.{}", case.map));
        assert_eq!(crop::around_map(&logits, shape[1], case.picture), case.area, "map {}", case.map);
    }
    for case in &fixture.index.patches {
        let (shape, similarity) = fixture.floats(&format!("similarity.{}", case.similarity));
        let area = crop::around_patches(&similarity, shape[1], case.share, case.picture);
        assert_eq!(area, case.area, "similarity {} share {}", case.similarity, case.share);
    }
    for case in &fixture.index.frames {
        assert_eq!(crop::best(&case.cosines, case.count), case.frames, "{:?}", case.cosines);
    }
    let counts = [fixture.index.windows.len(), fixture.index.maps.len(), fixture.index.patches.len()];
    assert!(counts.iter().all(|&n| n >= 6) && fixture.index.frames.len() >= 8);
}

#[test]
fn a_region_lies_in_its_picture() {
    let (width, height) = (90, 50);
    let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8 * 2, y as u8 * 5, 90]));
    let picture = Pixels { width, height, rgb: rgb.collect(), remark: None, moment: None };
    for kind in ["clip", "clipseg", "clipseg-simple"] {
        let mut scorer = load(kind, "F32");
        let region = scorer.region(&picture, "a red circle", &[], &mut || ()).expect("a region");
        let [left, top, right, bottom] = region.area;
        assert!(left < right && right <= width && top < bottom && bottom <= height, "{kind}: {region:?}");
        assert_eq!(region.rule.name(), if kind == "clip" { "windows" } else { "map" });
        assert_eq!(
            scorer.region(&picture, "a red circle", &[], &mut || ()).expect("a region"),
            region,
            "{kind}"
        );
        let stop = std::sync::atomic::AtomicBool::new(true);
        let error = scorer.region(&picture, "a red circle", &[&stop], &mut || ()).unwrap_err();
        assert_eq!(error.kind(), Kind::Interrupted);
    }
}

/// Every damage is told in one line that names the file.
#[test]
fn bad_files_are_told() {
    let whole = std::fs::read(path("clipseg", "F32")).expect("the model is there");
    let folder = tempfile::tempdir().expect("a folder");
    let told = |bytes: &[u8], part: &str| {
        let path = folder.path().join("bad.gguf");
        std::fs::write(&path, bytes).unwrap();
        let error = RegionScorer::load(&path, false, 1).err().unwrap_or_else(|| panic!("{part}: it loads"));
        let line = error.to_string();
        assert!(line.contains("bad.gguf") && line.contains(part) && !line.contains('\n'), "{part}: {line}");
        assert!(matches!(error.kind(), Kind::File | Kind::Model), "{line}");
    };
    told(&[], "GGUF");
    told(b"GGUFxxxx", "GGUF");
    told(&whole[..whole.len() - 100], "truncated");
    // A name or value of the header, changed in place.
    let changed = |from: &str, to: &str| {
        let at = whole.windows(from.len()).position(|part| part == from.as_bytes());
        let at = at.unwrap_or_else(|| panic!("no {from}"));
        let mut bytes = whole.clone();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    told(&changed("v.post_ln.bias", "v.past_ln.bias"), "tensor v.post_ln.bias is missing");
    told(
        &changed("scorer.vision.patch_size", "scorer.vision.patch_sizf"),
        "key scorer.vision.patch_size is missing",
    );
    told(&changed("quick_gelu", "quick_golu"), "quick_golu");
    told(&changed("tokenizer.ggml.merges", "tokenizer.ggml.mergez"), "merges");
    told(&changed("bilinear", "bilinbar"), "bilinbar");
    let projector = path("clip", "F32").with_file_name("../siglip-qwen2-f32/mmproj.gguf");
    let error = RegionScorer::load(&projector, false, 1).err().expect("no text-image model").to_string();
    assert!(error.contains("not a text-image model"), "{error}");
    let missing =
        RegionScorer::load(Path::new("/no/such.gguf"), false, 1).err().expect("no file").to_string();
    assert!(missing.contains("/no/such.gguf: no such file"), "{missing}");
}

/// Models of the released shapes, which tools/scorer_shapes.py writes to the folder ILLAVA_SCORER_SHAPES.
#[test]
#[ignore = "needs files of some gigabytes"]
fn shapes_of_released_models() {
    let folder =
        PathBuf::from(std::env::var_os("ILLAVA_SCORER_SHAPES").expect("ILLAVA_SCORER_SHAPES is set"));
    for name in ["clip-b32", "clip-l14-336", "clipseg-rd64-refined"] {
        let tensors =
            std::fs::read(folder.join(format!("{name}.safetensors"))).expect("the values are there");
        let fixture = Fixture { tensors, index: Fixture::load().index };
        let ids = fixture.tensor("ids").1;
        let ids: Vec<i32> = ids.as_chunks().0.iter().copied().map(i32::from_le_bytes).collect();
        for (weights, tolerance) in [("F32", 1e-4), ("F16", 6e-3)] {
            let path = folder.join(format!("{name}-{weights}.gguf"));
            let mut scorer = Scorer::load(&path, false, 2).expect("the model loads");
            let text = scorer.text(&ids, ids.len() - 1).expect("features");
            let map = scorer.info().has_map.then_some(text.as_slice());
            let start = std::time::Instant::now();
            let scores = scorer
                .images(&fixture.floats("pixels").1, Wanted { map, ..Wanted::default() }, &[])
                .expect("scores");
            let ms = start.elapsed().as_millis();
            let mut errors = vec![("text", numbers::distance(&text, &fixture.floats("text").1))];
            errors.push(("features", numbers::distance(&scores.features, &fixture.floats("features").1)));
            if map.is_some() {
                errors.push(("map", numbers::distance(&scores.map, &fixture.floats("map").1)));
            }
            for (what, error) in &errors {
                println!("{name} {weights}: {what} off by {error:.1e}, {ms} ms a picture");
            }
            assert!(errors.iter().all(|(_, error)| *error <= tolerance), "{name} {weights}: {errors:?}");
        }
    }
}
