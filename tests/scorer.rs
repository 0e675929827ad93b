//! Text-image models: token ids, features, logits and maps against transformers, regions against a float64 account.
//!
//! Expected values: tools/make_scorer_fixtures.py. Models: tools/test-models.sh.

use std::path::{Path, PathBuf};

use illava::error::Kind;
use illava::media::Pixels;
use illava::native::{Scorer, Wanted};
use illava::schedule::Grid;
use illava::see::crop::{
    self, Area, ChosenFrames, FilmShape, Pairs, RegionScorer, largest_of_pairs, means_of_parts,
};
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
    film_regions: Vec<FilmRegion>,
    frames: Vec<Frames>,
    films: Vec<Film>,
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
struct FilmRegion {
    similarity: usize,
    /// Patches per side of the text-image model, and cells per side of a frame.
    from: usize,
    side: usize,
    grid: String,
    /// Frames, those of them in detail, and rows.
    budget: Option<(usize, usize, f64)>,
    first: usize,
    last: usize,
    count: usize,
}

#[derive(Deserialize)]
struct Frames {
    cosines: Vec<f32>,
    asked: Vec<usize>,
    even: Vec<usize>,
}

#[derive(Deserialize)]
struct Film {
    kind: String,
    prompt: String,
    tensors: String,
    asked: Vec<usize>,
    even: Vec<usize>,
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

    /// The pictures of a kind of model, at its own size.
    fn pictures(&self, kind: &str) -> Vec<Pixels> {
        let (shape, bytes) = self.tensor(&format!("{kind}.pictures"));
        let side = u32::try_from(shape[1]).unwrap();
        let picture =
            |rgb: &[u8]| Pixels { width: side, height: side, rgb: rgb.to_vec(), remark: None, moment: None };
        bytes.chunks_exact(3 * shape[1] * shape[1]).map(picture).collect()
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
        let pictures = fixture.pictures(kind);
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
    let counts = [fixture.index.windows.len(), fixture.index.maps.len()];
    assert!(counts.iter().all(|&n| n >= 6));
}

/// The pairs of cells of a frame that are shown in detail, by the authors' amounts and within a budget.
#[test]
fn frames_and_their_regions_are_those_of_the_account() {
    let fixture = Fixture::load();
    for case in &fixture.index.frames {
        let chosen = ChosenFrames::new(&case.cosines);
        assert_eq!((&chosen.asked, &chosen.even), (&case.asked, &case.even), "{:?}", case.cosines);
    }
    for case in &fixture.index.film_regions {
        let grid = Grid::parse(&case.grid).unwrap();
        let similarity = fixture.floats(&format!("similarity.{}", case.similarity)).1;
        let shape = FilmShape::new(case.side, grid).unwrap();
        let shape =
            case.budget.map_or(shape, |(frames, details, target)| shape.within(frames, details, target));
        let pairs = shape.region(&similarity, Pairs::new(case.from, grid).unwrap()).pairs;
        assert_eq!(
            (pairs.first(), pairs.last(), pairs.len()),
            (Some(&case.first), Some(&case.last), case.count),
            "similarity {} on {} cells, {}, {:?}",
            case.similarity,
            case.side,
            case.grid,
            case.budget
        );
    }
    assert!(fixture.index.film_regions.len() >= 24 && fixture.index.frames.len() >= 5);
}

/// The cosines of a film, the frames and regions they choose and the rows of the span, against transformers' features.
#[test]
fn a_film_is_that_of_the_account() {
    let fixture = Fixture::load();
    for case in &fixture.index.films {
        let mut scorer = load(&case.kind, "F32");
        let pictures = fixture.pictures(&case.kind);
        let pictures: Vec<&Pixels> = pictures.iter().collect();
        let film = scorer
            .film(&pictures, (&case.prompt, Grid::Faithful), &[], &mut || ())
            .expect("the film has cosines");
        let near = |name: &str, actual: &[f32], most: f64| {
            let error = numbers::distance(actual, &fixture.floats(&format!("{}.{name}", case.tensors)).1);
            assert!(error <= most, "{}: {name} off by {error:.1e}", case.tensors);
        };
        near("cosines", &film.cosines, 1e-4);
        let chosen = ChosenFrames::new(&film.cosines);
        assert_eq!((&chosen.asked, &chosen.even), (&case.asked, &case.even), "{}", case.tensors);
        let (shape, embeddings) = fixture.floats(&format!("{}.embeddings", case.tensors));
        let (side, width) = (shape[1], shape[3]);
        let frame = |i: usize| &embeddings[i * side * side * width..(i + 1) * side * side * width];
        let sizes = FilmShape::new(side, Grid::Faithful).unwrap();
        let mut rows = Vec::new();
        for &i in chosen.asked.iter().chain(&chosen.even) {
            let pairs = largest_of_pairs(frame(i), side, width);
            let region = sizes.region(&film.similarity[i], film.pairs).pairs;
            rows.extend(region.iter().flat_map(|pair| &pairs[pair * width..(pair + 1) * width]));
        }
        let outlines =
            (0..pictures.len()).flat_map(|i| means_of_parts(frame(i), side, width, sizes.coarse()));
        rows.extend(outlines.collect::<Vec<_>>().iter());
        near("rows", &rows, 1e-6);
        assert_eq!(rows.len() / width, sizes.rows(pictures.len(), chosen.asked.len() + chosen.even.len()));
    }
    assert_eq!(fixture.index.films.len(), 6);
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
