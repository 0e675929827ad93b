//! Which layers remove how many visual tokens: presets, hand-written schedules and budgets,
//! resolved against the shape of a model. Pure: no model is needed, only its numbers.
//!
//! A [`Choice`] (what was asked) and a [`Shape`] (what the model has) give a [`Schedule`]
//! (layers of this model, amounts still relative); a schedule and one picture's patch counts
//! give a [`Plan`] (tokens removed, step by step).

mod amount;
mod choice;
mod layers;
mod plan;
mod positions;
mod preset;
mod strategy;
mod subject;

pub use amount::{Amount, parse_amounts, parse_keeps, parse_layers};
pub use choice::{Choice, Half, MergeFlag, Recommended, select};
pub use plan::{Plan, Segment, Step, TilePlan, not_cut};
pub use positions::Positions;
pub use preset::Preset;
pub use strategy::Strategy;
pub use subject::Subject;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Field, Result};

/// The numbers of a model that a schedule depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Encoder blocks stored in the file; what a preset's layers scale with.
    pub vit_layers: u32,
    /// Encoder blocks the graph runs: a merge layer is below this.
    pub vit_layers_run: u32,
    /// Patches of one tile at the encoder's own size; the reference of a pair's recommended counts.
    pub vit_tokens: u32,
    /// Patches that make one output token: 1, or 4 for Qwen2-VL.
    pub group: u32,
    pub vit_can_merge: bool,
    pub llm_layers: u32,
    pub llm_can_merge: bool,
    /// The family that the preset `qwen2vl` is for.
    pub is_qwen2vl: bool,
}

/// The decoder's criterion; see the formulas in docs/algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Score {
    /// Mean attention from the picture's own tokens.
    #[default]
    Image,
    /// Attention from the last prompt token.
    LastToken,
}

impl Score {
    /// # Errors
    /// Kind `Usage` with the names there are.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "image" => Ok(Score::Image),
            "last-token" => Ok(Score::LastToken),
            _ => Err(Error::usage(format!("{} {name}: choose image or last-token", Field::Score))),
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Score::Image => "image",
            Score::LastToken => "last-token",
        }
    }
}

/// What happens to the token grid after the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Grid {
    /// Survivors keep their grid coordinates.
    #[default]
    Faithful,
    /// Survivors are relabelled in order, as in the authors' code.
    Reference,
}

impl Grid {
    /// # Errors
    /// Kind `Usage` with the names there are.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "faithful" => Ok(Grid::Faithful),
            "reference" => Ok(Grid::Reference),
            _ => Err(Error::usage(format!("{} {name}: choose faithful or reference", Field::Grid))),
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Grid::Faithful => "faithful",
            Grid::Reference => "reference",
        }
    }
}

/// How one half of the model merges: layers of this model, ascending, with an amount each.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HalfSchedule {
    pub steps: Vec<(u32, Amount)>,
}

/// A schedule of this model; amounts become counts once a picture's size is known.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Schedule {
    /// What it is called in reports: a preset's name, "off" or "custom".
    pub name: String,
    pub encoder: HalfSchedule,
    pub decoder: HalfSchedule,
    /// A share of visual tokens that reaches the upper decoder layers; amounts then only give
    /// the proportion between steps.
    pub keep: Option<f64>,
    pub score: Score,
    pub grid: Grid,
    pub positions: Positions,
    /// Whether the decoder's attention counts a token as often as it stands for original ones.
    pub counts_sizes: bool,
    pub strategy: Strategy,
    /// For a strategy that acts once, the schedule whose number of tokens it is held to; both
    /// halves are then empty.
    pub budget: Option<Box<Schedule>>,
    /// One line for stderr when nobody has tried this schedule on this kind of model.
    pub remark: Option<String>,
}

impl Schedule {
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.encoder.steps.is_empty() && self.decoder.steps.is_empty() && self.budget.is_none()
    }

    /// The decoder layers at which a context has to be cut, ascending.
    #[must_use]
    pub fn merge_layers(&self) -> Vec<u32> {
        self.decoder.steps.iter().map(|(layer, _)| *layer).collect()
    }
}
