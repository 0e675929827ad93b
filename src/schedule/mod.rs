//! Schedules: the layers that remove visual tokens, and their amounts. Presets, hand-written schedules and
//! budgets are resolved against the shape of a model. Pure: no model is needed, only its numbers.
//!
//! A [`Choice`] (the wish of a person) and a [`Shape`] (the facts of the model) give a [`Schedule`] (layers
//! of this model, amounts still relative). A schedule and one picture's patch counts give a [`Plan`] (tokens
//! removed, step by step).

mod amount;
mod auto;
mod choice;
mod half;
mod layers;
mod method;
mod plan;
mod positions;
mod preset;
mod question;
mod strategy;
mod subject;
mod thinning;

pub use amount::{Amount, parse_amounts, parse_keeps, parse_layers};
pub use auto::{Amounts, Bound, Bounds, Content, why};
#[cfg(test)]
pub(crate) use choice::tests::so400m;
pub use choice::{Choice, Half, MergeFlag, Recommended, select};
pub use plan::{Plan, Segment, Step, TilePlan, not_cut};
pub use positions::Positions;
pub use preset::Preset;
pub use strategy::Strategy;
pub use subject::Subject;
pub use thinning::Thinning;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Field, Result};

/// Numbers of a model that a schedule depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Encoder blocks stored in the file, by which a preset's layers scale.
    pub vit_layers: u32,
    /// Encoder blocks that the graph runs: a merge layer is below this.
    pub vit_layers_run: u32,
    /// Patches of one tile at the encoder's own size, the reference of a pair's recommended counts.
    pub vit_tokens: u32,
    /// Patches that make one output token: 1, or 4 for Qwen-VL.
    pub group: u32,
    /// Patches whose mean makes one output token: 1, or 16 for Gemma 3.
    pub pooled: u32,
    pub vit_can_merge: bool,
    /// First encoder layer that may merge.
    pub vit_first: u32,
    pub llm_layers: u32,
    pub llm_can_merge: bool,
    /// First layer of the text model that may merge, 1 or later.
    pub llm_first: u32,
    /// Tokens of a picture have a line and a column in the text model.
    pub has_axes: bool,
    /// Family that the preset `qwen2vl` is for.
    pub is_qwen2vl: bool,
    /// Width of the encoder and of the text model.
    pub widths: (u32, u32),
    /// Whether the encoder has a class token, whose attention can rank patches.
    pub class_token: bool,
    /// Whether a text-image model is loaded beside the pair, which finds regions for a question.
    pub finds_regions: bool,
    /// Whether a frame becomes one square of tokens that stand in line, so that they can be pooled.
    pub pools_frames: bool,
}

impl Shape {
    /// Output tokens of a tile of `patches` patches of which `left` stay: the most there can be where patches are pooled.
    #[must_use]
    pub fn tokens(&self, patches: u32, left: u32) -> u32 {
        match self.pooled {
            0 | 1 => left / self.group.max(1),
            pooled => (patches / pooled).min(left),
        }
    }

    /// Whether the text model does more than one and a half times the encoder's work on a picture. The
    /// multiply-adds of a block grow with the square of its width, once for each token.
    #[must_use]
    pub fn text_dominates(&self) -> bool {
        let work = |layers: u32, width: u32| f64::from(layers) * f64::from(width).powi(2);
        let encoder = work(self.vit_layers_run, self.widths.0) * f64::from(self.group.max(1));
        work(self.llm_layers, self.widths.1) > 1.5 * encoder
    }
}

/// Score of the decoder; see the formulas in docs/algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Score {
    /// Mean attention from the picture's own tokens.
    #[default]
    Image,
    /// Attention from the last prompt token.
    LastToken,
    /// Mean attention from the text behind the last picture.
    Question,
    /// Mean attention from those tokens of this text that the picture points to.
    Raters,
    /// Mean attention from the whole prompt.
    Prompt,
}

