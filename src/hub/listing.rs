//! List of a repository's files as the hub sends it, checked before any name becomes a path.

use std::path::{Component, Path};

use serde::Deserialize;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Files of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) commit: String,
    pub(super) files: Vec<File>,
}

impl Listed {
    pub(super) fn names(&self) -> Vec<&str> {
        self.files.iter().map(|file| file.path.as_str()).collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    /// Path with `/`, relative, without `..`.
    pub(super) path: String,
    /// Bytes.
    pub(super) size: u64,
    pub(super) checksum: Checksum,
}

/// Hash of the content, in lower-case hexadecimal. It is also the name of its blob in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Checksum {
    /// SHA-256 of a file in large-file storage.
    Sha256(String),
    /// SHA-1 of a file that git itself holds, over `blob SIZE\0` and the content.
    GitBlob(String),
}

impl Checksum {
    pub(super) fn hex(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::GitBlob(hex) => hex,
        }
    }

    /// Begins the hash of a content of `size` bytes.
    pub(super) fn hasher(&self, size: u64) -> Hasher {
        match self {
            Self::Sha256(_) => Hasher::Sha256(Sha256::new()),
            Self::GitBlob(_) => Hasher::GitBlob(Sha1::new_with_prefix(format!("blob {size}\0"))),
        }
    }
}

#[derive(Clone)]
pub(super) enum Hasher {
    Sha256(Sha256),
    GitBlob(Sha1),
}

impl Hasher {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::GitBlob(hash) => hash.update(bytes),
        }
    }

    pub(super) fn hex(self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Sha256(hash) => hex(&hash.finalize()),
            Self::GitBlob(hash) => hex(&hash.finalize()),
        }
    }
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    blob_id: Option<String>,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

/// Reads the hub's answer to `/api/models/REPO/revision/REVISION?blobs=true`.
///
/// Files without size or checksum are left out, and names that would leave the snapshot's folder too.
///
/// # Errors
/// A line about the answer's fault.
pub(super) fn read(json: &[u8]) -> Result<Listed, String> {
    let info: Info =
        serde_json::from_slice(json).map_err(|error| format!("not a list of files ({error})"))?;
    if !is_hex(&info.sha, 40) {
        return Err("the commit it names is no git hash".to_owned());
    }
    let files = info.siblings.into_iter().filter_map(file).collect();
    Ok(Listed { commit: info.sha, files })
}

fn file(sibling: Sibling) -> Option<File> {
    let (size, checksum) = match (sibling.lfs, sibling.blob_id, sibling.size) {
        (Some(lfs), _, _) if is_hex(&lfs.sha256, 64) => (lfs.size, Checksum::Sha256(lfs.sha256)),
        (None, Some(id), Some(size)) if is_hex(&id, 40) => (size, Checksum::GitBlob(id)),
        _ => return None,
    };
    is_inside(&sibling.rfilename).then_some(File { path: sibling.rfilename, size, checksum })
}

pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && !path.contains(['\\', '\0', ':'])
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer() {
        let sha256 = "ab".repeat(32);
        let json = format!(
            r#"{{"sha": "{}", "private": false, "siblings": [
                {{"rfilename": "README.md", "blobId": "{}", "size": 12}},
                {{"rfilename": "a/m.gguf", "blobId": "{}", "size": 9, "lfs": {{"sha256": "{sha256}", "size": 9, "pointerSize": 134}}}},
                {{"rfilename": "../../evil.gguf", "blobId": "{}", "size": 1}},
                {{"rfilename": "/etc/evil.gguf", "blobId": "{}", "size": 1}},
                {{"rfilename": "no-hash.gguf", "blobId": "../x", "size": 1}},
                {{"rfilename": "no-size.gguf"}}]}}"#,
            "0".repeat(40),
            "1".repeat(40),
            "2".repeat(40),
            "3".repeat(40),
            "4".repeat(40),
        );
        let listed = read(json.as_bytes()).unwrap();
        assert_eq!(listed.names(), ["README.md", "a/m.gguf"]);
        assert_eq!(listed.files[0].checksum, Checksum::GitBlob("1".repeat(40)));
        assert_eq!(listed.files[1].checksum, Checksum::Sha256(sha256));
        for wrong in ["<html>", "{}", r#"{"sha": "../..", "siblings": []}"#] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn checksums() {
        // `printf hello | sha256sum`; `printf hello | git hash-object --stdin`.
        for (checksum, expected) in [
            (
                Checksum::Sha256(String::new()),
                "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
            ),
            (Checksum::GitBlob(String::new()), "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"),
        ] {
            let mut hasher = checksum.hasher(5);
            hasher.update(b"hel");
            hasher.update(b"lo");
            assert_eq!(hasher.hex(), expected);
        }
    }
}
