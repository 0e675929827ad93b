//! `illava serve`: llama.cpp's HTTP interface in front of a worker process.
//!
//! A request passes the checks of `guard`, is read and understood (`body`, and a dialect of [`api`]), gets its
//! pictures decoded ([`media`]) and waits for a slot (`admission`). Then events of the worker are gathered
//! (`gather`), and the dialect writes them, as a whole or as a `stream`. Nothing here knows the native library.

mod admission;
mod answering;
pub mod api;
mod body;
mod choices;
pub mod client;
mod error;
mod gather;
mod grammar;
mod guard;
mod info;
mod keys;
mod listen;
#[doc(hidden)]
pub mod media;
mod metrics;
mod notify;
mod ollama;
mod origin;
mod prompts;
mod routes;
pub mod settings;
mod slots;
mod state;
mod stream;
mod tokenize;
mod web;

pub use answering::read as read_request;
pub use listen::{Order, Server, serve};
pub use settings::Settings;
