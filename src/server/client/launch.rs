//! Starts a worker process and learns how it ended.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;

use super::lock;
use crate::error::printable;

/// Lines of a worker's stderr that the log entry about its death repeats.
const LAST_LINES: usize = 12;
/// Characters of one such line.
const LINE_CHARACTERS: usize = 2000;

/// End of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// Cause, as `signal 9 (SIGKILL)`, `exit status 1` or `no answer for 300 s`.
    pub cause: String,
    /// Last lines that the worker wrote.
    pub stderr: Vec<String>,
}

/// Launcher of workers.
pub trait Launch: Send + Sync + 'static {
    /// # Errors
    /// The system's own.
    fn launch(&self) -> io::Result<Running>;
}

impl<T: Launch + ?Sized> Launch for Arc<T> {
    fn launch(&self) -> io::Result<Running> {
        (**self).launch()
    }
}

/// Running worker, with the two directions of its socket.
pub struct Running {
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
    pub life: Box<dyn Life>,
}

/// Control of a running worker.
pub trait Life: Send {
    fn kill(&mut self);
    /// Resolves when the process has ended.
    fn ended(&mut self) -> Pin<Box<dyn Future<Output = Death> + Send + '_>>;
}

/// Program to run as a worker.
#[derive(Debug, Clone)]
pub struct Program {
    pub path: PathBuf,
    pub args: Vec<OsString>,
}

impl Launch for Program {
    fn launch(&self) -> io::Result<Running> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut child = Command::new(&self.path)
            .args(&self.args)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // A Ctrl-C on the terminal is for the parent, which drains first.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let last = Arc::new(Mutex::new(VecDeque::new()));
        let lines = child.stderr.take().map(|stderr| tokio::spawn(pass_on(stderr, Arc::clone(&last))));
        let (reader, writer) = UnixStream::from_std(ours)?.into_split();
        tracing::debug!("worker {} started", child.id().unwrap_or_default());
        Ok(Running {
            reader: Box::new(reader),
            writer: Box::new(writer),
            life: Box::new(Process { child, lines, last }),
        })
    }
}

struct Process {
    child: Child,
    lines: Option<JoinHandle<()>>,
    last: Arc<Mutex<VecDeque<String>>>,
}

impl Life for Process {
    fn kill(&mut self) {
        // The worker may have ended already, which is the aim.
        let _ = self.child.start_kill();
    }

    fn ended(&mut self) -> Pin<Box<dyn Future<Output = Death> + Send + '_>> {
        Box::pin(async {
            let cause = match self.child.wait().await {
                Ok(status) => describe(status),
                Err(error) => format!("unknown ({error})"),
            };
            if let Some(lines) = self.lines.take() {
                // The pipe ends with the process, unless a child of its own still holds it.
                let _ = tokio::time::timeout(std::time::Duration::from_millis(200), lines).await;
            }
            Death { cause, stderr: lock(&self.last).iter().cloned().collect() }
        })
    }
}

/// Copies the worker's lines to our stderr as they come.
async fn pass_on(stderr: ChildStderr, last: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(stderr).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = printable(&String::from_utf8_lossy(&line), LINE_CHARACTERS);
        eprintln!("{line}");
        let mut last = lock(&last);
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => {
            let name = signal_hook::low_level::signal_name(signal).unwrap_or("unnamed");
            format!("signal {signal} ({name})")
        }
        (None, Some(code)) => format!("exit status {code}"),
        (None, None) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Program {
        Program { path: "/bin/sh".into(), args: vec!["-c".into(), script.into()] }
    }

    #[tokio::test]
    async fn a_death_has_its_cause_and_last_lines() {
        for (script, cause, last) in [
            ("echo one >&2; echo two >&2; kill -9 $$", "signal 9 (SIGKILL)", vec!["one", "two"]),
            ("kill -ABRT $$", "signal 6 (SIGABRT)", vec![]),
            ("exit 3", "exit status 3", vec![]),
            // A client can make the worker write any text. It stays one line and moves no cursor.
            (r"printf 'a\033[2Jb\rc\n' >&2; exit 1", "exit status 1", vec![r"a\u{1b}[2Jb\rc"]),
        ] {
            let mut running = sh(script).launch().unwrap();
            let death = running.life.ended().await;
            assert_eq!(
                (death.cause.as_str(), death.stderr),
                (cause, last.iter().map(|l| (*l).into()).collect())
            );
        }
    }

    #[tokio::test]
    async fn a_worker_can_be_killed() {
        let mut running = sh("exec sleep 60").launch().unwrap();
        running.life.kill();
        assert_eq!(running.life.ended().await.cause, "signal 9 (SIGKILL)");
    }

    #[tokio::test]
    async fn its_standard_input_is_a_socket_of_both_directions() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut running = sh("head -c 4 <&0 >&0").launch().unwrap();
        running.writer.write_all(b"ping").await.unwrap();
        let mut back = [0; 4];
        running.reader.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"ping");
    }
}
