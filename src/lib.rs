//! Quantised LLaVA models with visual tokens merged in the image encoder and in the language model: open a pair, ask
//! about pictures, get the text and a report.
//!
//! ```
//! use illava::{Choice, Generation, LoadSettings, Model, Pixels};
//!
//! let settings = LoadSettings::new("models/demo/text.gguf", "models/demo/mmproj.gguf");
//! let mut model = Model::load(&settings, &Choice::default())?;
//! let picture = Pixels::open("models/demo/images/scene-448.png")?;
//! let answer = model.ask(&[picture], "What color is the star?", &Generation::greedy(Some(8)))?;
//! let tokens = &answer.report.tokens;
//! println!("{}: {} visual tokens, {:?} in the cache", answer.report.text, tokens.visual, tokens.visual_kv);
//! assert!(!answer.report.text.is_empty() && tokens.visual_after_encoder < tokens.visual);
//! # Ok::<(), illava::Error>(())
//! ```
//!
//! `docs/library.md` says what a program that depends on illava has to put into its `Cargo.toml`.
//
// Parts: `cli` -> `server` -> `worker` -> `answer` -> `pair` -> `see` -> `native`, with `bench`, `eval` and `model`
// beside the server, and `completion` below it. `assembly`, `schedule`, `media`, `prompt`, `report`, `plot`, `stop` and
// `hub` know only `error` and `file`. tests/architecture.rs holds these edges. The parts are public for the crate's own
// tests and programs, and hidden because they may change in any version. Programs use the names below them.
#![deny(unsafe_code)]
// Comments of flags are help texts, whose addresses stay plain.
#![allow(rustdoc::bare_urls)]
// Cases of a test are tuples. A named type for each table would say less than the table.
#![cfg_attr(test, allow(clippy::type_complexity))]

#[doc(hidden)]
pub mod answer;
#[doc(hidden)]
pub mod assembly;
#[doc(hidden)]
pub mod bench;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod completion;
#[doc(hidden)]
pub mod error;
#[doc(hidden)]
pub mod eval;
#[doc(hidden)]
pub mod explain;
#[doc(hidden)]
pub mod file;
#[doc(hidden)]
pub mod gbnf;
#[doc(hidden)]
pub mod hub;
#[doc(hidden)]
pub mod media;
#[doc(hidden)]
pub mod model;
#[doc(hidden)]
pub mod native;
#[doc(hidden)]
pub mod pair;
#[doc(hidden)]
pub mod plot;
#[doc(hidden)]
pub mod prompt;
#[doc(hidden)]
pub mod report;
#[doc(hidden)]
pub mod request;
#[doc(hidden)]
pub mod schedule;
#[doc(hidden)]
pub mod see;
#[doc(hidden)]
#[cfg(unix)]
pub mod server;
#[doc(hidden)]
pub mod stop;
#[doc(hidden)]
pub mod worker;

pub use answer::{Answer, Finish, Generation};
pub use error::{Error, Kind, Result};
pub use media::Pixels;
pub use model::Model;
pub use pair::LoadSettings;
pub use report::{Report, Trace};
pub use request::{Grammar, Limits, Sampling};
pub use schedule::{Choice, MergeFlag, Preset};
pub use stop::Stop;
