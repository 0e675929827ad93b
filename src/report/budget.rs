//! What a picture's content gave it of tokens.

use serde::{Deserialize, Serialize};

/// Cells of a picture, or of one of its tiles, by what they show, and the tokens that it keeps for that.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Budget {
    /// The picture's number in the request.
    pub image: usize,
    pub cells: u32,
    /// Of the cells, those with edges.
    pub edges: u32,
    /// Of the cells, those of one colour that repeat a neighbour.
    pub repeated: u32,
    /// Tokens that leave the encoder.
    pub encoder: u32,
    /// Tokens that reach the upper decoder layers.
    pub decoder: u32,
    /// Why, in words.
    pub why: String,
}
