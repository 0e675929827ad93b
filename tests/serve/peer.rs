//! A worker without a model: what it does stands in the last message it is sent.
//!
//! - `die`: ends as if killed, after its first word
//! - `hang`: says nothing until it is cancelled
//! - `silence`: reads nothing any more
//! - `slow WORDS`: a word every 20 ms, for ever
//! - `fail KIND`: `Failed`; `long`: with both numbers
//! - `pixels`: the sizes of its pictures and videos
//! - `scope`: the scope it was given
//! - `cut`: ends as after too many tokens
//! - anything else is said back, a word at a time

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use illava::error::Kind;
use illava::prompt::Part;
use illava::report::{Merge, Model, Report};
use illava::request::{Picture, Raw, Request};
use illava::server::client::{Death, Launch, Life, Running};
use illava::worker::frame;
use illava::worker::protocol::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf};
use tokio::sync::{mpsc, watch};

/// State of the workers that a test sees.
#[derive(Default)]
pub struct Seen {
    pub launched: AtomicU32,
    pub cancelled: AtomicU32,
    pub told_to_leave: AtomicU32,
    pub requests: Mutex<Vec<Request>>,
    /// The worker there is.
    worker: Mutex<Option<watch::Sender<Option<String>>>>,
}

/// Holds a worker up until the test lets it go on; open unless the test has shut it.
#[derive(Clone)]
pub struct Gate(watch::Sender<bool>);

impl Default for Gate {
    fn default() -> Self {
        Self(watch::Sender::new(true))
    }
}

