//! Encoded pictures on disk: one file each, checked when it is read.
//!
//! A file is the magic `ILLAVAE2`, the BLAKE3 hash of the rest (32 bytes), and the picture as
//! MessagePack. Its name is the hexadecimal hash of the picture's key and of what encodes it. A
//! file that is damaged, of another version or of another name's content is removed and the
//! picture encoded anew. Nothing here can fail a request: what cannot be written is not kept.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::EncodedImage;
use super::cache::Key;
use crate::error::{Error, Kind, Result};

const MAGIC: &[u8; 8] = b"ILLAVAE2";
const ENDING: &str = "illava";

/// A folder of encoded pictures, bounded by its bytes.
pub struct Store {
    folder: PathBuf,
    /// Identity of the encoder: other weights or other settings give other embeddings.
    encoder: Key,
    limit: u64,
    /// Bytes there, as far as this process knows.
    bytes: u64,
}

impl Store {
    /// # Errors
    /// [`Kind::File`] for a folder that cannot be made or read.
    pub fn open(folder: &Path, encoder: Key, limit: u64) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(
                Kind::File,
                format!("{}: {error}; give a folder that can be written", folder.display()),
            )
        };
        fs::create_dir_all(folder).map_err(failed)?;
        let mut store = Self { folder: folder.to_owned(), encoder, limit, bytes: 0 };
        fs::read_dir(folder).map_err(failed)?;
        store.bytes = store.files().iter().map(|(_, bytes, _)| bytes).sum();
        store.shrink();
        Ok(store)
    }

    /// The picture kept under `key`, if it is there and whole.
    pub fn read(&mut self, key: &Key) -> Option<EncodedImage> {
        let path = self.path(key);
        let bytes = fs::read(&path).ok()?;
        let image = parse(&bytes);
        if image.is_none() {
            tracing::warn!("{}: damaged; removed, and the picture is encoded again", path.display());
            self.remove(&path, bytes.len() as u64);
        } else if let Ok(file) = fs::File::options().append(true).open(&path) {
            // The file used last goes last.
            let _ = file.set_modified(std::time::SystemTime::now());
        }
        image
    }

    /// Keeps `image` under `key`.
    pub fn write(&mut self, key: &Key, image: &EncodedImage) {
        let Ok(body) = rmp_serde::to_vec_named(image) else { return };
        let size = (MAGIC.len() + 32 + body.len()) as u64;
        if size > self.limit {
            return;
        }
        let path = self.path(key);
        if let Err(error) = self.write_whole(&path, &body) {
            tracing::warn!("{}: {error}; the picture is not kept on disk", path.display());
            return;
        }
        self.bytes += size;
        self.shrink();
    }

    /// Writes under another name first: no reader ever sees half a file.
    fn write_whole(&self, path: &Path, body: &[u8]) -> std::io::Result<()> {
        let unfinished = path.with_extension(format!("{}.part", std::process::id()));
        let written = (|| {
            let mut file = fs::File::create(&unfinished)?;
            file.write_all(MAGIC)?;
            file.write_all(blake3::hash(body).as_bytes())?;
            file.write_all(body)?;
            fs::rename(&unfinished, path)
        })();
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        written
    }

    fn path(&self, key: &Key) -> PathBuf {
        let mut hash = blake3::Hasher::new();
        hash.update(&self.encoder);
        hash.update(key);
        self.folder.join(format!("{}.{ENDING}", hash.finalize().to_hex()))
    }

    /// Removes what was not used for longest until the rest is within the limit.
    fn shrink(&mut self) {
        if self.bytes <= self.limit {
            return;
        }
        let mut files = self.files();
        self.bytes = files.iter().map(|(_, bytes, _)| bytes).sum();
        files.sort_by_key(|(_, _, used)| *used);
        for (path, bytes, _) in files {
            if self.bytes <= self.limit {
                return;
            }
            self.remove(&path, bytes);
        }
    }

    fn remove(&mut self, path: &Path, bytes: u64) {
        if fs::remove_file(path).is_ok() {
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    fn files(&self) -> Vec<(PathBuf, u64, std::time::SystemTime)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.path().extension().is_some_and(|ending| ending == ENDING))
            .filter_map(|entry| {
                let metadata = entry.metadata().ok()?;
                Some((entry.path(), metadata.len(), metadata.modified().ok()?))
            })
            .collect()
    }
}

fn parse(bytes: &[u8]) -> Option<EncodedImage> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (hash, body) = rest.split_at_checked(32)?;
    if blake3::hash(body).as_bytes() != hash {
        return None;
    }
    rmp_serde::from_slice(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::see::picture;

    fn key(n: u8) -> Key {
        [n; 32]
    }

    #[test]
    fn kept_and_found() {
        let folder = tempfile::tempdir().unwrap();
        let image = picture(5, 2);
        let mut store = Store::open(folder.path(), key(0), 1 << 20).unwrap();
        assert!(store.read(&key(1)).is_none());
        store.write(&key(1), &image);
        assert_eq!(store.read(&key(1)), Some(image.clone()));
        assert_eq!(Store::open(folder.path(), key(0), 1 << 20).unwrap().read(&key(1)), Some(image));
        assert!(Store::open(folder.path(), key(9), 1 << 20).unwrap().read(&key(1)).is_none());
    }

    #[test]
    fn damage_is_found_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path(), key(0), 1 << 20).unwrap();
        let path = store.path(&key(1));
        store.write(&key(1), &picture(5, 2));
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        let version = [b"ILLAVAE0", &whole[8..]].concat();
        for bytes in [&whole[..whole.len() - 1], &whole[..20], &[], &flipped, &version] {
            fs::write(&path, bytes).unwrap();
            assert!(store.read(&key(1)).is_none());
            assert!(!path.exists());
        }
    }

    #[test]
    fn the_folder_stays_within_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path(), key(0), u64::MAX).unwrap();
        for n in 0..3 {
            store.write(&key(n), &picture(5, 2));
            let file = fs::File::options().append(true).open(store.path(&key(n))).unwrap();
            let used = std::time::UNIX_EPOCH + std::time::Duration::from_secs(u64::from(n) * 60);
            file.set_modified(used).unwrap();
        }
        let one = store.bytes / 3;
        // Read last, so the one after it goes first.
        assert!(store.read(&key(0)).is_some());
        let mut store = Store::open(folder.path(), key(0), one * 2).unwrap();
        assert!(store.read(&key(1)).is_none());
        assert!(store.read(&key(0)).is_some() && store.read(&key(2)).is_some());
        store.write(&key(3), &picture(5, 2));
        assert_eq!(store.files().len(), 2);
        let mut none = Store::open(folder.path(), key(0), 0).unwrap();
        none.write(&key(4), &picture(5, 2));
        assert!(none.files().is_empty());
    }

    #[test]
    fn a_folder_that_cannot_be() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Store::open(&file.path().join("x"), key(0), 1).err().unwrap();
        assert_eq!(error.kind(), Kind::File);
    }
}
