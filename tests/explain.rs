//! `illava explain` on the demo pair: what it keeps is where the picture has something.

mod binary;

use std::fs;
use std::path::Path;

use binary::{frames, illava, pair, scratch};
use image::{Rgb, RgbImage};
use serde_json::Value;

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(ToString::to_string).collect()
}

fn explain(picture: &str, out: &str, extra: &[&str]) -> String {
    let (text, projector) = ("models/demo/text.gguf", "models/demo/mmproj.gguf");
    let args = ["explain", "-m", text, "--mmproj", projector, "--image", picture, "--out", out, "-n", "4"];
    let outcome = illava(&owned(&[&args, extra].concat()));
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    outcome.stdout
}

#[test]
fn a_bright_square_is_kept() {
    let picture = scratch("explain-square.png");
    let mut pixels = RgbImage::new(224, 224);
    for y in 144..192 {
        for x in 32..80 {
            pixels.put_pixel(x, y, Rgb([230, 230, 230]));
        }
    }
    pixels.save(&picture).unwrap();
    let out = scratch("explain-square");
    // Attention ranks here; the pair's own recommendation merges what is alike, in the square too.
    let said = explain(&picture, &out, &["--merge", "paper"]);
    let page = fs::read_to_string(Path::new(&out).join("explain.html")).unwrap();
    assert!(page.contains("text.gguf with mmproj.gguf") && page.contains("strategy "), "{page}");
    for name in ["kept-1.png", "heat-1.png", "explain.html", "trace.json", "report.json"] {
        let path = Path::new(&out).join(name);
        assert!(path.is_file(), "{name}");
        assert!(said.contains(name), "{said}");
    }
    let trace: illava::report::Trace =
        serde_json::from_str(&fs::read_to_string(Path::new(&out).join("trace.json")).unwrap()).unwrap();
    let [fate] = illava::report::fates(&trace).unwrap().try_into().unwrap();
    let tile = &fate.tiles[0];
    let (mut inside, mut outside) = ((0, 0), (0, 0));
    for (i, cell) in tile.cells.iter().enumerate() {
        let i = u32::try_from(i).unwrap();
        let (x, y) =
            ((i % tile.columns * 2 + 1) * 112 / tile.columns, (i / tile.columns * 2 + 1) * 112 / tile.rows);
        let counts =
            if (32..80).contains(&x) && (144..192).contains(&y) { &mut inside } else { &mut outside };
        counts.1 += 1;
        counts.0 += u32::from(cell.gone == 0);
    }
    assert!(inside.1 >= 9, "{inside:?}");
    assert_eq!(inside.0, inside.1, "every cell of the square is kept");
    assert!(outside.0 * 2 < outside.1, "most of the ground is merged: {outside:?}");
    let report: Value =
        serde_json::from_str(&fs::read_to_string(Path::new(&out).join("report.json")).unwrap()).unwrap();
    assert_eq!(
        fate.stages.last().unwrap().left,
        usize::try_from(report["tokens"]["visual_kv"][1]["tokens"].as_u64().unwrap()).unwrap(),
        "the pictures and the report count alike"
    );
}

#[test]
fn off_keeps_everything() {
    let out = scratch("explain-off");
    explain("models/demo/images/scene.png", &out, &["--merge", "off"]);
    let strip = image::open(Path::new(&out).join("kept-1.png")).unwrap();
    assert_eq!(strip.width(), 240 + 2 * 8, "one panel: the picture as it was");
}

#[test]
fn without_a_picture_there_is_nothing_to_explain() {
    let outcome =
        illava(&owned(&["explain", "-m", "models/demo/text.gguf", "--mmproj", "models/demo/mmproj.gguf"]));
    assert_eq!(outcome.code, 2);
    assert_eq!(outcome.stderr.trim(), "error: nothing to explain: give a picture with --image, or --video");
}

/// Two steps on a picture of 4 x 3 cells, by hand: the encoder merges cells 0 and 5 into 6, the decoder its row 3,
/// which is cell 4, into row 7, which is cell 9.
fn hand_made(picture: Option<&str>) -> Value {
    let files: Vec<&str> = picture.into_iter().collect();
    serde_json::json!({
        "prompt": [{"tokens": [1, 2]}, {"span": 0, "n": 10}, {"tokens": [3]}],
        "images": [{"index": 0, "width": 80, "height": 60, "tile": 0, "grid": [4, 3], "pixels": [0, 0, 80, 60]}],
        "files": files,
        "steps": [
            {"half": "encoder", "image": 0, "tile": 0, "layer": 3, "n_in": 12, "n_out": 10,
             "scores": [0.01, 0.5, 0.4, 0.3, 0.2, 0.02, 0.03, 0.6, 0.7, 0.8, 0.9, 1.0],
             "kept": [1, 2, 3, 4, 6, 7, 8, 9, 10, 11], "merged": [0, 5, 6], "into": 6},
            {"half": "decoder", "span": 0, "layer": 2, "n_in": 10, "n_out": 9,
             "scores": [0.5, 0.4, 0.3, 0.01, 0.6, 0.7, 0.8, 0.02, 0.9, 1.0],
             "kept": [0, 1, 2, 4, 5, 6, 7, 8, 9], "merged": [3, 7], "into": 7}
        ]
    })
}

