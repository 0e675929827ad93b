//! The form an answer must have.

use serde::{Deserialize, Serialize};

/// A form that every answer obeys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grammar {
    /// llama.cpp's GBNF, with a rule named `root`.
    Gbnf(String),
    /// A JSON schema, as JSON text.
    JsonSchema(String),
    /// Any JSON object.
    JsonObject,
}
