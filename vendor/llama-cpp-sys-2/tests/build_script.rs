//! Runs the build script itself where something that it needs is wrong. What makes a patch series
//! unfit has its own tests in `tools/patched-source`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A checkout with nothing but what the build script reads, and a call of the script in it.
struct Checkout {
    dir: TempDir,
    variables: Vec<(&'static str, PathBuf)>,
}

impl Checkout {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        copy(&root.join("vendor/upstream"), &dir.path().join("vendor/upstream"));
        copy(&root.join("patches"), &dir.path().join("patches"));
        fs::create_dir_all(dir.path().join("vendor/llama-cpp-sys-2")).expect("a directory");
        Self { dir, variables: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: impl Into<PathBuf>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    fn edit(self, file: &str, change: impl FnOnce(String) -> String) -> Self {
        let path = self.dir.path().join(file);
        let text = fs::read_to_string(&path).expect("a file of the checkout");
        let changed = change(text.clone());
        assert_ne!(changed, text, "{file} is unchanged");
        fs::write(&path, changed).expect("a written file");
        self
    }

    fn run(&self) -> std::process::Output {
        Command::new(env!("ILLAVA_BUILD_SCRIPT"))
            .env("CARGO", std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .env("CARGO_MANIFEST_DIR", self.dir.path().join("vendor/llama-cpp-sys-2"))
            .env("OUT_DIR", self.dir.path().join("out"))
            .env("TARGET", "x86_64-unknown-linux-gnu")
            .env("HOST", "x86_64-unknown-linux-gnu")
            .env("CARGO_CFG_TARGET_OS", "linux")
            .env_remove("ILLAVA_NATIVE_DIR")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .output()
            .expect("a run of the build script")
    }

    /// The script's one error, checked to be one line with all of `parts` in it.
    #[track_caller]
    fn stops_with(&self, parts: &[&str]) {
        let output = self.run();
        let said = String::from_utf8_lossy(&output.stdout);
        let errors: Vec<_> = said.lines().filter_map(|l| l.strip_prefix("cargo::error=")).collect();
        let [error] = errors[..] else {
            panic!("not one error: {said}\n{}", String::from_utf8_lossy(&output.stderr));
        };
        for part in parts {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory of the checkout") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("a copied file");
        }
    }
}

#[test]
fn a_missing_tool_is_one_line_with_what_to_install() {
    let empty = tempfile::tempdir().expect("a temporary directory");
    let cases: [(&str, &Path, [&str; 3]); 3] = [
        ("CMAKE", Path::new("/nowhere"), ["CMake", "apt-get install cmake", "brew install cmake"]),
        ("CXX", Path::new("/nowhere"), ["C++ compiler", "apt-get install g++", "xcode-select"]),
        ("LIBCLANG_PATH", empty.path(), ["libclang", "apt-get install libclang-dev", "brew"]),
    ];
    for (variable, value, parts) in cases {
        Checkout::new().with(variable, value).stops_with(&parts);
    }
}

#[test]
fn another_checksum_is_one_line_with_the_remedy() {
    let flip = |lock: String| {
        let (before, after) = lock.split_once("name = \"llama-cpp-sys-2\"").expect("the crate");
        let (middle, checksum) = after.split_once("checksum = \"").expect("its checksum");
        let first = if checksum.starts_with('0') { '1' } else { '0' };
        format!("{before}name = \"llama-cpp-sys-2\"{middle}checksum = \"{first}{}", &checksum[1..])
    };
    Checkout::new().edit("vendor/upstream/Cargo.lock", flip).stops_with(&[
        "checksum",
        "Cargo.lock",
        "restore that file",
    ]);
}

#[test]
fn a_reordered_or_incomplete_series_is_one_line_with_the_remedy() {
    let reverse = |series: String| {
        let mut lines: Vec<_> = series.lines().collect();
        lines.reverse();
        lines.join("\n")
    };
    let reordered = Checkout::new().edit("patches/series", reverse);
    reordered.stops_with(&["does not fit", "at hunk", "restore patches/", "tools/patches.sh"]);

    let shorter =
        |series: String| series.lines().filter(|l| !l.ends_with(".patch")).collect::<Vec<_>>().join("\n");
    let incomplete = Checkout::new().edit("patches/series", shorter);
    incomplete.stops_with(&["series", ".patch is missing from it", "restore patches/"]);
}

#[test]
fn an_overlay_file_in_the_place_of_an_upstream_one_is_one_line() {
    let checkout = Checkout::new();
    let file = checkout.dir.path().join("patches/overlay/src/llama.cpp");
    fs::write(file, "// ours").expect("a written file");
    checkout.stops_with(&["src/llama.cpp", "upstream has", "with a patch"]);
}

#[test]
fn a_pin_that_cargo_vendor_deleted_is_one_line_with_the_remedy() {
    let checkout = Checkout::new();
    fs::remove_dir_all(checkout.dir.path().join("vendor/upstream")).expect("a removed directory");
    checkout.stops_with(&["vendor/upstream/Cargo.toml", "cargo vendor", "restore vendor/"]);
}

#[test]
fn bindings_alone_need_no_compiler_and_link_nothing() {
    let out = "out";
    let checkout =
        Checkout::new().with("CMAKE", "/nowhere").with("CXX", "/nowhere").with("ILLAVA_BINDINGS_ONLY", "1");
    fs::create_dir_all(checkout.dir.path().join(out)).expect("a directory");
    let output = checkout.run();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !said.contains("cargo::error="), "{said}");
    assert!(!said.contains("rustc-link-lib"), "{said}");
    let bindings = fs::read_to_string(checkout.dir.path().join(out).join("bindings.rs")).expect("bindings");
    assert!(bindings.contains("fn illava_context_new"));
}
