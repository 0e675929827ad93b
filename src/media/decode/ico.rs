//! The largest picture of an icon file.

use super::huffman::CUT;
use super::{Outcome, Raster, library, png_file};
use crate::media::policy::Limits;
use image::ImageFormat;

const HEADER: usize = 6;
const ENTRY: usize = 16;

/// Decodes the entry with the most pixels, then the most bits.
///
/// # Errors
/// A reason.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Outcome<Raster> {
    let count = usize::from(u16::from_le_bytes([*bytes.get(4).ok_or(CUT)?, *bytes.get(5).ok_or(CUT)?]));
    let entries = bytes.get(HEADER..HEADER + count * ENTRY).ok_or(CUT)?.as_chunks::<ENTRY>().0;
    // A side of 0 stands for 256.
    let side = |n: u8| u32::from(n.wrapping_sub(1)) + 1;
    let entry = entries
        .iter()
        .max_by_key(|entry| (side(entry[0]) * side(entry[1]), u16::from_le_bytes([entry[6], entry[7]])))
        .ok_or("an icon without pictures; give another file")?;
    let number = |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
    let (length, start) = (number(8) as usize, number(12) as usize);
    let data = start.checked_add(length).and_then(|end| bytes.get(start..end)).ok_or(CUT)?;
    if data.starts_with(b"\x89PNG") {
        return png_file(data, limits);
    }
    // An icon of this entry alone, so that the decoder takes no other.
    let offset = u32::try_from(HEADER + ENTRY).unwrap_or(0).to_le_bytes();
    let alone = [&[0, 0, 1, 0, 1, 0], &entry[..12], &offset, data].concat();
    library(&alone, ImageFormat::Ico, 0, limits)
}
