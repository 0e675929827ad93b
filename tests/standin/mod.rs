//! A stand-in for the hub: one repository, and the ways in which a server or a line can fail.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Fault of one request for a file. After the last fault all goes well.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The connection breaks after so many bytes.
    Cut(usize),
    /// After so many bytes nothing more comes.
    Silence(usize),
    /// Other bytes, as many.
    WrongBytes,
    /// One byte fewer than listed.
    WrongLength,
    /// The whole file, for any range that was asked for.
    NoRanges,
    Status(u16),
    /// This and every later request is answered with that.
    Always(u16),
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub host: String,
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

#[derive(Default)]
struct State {
    files: Vec<(String, Vec<u8>)>,
    faults: VecDeque<Fault>,
    seen: Vec<Seen>,
    /// Fault of the list of files: the status, and the hub's own name for the error.
    listing: Option<(u16, &'static str)>,
    /// A host that file requests are sent on to.
    elsewhere: Option<String>,
    /// Between pieces of content.
    delay: Duration,
}

pub struct Hub {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    /// Ends the server when dropped.
    _runtime: tokio::runtime::Runtime,
}

impl Hub {
    /// Serves `files` as `user/repo`.
    pub fn start(files: &[(&str, &[u8])]) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let files = files.iter().map(|(path, content)| ((*path).to_owned(), content.to_vec())).collect();
        let state = Arc::new(Mutex::new(State { files, ..State::default() }));
        let shared = Arc::clone(&state);
        let router = Router::new().fallback(move |request: Request| {
            let shared = Arc::clone(&shared);
            async move { Ok::<_, Infallible>(answer(&shared, &request)) }
        });
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { address, state, _runtime: runtime }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn fail(&self, faults: &[Fault]) {
        self.state.lock().unwrap().faults.extend(faults);
    }

    pub fn refuse_listing(&self, status: u16, code: &'static str) {
        self.state.lock().unwrap().listing = Some((status, code));
    }

    /// Sends requests for files on to `host`, at the same port.
    pub fn redirect_to(&self, host: &str) {
        self.state.lock().unwrap().elsewhere = Some(format!("http://{host}:{}", self.address.port()));
    }

    pub fn slow_down(&self, delay: Duration) {
        self.state.lock().unwrap().delay = delay;
    }

    /// Gives a file another content, which the list then tells.
    pub fn replace(&self, path: &str, content: &[u8]) {
        let mut state = self.state.lock().unwrap();
        state.files.iter_mut().find(|(other, _)| other == path).unwrap().1 = content.to_vec();
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    /// The ranges asked for of a file, in order.
    pub fn ranges(&self, path: &str) -> Vec<Option<String>> {
        let end = format!("/{path}");
        self.seen().into_iter().filter(|seen| seen.path.ends_with(&end)).map(|seen| seen.range).collect()
    }
}

pub fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn answer(state: &Mutex<State>, request: &Request) -> Response {
    let text = |headers: &HeaderMap, name| {
        headers.get(name).map(|value: &header::HeaderValue| value.to_str().unwrap().to_owned())
    };
    let headers = request.headers();
    let mut state = state.lock().unwrap();
    let path = request.uri().path().to_owned();
    state.seen.push(Seen {
        host: text(headers, header::HOST).unwrap_or_default(),
        path: path.clone(),
        range: text(headers, header::RANGE),
        authorization: text(headers, header::AUTHORIZATION),
    });
    if path == "/api/models/user/repo/revision/main" {
        return listing(&state);
    }
    let resolve = format!("/user/repo/resolve/{COMMIT}/");
    if let (Some(rest), Some(host)) = (path.strip_prefix(&resolve), &state.elsewhere) {
        let location = format!("{host}/content/{rest}");
        return plain(StatusCode::FOUND).header(header::LOCATION, location).body(Body::empty()).unwrap();
    }
    let name = path.strip_prefix(&resolve).or_else(|| path.strip_prefix("/content/"));
    let found = name.and_then(|name| state.files.iter().find(|(file, _)| file == name));
    let Some((_, content)) = found else { return status(404, "RepoNotFound") };
    let content = content.clone();
    let fault = match state.faults.front().copied() {
        Some(Fault::Always(code)) => Some(Fault::Status(code)),
        _ => state.faults.pop_front(),
    };
    file(content, text(headers, header::RANGE), fault, state.delay)
}

fn plain(status: StatusCode) -> axum::http::response::Builder {
    Response::builder().status(status)
}

fn status(code: u16, name: &str) -> Response {
    plain(StatusCode::from_u16(code).unwrap()).header("x-error-code", name).body(Body::empty()).unwrap()
}

fn listing(state: &State) -> Response {
    if let Some((code, name)) = state.listing {
        return status(code, name);
    }
    let siblings: Vec<_> = state
        .files
        .iter()
        .map(|(path, content)| {
            let lfs = serde_json::json!({"sha256": sha256(content), "size": content.len(), "pointerSize": 134});
            serde_json::json!({"rfilename": path, "blobId": "a".repeat(40), "size": content.len(), "lfs": lfs})
        })
        .collect();
    let json = serde_json::json!({"id": "user/repo", "sha": COMMIT, "siblings": siblings}).to_string();
    plain(StatusCode::OK).header(header::CONTENT_TYPE, "application/json").body(Body::from(json)).unwrap()
}

fn file(mut content: Vec<u8>, range: Option<String>, fault: Option<Fault>, delay: Duration) -> Response {
    let total = content.len();
    if let Some(Fault::Status(code)) = fault {
        return status(code, "");
    }
    let from = match (&range, fault) {
        (Some(range), fault) if !matches!(fault, Some(Fault::NoRanges)) => {
            range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse::<usize>().unwrap()
        }
        _ => 0,
    };
    if from > 0 && from >= total {
        return status(416, "");
    }
    match fault {
        Some(Fault::WrongBytes) => content.fill(b'x'),
        Some(Fault::WrongLength) => drop(content.pop()),
        _ => {}
    }
    let total = content.len();
    let rest = content.split_off(from.min(total));
    let builder = match from {
        0 => plain(StatusCode::OK),
        _ => plain(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {from}-{}/{total}", total - 1)),
    };
    let builder = builder.header(header::CONTENT_LENGTH, rest.len());
    let pieces = |bytes: &[u8]| -> Vec<std::io::Result<Bytes>> {
        bytes.chunks(1 << 14).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect()
    };
    let body = match fault {
        Some(Fault::Cut(n)) => {
            let broken = std::io::Error::other("cut");
            let all = pieces(&rest[..n.min(rest.len())]).into_iter().chain([Err(broken)]);
            // A pause, so that the pieces leave before the break.
            Body::from_stream(stream::iter(all).then(async |piece| {
                tokio::time::sleep(Duration::from_millis(20)).await;
                piece
            }))
        }
        Some(Fault::Silence(n)) => {
            Body::from_stream(stream::iter(pieces(&rest[..n.min(rest.len())])).chain(stream::pending()))
        }
        _ => Body::from_stream(stream::iter(pieces(&rest)).then(move |piece| async move {
            tokio::time::sleep(delay).await;
            piece
        })),
    };
    builder.body(body).unwrap()
}
