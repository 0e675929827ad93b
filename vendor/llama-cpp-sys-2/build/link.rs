//! Tells cargo what to link.

use std::fs;
use std::path::Path;

use crate::{Config, Failure};

pub fn emit(config: &Config, libraries: &Path) -> Result<(), Failure> {
    println!("cargo::rustc-link-search=native={}", libraries.display());
    for library in archives(config) {
        let archive = libraries.join(format!("lib{library}.a"));
        if !archive.exists() && config.target_os != "windows" {
            return Err(Failure(format!(
                "CMake made no {}: remove {} and build again",
                archive.display(),
                config.native_dir.display()
            )));
        }
        println!("cargo::rustc-link-lib=static={library}");
    }
    for library in openmp(config) {
        println!("cargo::rustc-link-lib=dylib={library}");
    }
    for library in system_libraries(config) {
        println!("cargo::rustc-link-lib={library}");
    }
    if config.backends.cuda {
        for dir in ["lib64", "lib", "lib64/stubs"] {
            println!("cargo::rustc-link-search=native={}", config.cuda_dir.join(dir).display());
        }
    }
    // Other packages' scripts (tests/native among them) find the tree and the build by this.
    println!("cargo::metadata=native_dir={}", config.native_dir.display());
    Ok(())
}

/// Our archives, users before what they use, as linkers of one pass need them.
fn archives(config: &Config) -> Vec<&'static str> {
    let mut archives = vec!["mtmd", "vendor-hash", "llama", "ggml", "ggml-rpc"];
    let backends = config.backends;
    for (on, name) in
        [(backends.cuda, "ggml-cuda"), (backends.metal, "ggml-metal"), (backends.vulkan, "ggml-vulkan")]
    {
        archives.extend(on.then_some(name));
    }
    archives.extend(["ggml-cpu", "ggml-base"]);
    archives
}

/// The OpenMP runtime that CMake found for its compiler: gomp for GCC, omp for clang, or none.
fn openmp(config: &Config) -> Vec<String> {
    let cache = fs::read_to_string(config.native_dir.join("build/CMakeCache.txt")).unwrap_or_default();
    let names = cache.lines().find_map(|line| line.strip_prefix("OpenMP_CXX_LIB_NAMES:STRING="));
    let names = names.unwrap_or("").split(';').filter(|name| !name.is_empty() && *name != "NOTFOUND");
    names.map(str::to_owned).collect()
}

fn system_libraries(config: &Config) -> Vec<&'static str> {
    let mut libraries = Vec::new();
    if config.backends.cuda {
        libraries.extend([
            "static=cudart_static",
            "static=cublas_static",
            "static=cublasLt_static",
            "static=culibos",
            "dylib=cuda",
        ]);
    }
    if config.backends.vulkan {
        libraries.push("dylib=vulkan");
    }
    match config.target_os.as_str() {
        "macos" => {
            libraries.extend(["dylib=c++", "framework=Foundation", "framework=Accelerate"]);
            if config.backends.metal {
                libraries.extend(["framework=Metal", "framework=MetalKit"]);
            }
        }
        "windows" => libraries.extend(["dylib=advapi32", "dylib=ws2_32"]),
        _ => libraries.extend(["dylib=stdc++", "dylib=pthread", "dylib=dl", "dylib=m"]),
    }
    libraries
}
