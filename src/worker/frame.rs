//! Frames: four bytes of length, big-endian, then that many bytes of MessagePack.
//!
//! MessagePack because it names its fields: optional and untagged parts of reports and traces
//! survive it, and pixels stay bytes.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A frame longer than this is refused on both sides: the pictures of one request, decoded.
pub const MAX_FRAME: usize = 1 << 30;

/// The bytes of a frame's body.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] for a message that is too long.
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let body = rmp_serde::to_vec_named(message)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    if body.len() > MAX_FRAME {
        return Err(too_long(body.len()));
    }
    Ok(body)
}

/// A message from a frame's body.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] for bytes that are no such message.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    rmp_serde::from_slice(body).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

/// Writes one frame and flushes it.
///
/// # Errors
/// The writer's own, or [`io::ErrorKind::InvalidData`] as [`encode`].
pub fn write<T: Serialize>(to: &mut impl Write, message: &T) -> io::Result<()> {
    let body = encode(message)?;
    let length = u32::try_from(body.len()).map_err(|_| too_long(body.len()))?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(&body)?;
    to.flush()
}

/// Reads one frame; `None` if the other side has closed between frames.
///
/// # Errors
/// The reader's own, or [`io::ErrorKind::InvalidData`] as [`decode`].
pub fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read(&mut length[..1])? {
        0 => return Ok(None),
        _ => from.read_exact(&mut length[1..])?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(too_long(length));
    }
    // Grows with what arrives, not with what the length claims.
    let mut body = Vec::new();
    from.take(length as u64).read_to_end(&mut body)?;
    if body.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    decode(&body).map(Some)
}

fn too_long(length: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a message of {length} bytes; at most {MAX_FRAME} pass: send fewer or smaller pictures"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_follow_one_another() {
        let mut wire = Vec::new();
        write(&mut wire, &"one").unwrap();
        write(&mut wire, &vec![2_u32, 3]).unwrap();
        let mut from = wire.as_slice();
        assert_eq!(read::<String>(&mut from).unwrap().as_deref(), Some("one"));
        assert_eq!(read::<Vec<u32>>(&mut from).unwrap(), Some(vec![2, 3]));
        assert_eq!(read::<String>(&mut from).unwrap(), None);
    }

    #[test]
    fn broken_frames_are_errors() {
        let mut wire = Vec::new();
        write(&mut wire, &"one").unwrap();
        for (bytes, kind) in [
            (&wire[..2], io::ErrorKind::UnexpectedEof),
            (&wire[..6], io::ErrorKind::UnexpectedEof),
            (&[0xff, 0xff, 0xff, 0xff, 1][..], io::ErrorKind::InvalidData),
            (&[0, 0, 0, 1, 0xc1][..], io::ErrorKind::InvalidData),
        ] {
            let mut from = bytes;
            assert_eq!(read::<String>(&mut from).unwrap_err().kind(), kind, "{bytes:?}");
        }
    }
}
