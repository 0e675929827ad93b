//! VLMEvalKit's layout: tab-separated, pictures as base64. A cell that is a number names the row whose
//! picture it shares.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::columns::{self, Row};
use super::{Item, Metric, PictureSource};
use crate::file;

struct Cells<'a> {
    columns: &'a HashMap<String, usize>,
    record: &'a csv::StringRecord,
    pictures: Vec<PictureSource>,
}

impl Row for Cells<'_> {
    fn texts(&self, column: &str) -> Vec<String> {
        let cell = self.columns.get(column).and_then(|&i| self.record.get(i)).unwrap_or_default();
        if cell.is_empty() { Vec::new() } else { vec![cell.to_owned()] }
    }

    fn pictures(&self, column: &str) -> Vec<PictureSource> {
        if column == "image" { self.pictures.clone() } else { Vec::new() }
    }
}

pub fn read(path: &Path) -> Result<(Vec<Item>, Metric), String> {
    let file = file::open(path).map_err(|error| error.to_string())?;
    let mut reader = csv::ReaderBuilder::new().delimiter(b'\t').from_reader(file);
    let header = reader.headers().map_err(|error| error.to_string())?;
    let columns: HashMap<String, usize> =
        header.iter().enumerate().map(|(i, name)| (name.to_owned(), i)).collect();
    let mut by_index: HashMap<String, PictureSource> = HashMap::new();
    let mut items = Vec::new();
    let mut metric = None;
    for (number, record) in reader.records().enumerate() {
        let record = record.map_err(|error| error.to_string())?;
        let cell = |name: &str| columns.get(name).and_then(|&i| record.get(i)).unwrap_or_default();
        let picture =
            picture(cell("image"), &by_index).map_err(|reason| format!("row {}: {reason}", number + 1))?;
        if let Some(picture) = &picture {
            by_index.insert(cell("index").to_owned(), picture.clone());
        }
        let cells = Cells { columns: &columns, record: &record, pictures: picture.into_iter().collect() };
        let (item, suggested) = columns::item(&cells, number)?;
        metric.get_or_insert(suggested);
        items.push(item);
    }
    Ok((items, metric.unwrap_or(Metric::Exact)))
}

fn picture(cell: &str, by_index: &HashMap<String, PictureSource>) -> Result<Option<PictureSource>, String> {
    // No picture is that small.
    const LONGEST_INDEX: usize = 64;
    if cell.is_empty() {
        return Ok(None);
    }
    if cell.len() <= LONGEST_INDEX {
        return by_index
            .get(cell)
            .cloned()
            .map(Some)
            .ok_or_else(|| format!("no row {cell} with a picture before it"));
    }
    let bytes = BASE64_STANDARD
        .decode(cell.trim())
        .map_err(|error| format!("image is not base64 ({error}); get the file again"))?;
    Ok(Some(PictureSource::Bytes(Arc::from(bytes))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_shared_by_index() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set.tsv");
        let picture = BASE64_STANDARD.encode([7; 60]);
        let text = format!(
            "index\timage\tquestion\tA\tB\tanswer\n3\t{picture}\tWhich?\tone\ttwo\tA\n4\t3\t\"And \"\"this\"\"?\"\tone\ttwo\tB\n"
        );
        std::fs::write(&path, text).unwrap();
        let (items, metric) = read(&path).unwrap();
        assert_eq!(metric, Metric::Choice);
        assert_eq!(items[0].pictures, items[1].pictures);
        assert_eq!(items[0].pictures[0], PictureSource::Bytes(Arc::from([7; 60].as_slice())));
        assert_eq!(items[1].question, "And \"this\"?");

        std::fs::write(&path, "index\timage\tquestion\tanswer\n3\t9\tWhich?\tA\n").unwrap();
        assert_eq!(read(&path).unwrap_err(), "row 1: no row 9 with a picture before it");
    }
}
