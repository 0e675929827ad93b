//! Client of a worker: starts it, talks to it, and starts another if it dies.
//!
//! If a worker dies, its requests get [`Event::Died`] and are over. The next worker starts after a pause that
//! grows as long as workers die. A request that two workers died of is not given to a third (`suspects`).

mod launch;
mod supervisor;
mod suspects;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::request::Request;
use crate::worker::frame;
use crate::worker::protocol::{
    self, Command, Delta, Done, Failed, Prompt, Ready, SlotFile, SlotOrder, Started, Status, TokenText,
};
pub use launch::{Death, Launch, Life, Program, Running};
use suspects::{Fingerprint, Suspects};

/// Waiting times of the client.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Pause before the second start; it doubles with every death up to `longest`.
    pub first: Duration,
    pub longest: Duration,
    /// A worker that lives this long resets the pauses.
    pub settled: Duration,
    /// A worker that stays silent this long, although asked, is killed.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(200),
            longest: Duration::from_secs(30),
            settled: Duration::from_secs(60),
            silence: Duration::from_secs(300),
        }
    }
}

/// State of the worker.
#[derive(Debug, Clone)]
pub enum State {
    /// No worker has been ready yet. The number is the share of the weights that are read, 0 to 1.
    Loading(f32),
    Ready(Arc<Ready>),
    /// The worker died, and another is being started.
    Restarting(Death),
    /// The first worker could not load the model. This state is final.
    Failed(crate::error::Error),
    /// The worker has left as told.
    Ended,
}

/// Event of one request.
#[derive(Debug)]
pub enum Event {
    Started(Started),
    Delta(Delta),
    /// The answer is complete; the last event.
    Done(Box<Done>),
    /// The request failed; the last event.
    Failed(Failed),
    /// The worker died; the last event.
    Died(Death),
}

/// Reason why a request was not taken.
#[derive(Debug, Clone)]
pub enum Refusal {
    /// No worker is ready.
    NotReady,
    /// Two workers have died of this request.
    Deadly(Death),
    /// The request is too large for a frame.
    TooLarge(String),
}

/// Handle to the worker. Copies share it.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    state: watch::Sender<State>,
    next_id: AtomicU64,
    /// Requests under way, by id.
    table: Mutex<HashMap<u64, Pending>>,
    /// Frames to the present worker, if there is one.
    outgoing: Mutex<Option<mpsc::Sender<Vec<u8>>>>,
    suspects: Mutex<Suspects>,
    /// Suspects go to the worker one at a time: the next death then tells which one it was.
    alone: Arc<Semaphore>,
    leaving: watch::Sender<bool>,
    restarts: AtomicU64,
}

enum Pending {
    AnswerStream {
        events: mpsc::UnboundedSender<Event>,
        fingerprint: Fingerprint,
        suspect: bool,
        begun: bool,
    },
    Tokens(oneshot::Sender<Vec<TokenText>>),
    Text(oneshot::Sender<Vec<u8>>),
    Prompt(oneshot::Sender<Result<Prompt, Failed>>),
    Erased(oneshot::Sender<Option<u32>>),
    Moved(oneshot::Sender<Result<SlotFile, Failed>>),
    Status(oneshot::Sender<Status>),
}