impl Gate {
    pub fn shut() -> Self {
        Self(watch::Sender::new(false))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn passed(&self) {
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// Starts scripted workers.
#[derive(Clone, Default)]
pub struct Peer {
    pub seen: Arc<Seen>,
    /// Moment that the first worker waits for before it is ready.
    pub loading: Gate,
    pub load_fails: bool,
    /// Videos are no spans, but pictures.
    pub no_videos: bool,
    /// Chat template, if not one that knows nothing.
    pub template: Option<&'static str>,
    /// Prompts end inside a thought.
    pub begun: bool,
    /// Moment that a later worker waits for before it is ready.
    pub reloading: Gate,
}

impl Peer {
    /// Ends the worker there is, as if killed from outside.
    pub fn kill(&self) {
        end(self.seen.worker.lock().unwrap().as_ref().expect("a worker"), "signal 9 (SIGKILL)");
    }
}

struct Pulse {
    dead: watch::Sender<Option<String>>,
}

/// The first cause is the one that counts.
fn end(dead: &watch::Sender<Option<String>>, cause: &str) {
    dead.send_if_modified(|dead| {
        let alive = dead.is_none();
        dead.get_or_insert_with(|| cause.to_owned());
        alive
    });
}

impl Life for Pulse {
    fn kill(&mut self) {
        end(&self.dead, "signal 9 (SIGKILL)");
    }

    fn ended(&mut self) -> Pin<Box<dyn Future<Output = Death> + Send + '_>> {
        let mut dead = self.dead.subscribe();
        Box::pin(async move {
            let cause = dead.wait_for(Option::is_some).await.unwrap().clone().unwrap();
            Death { cause, stderr: vec!["its last line".into()] }
        })
    }
}

impl Launch for Peer {
    fn launch(&self) -> io::Result<Running> {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let dead = watch::Sender::new(None);
        let first = self.seen.launched.fetch_add(1, Ordering::SeqCst) == 0;
        *self.seen.worker.lock().unwrap() = Some(dead.clone());
        let worker = Worker { peer: self.clone(), dead: dead.clone() };
        tokio::spawn(async move {
            let mut gone = worker.dead.subscribe();
            let dead = worker.dead.clone();
            tokio::select! {
                () = worker.work(theirs, first) => {}
                _ = gone.wait_for(Option::is_some) => {}
            }
            end(&dead, "exit status 0");
        });
        let (reader, writer) = tokio::io::split(ours);
        Ok(Running { reader: Box::new(reader), writer: Box::new(writer), life: Box::new(Pulse { dead }) })
    }
}

struct Worker {
    peer: Peer,
    dead: watch::Sender<Option<String>>,
}

impl Worker {
    async fn work(&self, stream: DuplexStream, first: bool) {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let (say, mut events) = mpsc::unbounded_channel::<Event>();
        let mut gone = self.dead.subscribe();
        let writing = async move {
            while let Some(event) = events.recv().await {
                let body = frame::encode(&event).unwrap();
                let length = u32::try_from(body.len()).unwrap().to_be_bytes();
                if writer.write_all(&length).await.is_err() || writer.write_all(&body).await.is_err() {
                    return;
                }
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                () = writing => {}
                _ = gone.wait_for(Option::is_some) => {}
            }
        });
        let _ = say.send(Event::Loading { share: 0.5 });
        if first { &self.peer.loading } else { &self.peer.reloading }.passed().await;
        if self.peer.load_fails {
            let _ = say.send(Event::LoadFailed { kind: Kind::File, message: "t.gguf: damaged".into() });
            tokio::time::sleep(Duration::from_millis(50)).await;
            return;
        }
        let chat_template = self.peer.template.unwrap_or("{{ messages }}").to_owned();
        let takes_videos = !self.peer.no_videos;
        let _ = say.send(Event::Ready(Box::new(Ready { takes_videos, chat_template, ..ready() })));
        let (cancel, cancelled) = watch::channel(0_u64);
        while let Some(request) = read(&mut reader).await {
            match request {
                Command::Generate(request) => {
                    self.peer.seen.requests.lock().unwrap().push((*request).clone());
                    let text = last_text(&request);
                    if text == "silence" {
                        std::future::pending::<()>().await;
                    }
                    let (begun, dead) = (self.peer.begun, self.dead.clone());
                    tokio::spawn(answer(*request, (text, begun), say.clone(), cancelled.clone(), dead));
                }
                Command::Cancel { id } => {
                    self.peer.seen.cancelled.fetch_add(1, Ordering::SeqCst);
                    cancel.send_replace(id);
                }
                Command::Tokenize { id, text, .. } => {
                    let tokens =
                        text.bytes().map(|b| TokenText { id: i32::from(b), bytes: vec![b] }).collect();
                    let _ = say.send(Event::Tokens { id, tokens });
                }
                Command::Detokenize { id, tokens } => {
                    let bytes = tokens.iter().map(|id| u8::try_from(*id).unwrap_or(b'?')).collect();
                    let _ = say.send(Event::Text { id, bytes });
                }
                Command::Describe(request) => {
                    self.peer.seen.requests.lock().unwrap().push((*request).clone());
                    let text = last_text(&request);
                    let tokens = u32::try_from(text.len() + 100 * request.media.len()).unwrap();
                    let _ = say.send(Event::Prompt(Prompt { id: request.id, text, tokens }));
                }
                Command::Erase { id, slot } => {
                    let _ = say.send(Event::Erased { id, tokens: (slot == 0).then_some(12) });
                }
                Command::File(order) => {
                    let _ = say.send(if order.name == "missing" {
                        let message = "missing: no such file".to_owned();
                        Event::Failed(Failed { id: order.id, kind: Kind::File, message, context: None })
                    } else {
                        Event::Moved { id: order.id, file: SlotFile { tokens: 12, bytes: 345 } }
                    });
                }
                Command::Status { id } => {
                    let _ = say.send(Event::Status(Box::new(status(id))));
                }
                Command::Shutdown => {
                    self.peer.seen.told_to_leave.fetch_add(1, Ordering::SeqCst);
                    return;
                }
            }
        }
    }
}

async fn read(reader: &mut ReadHalf<DuplexStream>) -> Option<Command> {
    let length = reader.read_u32().await.ok()?;
    let mut body = vec![0; length as usize];
    reader.read_exact(&mut body).await.ok()?;
    Some(frame::decode(&body).unwrap())
}

fn last_text(request: &Request) -> String {
    if !request.raw.is_empty() {
        let texts = request.raw.iter().map(|part| match part {
            Raw::Text(text) => text.clone(),
            Raw::Tokens(tokens) => tokens.iter().filter_map(|id| char::from_u32(id.unsigned_abs())).collect(),
            Raw::Image(n) => format!("[{n}]"),
        });
        return texts.collect();
    }
    let parts = request.messages.last().map(|message| message.parts.as_slice()).unwrap_or_default();
    let texts = parts.iter().map(|part| match part {
        Part::Text(text) => text.clone(),
        Part::Image(n) => format!("[{n}]"),
        Part::Call(call) => call.arguments.clone(),
        Part::CallId(_) | Part::Thought(_) => String::new(),
    });
    texts.collect::<String>()
}

async fn answer(
    request: Request,
    (text, in_thought): (String, bool),
    say: mpsc::UnboundedSender<Event>,
    mut cancelled: watch::Receiver<u64>,
    dead: watch::Sender<Option<String>>,
) {
    let id = request.id;
    let send = |event| {
        let _ = say.send(event);
    };
    if let Some(kind) = text.strip_prefix("fail ") {
        let kind = if kind == "native" { Kind::Native } else { Kind::Schedule };
        return send(Event::Failed(Failed { id, kind, message: "it cannot be".into(), context: None }));
    }
    if text == "long" {
        let message = "the prompt has 900 tokens, a slot takes 512".into();
        return send(Event::Failed(Failed { id, kind: Kind::Context, message, context: Some((900, 512)) }));
    }
    let started = Started {
        id,
        slot: 0,
        prompt_tokens: 40,
        cached_tokens: 10,
        kv_tokens: vec![40, 25],
        logit_bias: Vec::new(),
        in_thought,
    };
    send(Event::Started(started));
    let said = match text.as_str() {
        "pixels" => request.media.iter().map(size).collect(),
        "scope" => format!("{:?}", request.scope),
        text => text.trim_start_matches(|c: char| "[]0123456789".contains(c)).to_owned(),
    };
    let mut generated = 0;
    let work = async {
        for word in said.split_inclusive(' ') {
            let tokens = token(&request, word);
            send(Event::Delta(Delta { id, text: word.to_owned(), tokens, ids: vec![7] }));
            generated += 1;
            match text.as_str() {
                "die" => {
                    tokio::time::sleep(Duration::from_millis(30)).await;
                    dead.send_replace(Some("signal 9 (SIGKILL)".into()));
                    std::future::pending::<()>().await;
                }
                "hang" => std::future::pending::<()>().await,
                text if text.starts_with("slow") => tokio::time::sleep(Duration::from_millis(20)).await,
                _ => tokio::task::yield_now().await,
            }
        }
        if text.starts_with("slow for ever") {
            loop {
                send(Event::Delta(Delta { id, text: "and ".into(), tokens: Vec::new(), ids: vec![7] }));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let finish = tokio::select! {
        () = work => if text == "cut" { Finish::Length } else { Finish::Stop },
        () = told(&mut cancelled, id) => Finish::Cancelled,
    };
    let trace = request.trace.then(Default::default);
    send(Event::Done(Box::new(Done {
        id,
        finish,
        prompt_tokens: 40,
        cached_tokens: 10,
        computed_tokens: 30,
        generated_tokens: generated,
        cached_pictures: 0,
        queued_ms: 0.5,
        report: report(&said),
        trace,
    })));
}

/// `3x2`, and of a video `5 of 3x2`.
fn size(picture: &Picture) -> String {
    let frames = picture.frames.map(|frames| format!("{frames} of ")).unwrap_or_default();
    format!("{frames}{}x{} ", picture.width, picture.height)
}

/// A dead worker hears nothing any more, which is not the same as being told.
async fn told(cancelled: &mut watch::Receiver<u64>, id: u64) {
    if cancelled.wait_for(|cancelled| *cancelled == id).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn token(request: &Request, word: &str) -> Vec<Token> {
    let Some(count) = request.logprobs else { return Vec::new() };
    let top = (0..count).map(|i| Alternative { id: 1, bytes: vec![b'a' + i as u8], logprob: -0.5 }).collect();
    vec![Token { id: 7, bytes: word.as_bytes().to_vec(), logprob: -0.25, top }]
}

fn report(text: &str) -> Report {
    Report {
        model: Model::default(),
        merge: Merge::default(),
        tokens: Default::default(),
        ms: Default::default(),
        tokens_per_second: Default::default(),
        bytes: Default::default(),
        threads: 1,
        backend: "CPU".into(),
        kernels: "stock".into(),
        seed: 1,
        text: text.into(),
        remarks: Vec::new(),
    }
}

fn ready() -> Ready {
    Ready {
        model: Model { text: "t.gguf".into(), ..Model::default() },
        name: None,
        n_vocab: 300,
        n_embd: 8,
        n_layer: 4,
        n_ctx_train: 512,
        weight_bytes: 100,
        n_ctx: 1024,
        n_ctx_slot: 512,
        slots: 2,
        segments: vec![Segment { layers: [0, 2], cells: 1024, bytes: 10 }],
        encoder_can_merge: true,
        decoder_can_merge: true,
        merge_layers: vec![2],
        default_schedule: "image".into(),
        default_positions: "own".into(),
        default_strategy: illava::schedule::Strategy::default(),
        presets: vec![
            Preset { name: "off".into(), unusable: None },
            Preset { name: "qwen2vl".into(), unusable: Some("another family".into()) },
        ],
        takes_videos: true,
        video_frames: illava::media::video::Sampling::Uniform { frames: 4, multiple: 1 },
        chat_template: "{{ messages }}".into(),
        bos_text: "<s>".into(),
        eos_text: "</s>".into(),
        remarks: Vec::new(),
        load_ms: 1.0,
    }
}

fn status(id: u64) -> Status {
    let slot = |slot| Slot {
        slot,
        request: None,
        state: SlotState::Idle,
        prompt_tokens: 0,
        generated_tokens: 0,
        max_tokens: None,
        kv_tokens: vec![0, 0],
        n_ctx: 512,
    };
    Status {
        id,
        slots: vec![slot(0), slot(1)],
        queued: 0,
        pictures: PictureCache::default(),
        rss: Some(1000),
        decode_batches: 4,
        decode_tokens: 8,
    }
}
