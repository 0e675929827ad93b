//! What is to be built. The only part of the build script that reads the environment.

use std::env;
use std::path::{Path, PathBuf};

use patched_source::Layout;

use crate::Failure;

/// The settings of one native build.
pub struct Config {
    /// Where the series, the overlay and the upstream pin stand.
    pub layout: Layout,
    /// This crate's directory: the CMake parent project.
    pub cmake_project: PathBuf,
    /// For files that belong to this crate's own compilation.
    pub out_dir: PathBuf,
    /// For the patched tree and the CMake build.
    pub native_dir: PathBuf,
    pub cargo: PathBuf,
    pub cmake: PathBuf,
    pub cxx: PathBuf,
    /// A compiler cache, used where there is one and CMake was not told otherwise.
    pub launcher: Option<PathBuf>,
    pub ninja: bool,
    pub backends: Backends,
    pub target_os: String,
    /// Enough for `cargo check` and `cargo doc`: the declarations, and no library to link.
    pub bindings_only: bool,
    /// The machine that builds is the kind that runs.
    pub native_cpu: bool,
    /// Where CUDA's static libraries lie.
    pub cuda_dir: PathBuf,
}

/// Which of upstream's GPU backends to compile, beside the CPU's.
#[derive(Clone, Copy)]
pub struct Backends {
    pub cuda: bool,
    pub metal: bool,
    pub vulkan: bool,
}

impl Backends {
    fn from_features() -> Self {
        Self {
            cuda: cfg!(feature = "cuda"),
            metal: cfg!(feature = "metal"),
            vulkan: cfg!(feature = "vulkan"),
        }
    }

    /// A directory name of its own for each combination.
    fn key(self) -> String {
        let named = [(self.cuda, "cuda"), (self.metal, "metal"), (self.vulkan, "vulkan")];
        let on = named.iter().filter(|(on, _)| *on).map(|(_, name)| *name);
        std::iter::once("cpu").chain(on).collect::<Vec<_>>().join("-")
    }
}

impl Config {
    pub fn from_env() -> Result<Self, Failure> {
        let manifest_dir = PathBuf::from(required("CARGO_MANIFEST_DIR")?);
        let root = manifest_dir
            .ancestors()
            .nth(2)
            .ok_or_else(|| Failure(format!("{} has no checkout around it", manifest_dir.display())))?;
        let out_dir = PathBuf::from(required("OUT_DIR")?);
        let backends = Backends::from_features();
        let target = required("TARGET")?;
        // Cargo sets the variable's value from .cargo/config.toml. One directory serves every
        // profile, since none changes how the C++ is compiled.
        let native_dir = match env::var_os("ILLAVA_NATIVE_DIR") {
            Some(dir) => Path::new(&dir).join(&target).join(backends.key()),
            None => out_dir.join("native"),
        };
        Ok(Self {
            layout: Layout::of_checkout(root),
            cargo: PathBuf::from(required("CARGO")?),
            cmake: tracked("CMAKE").unwrap_or_else(|| "cmake".into()).into(),
            cxx: compiler(),
            launcher: launcher(),
            ninja: tracked("CMAKE_GENERATOR").is_none() && on_path("ninja").is_some(),
            target_os: required("CARGO_CFG_TARGET_OS")?,
            bindings_only: tracked("ILLAVA_BINDINGS_ONLY").is_some(),
            native_cpu: target == required("HOST")? && tracked("GGML_NATIVE").is_none_or(|v| v != "OFF"),
            cuda_dir: tracked("CUDA_PATH").unwrap_or_else(|| "/usr/local/cuda".into()).into(),
            cmake_project: manifest_dir,
            out_dir,
            native_dir,
            backends,
        })
    }
}

fn required(name: &str) -> Result<String, Failure> {
    env::var(name).map_err(|_| Failure(format!("{name} is not set: build with cargo")))
}

/// An optional variable, whose change makes the build run again.
fn tracked(name: &str) -> Option<String> {
    println!("cargo::rerun-if-env-changed={name}");
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The program that `CXX` calls, which may be followed by options or stand behind a launcher.
fn compiler() -> PathBuf {
    let call = tracked("CXX").unwrap_or_else(|| "c++".into());
    match call.split_whitespace().next() {
        Some(program) if !Path::new(&call).is_file() => program.into(),
        _ => call.into(),
    }
}

fn launcher() -> Option<PathBuf> {
    // Not `||`: both are to be tracked.
    let [c, cxx] = ["CMAKE_C_COMPILER_LAUNCHER", "CMAKE_CXX_COMPILER_LAUNCHER"].map(tracked);
    match (c, cxx) {
        (None, None) => ["ccache", "sccache"].into_iter().find_map(on_path),
        // CMake takes its own variables from the environment.
        _ => None,
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let file = format!("{program}{}", env::consts::EXE_SUFFIX);
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(&file)).find(|path| path.is_file())
}
