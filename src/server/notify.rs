//! Notifications to systemd, if it started the server: ready, stopping, still alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::server::client::{Client, State};

enum Message {
    Ready,
    Status(String),
    Alive,
    Stopping,
}

/// Sends messages in their order from a thread of its own. A send waits while systemd's socket is full, which
/// would hold up the server's tasks.
#[derive(Clone)]
pub struct Systemd {
    messages: mpsc::Sender<Message>,
    /// Whether a sign of life waits to be sent: a second one would say the same.
    alive_waits: Arc<AtomicBool>,
}

impl Systemd {
    /// Handle whose last clone ends the thread. Without systemd nothing is sent, and that is no error.
    pub fn start() -> Self {
        let (messages, to_send) = mpsc::channel();
        let alive_waits = Arc::new(AtomicBool::new(false));
        let waits = alive_waits.clone();
        std::thread::spawn(move || {
            for message in to_send {
                let sent = match &message {
                    Message::Ready => sd_notify::notify(&[NotifyState::Ready]),
                    Message::Status(status) => sd_notify::notify(&[NotifyState::Status(status)]),
                    Message::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
                    Message::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
                };
                if let Err(error) = sent {
                    tracing::debug!("systemd: {error}");
                }
                if matches!(message, Message::Alive) {
                    waits.store(false, Ordering::Release);
                }
            }
        });
        Self { messages, alive_waits }
    }

    fn say(&self, message: Message) {
        // The thread takes messages as long as there is a sender.
        let _ = self.messages.send(message);
    }

    /// Says that requests are taken.
    pub fn ready(&self) {
        self.say(Message::Ready);
    }

    pub fn stopping(&self) {
        self.say(Message::Stopping);
    }

    /// Follows the worker's state as long as the server runs.
    pub async fn follow(self, client: Client) {
        let mut states = client.watch();
        let mut was_ready = false;
        loop {
            let status = match &*states.borrow_and_update() {
                State::Loading(share) => format!("loading the model, {:.0} %", share * 100.0),
                State::Ready(_) => "ready".to_owned(),
                State::Restarting(death) => format!("restarting the worker, which died of {}", death.cause),
                State::Failed(error) => format!("failed: {error}"),
                State::Ended => "stopped".to_owned(),
            };
            if !was_ready && status == "ready" {
                was_ready = true;
                self.say(Message::Ready);
            }
            self.say(Message::Status(status));
            if states.changed().await.is_err() {
                return;
            }
        }
    }

    /// Reports that the process is alive, twice as often as asked. It runs among the server's own tasks: a
    /// server that is stuck falls silent.
    pub async fn watchdog(self) {
        let Some(interval) = sd_notify::watchdog_enabled() else { return };
        let mut ticks = tokio::time::interval((interval / 2).max(Duration::from_millis(100)));
        loop {
            ticks.tick().await;
            if !self.alive_waits.swap(true, Ordering::AcqRel) {
                self.say(Message::Alive);
            }
        }
    }
}