/// Locks a mutex, poisoned or not. A panic elsewhere leaves the maps whole, because no call stops halfway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// Starts a worker and keeps one running until [`Client::leave`]. Needs a tokio runtime.
    #[must_use]
    pub fn start(launch: impl Launch, patience: Patience) -> Self {
        let inner = Arc::new(Inner {
            state: watch::Sender::new(State::Loading(0.0)),
            next_id: AtomicU64::new(1),
            table: Mutex::default(),
            outgoing: Mutex::default(),
            suspects: Mutex::default(),
            alone: Arc::new(Semaphore::new(1)),
            leaving: watch::Sender::new(false),
            restarts: AtomicU64::new(0),
        });
        tokio::spawn(supervisor::supervise(Arc::clone(&inner), Box::new(launch), patience));
        Self(inner)
    }

    #[must_use]
    pub fn state(&self) -> State {
        self.0.state.borrow().clone()
    }

    #[must_use]
    pub fn watch(&self) -> watch::Receiver<State> {
        self.0.state.subscribe()
    }

    /// Facts of the loaded pair, if a worker is ready.
    #[must_use]
    pub fn ready(&self) -> Option<Arc<Ready>> {
        match &*self.0.state.borrow() {
            State::Ready(ready) => Some(Arc::clone(ready)),
            _ => None,
        }
    }

    /// Number of workers started after the first.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.0.restarts.load(Ordering::Relaxed)
    }

    /// Returns as [`Client::ready`], after waiting up to `patience` for a restart under way. It does not wait
    /// for the first load, which may take minutes.
    pub async fn ready_within(&self, patience: Duration) -> Option<Arc<Ready>> {
        let mut states = self.watch();
        let settled = states.wait_for(|state| !matches!(state, State::Restarting(_)));
        let state = tokio::time::timeout(patience, settled).await.ok()?.ok()?.clone();
        if let State::Ready(ready) = state { Some(ready) } else { None }
    }

    /// Sends a request. Its id is set here.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn generate(&self, mut request: Request) -> Result<AnswerStream, Refusal> {
        let fingerprint = Fingerprint::of(&request);
        let verdict = lock(&self.0.suspects).verdict(&fingerprint, Instant::now());
        let alone = match verdict {
            suspects::Verdict::Clean => None,
            suspects::Verdict::Suspect => Arc::clone(&self.0.alone).acquire_owned().await.ok(),
            suspects::Verdict::Deadly(death) => return Err(Refusal::Deadly(death)),
        };
        // Another copy of it may have been proved deadly while this one waited.
        if let suspects::Verdict::Deadly(death) = lock(&self.0.suspects).verdict(&fingerprint, Instant::now())
        {
            return Err(Refusal::Deadly(death));
        }
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        request.id = id;
        let message = Command::Generate(Box::new(request));
        // Pictures are copied on a thread of their own: other streams wait for the runtime's threads.
        let frame = tokio::task::spawn_blocking(move || encode(&message))
            .await
            .map_err(|error| Refusal::TooLarge(error.to_string()))?
            .map_err(Refusal::TooLarge)?;
        let (events, receiver) = mpsc::unbounded_channel();
        let suspect = alone.is_some();
        let pending = Pending::AnswerStream { events, fingerprint, suspect, begun: false };
        lock(&self.0.table).insert(id, pending);
        let answer =
            AnswerStream { id, events: receiver, inner: Arc::clone(&self.0), over: false, _alone: alone };
        if self.0.send(frame).await { Ok(answer) } else { Err(Refusal::NotReady) }
    }

    /// Returns the token ids of a text; `None` if no worker answers.
    pub async fn tokenize(
        &self,
        text: String,
        add_special: bool,
        parse_special: bool,
    ) -> Option<Vec<TokenText>> {
        self.ask(Pending::Tokens, |id| Command::Tokenize { id, text, add_special, parse_special }).await
    }

    /// Returns the bytes of tokens; `None` if no worker answers.
    pub async fn detokenize(&self, tokens: Vec<i32>) -> Option<Vec<u8>> {
        self.ask(Pending::Text, |id| Command::Detokenize { id, tokens }).await
    }

    /// Returns the prompt of a request without answering it; `None` if no worker answers.
    pub async fn describe(&self, request: Request) -> Option<Result<Prompt, Failed>> {
        self.ask(Pending::Prompt, |id| Command::Describe(Box::new(Request { id, ..request }))).await
    }

    /// Empties a slot. The inner value is `None` if it is busy, the outer if no worker answers.
    pub async fn erase(&self, slot: u32) -> Option<Option<u32>> {
        self.ask(Pending::Erased, |id| Command::Erase { id, slot }).await
    }

    /// Saves or restores a slot; `None` if no worker answers.
    pub async fn move_slot(&self, order: SlotOrder) -> Option<Result<SlotFile, Failed>> {
        self.ask(Pending::Moved, |id| Command::File(SlotOrder { id, ..order })).await
    }

    /// Returns the state of the worker's slots; `None` if no worker answers.
    pub async fn status(&self) -> Option<Status> {
        self.ask(Pending::Status, |id| Command::Status { id }).await
    }

    async fn ask<T>(
        &self,
        pending: impl FnOnce(oneshot::Sender<T>) -> Pending,
        request: impl FnOnce(u64) -> Command,
    ) -> Option<T> {
        self.ready()?;
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        lock(&self.0.table).insert(id, pending(sender));
        let entry = Entry { id, inner: &self.0 };
        if !self.0.send(encode(&request(entry.id)).ok()?).await {
            return None;
        }
        receiver.await.ok()
    }

    /// Tells the worker to leave and waits up to `patience` for it. Then the worker is killed.
    pub async fn leave(&self, patience: Duration) {
        let mut states = self.watch();
        self.0.leaving.send_replace(true);
        if let Ok(frame) = encode(&Command::Shutdown) {
            self.0.send(frame).await;
        }
        let ended = states.wait_for(|state| matches!(state, State::Ended | State::Failed(_)));
        let _ = tokio::time::timeout(patience, ended).await;
    }
}

