//! Cost in accuracy and gain in speed of merging, on a question set. Every schedule answers every question,
//! and the set's own metric marks the answers. Figures of speed and memory come from the same runs.

mod bootstrap;
mod curve;
mod figure;
mod judge;
mod log;
mod metric;
mod prompt;
mod runner;
mod scores;
mod set;
mod subtitles;
mod summary;
mod table;

pub use bootstrap::Interval;
pub use curve::curve;
pub use figure::{Form, figure};
pub use judge::Client as Judge;
pub use log::{Log, Record};
pub use metric::Metric;
pub use prompt::{instruction, prompt};
pub use runner::Runner;
pub use scores::Score;
pub use set::{Item, PictureSource, Reading, Set, read};
pub use summary::{Asked, Row, Summary, summarise};
pub use table::{csv, table};
