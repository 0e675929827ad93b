//! The expected values, and the pictures they are for.

use std::collections::HashMap;
use std::path::Path;

use illava::media::{Moment, Pixels};
use illava::prompt::{Message, Part, Role};
use illava::see::Visual;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

#[derive(Deserialize)]
pub struct Case {
    pub name: String,
    pub family: String,
    /// Width and height of each picture; of the frames for a video.
    pub sizes: Vec<[u32; 2]>,
    pub frames: u32,
    /// Frames of the video a second; 0 if the frames do not tell their times.
    #[serde(default)]
    pub fps: f64,
    pub question: String,
    /// Token ids, and null where a span stands.
    pub parts: Vec<Option<Vec<i32>>>,
    /// Rows of each span.
    pub spans: Vec<u32>,
    /// Width and height of each tile; empty where merging is compared.
    #[serde(default)]
    pub tiles: Vec<[u32; 2]>,
    pub greedy: Vec<i32>,
    /// Seed of the first picture; the next ones count on.
    #[serde(default)]
    pub seed: u32,
    #[serde(default)]
    pub grid: String,
    /// Own or closed, where merging is compared.
    #[serde(default)]
    pub positions: String,
    #[serde(default)]
    pub strategy: String,
    /// Place of every row of each span without merging, and the span's end.
    #[serde(default)]
    pub places: Vec<Vec<i32>>,
    #[serde(default)]
    pub encoder: Vec<[u32; 2]>,
    #[serde(default)]
    pub llm_layer: u32,
    #[serde(default)]
    pub llm_keep: f64,
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// Result of one merge step: of tile `tile` of span `span` in the encoder, of the span's rows in the decoder.
#[derive(Deserialize)]
pub struct Step {
    pub span: usize,
    pub tile: Option<usize>,
    pub layer: u32,
    pub kept: Vec<i32>,
    pub into: Option<i32>,
}

#[derive(Deserialize)]
struct Index {
    tensors: String,
    #[serde(default)]
    stride: usize,
    cases: Vec<Case>,
}

pub struct Fixture {
    pub cases: Vec<Case>,
    pub stride: usize,
    floats: HashMap<String, Vec<f32>>,
    bytes: HashMap<String, Vec<u8>>,
}

impl Fixture {
    pub fn load(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let text = std::fs::read_to_string(folder.join(name)).expect("the index is committed");
        let index: Index = serde_json::from_str(&text).expect("the index is valid");
        let data = std::fs::read(folder.join(&index.tensors)).expect("the tensors are committed");
        let (mut floats, mut bytes) = (HashMap::new(), HashMap::new());
        for (name, view) in SafeTensors::deserialize(&data).expect("the tensors are valid").iter() {
            if view.dtype() == Dtype::U8 {
                bytes.insert(name.to_owned(), view.data().to_vec());
            } else {
                let values = view.data().as_chunks().0.iter().copied().map(f32::from_le_bytes);
                floats.insert(name.to_owned(), values.collect());
            }
        }
        Self { cases: index.cases, stride: index.stride, floats, bytes }
    }

    pub fn floats(&self, name: &str) -> &[f32] {
        &self.floats[name]
    }

    pub fn bytes(&self, name: &str) -> &[u8] {
        &self.bytes[name]
    }
}

impl Case {
    /// The pictures or frames, as tools/family_inputs.py draws them.
    pub fn pictures(&self) -> Vec<Pixels> {
        if self.frames > 0 {
            let moment =
                |i| (self.fps > 0.0).then(|| Moment { seconds: f64::from(i) / self.fps, fps: self.fps });
            let frame = |i| Pixels { moment: moment(i), ..picture(self.sizes[0], self.seed + i) };
            return (0..self.frames).map(frame).collect();
        }
        (self.seed..).zip(&self.sizes).map(|(seed, &size)| picture(size, seed)).collect()
    }

    /// Returns the pictures of each span.
    pub fn visuals<'a>(&self, pictures: &'a [Pixels]) -> Vec<Visual<'a>> {
        match pictures {
            _ if self.frames > 0 => vec![Visual::Video(pictures.iter().collect())],
            [only] => vec![Visual::Image(only)],
            several => several.iter().map(Visual::OneOfSeveral).collect(),
        }
    }

    /// The token ids as the authors' own code has them. A sentencepiece tokenizer begins a text with a
    /// space; LLaVA tokenises what stands between pictures apart, so each stretch begins with one,
    /// where transformers gives it to the first alone.
    pub fn expected_parts(&self) -> Vec<Option<Vec<i32>>> {
        let mut parts = self.parts.clone();
        if matches!(self.family.as_str(), "llava" | "llava_next" | "llava_next_mistral") {
            let space = parts[0].as_ref().and_then(|tokens| tokens.get(1)).copied().expect("a text first");
            parts.iter_mut().skip(1).flatten().for_each(|tokens| tokens.insert(0, space));
        }
        parts
    }

    pub fn message(&self) -> Message {
        let mut parts: Vec<Part> = (0..self.spans.len()).map(Part::Image).collect();
        parts.push(Part::Text(self.question.clone()));
        Message { role: Role::User, parts }
    }
}

pub fn picture([width, height]: [u32; 2], seed: u32) -> Pixels {
    Pixels { width, height, rgb: super::levels::levels(width, height, seed), remark: None, moment: None }
}
