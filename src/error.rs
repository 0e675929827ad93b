//! Errors: a kind that callers can act on, and one line for the person.
//!
//! A line may name a [`Field`]. Its name depends on the face that was asked: `merge.keep` in a body, `--keep`
//! on the command line. The line keeps the field itself, and the face puts in its own name
//! ([`Error::worded`]).

use std::fmt;

use serde::{Deserialize, Serialize};

/// Kind of an error, coarse enough to stay stable: exit codes and HTTP statuses depend on it.
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
    /// Nobody reads the standard output any more, as behind `| head`.
    Closed,
}

impl Kind {
    /// Returns the process's exit code: 2 for usage, 130 after an interruption, 141 for a closed output (both as shells count
    /// signals), 1 for the rest.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Usage | Kind::Schedule => 2,
            Kind::Interrupted => 130,
            Kind::Closed => 141,
            _ => 1,
        }
    }
}

/// Kind and one line: what, which file or number, what to do.
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

    /// Returns the line with its fields still open, for another process that makes an [`Error`] of it again.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the line with each field under the name that `name` gives it.
    #[must_use]
    pub fn worded(&self, name: impl Fn(Field) -> &'static str) -> String {
        worded(&self.message, name)
    }
}

/// Returns the line with the names of a body's fields.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.worded(Field::name))
    }
}

/// Prepares `text` for a log: one line, its control characters escaped, at most `most` characters. Text of a
/// client or a file could otherwise look like another line of the log.
#[must_use]
pub fn printable(text: &str, most: usize) -> String {
    let mut line = String::with_capacity(text.len().min(most));
    for (i, letter) in text.chars().enumerate() {
        if i == most {
            line.push_str(" ...");
            break;
        }
        // Some characters beside control characters reorder or hide the text around them.
        let hidden = matches!(letter, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}');
        if letter == '\t' {
            line.push(' ');
        } else if letter.is_control() || hidden {
            line.extend(letter.escape_default());
        } else {
            line.push(letter);
        }
    }
    line
}

/// Marks around the number of a field. They are of Unicode's private area: no text needs them.
const OPEN: char = '\u{F8E4}';
const CLOSE: char = '\u{F8E5}';

macro_rules! fields {
    ($($(#[$doc:meta])* $field:ident $name:literal,)*) => {
        /// Setting that an error is about.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Field {
            $($(#[$doc])* $field,)*
        }

        impl Field {
            pub const ALL: &[Field] = &[$(Field::$field,)*];

            /// Name in a JSON body; in plain words if a body has no such field.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Field::$field => $name,)* }
            }
        }
    };
}

fields! {
    // Settings of a request.
    Prompt "messages",
    System "the system message",
    Merge "merge.preset",
    Keep "merge.keep",
    KeepMin "merge.keep_min",
    KeepMax "merge.keep_max",
    VitLayers "merge.vit_layers",
    VitR "merge.vit_r",
    LlmLayers "merge.llm_layers",
    LlmR "merge.llm_r",
    LlmKeep "merge.llm_keep",
    LlmMass "merge.llm_mass",
    Score "merge.score",
    Grid "merge.grid",
    Positions "merge.positions",
    Strategy "merge.strategy",
    VitSizes "merge.vit_sizes",
    MaxTokens "max_tokens",
    Stop "stop",
    Temperature "temperature",
    TopP "top_p",
    MinP "min_p",
    Seed "seed",
    RepeatPenalty "repeat_penalty",
    FrequencyPenalty "frequency_penalty",
    PresencePenalty "presence_penalty",
    LogitBias "logit_bias",
    Grammar "grammar",
    JsonSchema "json_schema",
    TopLogprobs "top_logprobs",
    // Settings of the program that answers.
    Repository "repository",
    TextModel "text model",
    Projector "projector",
    CropModel "crop model",
    GpuLayers "layers on a GPU",
    ContextSize "n_ctx",
    Slots "number of slots",
    CacheTypeK "type of the K cache",
    CacheTypeV "type of the V cache",
    FlashAttention "flash attention",
    ChatTemplate "chat template",
    ImageMinTokens "least number of tokens per picture",
    ImageMaxTokens "limit of tokens per picture",
    MicroBatch "the micro-batch",
    VideoFrames "number of video frames",
    MaxPrompt "text of a request",
    MaxImages "pictures of a request",
    MaxVideos "videos of a request",
    MaxGrammar "size of a grammar",
    MaxDepth "depth of a body",
    MaxChoices "choices of a request",
    // Settings of an evaluation.
    Metric "metric",
    Split "split",
    Judge "judge",
    JudgeModel "model of the judge",
    Log "log",
}

/// Writes a mark that [`Error::worded`] replaces by a name.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OPEN}{}{CLOSE}", *self as usize)
    }
}

/// Replaces the marks in `text` by the names that `name` gives. Any text that only looks like a mark stays.
pub fn worded(text: &str, name: impl Fn(Field) -> &'static str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        out.push_str(before);
        let field = after
            .split_once(CLOSE)
            .and_then(|(number, rest)| Some((*Field::ALL.get(number.parse::<usize>().ok()?)?, rest)));
        rest = match field {
            Some((field, rest)) => {
                out.push_str(name(field));
                rest
            }
            None => {
                out.push(OPEN);
                after
            }
        };
    }
    out.push_str(rest);
    out
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
    fn a_field_has_the_name_of_the_face() {
        for (i, field) in Field::ALL.iter().enumerate() {
            assert_eq!(*field as usize, i);
        }
        let error = Error::usage(format!("{} 2: leave out {}", Field::Keep, Field::Merge));
        assert_eq!(error.to_string(), "merge.keep 2: leave out merge.preset");
        let flag = |field| if field == Field::Keep { "--keep" } else { "--merge" };
        assert_eq!(error.worded(flag), "--keep 2: leave out --merge");
        let passed = Error::new(error.kind(), error.message());
        assert_eq!(passed, error);
        for text in ["\u{F8E4}", "\u{F8E4}999\u{F8E5}", "\u{F8E4}x\u{F8E5}", "\u{F8E5}0\u{F8E4}"] {
            assert_eq!(Error::usage(text).to_string(), text);
        }
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
