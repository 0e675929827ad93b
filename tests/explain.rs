//! `illava explain` on the demo pair: what it keeps is where the picture has something.

mod binary;

use std::fs;
use std::path::Path;

use binary::{illava, scratch};
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
    let said = explain(&picture, &out, &[]);
    for name in ["kept-1.png", "heat-1.png", "explain.html", "trace.json", "report.json"] {
        let path = Path::new(&out).join(name);
        assert!(path.is_file(), "{name}");
        assert!(said.contains(name), "{said}");
    }
    let trace: illava::report::Trace =
        serde_json::from_str(&fs::read_to_string(Path::new(&out).join("trace.json")).unwrap()).unwrap();
    let [fate] = illava::report::fates(&trace).try_into().unwrap();
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
