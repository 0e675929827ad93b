//! Names that a flag takes, for completions. The code that reads the flag refuses other names.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Command};

use crate::eval::Metric;
use crate::pair::KvType;
use crate::schedule::{Grid, MergeFlag, Positions, Preset, Score, Strategy, TowerScore};

/// Offers the names of a list to shells, and takes any text.
#[derive(Clone, Copy)]
pub struct Names(pub fn() -> Vec<&'static str>);

impl TypedValueParser for Names {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new((self.0)().into_iter().map(PossibleValue::new)))
    }
}

pub const ON_OFF: Names = Names(|| vec!["on", "off"]);
pub const ON_OFF_AUTO: Names = Names(|| vec!["on", "off", "auto"]);
pub const FORMS: Names = Names(|| vec!["jsonl", "csv"]);
pub const PRINTED: Names = Names(|| vec!["md", "csv", "json"]);
pub const LOAD_MODES: Names = Names(|| vec!["auto", "none", "mmap"]);
pub const KERNELS: Names = Names(|| vec!["auto", "stock"]);
pub const SPLITS: Names = Names(|| vec!["layer", "row", "none"]);
pub const SCORES: Names =
    Names(|| Score::ALL.map(Score::name).into_iter().chain([TowerScore::Class.name()]).collect());
pub const TEMPLATES: Names = Names(|| vec!["vicuna", "mistral", "chatml"]);
pub const GRIDS: Names = Names(|| [Grid::Faithful, Grid::Reference].map(Grid::name).to_vec());
pub const POSITIONS: Names = Names(|| Positions::ALL.map(Positions::name).to_vec());
pub const STRATEGIES: Names = Names(|| Strategy::ALL.map(Strategy::name).to_vec());
pub const METRICS: Names = Names(|| Metric::ALL.map(|metric| metric.name()).to_vec());
pub const KV_TYPES: Names = Names(|| KvType::ALL.iter().map(|kind| kind.name()).collect());
pub const MERGES: Names = Names(|| {
    let own = [MergeFlag::Off, MergeFlag::Model, MergeFlag::Auto];
    own.into_iter().chain(Preset::ALL.map(MergeFlag::Preset)).map(MergeFlag::name).collect()
});
/// Names that `--against` takes besides shares.
pub const SUBJECTS: Names = Names(|| [MERGES.0(), STRATEGIES.0()].concat());
