//! Merging off against on, part by part. The same pictures and the same number of tokens go through each
//! schedule in turn: a disturbance of the machine then disturbs all alike.

mod chart;
mod measure;
mod table;

pub use chart::chart;
pub use measure::{Work, measure};
pub use table::{csv, table};

use serde::Serialize;

use crate::report::{Model, Spread, VisualKv, digits};

/// Wall-clock milliseconds of one answer, part by part.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Sample {
    /// Pixels to the encoder's input.
    #[serde(serialize_with = "digits::thousandths")]
    pub preprocess: f64,
    #[serde(serialize_with = "digits::thousandths")]
    pub encoder: f64,
    #[serde(serialize_with = "digits::thousandths")]
    pub projector: f64,
    #[serde(serialize_with = "digits::thousandths")]
    pub prefill: f64,
    /// The tokens after the first.
    #[serde(serialize_with = "digits::thousandths")]
    pub generate: f64,
}

impl Sample {
    /// From pixels to the first token.
    #[must_use]
    pub fn first_token(&self) -> f64 {
        self.preprocess + self.encoder + self.projector + self.prefill
    }

    #[must_use]
    pub fn total(&self) -> f64 {
        self.first_token() + self.generate
    }
}

/// Part of the time, by name.
pub type Part = (&'static str, fn(&Sample) -> f64);

/// Parts that add up to the total.
pub const PARTS: [Part; 5] = [
    ("preprocess", |s| s.preprocess),
    ("encoder", |s| s.encoder),
    ("projector", |s| s.projector),
    ("prefill", |s| s.prefill),
    ("generate", |s| s.generate),
];

/// Sums of parts.
pub const SUMS: [Part; 2] = [("first token", Sample::first_token), ("total", Sample::total)];

/// One schedule, measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    pub name: String,
    pub visual: u32,
    pub visual_after_encoder: u32,
    pub visual_kv: Vec<VisualKv>,
    /// Bytes of the KV cache as allocated for this work.
    pub kv_bytes: u64,
    /// Bytes of the compute buffers of encoder and decoder.
    pub compute_bytes: u64,
    /// \[rounds\], warm-up left out.
    pub samples: Vec<Sample>,
}

impl Outcome {
    /// Returns the milliseconds of a part over the rounds.
    #[must_use]
    pub fn spread(&self, part: fn(&Sample) -> f64) -> Spread {
        Spread::of(self.samples.iter().map(part))
    }

    /// Returns the ratio of `base`'s time to this one's, round by round.
    #[must_use]
    pub fn against(&self, base: &Outcome, part: fn(&Sample) -> f64) -> Spread {
        Spread::of(base.samples.iter().zip(&self.samples).map(|(a, b)| part(a) / part(b)))
    }
}

/// Everything that one call measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Measured {
    pub model: Model,
    pub threads: u32,
    pub backend: String,
    pub text_tokens: u32,
    pub answer_tokens: u32,
    pub warm_up: u32,
    pub peak_rss: Option<u64>,
    /// Results. The first is the one that the others are compared with.
    pub outcomes: Vec<Outcome>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two schedules, three rounds: the second takes half the time of the first's median.
    pub fn measured() -> Measured {
        let outcome = |name: &str, encoder: [f64; 3], tokens: u32, kv_bytes: u64| Outcome {
            name: name.into(),
            visual: 729,
            visual_after_encoder: tokens,
            visual_kv: vec![VisualKv { layers: [0, 24], tokens }],
            kv_bytes,
            compute_bytes: 1 << 20,
            samples: encoder
                .map(|ms| Sample {
                    preprocess: 1.0,
                    encoder: ms,
                    projector: 0.0,
                    prefill: 50.0,
                    generate: 20.0,
                })
                .to_vec(),
        };
        Measured {
            model: Model::default(),
            threads: 2,
            backend: "CPU".into(),
            text_tokens: 31,
            answer_tokens: 16,
            warm_up: 1,
            peak_rss: None,
            outcomes: vec![
                outcome("off", [90.0, 100.0, 110.0], 729, 1000),
                outcome("paper", [50.0, 50.0, 50.0], 253, 360),
            ],
        }
    }

    #[test]
    fn ratios_are_of_one_round() {
        let measured = measured();
        let ratio = measured.outcomes[1].against(&measured.outcomes[0], |s| s.encoder);
        assert_eq!(ratio, Spread { min: 1.8, median: 2.0, max: 2.2 });
        assert!((measured.outcomes[1].spread(Sample::total).median - 121.0).abs() < 1e-9);
    }
}