impl Score {
    pub const ALL: [Score; 5] =
        [Score::Image, Score::LastToken, Score::Question, Score::Raters, Score::Prompt];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Score::Image => "image",
            Score::LastToken => "last-token",
            Score::Question => "question",
            Score::Raters => "raters",
            Score::Prompt => "prompt",
        }
    }

    /// Whether another question ranks otherwise.
    #[must_use]
    pub fn reads_the_question(self) -> bool {
        self != Score::Image
    }
}

/// Score of the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum TowerScore {
    /// Mean attention from all of the encoder's rows.
    #[default]
    Received,
    /// Attention from the class token.
    Class,
}

impl TowerScore {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            TowerScore::Received => "received",
            TowerScore::Class => "class",
        }
    }
}

/// Reads the scores of both halves: `image`, `last-token`, `question`, `raters` or `prompt` for the decoder, `class`
/// for the encoder, or `class` and one of the others with a comma between them.
///
/// # Errors
/// [`crate::error::Kind::Usage`] with the names there are.
pub fn parse_scores(text: &str) -> Result<(TowerScore, Score)> {
    let (mut tower, mut decoder) = (None, None);
    for name in text.split(',').map(str::trim) {
        let again = match name {
            "class" => tower.replace(TowerScore::Class).is_some(),
            _ => match Score::ALL.into_iter().find(|score| score.name() == name) {
                Some(score) => decoder.replace(score).is_some(),
                None => true,
            },
        };
        if again {
            return Err(Error::usage(format!(
                "{} {text}: choose image, last-token, question, raters or prompt (the text model), class (the encoder), or both halves as in class,last-token",
                Field::Score
            )));
        }
    }
    Ok((tower.unwrap_or_default(), decoder.unwrap_or_default()))
}

/// Treatment of the token grid after the encoder.
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

/// Half of a schedule: layers of this model, ascending, with an amount each.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HalfSchedule {
    pub steps: Vec<(u32, Amount)>,
}

/// Schedule of this model. Amounts become counts once a picture's size is known.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Schedule {
    /// Name in reports: that of a preset, "off" or "custom".
    pub name: String,
    pub encoder: HalfSchedule,
    pub decoder: HalfSchedule,
    /// Share of visual tokens that reaches the upper decoder layers. Amounts then only give the proportion
    /// between steps.
    pub keep: Option<f64>,
    /// The same share if a method takes it over from the preset that is named.
    pub preset_share: Option<f64>,
    /// Bounds within which each picture's amounts follow from its content. The steps then only name layers.
    pub auto: Option<Bounds>,
    /// Share of the decoder's scores that the tokens kept at each of its layers must hold; the amounts then bound how
    /// many they are.
    pub mass: Option<f64>,
    pub score: Score,
    pub vit_score: TowerScore,
    pub grid: Grid,
    pub positions: Positions,
    /// Whether the decoder's attention counts a token as often as it stands for original ones.
    pub counts_sizes: bool,
    pub strategy: Strategy,
    /// Strategy that the name stands for.
    pub usual: Strategy,
    /// Whether in the encoder a token that stands for several counts as often in later layers' attention.
    pub vit_sizes: bool,
    /// For a strategy that acts once, the schedule with the same number of tokens. Both halves are then
    /// empty.
    pub budget: Option<Box<Schedule>>,
    /// Question that decides what the encoder sees, for a strategy that looks at it.
    pub question: Option<String>,
    /// One line for stderr if this schedule is untested on this kind of model.
    pub remark: Option<String>,
}

impl Schedule {
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.encoder.steps.is_empty() && self.decoder.steps.is_empty() && self.budget.is_none()
    }

    /// Returns the decoder layers at which a context has to be cut, ascending.
    #[must_use]
    pub fn merge_layers(&self) -> Vec<u32> {
        self.decoder.steps.iter().map(|(layer, _)| *layer).collect()
    }
}
