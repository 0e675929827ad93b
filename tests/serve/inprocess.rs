//! A server in this process, on a scripted worker.

use std::ops::Deref;
use std::thread::JoinHandle;
use std::time::Duration;

use illava::server::client::Patience;
use illava::server::settings::Bounds;
use illava::server::{Order, Server, Settings};
use tokio::sync::watch;

use super::http::{Caller, STUCK};
use super::peer::Peer;

pub struct Running {
    caller: Caller,
    pub peer: Peer,
    orders: watch::Sender<Order>,
    thread: Option<JoinHandle<illava::error::Result<()>>>,
}

/// Two slots, room for two more, and short pauses before a restart. No other time is short: a busy machine may not
/// be taken for a slow client or a dead worker. A test that waits for a time to be up sets that one.
pub fn settings() -> Settings {
    Settings {
        port: 0,
        parallel: 2,
        queue: 2,
        metrics: true,
        model_path: "folder/tiny.gguf".into(),
        bounds: Bounds {
            body_bytes: 1 << 20,
            read_time: STUCK,
            body_time: STUCK,
            grammar_time: STUCK,
            video_time: STUCK,
            restart_wait: STUCK,
            ..Bounds::default()
        },
        patience: Patience {
            first: Duration::from_millis(10),
            longest: Duration::from_millis(40),
            silence: STUCK,
            ..Patience::default()
        },
        drain: STUCK,
        ..Settings::default()
    }
}

/// A server on `peer`, ready to answer.
pub fn serve(settings: Settings, peer: Peer) -> Running {
    let running = start(settings, peer);
    running.wait_ready();
    running
}

/// A server on `peer`, ready or not.
pub fn start(settings: Settings, peer: Peer) -> Running {
    let (orders, receiver) = watch::channel(Order::Serve);
    let (sender, address) = std::sync::mpsc::channel();
    let launch = peer.clone();
    let thread = std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::start(settings, launch).await?;
            sender.send(server.address()?).unwrap();
            server.run(receiver).await
        })
    });
    Running { caller: Caller(address.recv().unwrap()), peer, orders, thread: Some(thread) }
}

impl Running {
    pub fn drain(&self) {
        self.orders.send_replace(Order::Drain);
    }

    /// Waits for the server's own end.
    pub fn ended(mut self) -> illava::error::Result<()> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Deref for Running {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.drain();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
