//! Compiles the patched tree with CMake.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Config, Failure};

/// Checks that the tools are there, before anything takes time.
pub fn require_tools(config: &Config) -> Result<(), Failure> {
    need(
        &config.cmake,
        "CMake is not installed",
        "apt-get install cmake (Debian, Ubuntu) or brew install cmake (macOS), or set CMAKE",
    )?;
    need(
        &config.cxx,
        "there is no C++ compiler",
        "apt-get install g++ (Debian, Ubuntu) or xcode-select --install (macOS), or set CXX",
    )
}

/// Builds ggml, llama and mtmd from `source`; the result is the directory of their archives.
pub fn build(config: &Config, source: &Path) -> Result<PathBuf, Failure> {
    let generator = if config.ninja { "Ninja" } else { "" };
    drop_build_of_other_generator(config, generator);

    let mut cmake = cmake::Config::new(&config.cmake_project);
    cmake
        .out_dir(&config.native_dir)
        // Always: the tests run through it too, and unoptimised ggml takes minutes for a token.
        .profile("Release")
        .build_target("illava-native")
        // The compile lines of a plain CMake build, so that the stock and the sanitized builds of
        // tools/ compare like with like, and share a compiler cache.
        .no_default_flags(true)
        .define("ILLAVA_SOURCE", source)
        .define("GGML_NATIVE", switch(config.native_cpu))
        .define("GGML_CUDA", switch(config.backends.cuda))
        .define("GGML_METAL", switch(config.backends.metal))
        .define("GGML_METAL_EMBED_LIBRARY", switch(config.backends.metal))
        .define("GGML_VULKAN", switch(config.backends.vulkan));
    if config.ninja {
        cmake.generator(generator);
    }
    // Equal sources then hit in a compiler cache wherever the checkout and its build lie.
    cmake.env("CCACHE_BASEDIR", &config.native_dir).env("CCACHE_NOHASHDIR", "1");
    if let Some(launcher) = &config.launcher {
        cmake.define("CMAKE_C_COMPILER_LAUNCHER", launcher);
        cmake.define("CMAKE_CXX_COMPILER_LAUNCHER", launcher);
    }
    cmake.build();
    Ok(config.native_dir.join("build/lib"))
}

fn switch(on: bool) -> &'static str {
    if on { "ON" } else { "OFF" }
}

/// Refuses to go on without `program`.
fn need(program: &Path, lacking: &str, remedy: &str) -> Result<(), Failure> {
    let runs = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let fault = match runs {
        Ok(status) if status.success() => return Ok(()),
        // Apple's stand-in for a compiler is there before the compiler is.
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    Err(Failure(format!("{lacking} (`{}`: {fault}): {remedy}", program.display())))
}

/// CMake refuses a build directory that another generator made, as happens when ninja has been
/// installed since.
fn drop_build_of_other_generator(config: &Config, generator: &str) {
    let build = config.native_dir.join("build");
    let Ok(cache) = fs::read_to_string(build.join("CMakeCache.txt")) else { return };
    let ninja_made = cache.lines().any(|line| line == "CMAKE_GENERATOR:INTERNAL=Ninja");
    if ninja_made != (generator == "Ninja") {
        // If it stays, CMake says so itself.
        let _ = fs::remove_dir_all(build);
    }
}
