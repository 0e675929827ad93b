//! Cost in accuracy and gain in speed of merging, on a question set. Every schedule answers every question,
//! and the set's own metric marks the answers. Figures of speed and memory come from the same runs.

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
