//! VLMEvalKit's layout: tab-separated, pictures as base64 or a list of them. A cell that is a number names the
//! row whose pictures it shares.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::options::list_as_text;
use super::place::Place;
use super::row::Row;
use super::{Item, Metric, PictureSource, columns};
use crate::file;

struct Cells<'a> {
    columns: &'a HashMap<String, usize>,
    record: &'a csv::StringRecord,
    pictures: Vec<PictureSource>,
    place: &'a Place,
}

impl Row for Cells<'_> {
    fn texts(&self, column: &str) -> Vec<String> {
        let cell = self.columns.get(column).and_then(|&i| self.record.get(i)).unwrap_or_default();
        if cell.is_empty() { Vec::new() } else { vec![cell.to_owned()] }
    }

    fn pictures(&self, column: &str) -> Vec<PictureSource> {
        match column {
            "image" => self.pictures.clone(),
            // Files beside the set, for rows without pictures of their own.
            "image_path" if self.pictures.is_empty() => {
                let names = self.texts(column);
                let names = match names.as_slice() {
                    [list] if list.starts_with('[') => list_as_text(list),
                    _ => names,
                };
                names.iter().map(|name| PictureSource::File(self.place.picture(name))).collect()
            }
            _ => Vec::new(),
        }
    }

    fn has(&self, column: &str) -> bool {
        self.columns.contains_key(column)
    }

    fn is_integer(&self, _: &str) -> bool {
        false
    }
}

/// Reads at most `limit` rows.
pub fn read(path: &Path, limit: usize, media: Option<&Path>) -> Result<Vec<(Item, Metric)>, String> {
    let file = file::open(path).map_err(|error| error.to_string())?;
    let place = Place::of(path, media);
    let mut reader = csv::ReaderBuilder::new().delimiter(b'\t').from_reader(file);
    let header = reader.headers().map_err(|error| error.to_string())?;
    let columns: HashMap<String, usize> =
        header.iter().enumerate().map(|(i, name)| (name.to_owned(), i)).collect();
    let mut by_index: HashMap<String, Vec<PictureSource>> = HashMap::new();
    let mut items = Vec::new();
    for (number, record) in reader.records().take(limit).enumerate() {
        let record = record.map_err(|error| error.to_string())?;
        let cell = |name: &str| columns.get(name).and_then(|&i| record.get(i)).unwrap_or_default();
        let pictures =
            pictures(cell("image"), &by_index).map_err(|reason| format!("row {}: {reason}", number + 1))?;
        if !pictures.is_empty() {
            by_index.insert(cell("index").to_owned(), pictures.clone());
        }
        let cells = Cells { columns: &columns, record: &record, pictures, place: &place };
        items.push(columns::item(&cells, number, &place)?);
    }
    Ok(items)
}

fn pictures(
    cell: &str,
    by_index: &HashMap<String, Vec<PictureSource>>,
) -> Result<Vec<PictureSource>, String> {
    // No picture is that small.
    const LONGEST_INDEX: usize = 64;
    if cell.is_empty() {
        return Ok(Vec::new());
    }
    if cell.starts_with('[') {
        return list_as_text(cell).iter().map(|one| decoded(one)).collect();
    }
    if cell.len() <= LONGEST_INDEX {
        let found = by_index.get(cell).cloned();
        return found.ok_or_else(|| format!("no row {cell} with a picture before it"));
    }
    Ok(vec![decoded(cell)?])
}

fn decoded(text: &str) -> Result<PictureSource, String> {
    let bytes = BASE64_STANDARD
        .decode(text.trim())
        .map_err(|error| format!("image is not base64 ({error}); get the file again"))?;
    Ok(PictureSource::Bytes(Arc::from(bytes)))
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
        let (items, metrics): (Vec<Item>, Vec<Metric>) = read(&path, 9, None).unwrap().into_iter().unzip();
        assert_eq!(metrics, [Metric::Choice; 2]);
        assert_eq!(items[0].pictures, items[1].pictures);
        assert_eq!(items[0].pictures[0], PictureSource::Bytes(Arc::from([7; 60].as_slice())));
        assert_eq!(items[1].question, "And \"this\"?");

        std::fs::write(&path, "index\timage\tquestion\tanswer\n3\t9\tWhich?\tA\n").unwrap();
        assert_eq!(read(&path, 9, None).unwrap_err(), "row 1: no row 9 with a picture before it");
    }
}
