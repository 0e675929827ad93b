//! A slot's sequence as a file: what it holds, and the cells of the KV cache that hold it.
//!
//! A file is the magic `ILLAVAS1`, the BLAKE3 hash of the rest (32 bytes), and the length of the account (8
//! bytes, little endian). Then come the account as MessagePack, and the cells as llama.cpp writes them.

use std::io::{Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::sequence::Sequence;
use crate::error::{Error, Kind, Result};
use crate::file;

const MAGIC: &[u8; 8] = b"ILLAVAS1";
const HASH: usize = 32;

/// Owner of a file, and the pair it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    /// Hash of the files and settings that the cells depend on.
    pub pair: [u8; 32],
    /// Hash of the scope that the sequence belongs to.
    pub scope: [u8; 32],
}

#[derive(Serialize, Deserialize)]
struct Account {
    owner: Owner,
    sequence: Sequence,
}

/// Writes the file, under another name first; returns its bytes.
///
/// # Errors
/// [`Kind::File`] for a folder that cannot be written.
pub(super) fn write(path: &Path, owner: Owner, sequence: Sequence, cells: &[u8]) -> Result<u64> {
    let account = rmp_serde::to_vec_named(&Account { owner, sequence })
        .map_err(|error| failed(path, &error.to_string()))?;
    let length = (account.len() as u64).to_le_bytes();
    let hash = [&length, account.as_slice(), cells]
        .into_iter()
        .fold(blake3::Hasher::new(), |mut hash, part| {
            hash.update(part);
            hash
        })
        .finalize();
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
        for part in [MAGIC.as_slice(), hash.as_bytes(), &length, &account, cells] {
            file.write_all(part)?;
        }
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    });
    written.map_err(|error| failed(path, &error.to_string()))?;
    Ok((MAGIC.len() + HASH + length.len() + account.len() + cells.len()) as u64)
}

/// The sequence and its cells, if the file is `owner`'s; the file's bytes.
///
/// # Errors
/// [`Kind::File`] for a file that is missing, damaged, of another pair, or another's.
pub(super) fn read(path: &Path, owner: &Owner) -> Result<(Sequence, Vec<u8>, u64)> {
    let bytes = contents(path)?;
    let damaged = || failed(path, "is no saved slot, or a damaged one; save it again");
    let (account, cells) = parts(&bytes).ok_or_else(damaged)?;
    let account: Account = rmp_serde::from_slice(account).map_err(|_| damaged())?;
    if account.owner.pair != owner.pair {
        return Err(failed(
            path,
            "was saved with another model, version or setting; answer its prompt again",
        ));
    }
    if account.owner.scope != owner.scope {
        return Err(failed(path, "was saved with another API key; restore it with that one"));
    }
    Ok((account.sequence, cells.to_vec(), bytes.len() as u64))
}

fn contents(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file::regular(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(|error| failed(path, &error.to_string()))?;
    Ok(bytes)
}

/// Account and cells of a whole file.
fn parts(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (hash, rest) = bytes.strip_prefix(MAGIC)?.split_at_checked(HASH)?;
    if blake3::hash(rest).as_bytes() != hash {
        return None;
    }
    let (length, rest) = rest.split_at_checked(8)?;
    let length = u64::from_le_bytes(length.try_into().ok()?);
    rest.split_at_checked(usize::try_from(length).ok()?)
}

/// Names the file without its folder, which a client does not know.
fn failed(path: &Path, why: &str) -> Error {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Error::new(Kind::File, format!("{name}: {why}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::answer::sequence::CachedEntry;

    #[test]
    fn a_file_is_whole_and_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.bin");
        let owner = Owner { pair: [1; 32], scope: [2; 32] };
        let mut sequence = Sequence::default();
        sequence.push(CachedEntry::Token(7));
        let written = write(&path, owner.clone(), sequence, b"cells").unwrap();
        assert_eq!(written, fs::metadata(&path).unwrap().len());
        let (sequence, cells, bytes) = read(&path, &owner).unwrap();
        assert_eq!((sequence.entries().len(), cells.as_slice(), bytes), (1, b"cells".as_slice(), written));
        let refused = |owner: &Owner| read(&path, owner).err().unwrap().message().to_owned();
        assert!(
            refused(&Owner { pair: [3; 32], ..owner.clone() })
                .contains("one.bin: was saved with another model")
        );
        assert!(refused(&Owner { scope: [3; 32], ..owner.clone() }).contains("another API key"));
        // Every byte counts, and every length.
        let whole = fs::read(&path).unwrap();
        for i in 0..whole.len() {
            let mut changed = whole.clone();
            changed[i] ^= 1;
            fs::write(&path, changed).unwrap();
            assert!(refused(&owner).contains("damaged"), "byte {i}");
            fs::write(&path, &whole[..i]).unwrap();
            assert!(refused(&owner).contains("damaged"), "{i} bytes");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left there");
    }
}
