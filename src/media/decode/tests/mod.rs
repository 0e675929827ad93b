//! The decoders against Pillow's pixels, and against files that are cut, damaged or hostile.

mod kinds;
mod tiffs;
mod whole;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::*;

/// One file of tools/make_picture_fixtures.py.
#[derive(Deserialize)]
struct Fixture {
    name: String,
    file: String,
    size: (u32, u32),
    /// Levels that two decoders may differ by.
    near: u8,
    transparent: bool,
    rgb: String,
}

impl Fixture {
    fn bytes(&self) -> Vec<u8> {
        BASE64_STANDARD.decode(&self.file).unwrap()
    }
}

fn fixtures() -> Vec<Fixture> {
    #[derive(Deserialize)]
    struct File {
        files: Vec<Fixture>,
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pictures.json");
    serde_json::from_slice::<File>(&std::fs::read(path).unwrap()).unwrap().files
}

/// The bytes of one fixture.
fn fixture(name: &str) -> Vec<u8> {
    fixtures().iter().find(|fixture| fixture.name == name).unwrap().bytes()
}

fn seen(bytes: &[u8]) -> std::result::Result<Pixels, String> {
    decode(bytes, "x", &Limits::default()).map_err(|error| error.to_string())
}

#[test]
fn every_kind_is_seen_as_pillow_and_transformers_see_it() {
    for fixture in fixtures() {
        let pixels = seen(&fixture.bytes()).unwrap_or_else(|error| panic!("{}: {error}", fixture.name));
        assert_eq!((pixels.width, pixels.height), fixture.size, "{}", fixture.name);
        let expected = BASE64_STANDARD.decode(&fixture.rgb).unwrap();
        let worst = pixels.rgb.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(worst <= fixture.near, "{}: {worst} levels off", fixture.name);
        let remark = pixels.remark.unwrap_or_default();
        assert_eq!(remark.contains("on white"), fixture.transparent, "{}: {remark}", fixture.name);
        assert_eq!(remark.contains("first of its frames"), fixture.name.starts_with("two."), "{remark}");
    }
}
