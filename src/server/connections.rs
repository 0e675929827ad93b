//! Connections: an address to listen on, what is accepted there, and the signals that end it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::Uri;
use futures_util::future::select_all;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

use super::settings::{Bounds, Settings};
use crate::error::{Error, Kind, Result};

/// Time that a worker gets to leave.
pub(super) const WORKER_LEAVES: Duration = Duration::from_secs(5);
/// Bytes of a request's head; pictures are in the body.
const HEAD_BYTES: usize = 64 << 10;

/// Orders to a running server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Serve,
    /// Refuse new requests and finish those under way.
    Drain,
}

/// Threads of the server.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(64)
        .enable_all()
        .build()
        .map_err(|error| Error::new(Kind::Native, format!("no threads for the server: {error}")))
}

/// Listeners on all addresses of the server, with one port.
pub(super) struct Listeners(Vec<TcpListener>);

impl Listeners {
    /// Listens on the addresses of `settings`, a comma list. Port 0 takes a free one for all.
    ///
    /// # Errors
    /// [`Kind::Usage`] for an address that cannot be listened on.
    pub(super) async fn bind(settings: &Settings) -> Result<Self> {
        let (mut all, mut port) = (Self(Vec::new()), settings.port);
        for host in settings.host.split(',').map(str::trim) {
            let listener = TcpListener::bind((host, port)).await.map_err(|error| {
                Error::usage(format!("--host {host} --port {port}: cannot listen there ({error})"))
            })?;
            all.0.push(listener);
            port = all.address()?.port();
        }
        Ok(all)
    }

    /// The first address.
    ///
    /// # Errors
    /// The system's own.
    pub(super) fn address(&self) -> Result<SocketAddr> {
        self.addresses()?.first().copied().ok_or_else(|| Error::usage("--host: give an address"))
    }

    /// # Errors
    /// The system's own.
    pub(super) fn addresses(&self) -> Result<Vec<SocketAddr>> {
        let own = |error: std::io::Error| Error::new(Kind::Native, error.to_string());
        self.0.iter().map(|listener| listener.local_addr().map_err(own)).collect()
    }

    /// Says where the server listens, one line for each address.
    ///
    /// # Errors
    /// The system's own.
    pub(super) fn announce(&self) -> Result<()> {
        for address in self.addresses()? {
            eprintln!("listening on http://{address}");
        }
        Ok(())
    }

    async fn accept(&self) -> std::io::Result<TcpStream> {
        let next = self.0.iter().map(|listener| Box::pin(listener.accept()));
        let (accepted, _, _) = select_all(next).await;
        accepted.map(|(stream, _)| stream)
    }
}

/// The first signal drains the server, the second ends the process at once.
pub(super) fn signals() -> Result<watch::Receiver<Order>> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error| Error::new(Kind::Native, format!("cannot watch for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let (sender, orders) = watch::channel(Order::Serve);
    tokio::spawn(async move {
        for second in [false, true] {
            let status = tokio::select! {
                _ = terminate.recv() => 143,
                _ = interrupt.recv() => 130,
            };
            if second {
                std::process::exit(status);
            }
            eprintln!("draining: answers under way are finished; a second signal ends the server at once");
            sender.send_replace(Order::Drain);
        }
    });
    Ok(orders)
}

pub(super) async fn accept(
    listeners: Listeners,
    router: Router,
    bounds: &Bounds,
    graceful: &GracefulShutdown,
) {
    let gate = Arc::new(Semaphore::new(bounds.connections));
    let read_time = bounds.read_time;
    let mut refused = Refused::default();
    loop {
        // Beyond the limit, further connections stay in the system's own queue.
        let Ok(seat) = Arc::clone(&gate).acquire_owned().await else { return };
        match listeners.accept().await {
            Ok(stream) => {
                let connection = graceful.watch(connection(stream, router.clone(), read_time));
                tokio::spawn(async move {
                    let _seat = seat;
                    // A client may break off at any time.
                    if let Err(error) = connection.await {
                        tracing::debug!("connection: {error}");
                    }
                });
            }
            // Too many open files is the usual cause, which passes as connections end.
            Err(error) => {
                if let Some(times) = refused.again(Instant::now()) {
                    tracing::warn!(
                        "{times} connections could not be accepted: {error}; see ulimit -n and --max-connections"
                    );
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Counts connections that the system did not hand over: one line at once, then one a minute as long as it
/// lasts.
#[derive(Default)]
struct Refused {
    since: u64,
    said: Option<Instant>,
}

impl Refused {
    const PAUSE: Duration = Duration::from_secs(60);

    /// Counts one more. Returns their number since the last line if another line is due.
    fn again(&mut self, now: Instant) -> Option<u64> {
        self.since += 1;
        if self.said.is_some_and(|said| now.duration_since(said) < Self::PAUSE) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.since))
    }
}

/// Returns the path without empty segments: base addresses of clients end in a slash, and some of their paths
/// too.
fn plain_path(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if path.len() < 2 || !(path.ends_with('/') || path.contains("//")) {
        return None;
    }
    let path: String = path.split('/').filter(|part| !part.is_empty()).flat_map(|part| ["/", part]).collect();
    let path = if path.is_empty() { "/".to_owned() } else { path };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{path}{query}").parse().ok()?);
    Uri::from_parts(parts).ok()
}

fn connection(
    stream: TcpStream,
    router: Router,
    read_time: Duration,
) -> http1::Connection<
    TokioIo<TcpStream>,
    impl hyper::service::HttpService<
        Incoming,
        ResBody = axum::body::Body,
        Error = std::convert::Infallible,
        Future: Send,
    >,
> {
    // Tokens are small and wanted at once.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        if let Some(plain) = plain_path(request.uri()) {
            *request.uri_mut() = plain;
        }
        router.clone().oneshot(request.map(axum::body::Body::new))
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(read_time)
        // Names as llama-server writes them: some of its clients compare letter by letter.
        .title_case_headers(true)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_that_say_nothing() {
        for (path, plain) in [
            ("/", "/"),
            ("//", "/"),
            ("/v1/models/", "/v1/models"),
            ("//v1//models?x=/", "/v1/models?x=/"),
            ("/v1/models", "/v1/models"),
            ("http://h/v1/", "http://h/v1"),
        ] {
            let uri: Uri = path.parse().unwrap();
            assert_eq!(plain_path(&uri).unwrap_or(uri).to_string(), plain, "{path}");
        }
    }

    #[test]
    fn a_line_a_minute() {
        let (mut refused, start) = (Refused::default(), Instant::now());
        let said: Vec<_> = (0..1300).map(|i| refused.again(start + Duration::from_millis(100) * i)).collect();
        let lines: Vec<u64> = said.into_iter().flatten().collect();
        assert_eq!(lines, [1, 600, 600]);
    }
}
