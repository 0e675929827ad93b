//! Tokens that a picture's content gave it.

use serde::{Deserialize, Serialize};

/// Cells of a picture, or of one of its tiles, by their content, and the tokens that it keeps.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Budget {
    /// Number of the picture in the request.
    pub image: usize,
    pub cells: u32,
    /// Cells with edges.
    pub edges: u32,
    /// Cells of one colour that repeat a neighbour.
    pub repeated: u32,
    /// Tokens that leave the encoder.
    pub encoder: u32,
    /// Tokens that reach the upper decoder layers.
    pub decoder: u32,
    /// Reason in words.
    pub why: String,
}
