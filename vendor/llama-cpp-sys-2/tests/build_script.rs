//! The build script's steps, where what they need is not there. The patch series has its own tests
//! in `tools/patched-source`.

#![allow(dead_code, reason = "the steps are the build script's; this uses some of each")]

#[path = "../build/bindings.rs"]
mod bindings;
#[path = "../build/config.rs"]
mod config;
#[path = "../build/native.rs"]
mod native;

use std::path::{Path, PathBuf};
use std::process::Command;

use config::{Backends, Config};

#[derive(Debug)]
pub struct Failure(pub String);

fn config(dir: &Path) -> Config {
    Config {
        layout: patched_source::Layout::of_checkout(dir),
        cmake_project: dir.into(),
        out_dir: dir.into(),
        native_dir: dir.into(),
        cargo: "cargo".into(),
        cmake: "cmake".into(),
        cxx: "c++".into(),
        launcher: None,
        ninja: false,
        backends: Backends { cuda: false, metal: false, vulkan: false },
        target_os: "linux".into(),
        native_cpu: true,
        cuda_dir: PathBuf::new(),
    }
}

#[track_caller]
fn one_line_with(Failure(line): &Failure, parts: &[&str]) {
    assert_eq!(line.lines().count(), 1, "{line}");
    for part in parts {
        assert!(line.contains(part), "`{part}` is not in: {line}");
    }
}

#[test]
fn the_tools_of_this_build_are_found() {
    native::require_tools(&config(Path::new("."))).expect("cmake and a compiler");
    bindings::require_libclang().expect("libclang");
}

#[test]
fn a_missing_cmake_or_compiler_is_one_line_with_the_remedy() {
    let nowhere = PathBuf::from("/nowhere/tool");
    let without_cmake = Config { cmake: nowhere.clone(), ..config(Path::new(".")) };
    let failure = native::require_tools(&without_cmake).expect_err("no cmake");
    one_line_with(&failure, &["CMake", "apt-get install cmake", "brew install cmake"]);

    let without_compiler = Config { cxx: nowhere, ..config(Path::new(".")) };
    let failure = native::require_tools(&without_compiler).expect_err("no compiler");
    one_line_with(&failure, &["C++ compiler", "apt-get install g++", "xcode-select"]);
}

/// libclang is loaded once a process, so its absence is tried in a child of this test.
#[test]
fn a_missing_libclang_is_one_line_with_the_remedy() {
    const CHILD: &str = "ILLAVA_TEST_WITHOUT_LIBCLANG";
    if std::env::var_os(CHILD).is_some() {
        let failure = bindings::require_libclang().expect_err("no libclang");
        one_line_with(&failure, &["libclang", "apt-get install libclang-dev", "brew install llvm"]);
        return;
    }
    let empty = tempfile::tempdir().expect("a temporary directory");
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "a_missing_libclang_is_one_line_with_the_remedy"])
        .env("LIBCLANG_PATH", empty.path())
        .env(CHILD, "1")
        .output()
        .expect("a child process");
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn each_set_of_backends_builds_in_a_directory_of_its_own() {
    let mut keys = std::collections::BTreeSet::new();
    for bits in 0..8 {
        let on = |bit: u32| bits & (1 << bit) != 0;
        keys.insert(Backends { cuda: on(0), metal: on(1), vulkan: on(2) }.key());
    }
    assert_eq!(keys.len(), 8);
    assert!(keys.contains("cpu") && keys.contains("cpu-cuda-metal-vulkan"), "{keys:?}");
}
