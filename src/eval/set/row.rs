//! Row of a table, for every layout.

use super::PictureSource;

/// One row of a table, for every layout.
pub trait Row {
    /// Returns a cell as text, or one text for each element of a list. It is empty if the column is missing
    /// or null.
    fn texts(&self, column: &str) -> Vec<String>;
    /// Returns the pictures of a cell.
    fn pictures(&self, column: &str) -> Vec<PictureSource>;
    fn has(&self, column: &str) -> bool;
    /// Whether a cell holds a whole number, not digits as text.
    fn is_integer(&self, column: &str) -> bool;
}
