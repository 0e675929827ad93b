//! Stamps the build with the llama.cpp and the patches that `--version` and the report name.

use std::path::{Path, PathBuf};

use patched_source::{Error, Layout, Upstream, digest};

fn main() {
    if let Err(error) = stamp() {
        // Fails the build, and without all the other lines that a failing exit would print.
        println!("cargo::error={error}");
    }
}

fn stamp() -> Result<(), Error> {
    let layout = Layout::of_checkout(Path::new("."));
    println!("cargo::rerun-if-changed=build.rs");
    for input in layout.inputs()? {
        println!("cargo::rerun-if-changed={}", input.display());
    }
    let cargo = std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from);
    let upstream = Upstream::locate(&cargo, &layout.upstream)?;
    let llama = upstream.llama_version().unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=ILLAVA_LLAMA_CPP_VERSION={llama}");
    println!("cargo::rustc-env=ILLAVA_LLAMA_CPP_CRATE=llama-cpp-sys-2 {}", upstream.crate_version());
    println!("cargo::rustc-env=ILLAVA_PATCHES_SHA256={}", digest(&layout)?);
    Ok(())
}
