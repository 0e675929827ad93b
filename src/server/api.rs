//! The wire: what clients send, checked and made into this program's own terms, and what they get.

pub mod answer;
pub mod chat;
pub mod format;
pub mod merge;
pub mod messages;
pub mod sampling;
