//! Worker process: the owner of the native library, and the messages to it and from it.
//!
//! A worker is a child of a process that serves requests. It is started with one end of a socket pair as its
//! standard input, over which frames travel in both directions. Its standard output carries nothing, so that
//! a stray print breaks nothing. It leaves when the other end closes.

pub mod frame;
#[cfg(unix)]
pub mod process;
pub mod protocol;
mod resolve;
pub mod service;
