//! The worker process: what owns the native library, and what is said to it and by it.
//!
//! A worker is a child of whoever serves requests. It is started with one end of a socket pair
//! as its standard input, over which frames travel in both directions; its standard output
//! carries nothing, so that a stray print breaks nothing. The other end closing is its order to
//! leave.

pub mod frame;
#[cfg(unix)]
pub mod process;
pub mod protocol;
mod resolve;
pub mod service;
