//! Hugging Face datasets as parquet, with their pictures inside (`{bytes, path}`).

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row as ParquetRow};

use super::place::Place;
use super::row::Row;
use super::{Item, Metric, PictureSource, columns};
use crate::file;

struct Cells<'a>(HashMap<&'a str, &'a Field>);

impl Row for Cells<'_> {
    fn texts(&self, column: &str) -> Vec<String> {
        self.0.get(column).map(|field| texts(field)).unwrap_or_default()
    }

    fn pictures(&self, column: &str) -> Vec<PictureSource> {
        self.0.get(column).map(|field| pictures(field)).unwrap_or_default()
    }

    fn has(&self, column: &str) -> bool {
        self.0.contains_key(column)
    }

    fn is_integer(&self, column: &str) -> bool {
        use Field::{Byte, Int, Long, Short, UByte, UInt, ULong, UShort};
        let field = self.0.get(column);
        matches!(
            field,
            Some(Byte(_) | Short(_) | Int(_) | Long(_) | UByte(_) | UShort(_) | UInt(_) | ULong(_))
        )
    }
}

fn texts(field: &Field) -> Vec<String> {
    match field {
        Field::Null | Field::MapInternal(_) | Field::Bytes(_) => Vec::new(),
        // VQA v2 has a person's answer and certainty together.
        Field::Group(group) => named(group).get("answer").map(|field| texts(field)).unwrap_or_default(),
        Field::Str(text) => vec![text.clone()],
        Field::ListInternal(list) => list.elements().iter().flat_map(texts).collect(),
        // Numbers and truth values print as people write them.
        other => vec![other.to_string()],
    }
}

fn pictures(field: &Field) -> Vec<PictureSource> {
    match field {
        Field::Bytes(bytes) => vec![PictureSource::Bytes(Arc::from(bytes.data()))],
        Field::Group(group) => named(group).get("bytes").map(|field| pictures(field)).unwrap_or_default(),
        Field::ListInternal(list) => list.elements().iter().flat_map(pictures).collect(),
        _ => Vec::new(),
    }
}

fn named(row: &ParquetRow) -> HashMap<&str, &Field> {
    row.get_column_iter().map(|(name, field)| (name.as_str(), field)).collect()
}

/// Reads at most `limit` rows.
pub fn read(path: &Path, limit: usize, media: Option<&Path>) -> Result<Vec<(Item, Metric)>, String> {
    let file = file::regular(path).map_err(|error| error.to_string())?;
    let place = Place::of(path, media);
    // The reader panics in places where it could refuse.
    std::panic::catch_unwind(|| rows(file, limit, &place))
        .unwrap_or_else(|_| Err("not a readable parquet file (its reader gave up)".into()))
}

/// Whether every column chunk lies inside the file.
fn is_inside(metadata: &ParquetMetaData, length: u64) -> bool {
    let columns = metadata.row_groups().iter().flat_map(|group| group.columns());
    columns.into_iter().all(|column| {
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let end = start.checked_add(column.compressed_size());
        start >= 0
            && column.data_page_offset() >= 0
            && column.compressed_size() >= 0
            && column.num_values() >= 0
            && end.is_some_and(|end| u64::try_from(end).is_ok_and(|end| end <= length))
    })
}

fn rows(file: File, limit: usize, place: &Place) -> Result<Vec<(Item, Metric)>, String> {
    let damaged = |error: parquet::errors::ParquetError| format!("not a readable parquet file ({error})");
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let reader = SerializedFileReader::new(file).map_err(damaged)?;
    if !is_inside(reader.metadata(), length) {
        return Err("not a readable parquet file (its columns do not lie inside it)".into());
    }
    let rows = reader.get_row_iter(None).map_err(damaged)?.take(limit).enumerate();
    rows.map(|(number, row)| columns::item(&Cells(named(&row.map_err(damaged)?)), number, place)).collect()
}
