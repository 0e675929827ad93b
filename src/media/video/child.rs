//! A program's output, read under a time limit; the program never outlives its reader.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::error::{Error, Kind, Result};

/// Bytes kept of a program's complaints.
const COMPLAINT_BYTES: u64 = 16 << 10;

/// A running program; reading gives its standard output.
pub(super) struct Running {
    child: Child,
    chunks: Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    taken: usize,
    complaint: Option<JoinHandle<String>>,
    deadline: Instant,
}

/// Starts `program` with nothing on its standard input.
///
/// # Errors
/// [`Kind::Media`] saying how ffmpeg is installed, where it is not.
pub(super) fn start(program: &Path, args: &[OsString], deadline: Instant) -> Result<Running> {
    let mut child = Command::new(program)
        .args(args)
        // This variable would make ffmpeg write a log file.
        .env_remove("FFREPORT")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| not_started(program, &error))?;
    let (sender, chunks) = sync_channel(2);
    if let Some(mut stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            loop {
                let mut chunk = vec![0; 1 << 18];
                let piece = match stdout.read(&mut chunk) {
                    Ok(0) => break,
                    Ok(n) => {
                        chunk.truncate(n);
                        Ok(chunk)
                    }
                    Err(error) => Err(error),
                };
                // Nothing reads any more: the pipe closes, and the program ends.
                if sender.send(piece).is_err() {
                    break;
                }
            }
        });
    }
    let complaint = child.stderr.take().map(|mut stderr| {
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            let _ = stderr.by_ref().take(COMPLAINT_BYTES).read_to_end(&mut kept);
            // A full pipe would stop the program.
            let _ = io::copy(&mut stderr, &mut io::sink());
            String::from_utf8_lossy(&kept).into_owned()
        })
    });
    Ok(Running { child, chunks, chunk: Vec::new(), taken: 0, complaint, deadline })
}

fn not_started(program: &Path, error: &io::Error) -> Error {
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let line = match error.kind() {
        io::ErrorKind::NotFound => format!(
            "{name} is not installed, and reads videos: install it (apt install ffmpeg, dnf install ffmpeg-free, brew install ffmpeg), or give its frames as pictures"
        ),
        _ => format!("{name} cannot be started ({error})"),
    };
    Error::new(Kind::Media, line)
}

impl Running {
    /// Waits for the end. Returns whether the program succeeded, and its complaints. They lack the places in
    /// memory and the repeated name of the file that ffmpeg puts before them.
    pub(super) fn finish(mut self) -> (bool, String) {
        // The rest in the pipe is not wanted.
        let mut rest = [0; 4096];
        while matches!(self.read(&mut rest), Ok(n) if n > 0) {}
        let content = match self.child.try_wait() {
            Ok(Some(status)) => status.success(),
            // Its output has ended, but the program has not quite, or the time is over.
            _ if Instant::now() >= self.deadline => {
                let _ = self.child.kill();
                false
            }
            _ => self.child.wait().is_ok_and(|status| status.success()),
        };
        let _ = self.child.kill();
        let _ = self.child.wait();
        let complaint = self.complaint.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        (content, plain(&complaint))
    }
}

fn plain(complaint: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in complaint.lines() {
        let tagged = line.starts_with('[');
        let mut line = line;
        while let Some((_, rest)) = line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            line = rest;
        }
        if !tagged {
            line = line.rsplit(": ").next().unwrap_or(line);
        }
        let line = line.trim();
        if !line.is_empty() && !lines.contains(&line) && lines.len() < 2 {
            lines.push(line);
        }
    }
    lines.join("; ").chars().take(300).collect()
}

impl Read for Running {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.chunk.len() {
            // A program that always has more to say would never let the wait time out.
            let left = self.deadline.saturating_duration_since(Instant::now());
            let chunk = match left.is_zero() {
                true => Err(RecvTimeoutError::Timeout),
                false => self.chunks.recv_timeout(left),
            };
            match chunk {
                Ok(chunk) => (self.chunk, self.taken) = (chunk?, 0),
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.child.kill();
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
        let n = buffer.len().min(self.chunk.len() - self.taken);
        buffer[..n].copy_from_slice(&self.chunk[self.taken..self.taken + n]);
        self.taken += n;
        Ok(n)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sh(script: &str, seconds: u64) -> Running {
        let args = ["-c".into(), script.into()];
        start(Path::new("sh"), &args, Instant::now() + Duration::from_secs(seconds)).unwrap()
    }

    #[test]
    fn output_and_complaint() {
        let mut running =
            sh("printf hello; echo '[mov @ 0x55] bad atom' >&2; echo 'file:/a: b: no good' >&2; exit 3", 60);
        let mut text = String::new();
        running.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        assert_eq!(running.finish(), (false, "bad atom; no good".to_owned()));
    }

    #[test]
    fn a_silent_program_is_ended() {
        let mut running = sh("exec sleep 1000", 0);
        let error = running.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(!running.finish().0);
    }

    #[test]
    fn a_program_that_talks_for_ever_ends_with_its_reader() {
        let mut running = sh("yes; exit 7", 60);
        let mut some = [0; 100];
        running.read_exact(&mut some).unwrap();
        assert_eq!(&some[..4], b"y\ny\n");
        drop(running);
        let complaining = sh("head -c 3000000 /dev/zero >&2; exec true", 60);
        assert!(complaining.finish().0);
    }

    #[test]
    fn a_missing_program_says_how_it_is_installed() {
        let error = start(Path::new("/no/such/ffmpeg"), &[], Instant::now()).err().unwrap().to_string();
        assert!(error.contains("ffmpeg is not installed") && error.contains("apt install ffmpeg"), "{error}");
    }
}
