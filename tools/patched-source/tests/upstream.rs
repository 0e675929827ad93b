//! The pin: cargo hands out the crate whose checksum the lock file holds, or nothing.

use std::fs;
use std::path::{Path, PathBuf};

use patched_source::{Error, Layout, Series, Upstream};

fn checkout() -> Layout {
    Layout::of_checkout(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
}

fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

#[test]
fn the_pinned_crate_is_found_and_the_series_fits_it() {
    let layout = checkout();
    let upstream = Upstream::locate(&cargo(), &layout.upstream).expect("the pinned crate");
    assert_eq!(upstream.crate_version(), "0.1.161");
    assert_eq!(upstream.llama_version().as_deref(), Some("0.6.0"));
    let tree = layout.patched(&upstream).expect("a series that applies");
    assert!(tree.get("src/llama.cpp").is_some());
    assert!(tree.get("common/common.cpp").is_none(), "only what gets built is taken");
}

#[test]
fn another_checksum_is_refused_in_one_line() {
    let pin = tempfile::tempdir().expect("a temporary directory");
    let from = checkout().upstream;
    fs::create_dir(pin.path().join("src")).expect("a directory");
    for file in ["Cargo.toml", "src/lib.rs"] {
        fs::copy(from.join(file), pin.path().join(file)).expect("a copy");
    }
    let lock = fs::read_to_string(from.join("Cargo.lock")).expect("a lock file");
    let (before, checksum) = lock
        .split_once("name = \"llama-cpp-sys-2\"")
        .and_then(|(_, rest)| rest.split_once("checksum = \""))
        .expect("a checksum");
    let checksum = checksum.split('"').next().expect("its text");
    assert!(before.contains("0.1.161"));
    let other: String = checksum.chars().map(|c| if c == '0' { '1' } else { '0' }).collect();
    fs::write(pin.path().join("Cargo.lock"), lock.replace(checksum, &other)).expect("a lock file");

    let error = Upstream::locate(&cargo(), pin.path()).expect_err("another checksum");
    assert!(matches!(error, Error::Checksum { .. }), "{error}");
    let line = error.to_string();
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.contains("llama-cpp-sys-2") && line.contains("Cargo.lock"), "{line}");
}

/// `cargo fetch` reads one lock file, and the crate stands in another.
#[test]
fn an_offline_build_names_the_second_fetch() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let cargo_without_crates = home.path().join("cargo");
    let call = format!(
        "#!/bin/sh\nCARGO_HOME='{}' CARGO_NET_OFFLINE=true exec '{}' \"$@\"\n",
        home.path().display(),
        cargo().display()
    );
    fs::write(&cargo_without_crates, call).expect("a script");
    let made = std::process::Command::new("chmod").arg("+x").arg(&cargo_without_crates).status();
    assert!(made.expect("chmod").success());

    let pin = checkout().upstream;
    let error = Upstream::locate(&cargo_without_crates, &pin).expect_err("no crate, no network");
    let line = error.to_string();
    assert_eq!(line.lines().count(), 1, "{line}");
    let fetch = format!("cargo fetch --locked --manifest-path {}", pin.join("Cargo.toml").display());
    assert!(line.contains(&fetch) && line.contains("no matching package named `llama-cpp-sys-2`"), "{line}");
    assert!(!line.contains("As a reminder"), "{line}");
}

#[test]
fn a_pin_that_was_vendored_away_is_one_line() {
    let pin = tempfile::tempdir().expect("a temporary directory");
    let line = Upstream::locate(&cargo(), pin.path()).expect_err("no pin").to_string();
    assert!(line.contains("cargo vendor") && line.contains("restore vendor/"), "{line}");
}

#[test]
fn every_patch_says_what_why_which_test_and_until_when() {
    let series = Series::read(&checkout().patches).expect("the series");
    for patch in series.patches() {
        let missing = patch.header_faults();
        assert!(missing.is_empty(), "{}: {}", patch.name(), missing.join(", "));
        assert!(!patch.name().contains(|c: char| c.is_ascii_digit()), "{}: numbers", patch.name());
    }
}
