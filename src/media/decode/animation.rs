//! WebP and GIF files as containers: whether they are whole, and whether they hold more than one frame.

use super::Outcome;
use super::huffman::CUT;

/// A RIFF file of WebP: its EXIF block, and whether it is an animation.
///
/// # Errors
/// A reason if the file is shorter than it says.
pub(super) fn webp(bytes: &[u8]) -> Outcome<(Option<&[u8]>, bool)> {
    let length = |at: usize| {
        let bytes: Option<[u8; 4]> = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(|bytes| u32::from_le_bytes(bytes) as usize)
    };
    let total = length(4).ok_or(CUT)?.saturating_add(8);
    // A last chunk of odd length may lack its padding.
    if total > bytes.len() + 1 {
        return Err(CUT.into());
    }
    let (mut exif, mut animated, mut at) = (None, false, 12usize);
    while let Some(size) = length(at + 4) {
        let start = at + 8;
        let chunk = start.checked_add(size).and_then(|end| bytes.get(start..end)).ok_or(CUT)?;
        match &bytes[at..at + 4] {
            b"EXIF" => exif = Some(chunk.strip_prefix(b"Exif\0\0".as_slice()).unwrap_or(chunk)),
            b"ANIM" => animated = true,
            _ => {}
        }
        at = start + size + size % 2;
        if at >= total {
            break;
        }
    }
    Ok((exif, animated))
}

/// Whether a GIF file holds more than one frame.
///
/// # Errors
/// A reason if its first frame is not whole.
pub(super) fn gif(bytes: &[u8]) -> Outcome<bool> {
    let table = |packed: u8| if packed & 0x80 == 0 { 0 } else { 3usize << ((packed & 7) + 1) };
    let mut at = 13 + table(*bytes.get(10).ok_or(CUT)?);
    let mut frames = 0;
    loop {
        match bytes.get(at) {
            Some(0x21) => at = blocks(bytes, at + 2).ok_or(CUT)?,
            Some(0x2c) if frames > 0 => return Ok(true),
            Some(0x2c) => {
                let local = table(*bytes.get(at + 9).ok_or(CUT)?);
                at = blocks(bytes, at + 11 + local).ok_or(CUT)?;
                frames += 1;
            }
            // The end, or what is no block: the decoder judges it.
            Some(_) => return Ok(false),
            None if frames > 0 => return Ok(false),
            None => return Err(CUT.into()),
        }
        if at >= bytes.len() && frames > 0 {
            return Ok(false);
        }
    }
}

/// Behind a row of blocks, each with its length, that an empty one ends.
fn blocks(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length => at += 1 + usize::from(length),
        }
    }
}
