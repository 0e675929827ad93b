//! The server of one model, from its first connection to its last.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::sync::watch;
use tokio::time::timeout;

use super::connections::{Listeners, Order, WORKER_LEAVES, accept, runtime, signals};
use super::notify::Systemd;
use super::routes::router;
use super::settings::Settings;
use super::state::{App, Shared};
use crate::error::{Error, Kind, Result};
use crate::server::client::{Client, Launch, State};

/// Server that listens.
pub struct Server {
    listeners: Listeners,
    app: Shared,
}

/// Serves until SIGTERM or Ctrl-C, then drains. A second signal ends the process at once.
///
/// # Errors
/// An address that cannot be listened on, a model that cannot be loaded.
pub fn serve(settings: Settings, launch: impl Launch) -> Result<()> {
    runtime()?.block_on(async {
        let orders = signals()?;
        let server = Server::start(settings, launch).await?;
        server.listeners.announce()?;
        server.run(orders).await
    })
}

impl Server {
    /// Listens, and starts a worker.
    ///
    /// # Errors
    /// [`Kind::Usage`] for an address that cannot be listened on.
    pub async fn start(settings: Settings, launch: impl Launch) -> Result<Self> {
        let listeners = Listeners::bind(&settings).await?;
        let client = Client::start(launch, settings.patience);
        Ok(Self { listeners, app: Arc::new(App::new(settings, client)?) })
    }

    /// The first of the addresses.
    ///
    /// # Errors
    /// The system's own.
    pub fn address(&self) -> Result<SocketAddr> {
        self.listeners.address()
    }

    /// Serves until told to drain, then finishes the requests under way and ends the worker.
    ///
    /// # Errors
    /// A model that cannot be loaded.
    pub async fn run(self, mut orders: watch::Receiver<Order>) -> Result<()> {
        let Self { listeners, app } = self;
        let client = app.client.clone();
        let drain = app.settings.drain;
        let systemd = Systemd::start();
        let following = tokio::spawn(systemd.clone().follow(client.clone()));
        let watching = tokio::spawn(systemd.clone().watchdog());
        let graceful = GracefulShutdown::new();
        let failed = tokio::select! {
            () = accept(listeners, router(Shared::clone(&app)), &app.settings.bounds, &graceful) => None,
            _ = orders.wait_for(|order| *order == Order::Drain) => None,
            error = failure(client.clone()) => Some(error),
        };
        systemd.stopping();
        app.stop.send_replace(true);
        if failed.is_none() && timeout(drain, graceful.shutdown()).await.is_err() {
            tracing::warn!("answers were cut off after {} s (--drain-timeout)", drain.as_secs());
        }
        client.leave(WORKER_LEAVES).await;
        following.abort();
        watching.abort();
        failed.map_or(Ok(()), Err)
    }
}

/// Resolves when the first worker could not load.
async fn failure(client: Client) -> Error {
    let mut states = client.watch();
    loop {
        if let State::Failed(error) = &*states.borrow_and_update() {
            return error.clone();
        }
        if states.changed().await.is_err() {
            return Error::new(Kind::Native, "the worker's keeper is gone");
        }
    }
}
