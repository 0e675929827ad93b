use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;

/// The pinned crate, unpacked where cargo keeps its sources.
#[derive(Clone, Debug)]
pub struct Upstream {
    dir: PathBuf,
    version: String,
}

const CRATE: &str = "llama-cpp-sys-2";

impl Upstream {
    /// Has cargo provide the crate that the package in `pin` locks, downloading and unpacking it
    /// only where it is not there yet.
    ///
    /// # Errors
    /// [`Error::NoPin`] without that package, [`Error::Checksum`] when cargo finds another crate than the
    /// lock file's, [`Error::Fetch`] when it cannot be had.
    pub fn locate(cargo: &Path, pin: &Path) -> Result<Self, Error> {
        let manifest = pin.join("Cargo.toml");
        if !manifest.exists() {
            return Err(Error::NoPin { manifest });
        }
        // Offline first, so that a machine without network builds from what it has and the usual
        // build asks no registry.
        let metadata = metadata(cargo, pin, true).or_else(|_| metadata(cargo, pin, false))?;
        Self::from_metadata(&metadata).ok_or_else(|| Error::Fetch {
            manifest: pin.join("Cargo.toml"),
            said: format!("it does not depend on {CRATE}"),
        })
    }

    fn from_metadata(json: &[u8]) -> Option<Self> {
        let metadata: serde_json::Value = serde_json::from_slice(json).ok()?;
        let package = metadata["packages"].as_array()?.iter().find(|p| p["name"] == CRATE)?;
        Some(Self {
            dir: Path::new(package["manifest_path"].as_str()?).parent()?.to_path_buf(),
            version: package["version"].as_str()?.to_owned(),
        })
    }

    /// The directory of the pristine llama.cpp.
    pub fn source(&self) -> PathBuf {
        self.dir.join("llama.cpp")
    }

    /// The crate's version.
    pub fn crate_version(&self) -> &str {
        &self.version
    }

    /// llama.cpp's own version, as its `CMakeLists.txt` sets it; `None` if it does not.
    pub fn llama_version(&self) -> Option<String> {
        let cmake = std::fs::read_to_string(self.source().join("CMakeLists.txt")).ok()?;
        let part = |name: &str| {
            let rest = cmake.split_once(&format!("set(LLAMA_VERSION_{name} "))?.1;
            Some(rest.split_once(')')?.0.trim().to_owned())
        };
        Some(format!("{}.{}.{}", part("MAJOR")?, part("MINOR")?, part("PATCH")?))
    }
}

fn metadata(cargo: &Path, pin: &Path, offline: bool) -> Result<Vec<u8>, Error> {
    let manifest = pin.join("Cargo.toml");
    let mut command = Command::new(cargo);
    command
        .args(["metadata", "--format-version", "1", "--locked", "--color", "never"])
        .arg("--manifest-path")
        .arg(&manifest);
    if offline {
        command.arg("--offline");
    }
    let output = command.output().map_err(Error::io(cargo))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(refusal(pin, &String::from_utf8_lossy(&output.stderr)))
}

/// Turns cargo's message of several lines into an error of one.
fn refusal(pin: &Path, stderr: &str) -> Error {
    let line = |found: Option<&str>| found.map(|l| l.trim().trim_start_matches("error: ").to_owned());
    let checksum = stderr.lines().find(|l| l.contains("checksum"));
    if let Some(said) = line(checksum) {
        return Error::Checksum { lock: pin.join("Cargo.lock"), said };
    }
    // The innermost cause, which cargo prints last, says most; without causes the error itself does.
    let said = |l: &&str| !l.trim().is_empty() && !l.contains("attempting to make an HTTP request");
    let cause = match stderr.rsplit_once("Caused by:") {
        Some((_, cause)) => cause.lines().rev().find(said),
        None => stderr.lines().find(said),
    };
    Error::Fetch {
        manifest: pin.join("Cargo.toml"),
        said: line(cause).unwrap_or_else(|| "no reason given".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_messages_become_one_line() {
        let pin = Path::new("pin");
        let cases = [
            (
                "error: checksum for `llama-cpp-sys-2 v0.1.161` changed between lock files\n\nthis \
                 could be indicative of\n",
                "checksum for `llama-cpp-sys-2 v0.1.161` changed",
            ),
            (
                "error: failed to download\n\nCaused by:\n  failed to verify the checksum of `x`\n",
                "failed to verify the checksum of `x`",
            ),
            (
                "error: failed to load\n\nCaused by:\n  no matching package named `y` found\n",
                "no matching package named `y` found",
            ),
            (
                "error: no matching package named `z` found\nlocation searched: crates.io index\n\
                 required by package `p`\nAs a reminder, you're using offline mode (--offline)\n",
                "(no matching package named `z` found)",
            ),
            ("", "no reason given"),
        ];
        for (stderr, part) in cases {
            let line = refusal(pin, stderr).to_string();
            assert!(line.contains(part), "{line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }

    #[test]
    fn metadata_without_the_crate_is_refused() {
        assert!(Upstream::from_metadata(br#"{"packages": [{"name": "other"}]}"#).is_none());
        assert!(Upstream::from_metadata(b"not json").is_none());
    }
}
