//! What merging costs in accuracy and what it buys, on a question set: every schedule answers every question, the
//! answers are marked by the set's own custom, and figures of speed and memory come from the same runs.

mod bootstrap;
mod curve;
mod log;
mod metric;
mod runner;
mod set;
mod summary;
mod table;

pub use bootstrap::Interval;
pub use curve::curve;
pub use log::{Log, Record};
pub use metric::{Metric, instruction, prompt};
pub use runner::Runner;
pub use set::{Item, PictureSource, Set, read};
pub use summary::{Asked, Row, Summary, summarise};
pub use table::{csv, table};
