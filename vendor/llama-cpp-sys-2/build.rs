//! Builds the patched llama.cpp: settings, source, library, bindings, linking, each in its file
//! under `build/`. Whatever stops it is one line that says what to do.

#[path = "build/bindings.rs"]
mod bindings;
#[path = "build/config.rs"]
mod config;
#[path = "build/link.rs"]
mod link;
#[path = "build/native.rs"]
mod native;
#[path = "build/source.rs"]
mod source;

use std::fs::{self, File};

use config::Config;

/// What stopped the build, in one line.
pub struct Failure(pub String);

impl From<patched_source::Error> for Failure {
    fn from(error: patched_source::Error) -> Self {
        Self(error.to_string())
    }
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=CMakeLists.txt");
    println!("cargo::rerun-if-changed=sanitize.cmake");
    // For the tests, which run this program where something is missing.
    if let Ok(script) = std::env::current_exe() {
        println!("cargo::rustc-env=ILLAVA_BUILD_SCRIPT={}", script.display());
    }
    if let Err(Failure(line)) = build() {
        // Fails the build by itself; a failing exit would have cargo print all of the output too.
        println!("cargo::error={line}");
    }
}

fn build() -> Result<(), Failure> {
    let config = Config::from_env()?;
    if !config.bindings_only {
        native::require_tools(&config)?;
    }
    bindings::require_libclang()?;
    let _lock = lock(&config)?;
    let source = source::prepare(&config)?;
    // Bindings first: they take seconds, so a fault in the header shows before the long compile.
    bindings::generate(&config, &source)?;
    if config.bindings_only {
        return Ok(());
    }
    let libraries = native::build(&config, &source)?;
    link::emit(&config, &libraries)
}

/// Two cargo profiles built at once take turns with the native directory that they share.
fn lock(config: &Config) -> Result<File, Failure> {
    let path = config.native_dir.join("lock");
    fs::create_dir_all(&config.native_dir)
        .and_then(|()| File::create(&path))
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|error| Failure(format!("{}: {error}", path.display())))
}
