//! Hash of what encodes a picture: embeddings kept on disk are good for nothing else.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::Key;
use crate::error::{Error, Kind, Result};
use crate::native::{FlashAttention, TextModel, VisionOptions, kernels_used};

/// Places of the file that are looked at, evenly spread, and bytes at each: the header first, and
/// something of every part of the weights. The whole would take as long as loading it.
const PLACES: u64 = 64;
const BYTES: u64 = 64 << 10;

/// Returns the hash of this program, the projector at `file` and the settings of its loading. `backend` is
/// the device that computes.
///
/// # Errors
/// [`Kind::File`] for a projector that cannot be read.
pub(super) fn of(file: &Path, options: &VisionOptions, backend: &str) -> Result<Key> {
    let mut hash = blake3::Hasher::new();
    for text in [env!("CARGO_PKG_VERSION"), env!("ILLAVA_PATCHES_SHA256"), backend, kernels_used()] {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    // Each option by name, so that a new one is thought of here. Threads share out rows and change no sum.
    let &VisionOptions { use_gpu, flash_attention, threads: _, min_tokens, max_tokens, repack } = options;
    let flash_attention = match flash_attention {
        FlashAttention::Off => 0,
        FlashAttention::On => 1,
        FlashAttention::Auto => 2,
    };
    hash.update(&[u8::from(use_gpu), flash_attention, u8::from(repack), u8::from(max_tokens.is_some())]);
    hash.update(&max_tokens.unwrap_or(0).to_le_bytes());
    hash.update(&min_tokens.unwrap_or(0).to_le_bytes());
    sample(file, &mut hash)
        .map_err(|error| Error::new(Kind::File, format!("{}: {error}", file.display())))?;
    Ok(*hash.finalize().as_bytes())
}

/// Returns the hash of this program and the text-image model at `file`, which `backend` computes.
///
/// # Errors
/// [`Kind::File`] for a model that cannot be read.
pub(super) fn of_scorer(file: &Path, backend: &str) -> Result<Key> {
    let mut hash = blake3::Hasher::new();
    for text in [env!("CARGO_PKG_VERSION"), env!("ILLAVA_PATCHES_SHA256"), backend, kernels_used()] {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    sample(file, &mut hash)
        .map_err(|error| Error::new(Kind::File, format!("{}: {error}", file.display())))?;
    Ok(*hash.finalize().as_bytes())
}

/// Hash of what a decoder's cache depends on: this program, the text model at `file`, and what encodes its pictures.
///
/// # Errors
/// [`Kind::File`] for a model that cannot be read.
pub fn pair_identity(file: &Path, encoder: Option<Key>) -> Result<Key> {
    let mut hash = blake3::Hasher::new();
    for text in [env!("CARGO_PKG_VERSION"), env!("ILLAVA_PATCHES_SHA256"), kernels_used()] {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.update(&[u8::from(encoder.is_some())]);
    hash.update(&encoder.unwrap_or_default());
    sample(file, &mut hash)
        .map_err(|error| Error::new(Kind::File, format!("{}: {error}", file.display())))?;
    Ok(*hash.finalize().as_bytes())
}

/// The same for a projector whose pictures are marked with tokens of `text`.
pub(super) fn with_vocabulary(tower: &Key, text: &TextModel) -> Key {
    let mut hash = blake3::Hasher::new();
    hash.update(tower);
    for token in 0..text.n_vocab() {
        let letters = text.text(token).unwrap_or_default();
        hash.update(&(letters.len() as u64).to_le_bytes());
        hash.update(letters.as_bytes());
    }
    *hash.finalize().as_bytes()
}

/// Hash of what encodes and what finds regions.
pub(super) fn both(tower: &Key, scorer: &Key) -> Key {
    let mut hash = blake3::Hasher::new();
    hash.update(tower);
    hash.update(scorer);
    *hash.finalize().as_bytes()
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
    fn every_option_counts() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let plain = VisionOptions {
            use_gpu: false,
            flash_attention: FlashAttention::Auto,
            threads: 1,
            min_tokens: None,
            max_tokens: None,
            repack: false,
        };
        let of = |options: VisionOptions, backend| of(file.path(), &options, backend).unwrap();
        assert_eq!(of(plain, "CPU"), of(VisionOptions { threads: 2, ..plain }, "CPU"));
        let keys = [
            of(plain, "CPU"),
            of(plain, "CUDA0"),
            of(VisionOptions { repack: true, ..plain }, "CPU"),
            of(VisionOptions { use_gpu: true, ..plain }, "CPU"),
            of(VisionOptions { flash_attention: FlashAttention::On, ..plain }, "CPU"),
            of(VisionOptions { flash_attention: FlashAttention::Off, ..plain }, "CPU"),
            of(VisionOptions { max_tokens: Some(0), ..plain }, "CPU"),
            of(VisionOptions { max_tokens: Some(7), ..plain }, "CPU"),
            of(VisionOptions { min_tokens: Some(7), ..plain }, "CPU"),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(keys[..i].iter().all(|other| other != key), "{i}");
        }
    }

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