/// Returns for each panel of a strip whether each cell's middle and corners are covered.
fn covered(strip: &Path, ground: Rgb<u8>, cells: (u32, u32), panel: (u32, u32)) -> Vec<Vec<bool>> {
    let strip = image::open(strip).unwrap().to_rgb8();
    let (width, height) = (panel.0 / cells.0, panel.1 / cells.1);
    let panels = (strip.width() - 8) / (panel.0 + 8);
    (0..panels)
        .map(|i| {
            let cell = |n: u32| {
                let (left, top) = (8 + i * (panel.0 + 8) + n % cells.0 * width, 8 + n / cells.0 * height);
                let all = |covered: bool| {
                    (0..width).all(|x| {
                        (0..height).all(|y| (*strip.get_pixel(left + x, top + y) != ground) == covered)
                    })
                };
                assert!(all(true) || all(false), "panel {i}, cell {n}: covered in part");
                all(true)
            };
            (0..cells.0 * cells.1).map(cell).collect()
        })
        .collect()
}

#[test]
fn a_trace_is_drawn_without_a_model() {
    let ground = Rgb([10, 200, 30]);
    let picture = scratch("explain-from.png");
    RgbImage::from_pixel(80, 60, ground).save(&picture).unwrap();
    let trace = scratch("explain-from.json");
    let of = |steps: &[&[u32]]| -> Vec<Vec<bool>> {
        steps.iter().map(|gone| (0..12).map(|cell| gone.contains(&cell)).collect()).collect()
    };
    // The picture is given, or named by the trace itself.
    for (given, named) in [(true, false), (false, true)] {
        fs::write(&trace, hand_made(named.then_some(picture.as_str())).to_string()).unwrap();
        let out = scratch(&format!("explain-from-{given}"));
        let mut args = vec!["explain", "--from", &trace, "--out", &out, "--panel-width", "80"];
        if given {
            args.extend(["--image", &picture]);
        }
        let outcome = illava(&owned(&args));
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
        let found = covered(&Path::new(&out).join("kept-1.png"), ground, (4, 3), (80, 60));
        assert_eq!(found, of(&[&[], &[0, 5], &[0, 4, 5]]));
        let page = fs::read_to_string(Path::new(&out).join("explain.html")).unwrap();
        let name = Path::new(&picture).file_name().unwrap().to_str().unwrap();
        for part in ["data:image/png;base64,", name, ">Play<", "least attention"] {
            assert!(page.contains(part), "{part}");
        }
    }
    // Without it, the cells stand on black.
    fs::write(&trace, hand_made(None).to_string()).unwrap();
    let out = scratch("explain-from-nothing");
    let outcome = illava(&owned(&["explain", "--from", &trace, "--out", &out, "--panel-width", "80"]));
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let found = covered(&Path::new(&out).join("kept-1.png"), Rgb([0; 3]), (4, 3), (80, 60));
    assert_eq!(found, of(&[&[], &[0, 5], &[0, 4, 5]]));
}

#[test]
fn a_trace_that_is_none_or_of_something_else_is_refused() {
    let (trace, picture) = (scratch("explain-wrong.json"), scratch("explain-wrong.png"));
    RgbImage::new(60, 80).save(&picture).unwrap();
    let explain = |extra: &[&str]| illava(&owned(&[&["explain", "--from", &trace], extra].concat()));
    fs::write(&trace, "{}").unwrap();
    explain(&[]).fails(1, "not a trace");
    fs::write(&trace, hand_made(None).to_string()).unwrap();
    explain(&["--image", &picture]).fails(1, "60x80 pixels, the trace is of a picture of 80x60");
    explain(&["--image", &picture, "--image", &picture]).fails(2, "2 pictures and videos are given");
}

#[test]
fn the_frames_of_a_video_lie_in_a_grid() {
    let folder = frames("explain-frames", 5);
    let out = scratch("explain-video");
    let mut args = owned(&["explain", "--video", &folder, "--out", &out, "-n", "1", "--merge", "paper"]);
    args.extend(pair("hf-llava_onevision-f32"));
    let outcome = illava(&args);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let trace_path = Path::new(&out).join("trace.json");
    let trace: illava::report::Trace =
        serde_json::from_str(&fs::read_to_string(&trace_path).unwrap()).unwrap();
    assert_eq!(
        trace.images.iter().map(|tile| tile.frame).collect::<Vec<_>>(),
        (0..5).map(Some).collect::<Vec<_>>()
    );
    // Five frames of 96 x 72 lie three across and two down.
    let strip = |folder: &str| image::open(Path::new(folder).join("kept-1.png")).unwrap().to_rgb8();
    let drawn = strip(&out);
    let panels = illava::report::fates(&trace).unwrap()[0].stages.len() as u32;
    assert_eq!(drawn.width(), panels * (288 + 8) + 8);
    let frame = image::open(Path::new(&folder).join("frame0.png")).unwrap().to_rgb8();
    for (column, row) in [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)] {
        let pixel = drawn.get_pixel(8 + column * 96 + 48, 8 + row * 72 + 36);
        assert_eq!(pixel, frame.get_pixel(48, 36), "frame at {column}, {row}");
    }
    assert_eq!(drawn.get_pixel(8 + 2 * 96 + 48, 8 + 72 + 36).0, [0; 3], "no sixth frame");
    // The trace alone draws the same.
    let again = scratch("explain-video-again");
    let from = trace_path.display().to_string();
    let outcome = illava(&owned(&["explain", "--from", &from, "--out", &again]));
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    assert_eq!(strip(&again), drawn);
}
