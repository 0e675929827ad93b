//! Progress on stderr, on a terminal only: a spinner, and the bar of a download.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::hub::Step;
use crate::pair::Loading;

/// Line that names the work under way.
#[derive(Clone)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if std::io::stderr().is_terminal() {
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
        } else {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self(bar)
    }

    pub(super) fn say(&self, text: String) {
        self.0.set_message(text);
    }

    pub(super) fn loading(&self, stage: Loading) {
        match stage {
            Loading::Projector => self.say("loading the image encoder".into()),
            Loading::Text(share) => self.say(format!("loading the text model, {:.0} %", share * 100.0)),
        }
    }

    /// Removes the line, for other output.
    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Shows a bar on a terminal, and one line for each file elsewhere.
pub(super) struct Download {
    bar: ProgressBar,
    terminal: bool,
}

impl Download {
    pub(super) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = match terminal {
            true => ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8)),
            false => ProgressBar::hidden(),
        };
        let shape = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(shape) {
            bar.set_style(style);
        }
        Self { bar, terminal }
    }

    pub(super) fn step(&mut self, step: Step<'_>) {
        match step {
            Step::Waiting { file } => self.line(format!("waiting for another download of {file}")),
            Step::Start { file, size } => {
                if !self.terminal {
                    self.line(format!("downloading {file}, {}", HumanBytes(size)));
                }
                self.bar.set_message(file.rsplit('/').next().unwrap_or(file).to_owned());
                self.bar.reset();
                self.bar.set_length(size);
            }
            Step::At(bytes) => {
                // Bytes of an earlier run do not count for the speed.
                if self.bar.position() == 0 {
                    self.bar.reset_eta();
                }
                self.bar.set_position(bytes);
            }
            Step::Again(bytes) => {
                self.line(format!("the connection broke; going on from {}", HumanBytes(bytes)));
                self.bar.set_position(bytes);
            }
            Step::Done => self.bar.finish_and_clear(),
        }
    }

    fn line(&self, text: String) {
        self.bar.suspend(|| eprintln!("{text}"));
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
