//! The loop that keeps one worker running.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Death, Event, Inner, Launch, Life, Patience, Pending, Running, State, deliver, encode, lock};
use crate::error::{Error, Kind};
use crate::worker::frame;
use crate::worker::protocol::{self, Command};

/// Frames that may wait for a worker to read them.
const OUTGOING: usize = 64;
/// Time for a worker that closed its socket to end by itself.
const GRACE: Duration = Duration::from_secs(2);

pub(super) async fn supervise(inner: Arc<Inner>, launch: Box<dyn Launch>, patience: Patience) {
    let mut pause = patience.first;
    let mut was_ready = false;
    loop {
        let (death, served, refused) = match launch.launch() {
            Ok(running) => one_life(&inner, running, patience.silence).await,
            Err(error) => {
                let cause = format!("it could not be started: {error}");
                (Death { cause, stderr: Vec::new() }, None, None)
            }
        };
        lock(&inner.outgoing).take();
        was_ready |= served.is_some();
        let leaving = *inner.leaving.borrow();
        bury(&inner, &death);
        if leaving {
            inner.state.send_replace(State::Ended);
            return;
        }
        if !was_ready {
            // The worker's own line says the cause. If it died while loading, there is none.
            let error = refused.unwrap_or_else(|| {
                Error::new(
                    Kind::Native,
                    format!("the worker ended while it loaded the model: {}", death.cause),
                )
            });
            inner.state.send_replace(State::Failed(error));
            return;
        }
        let reason = refused.map_or_else(String::new, |error| format!(": {error}"));
        tracing::error!(
            "the worker died of {}{reason}; the next one starts in {} ms; its last lines: {}",
            death.cause,
            pause.as_millis(),
            if death.stderr.is_empty() { "none".to_owned() } else { death.stderr.join(" | ") }
        );
        if served.is_some_and(|time| time >= patience.settled) {
            pause = patience.first;
        }
        let mut leaves = inner.leaving.subscribe();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = leaves.wait_for(|leaving| *leaving) => {
                inner.state.send_replace(State::Ended);
                return;
            }
        }
        pause = (pause * 2).min(patience.longest);
        inner.restarts.fetch_add(1, Ordering::Relaxed);
    }
}

/// Tells every request under way of the death, and makes those that had begun suspects.
fn bury(inner: &Inner, death: &Death) {
    let table: Vec<Pending> = {
        // The state changes first: a request that learns of a death must not find the worker ready.
        if matches!(*inner.state.borrow(), State::Ready(_)) {
            inner.state.send_replace(State::Restarting(death.clone()));
        }
        lock(&inner.table).drain().map(|(_, pending)| pending).collect()
    };
    let running: Vec<_> = table
        .iter()
        .filter_map(|pending| match pending {
            Pending::AnswerStream { fingerprint, suspect, .. } => Some((*fingerprint, *suspect)),
            Pending::Tokens(_)
            | Pending::Text(_)
            | Pending::Prompt(_)
            | Pending::Erased(_)
            | Pending::Moved(_)
            | Pending::Status(_) => None,
        })
        .collect();
    lock(&inner.suspects).blame(&running, death, Instant::now());
    for pending in table {
        if let Pending::AnswerStream { events, .. } = pending {
            let _ = events.send(Event::Died(death.clone()));
        }
    }
}

/// Runs one worker from start to death. Returns how it ended, how long it served, and its own message.
async fn one_life(
    inner: &Arc<Inner>,
    running: Running,
    silence: Duration,
) -> (Death, Option<Duration>, Option<Error>) {
    let Running { reader, writer, mut life } = running;
    let (sender, receiver) = mpsc::channel(OUTGOING);
    *lock(&inner.outgoing) = Some(sender);
    let writing = tokio::spawn(write(writer, receiver));
    let mut ready_since = None;
    let mut refused = None;
    let silent = listen(inner, reader, silence, &mut ready_since, &mut refused).await;
    lock(&inner.outgoing).take();
    writing.abort();
    let death = end(life.as_mut(), silent, silence).await;
    (death, ready_since.map(|since: Instant| since.elapsed()), refused)
}

/// Reads until the socket closes. Returns true if the worker has gone silent.
async fn listen(
    inner: &Arc<Inner>,
    mut reader: impl AsyncRead + Unpin,
    silence: Duration,
    ready_since: &mut Option<Instant>,
    refused: &mut Option<Error>,
) -> bool {
    // After half of the time the worker is asked, after the other half it is given up.
    let step = silence / 2;
    let mut asked = false;
    loop {
        let mut read = std::pin::pin!(read(&mut reader));
        let event = loop {
            match timeout(step, &mut read).await {
                Ok(event) => break event,
                // Loading reports its own progress and may take any time.
                Err(_) if ready_since.is_none() => {}
                Err(_) if asked => return true,
                Err(_) => {
                    asked = true;
                    if let Ok(frame) = encode(&Command::Status { id: 0 }) {
                        // A full channel counts as silence too. The next round ends it.
                        let outgoing = lock(&inner.outgoing).clone();
                        let _ = outgoing.map(|outgoing| outgoing.try_send(frame));
                    }
                }
            }
        };
        asked = false;
        match event {
            Ok(Some(protocol::Event::Loading { share })) => {
                inner.state.send_if_modified(|state| {
                    let first = matches!(state, State::Loading(_));
                    if first {
                        *state = State::Loading(share);
                    }
                    first
                });
            }
            Ok(Some(protocol::Event::Ready(ready))) => {
                for line in &ready.remarks {
                    tracing::warn!("{line}");
                }
                *ready_since = Some(Instant::now());
                inner.state.send_replace(State::Ready(Arc::from(ready)));
            }
            Ok(Some(protocol::Event::LoadFailed { kind, message })) => {
                *refused = Some(Error::new(kind, message))
            }
            Ok(Some(event)) => deliver(inner, event),
            Ok(None) => return false,
            Err(error) => {
                tracing::debug!("the worker's socket: {error}");
                return false;
            }
        }
    }
}

async fn end(life: &mut dyn Life, silent: bool, silence: Duration) -> Death {
    if !silent && let Ok(death) = timeout(GRACE, life.ended()).await {
        return death;
    }
    life.kill();
    let mut death = life.ended().await;
    if silent {
        death.cause = format!("no answer for {} s, so it was killed", silence.as_secs());
    }
    death
}

async fn write(mut writer: impl AsyncWrite + Unpin, mut frames: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = frames.recv().await {
        // A closed socket shows on the reading side, which handles it.
        if writer.write_all(&frame).await.is_err() {
            return;
        }
    }
}

async fn read(reader: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<protocol::Event>> {
    let mut length = [0; 4];
    if reader.read(&mut length[..1]).await? == 0 {
        return Ok(None);
    }
    reader.read_exact(&mut length[1..]).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > frame::MAX_FRAME {
        return Err(std::io::Error::other(format!("a frame of {length} bytes")));
    }
    let mut body = Vec::new();
    reader.take(length as u64).read_to_end(&mut body).await?;
    if body.len() < length {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    frame::decode(&body).map(Some)
}
