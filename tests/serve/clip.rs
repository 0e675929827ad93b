//! A small video by ffmpeg's own test source.

use std::path::Path;
use std::process::{Command, Stdio};

/// Writes `frames` frames of `size` (as 96x72), ten a second; false where ffmpeg is missing, which is said.
pub fn clip(path: &Path, size: &str, frames: u32) -> bool {
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", &format!("testsrc=size={size}:rate=10")])
        .args(["-frames:v", &frames.to_string(), "-c:v", "mpeg4", "-q:v", "2"])
        .arg(path)
        .stderr(Stdio::null())
        .status();
    let made = made.is_ok_and(|status| status.success());
    if !made {
        assert!(std::env::var_os("ILLAVA_NEEDS_FFMPEG").is_none(), "ffmpeg makes no clip");
        eprintln!("skipped: ffmpeg is not installed; ./test installs it");
    }
    made
}
