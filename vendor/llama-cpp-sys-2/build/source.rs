//! Makes the patched tree, and says which files it was made from.

use std::path::PathBuf;

use patched_source::Upstream;

use crate::{Config, Failure};

/// The tree's directory. Files that have not changed keep their times.
pub fn prepare(config: &Config) -> Result<PathBuf, Failure> {
    let inputs = config.layout.inputs();
    // The series file alone when it is broken, so that mending it starts the build again.
    let fallback = || vec![config.layout.patches.clone()];
    for input in inputs.as_ref().map_or_else(|_| fallback(), Clone::clone) {
        println!("cargo::rerun-if-changed={}", input.display());
    }
    inputs?;
    let upstream = Upstream::locate(&config.cargo, &config.layout.upstream)?;
    let dir = config.native_dir.join("source");
    config.layout.patched(&upstream)?.write_to(&dir)?;
    Ok(dir)
}
