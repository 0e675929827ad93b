//! A small dialect for tests of the real binary.
// Each test program uses its own part of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use image::{Rgb, RgbImage};

pub const PAIRS: [&str; 3] = ["siglip-qwen2-f32", "clip-llama-f32", "qwen2vl-f32"];

/// How a run of the program ended.
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            // A signal has no code: an abort shows as -1.
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Outcome {
    #[track_caller]
    pub fn exits(&self, code: i32, part: &str) {
        assert_eq!(self.code, code, "stderr: {}", self.stderr);
        assert!(self.stderr.contains(part), "`{part}` is not in: {}", self.stderr);
    }

    /// The exit code, and exactly one line beside the notes, which has `part` in it.
    #[track_caller]
    pub fn fails(&self, code: i32, part: &str) {
        self.exits(code, part);
        let lines: Vec<&str> =
            self.stderr.lines().filter(|line| !line.is_empty() && !line.starts_with("note: ")).collect();
        assert!(lines.len() == 1 && lines[0].starts_with("error: "), "not one line: {}", self.stderr);
        assert!(lines[0].contains(part), "`{part}` is not in: {}", lines[0]);
    }
}

fn command(args: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_illava"));
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LLAMA_ARG_"))
    {
        command.env_remove(name);
    }
    command
}

pub fn illava(args: &[String]) -> Outcome {
    illava_with(args, &[])
}

pub fn illava_with(args: &[String], environment: &[(&str, &str)]) -> Outcome {
    command(args).envs(environment.iter().copied()).output().expect("the program starts").into()
}

pub fn spawn(args: &[String]) -> Child {
    spawn_with(args, &[])
}

pub fn spawn_with(args: &[String], environment: &[(&str, &str)]) -> Child {
    let mut command = command(args);
    command.envs(environment.iter().copied());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

/// A short greedy answer about a picture, by the pair `name`.
pub fn ask(name: &str, extra: &[&str]) -> Outcome {
    let picture = picture("shapes.png", 96, 72);
    let mut args = vec!["run".to_owned()];
    args.extend(pair(name));
    let fixed = ["--image", picture.as_str(), "-p", "what shape is it", "-n", "8", "--temp", "0", "-t", "2"];
    args.extend(fixed.iter().chain(extra).map(|arg| (*arg).to_owned()));
    illava(&args)
}

/// The path of a test model's file.
pub fn model(name: &str, file: &str) -> String {
    let folder = std::env::var_os("ILLAVA_TEST_MODELS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-models"), PathBuf::from);
    let path = folder.join(name).join(file);
    assert!(path.is_file(), "{} is missing: run tools/test-models.sh first", path.display());
    path.display().to_string()
}

pub fn pair(name: &str) -> [String; 4] {
    ["-m".into(), model(name, "text.gguf"), "-mm".into(), model(name, "mmproj.gguf")]
}

/// A path for a file of this test run.
pub fn scratch(name: &str) -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli");
    std::fs::create_dir_all(&folder).expect("a folder for test files");
    folder.join(name).display().to_string()
}

/// A picture with something to see: a disc on stripes.
pub fn picture(name: &str, width: u32, height: u32) -> String {
    let path = scratch(name);
    let radius = i64::from(width.min(height)) / 3;
    let picture = RgbImage::from_fn(width, height, |x, y| {
        let (dx, dy) = (i64::from(x) - i64::from(width) / 2, i64::from(y) - i64::from(height) / 2);
        if dx * dx + dy * dy < radius * radius {
            Rgb([220, 40, 30])
        } else {
            Rgb([(x * 7 % 200) as u8, (y * 5 % 200) as u8, 120])
        }
    });
    // Tests run at once and may share a picture: a whole file appears, or none.
    let temporary = format!("{path}.{:?}.png", std::thread::current().id()).replace(['(', ')'], "");
    picture.save(&temporary).expect("a test picture");
    std::fs::rename(&temporary, &path).expect("a test picture");
    path
}

/// A folder of `count` frames.
pub fn frames(name: &str, count: u32) -> String {
    let folder = PathBuf::from(scratch(name));
    std::fs::create_dir_all(&folder).expect("a folder for frames");
    for n in 0..count {
        let frame = picture(&format!("{name}-{n}.png"), 96, 72);
        std::fs::copy(frame, folder.join(format!("frame{n}.png"))).expect("a frame");
    }
    folder.display().to_string()
}
