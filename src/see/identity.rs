//! What encodes a picture, as a hash: embeddings kept on disk are good for nothing else.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::Key;
use crate::error::{Error, Kind, Result};
use crate::pair::LoadSettings;

/// Places of the file that are looked at, evenly spread, and bytes at each: the header first, and
/// something of every part of the weights. The whole would take as long as loading it.
const PLACES: u64 = 64;
const BYTES: u64 = 64 << 10;

/// # Errors
/// [`Kind::File`] for a projector that cannot be read.
pub fn encoder(load: &LoadSettings) -> Result<Key> {
    let mut hash = blake3::Hasher::new();
    let settings = (load.image_max_tokens, load.flash_attention, load.projector_offload);
    hash.update(
        format!("{} {} {settings:?}", env!("CARGO_PKG_VERSION"), env!("ILLAVA_PATCHES_SHA256")).as_bytes(),
    );
    if let Some(path) = &load.projector {
        sample(path, &mut hash)
            .map_err(|error| Error::new(Kind::File, format!("{}: {error}", path.display())))?;
    }
    Ok(*hash.finalize().as_bytes())
}

fn sample(path: &Path, hash: &mut blake3::Hasher) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    hash.update(&length.to_le_bytes());
    let step = (length / PLACES).max(BYTES);
    let mut at = 0;
    while at < length {
        file.seek(SeekFrom::Start(at))?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(BYTES).read_to_end(&mut bytes)?;
        hash.update(&bytes);
        at += step;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts() {
        let of = |bytes: &[u8]| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            let mut hash = blake3::Hasher::new();
            sample(file.path(), &mut hash).unwrap();
            hash.finalize()
        };
        let base = vec![0; 300_000];
        let mut early = base.clone();
        early[10] = 1;
        let mut late = base.clone();
        late[299_999] = 1;
        let hashes = [of(&base), of(&early), of(&late), of(&base[..299_999]), of(&[])];
        for (i, a) in hashes.iter().enumerate() {
            assert!(hashes[..i].iter().all(|b| a != b), "{i}");
        }
    }
}
