//! `illava serve`: llama.cpp's HTTP interface in front of a worker process.
//!
//! A request passes the checks of [`guard`], is read and understood ([`body`], [`api`]), gets its
//! pictures decoded ([`media`]), waits for a slot ([`admission`]), and then only events of the
//! worker pass by ([`chat`], [`stream`]). Nothing here knows the native library.

mod admission;
pub mod api;
mod body;
mod chat;
mod choices;
pub mod client;
mod error;
mod grammar;
mod guard;
mod info;
mod keys;
mod listen;
#[doc(hidden)]
pub mod media;
mod metrics;
mod notify;
mod origin;
mod routes;
pub mod settings;
mod state;
mod stream;
mod tokenize;
mod web;

pub use chat::read as read_request;
pub use listen::{Order, Server, serve};
pub use settings::Settings;

/// What answers name as the program behind them.
const BUILD: &str = concat!("illava-", env!("CARGO_PKG_VERSION"));
