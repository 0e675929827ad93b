//! A request as the scheduler takes it: tokenised, its schedule resolved, its pictures pixels or embeddings.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use super::Spent;
use crate::error::Result;
pub use crate::native::Thought;
use crate::prompt::Chunk;
use crate::request::{self, Grammar, Limits, Sampling};
use crate::schedule::Schedule;
use crate::see::{EncodedImage, Expected, Key, VisualInput};

/// Sampling and limits of an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Generation {
    pub limits: Limits,
    pub sampling: Sampling,
    pub grammar: Option<Grammar>,
    /// Reports log-probabilities of the drawn tokens, with this many alternatives each.
    pub logprobs: Option<u32>,
    /// Texts of control tokens that the answer shows.
    pub marks: Vec<String>,
    /// Thought that may come first; the grammar waits for its end.
    pub thought: Option<Thought>,
}

impl Generation {
    /// The most likely token each time, up to `max_tokens` of them.
    #[must_use]
    pub fn greedy(max_tokens: Option<u32>) -> Self {
        let limits = Limits { max_tokens, ..Limits::default() };
        let sampling = Sampling { temperature: 0.0, seed: Some(0), ..Sampling::default() };
        Self { limits, sampling, ..Self::default() }
    }

    /// Holds everything to its bounds, and draws a seed if there is none.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] that names the setting.
    pub fn checked(self) -> Result<Self> {
        let mut sampling = self.sampling.checked()?;
        sampling.seed.get_or_insert_with(seed);
        self.logprobs.map(request::check_logprobs).transpose()?;
        let grammar = self.grammar.map(Grammar::checked).transpose()?;
        Ok(Self { limits: self.limits.checked()?, sampling, grammar, ..self })
    }
}

/// Returns a new seed: the system seeds std's hashers anew each time.
fn seed() -> u32 {
    let bits = RandomState::new().build_hasher().finish();
    u32::try_from(bits >> 32).unwrap_or(0)
}

/// One answer to one conversation.
pub struct Job {
    pub id: u64,
    /// Jobs of different scopes never share anything. A job with `None` shares nothing and leaves nothing
    /// behind.
    pub scope: Option<Vec<u8>>,
    /// `Chunk::Image(n)` is `pictures[n]`.
    pub prompt: Vec<Chunk>,
    pub pictures: Vec<PromptPicture>,
    pub schedule: Schedule,
    pub how: Generation,
    pub trace: bool,
    /// The slot that answers, modulo their number; `None` is any.
    pub slot: Option<usize>,
    /// When the request came; the time to the first token counts from here.
    pub arrived: Instant,
    /// Milliseconds that decoding its pictures took before that.
    pub spent: Spent,
}

/// Picture or video of a prompt, with its key.
pub struct PromptPicture {
    pub key: Key,
    pub source: PictureSource,
    /// Tokens it will bring, as far as they are known before it is encoded.
    pub expected: Expected,
}

pub enum PictureSource {
    /// To be encoded; `several`: it is shown among others, to a model that then encodes it otherwise.
    Pixels {
        input: Arc<VisualInput>,
        several: bool,
    },
    Encoded(Arc<EncodedImage>),
}