/// Removes its request from the table when it is dropped, however the asking ends.
struct Entry<'a> {
    id: u64,
    inner: &'a Inner,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        lock(&self.inner.table).remove(&self.id);
    }
}

fn encode(request: &Command) -> Result<Vec<u8>, String> {
    let body = frame::encode(request).map_err(|error| error.to_string())?;
    let length = u32::try_from(body.len()).map_err(|error| error.to_string())?;
    Ok([length.to_be_bytes().as_slice(), &body].concat())
}

impl Inner {
    /// Sends a frame. Returns false if no worker takes it.
    async fn send(&self, frame: Vec<u8>) -> bool {
        let outgoing = lock(&self.outgoing).clone();
        match outgoing {
            Some(outgoing) => outgoing.send(frame).await.is_ok(),
            None => false,
        }
    }
}

/// One request under way. Dropping it before its last event cancels it.
pub struct AnswerStream {
    id: u64,
    events: mpsc::UnboundedReceiver<Event>,
    inner: Arc<Inner>,
    over: bool,
    _alone: Option<OwnedSemaphorePermit>,
}

impl AnswerStream {
    /// Returns the next event; `None` after the last.
    pub async fn next(&mut self) -> Option<Event> {
        if self.over {
            return None;
        }
        let event = self.events.recv().await;
        self.over = !matches!(event, Some(Event::Started(_) | Event::Delta(_)));
        event
    }
}

impl Drop for AnswerStream {
    fn drop(&mut self) {
        let known = lock(&self.inner.table).remove(&self.id).is_some();
        if self.over || !known {
            return;
        }
        let outgoing = lock(&self.inner.outgoing).clone();
        let (Some(outgoing), Ok(frame)) = (outgoing, encode(&Command::Cancel { id: self.id })) else {
            return;
        };
        if let Err(mpsc::error::TrySendError::Full(frame)) = outgoing.try_send(frame) {
            // The runtime is there: only its tasks hold answers.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { outgoing.send(frame).await });
            }
        }
    }
}

/// Hands one event of the worker to its request. Events of cancelled requests have no receiver.
fn deliver(inner: &Inner, event: protocol::Event) {
    let mut table = lock(&inner.table);
    let (id, event) = match event {
        protocol::Event::Tokens { id, tokens } => {
            if let Some(Pending::Tokens(sender)) = table.remove(&id) {
                let _ = sender.send(tokens);
            }
            return;
        }
        protocol::Event::Text { id, bytes } => {
            if let Some(Pending::Text(sender)) = table.remove(&id) {
                let _ = sender.send(bytes);
            }
            return;
        }
        protocol::Event::Erased { id, tokens } => {
            if let Some(Pending::Erased(sender)) = table.remove(&id) {
                let _ = sender.send(tokens);
            }
            return;
        }
        protocol::Event::Moved { id, file } => {
            if let Some(Pending::Moved(sender)) = table.remove(&id) {
                let _ = sender.send(Ok(file));
            }
            return;
        }
        protocol::Event::Failed(failed) if matches!(table.get(&failed.id), Some(Pending::Moved(_))) => {
            if let Some(Pending::Moved(sender)) = table.remove(&failed.id) {
                let _ = sender.send(Err(failed));
            }
            return;
        }
        protocol::Event::Prompt(prompt) => {
            if let Some(Pending::Prompt(sender)) = table.remove(&prompt.id) {
                let _ = sender.send(Ok(prompt));
            }
            return;
        }
        protocol::Event::Failed(failed) if matches!(table.get(&failed.id), Some(Pending::Prompt(_))) => {
            if let Some(Pending::Prompt(sender)) = table.remove(&failed.id) {
                let _ = sender.send(Err(failed));
            }
            return;
        }
        protocol::Event::Status(status) => {
            if let Some(Pending::Status(sender)) = table.remove(&status.id) {
                let _ = sender.send(*status);
            }
            return;
        }
        protocol::Event::Started(started) => (started.id, Event::Started(started)),
        protocol::Event::Delta(delta) => (delta.id, Event::Delta(delta)),
        protocol::Event::Done(done) => (done.id, Event::Done(done)),
        protocol::Event::Failed(failed) => (failed.id, Event::Failed(failed)),
        _ => return,
    };
    let last = matches!(event, Event::Done(_) | Event::Failed(_));
    if let Some(Pending::AnswerStream { events, fingerprint, begun, .. }) = table.get_mut(&id) {
        *begun = true;
        if matches!(event, Event::Done(_)) {
            lock(&inner.suspects).clear(fingerprint);
        }
        let _ = events.send(event);
    }
    if last {
        table.remove(&id);
    }
}
