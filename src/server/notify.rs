//! Word to systemd, where it started the server: ready, stopping, still alive.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::server::client::{Client, State};

/// Follows the worker's state for as long as the server runs.
pub async fn follow(client: Client) {
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
            say(&[NotifyState::Ready]);
        }
        say(&[NotifyState::Status(&status)]);
        if states.changed().await.is_err() {
            return;
        }
    }
}

pub fn stopping() {
    say(&[NotifyState::Stopping]);
}

/// Tells that the process is alive twice as often as asked. It runs among the server's own
/// tasks, so a server that no longer gets to its tasks falls silent.
pub async fn watchdog() {
    let Some(interval) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval((interval / 2).max(Duration::from_millis(100)));
    loop {
        ticks.tick().await;
        say(&[NotifyState::Watchdog]);
    }
}

fn say(state: &[NotifyState<'_>]) {
    // Without systemd nothing is sent, and that is no error.
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("systemd: {error}");
    }
}
