//! `illava serve`: llama.cpp's HTTP interface in front of a worker process.
//!
//! A request passes the checks of `guard` and is parsed by a dialect of [`api`]. Its pictures are decoded
//! ([`media`]), and it waits for a slot (`admission`). Then `gather` takes the events of the worker, and the
//! dialect writes them, as a whole or as a `stream`. No file here knows the native library.

mod admission;
mod answering;
pub mod api;
mod body;
mod choices;
pub mod client;
mod connections;
mod error;
mod fleet;
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
pub use connections::Order;
pub use fleet::{FleetServer, Member, Residence, serve_several};
pub use listen::{Server, serve};
pub use settings::Settings;
