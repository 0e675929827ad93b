//! One error type: a kind that callers can act on, and one line for the person.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What went wrong, coarse enough to stay stable: exit codes and, later, HTTP statuses hang on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The command line or an environment variable cannot be understood.
    Usage,
    /// A merge schedule that this model cannot take.
    Schedule,
    /// A file that is missing, unreadable, damaged or of another kind.
    File,
    /// A picture that cannot be decoded or is over a limit.
    Media,
    /// A model that does not fit its partner or cannot do what was asked.
    Model,
    /// A chat template that fails or drops what it was given.
    Prompt,
    /// More tokens than the context holds.
    Context,
    /// The native library or the operating system refused.
    Native,
    /// The person asked to stop.
    Interrupted,
}

impl Kind {
    /// The process exit code: 2 for usage, 130 after an interruption, 1 for the rest.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Usage | Kind::Schedule => 2,
            Kind::Interrupted => 130,
            _ => 1,
        }
    }
}

/// A kind and one line: what, which file or number, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    message: String,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Line breaks of `message` (paths, library texts) become spaces, so that an error is one line.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message: String = message.into();
        let message = message
            .split(['\n', '\r'])
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        Self { kind, message }
    }

    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    #[must_use]
    pub fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted")
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        let error = Error::new(Kind::File, "a\n  b\r\n\nc");
        assert_eq!(error.to_string(), "a b c");
    }

    #[test]
    fn exit_codes() {
        for (kind, code) in [
            (Kind::Usage, 2),
            (Kind::Schedule, 2),
            (Kind::File, 1),
            (Kind::Media, 1),
            (Kind::Context, 1),
            (Kind::Native, 1),
            (Kind::Interrupted, 130),
        ] {
            assert_eq!(kind.exit_code(), code, "{kind:?}");
        }
    }
}
