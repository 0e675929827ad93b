//! Quantised LLaVA models with visual tokens merged in the image encoder and in the language model.
//!
//! `cli` -> `server` -> `worker` -> `answer` -> `pair` -> `see` -> `native`, with `bench` and `eval` beside the
//! server; `assembly`, `schedule`, `media`, `prompt`, `report`, `plot`, `stop` and `hub` know nothing of the others.
//! `tests/architecture.rs` holds these edges.
#![deny(unsafe_code)]
// Cases of a test are tuples; a named type for each table would say less than the table.
#![cfg_attr(test, allow(clippy::type_complexity))]

pub mod answer;
pub mod assembly;
pub mod bench;
pub mod cli;
pub mod error;
pub mod eval;
pub mod explain;
pub mod gbnf;
pub mod hub;
pub mod media;
pub mod native;
pub mod pair;
pub mod plot;
pub mod prompt;
pub mod report;
pub mod request;
pub mod schedule;
pub mod see;
#[cfg(unix)]
pub mod server;
pub mod stop;
pub mod worker;
