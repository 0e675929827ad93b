//! JSON tables: a list of rows, as MVBench's and MLVU's files are, or rows by their names, as MM-Vet's is.

use std::path::Path;

use serde_json::{Map, Value};

use super::place::Place;
use super::row::Row;
use super::{Item, Metric, PictureSource, columns};
use crate::file;

struct Cells<'a> {
    row: &'a Map<String, Value>,
    place: &'a Place,
}

impl Row for Cells<'_> {
    fn texts(&self, column: &str) -> Vec<String> {
        self.row.get(column).map(texts).unwrap_or_default()
    }

    fn pictures(&self, column: &str) -> Vec<PictureSource> {
        self.texts(column).iter().map(|name| PictureSource::File(self.place.picture(name))).collect()
    }

    fn has(&self, column: &str) -> bool {
        self.row.contains_key(column)
    }

    fn is_integer(&self, column: &str) -> bool {
        self.row.get(column).is_some_and(|value| value.is_i64() || value.is_u64())
    }
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::String(text) => vec![text.clone()],
        Value::Array(list) => list.iter().flat_map(texts).collect(),
        Value::Object(map) => map.get("answer").map(texts).unwrap_or_default(),
        other => vec![other.to_string()],
    }
}

/// Whether a text is one table, and not an object a line.
pub fn is_table(text: &str) -> bool {
    rows(text).is_some()
}

/// Reads at most `limit` rows.
pub fn read(path: &Path, limit: usize, media: Option<&Path>) -> Result<Vec<(Item, Metric)>, String> {
    let text = file::text(path).map_err(|error| error.to_string())?;
    let rows = rows(&text).ok_or("is no list of questions")?;
    let place = Place::of(path, media);
    let read = |(number, row)| columns::item(&Cells { row, place: &place }, number, &place);
    rows.iter().take(limit).enumerate().map(read).collect()
}

fn rows(text: &str) -> Option<Vec<Map<String, Value>>> {
    let row = |value| if let Value::Object(row) = value { Some(row) } else { None };
    match serde_json::from_str(text).ok()? {
        Value::Array(list) => list.into_iter().map(row).collect(),
        Value::Object(named) if named.values().all(Value::is_object) => named
            .into_iter()
            .map(|(name, value)| {
                let mut cells = row(value)?;
                cells.entry("id").or_insert(Value::String(name));
                Some(cells)
            })
            .collect(),
        _ => None,
    }
}
