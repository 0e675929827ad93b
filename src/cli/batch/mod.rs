//! `illava batch`: many requests from a file or a folder, their answers to a file, in order.

mod captions;
mod form;
mod input;
mod media;
mod outcome;
mod output;
mod pictures;
mod record;
mod run;
#[cfg(test)]
mod same;

pub(super) use run::batch;
