//! `illava batch`: many requests from a file or a folder, their answers to a file, in order.

mod flags;
mod input;
mod output;
mod record;
mod run;

pub use flags::BatchFlags;
pub(super) use run::batch;
