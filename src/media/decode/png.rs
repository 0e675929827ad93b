//! The parts of a PNG file that its pixels are made of.

use super::Outcome;
use super::huffman::CUT;

/// A PNG file without what its pixels do not need.
pub(super) struct Essential {
    /// Header, palette, transparency and pixel data; with an end if the file has none.
    pub bytes: Vec<u8>,
    pub exif: Option<Vec<u8>>,
    pub animated: bool,
    pub width: u32,
    pub height: u32,
    /// Bytes of a pixel as it is decoded.
    pub pixel: u64,
}

const SIGNATURE: usize = 8;
/// Length, type and checksum of a chunk without data.
const FRAME: usize = 12;
const END: [u8; FRAME] = [0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82];

/// Copies the chunks of `bytes` that pixels are made of. Profiles, texts and the like are left out before anything
/// inflates them. A file that ends after a whole chunk gets its end: if pixels are missing, the decoder says so.
///
/// # Errors
/// A reason for a kind that is not read here, and for a file that ends before its pixels begin.
pub(super) fn essential(bytes: &[u8]) -> Outcome<Essential> {
    let mut kept = bytes[..SIGNATURE.min(bytes.len())].to_vec();
    let (mut exif, mut animated, mut transparent, mut cut) = (None, false, false, false);
    let (mut has_pixels, mut ended) = (false, false);
    let mut rest = bytes.get(SIGNATURE..).unwrap_or_default();
    while let Some(length) = rest.first_chunk::<4>().map(|n| u32::from_be_bytes(*n) as usize) {
        let kind = rest.get(4..8).unwrap_or_default();
        let whole = length.checked_add(FRAME).and_then(|whole| rest.get(..whole));
        let chunk = whole.unwrap_or(rest);
        match kind {
            b"CgBI" => {
                return Err("an iPhone application's PNG (CgBI), which is not read here; convert it first, for instance with `pngcrush -revert-iphone-optimizations in.png out.png`".into());
            }
            b"IHDR" | b"PLTE" | b"IDAT" => {
                kept.extend_from_slice(chunk);
                has_pixels |= kind == b"IDAT";
                cut |= whole.is_none();
            }
            b"tRNS" => {
                transparent = true;
                kept.extend_from_slice(chunk);
            }
            b"eXIf" => exif = chunk.get(8..chunk.len().saturating_sub(4)).map(<[u8]>::to_vec),
            b"acTL" => animated = true,
            b"IEND" => {
                ended = true;
                break;
            }
            _ => {}
        }
        rest = &rest[chunk.len()..];
    }
    if !has_pixels && !ended {
        return Err(CUT.into());
    }
    if !cut {
        kept.extend_from_slice(&END);
    }
    let header = bytes.get(16..26).unwrap_or(&[0; 10]);
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (depth, colour) = (header[8], header[9]);
    let channels = match (colour, transparent) {
        (0, false) => 1,
        (0, true) | (4, _) => 2,
        (2 | 3, false) => 3,
        _ => 4,
    };
    let pixel = if depth == 16 { 2 * channels } else { channels };
    Ok(Essential { bytes: kept, exif, animated, width: number(0), height: number(4), pixel })
}
