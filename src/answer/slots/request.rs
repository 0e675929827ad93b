//! A request as the slots take it: tokenised, its schedule resolved, its pictures still pixels.

use std::sync::Arc;
use std::time::Instant;

use crate::answer::rows::Entry;
use crate::answer::tally::Tally;
use crate::answer::{Grammar, MergeStep, Penalties, Sampling};
use crate::error::{Error, Kind, Result};
use crate::prompt::Chunk;
use crate::report::milliseconds;
use crate::schedule::{Positions, Schedule, Score};
use crate::see::{EncodedImage, Key, VisualInput, decoded_key, encoded_key};

/// One answer to one conversation.
pub struct Job {
    pub id: u64,
    /// Jobs of different scopes never share anything; `None` shares with nobody and leaves
    /// nothing behind.
    pub scope: Option<Vec<u8>>,
    /// `Chunk::Image(n)` is `pictures[n]`.
    pub prompt: Vec<Chunk>,
    pub pictures: Vec<PromptPicture>,
    pub schedule: Schedule,
    /// Tokens of the answer at most; `None` until the context is full.
    pub max_tokens: Option<u32>,
    pub stop: Vec<String>,
    pub draw: Draw,
    /// Report log-probabilities, with this many alternatives.
    pub logprobs: Option<u32>,
    pub trace: bool,
}

/// How tokens are drawn.
#[derive(Debug, Clone)]
pub struct Draw {
    pub sampling: Sampling,
    pub penalties: Penalties,
    pub grammar: Option<Grammar>,
    /// Never ends by the model's own wish.
    pub ignore_end: bool,
}

/// A decoded picture or video, and what it is known by.
pub struct PromptPicture {
    pub key: Key,
    pub source: Arc<VisualInput>,
    /// One of several, for a model that then shows it otherwise.
    pub several: bool,
    pub decode_ms: f64,
}

/// A job on its way.
pub(super) struct Request {
    pub id: u64,
    pub scope: Option<Vec<u8>>,
    pub entries: Vec<Entry>,
    pub pictures: Vec<Seen>,
    pub schedule: Schedule,
    pub max_tokens: Option<u32>,
    pub stop: Vec<String>,
    pub draw: Draw,
    pub logprobs: Option<u32>,
    pub trace: bool,
    pub arrived: Instant,
    pub queued_ms: f64,
    /// What its pictures took before it arrived.
    pub decode_ms: f64,
    pub tally: Tally,
    pub cached_pictures: u32,
    /// Of the prompt, what the cache held: text tokens and embeddings.
    pub cached_tokens: u32,
}

/// A picture of a request.
pub(super) struct Seen {
    /// Until its prefill begins.
    pub source: Option<Arc<VisualInput>>,
    pub several: bool,
    /// What its encoding is known by, and what it leaves in the decoder's cache.
    pub encoded: Key,
    pub decoded: Key,
    /// Its plan cut at the context's merge layers. Without embeddings where the cache has them.
    pub image: Option<EncodedImage>,
    /// What the decoder did to it.
    pub steps: Vec<MergeStep>,
}

impl Request {
    /// # Errors
    /// [`Kind::Prompt`] where the prompt and the pictures do not fit together.
    pub(super) fn new(job: Job) -> Result<Self> {
        let mut entries = Vec::new();
        for chunk in job.prompt {
            match chunk {
                Chunk::Tokens(tokens) => entries.extend(tokens.into_iter().map(Entry::Token)),
                Chunk::Image(number) => entries.push(Entry::Image(number)),
            }
        }
        let shown: Vec<usize> = entries.iter().filter_map(image_number).collect();
        let unknown = shown.iter().find(|&&number| number >= job.pictures.len());
        let unshown = (0..job.pictures.len()).find(|number| !shown.contains(number));
        if let Some(number) = unknown.copied().or(unshown) {
            return Err(Error::new(
                Kind::Prompt,
                format!(
                    "picture {} of {}: every picture stands in a message, and every message's picture is given",
                    number + 1,
                    job.pictures.len()
                ),
            ));
        }
        // An empty sum of floats is minus zero.
        let decode_ms = job.pictures.iter().map(|picture| picture.decode_ms).sum::<f64>() + 0.0;
        let tally = Tally { media_ms: decode_ms, ..Tally::default() };
        let pictures = job
            .pictures
            .into_iter()
            .map(|picture| {
                let encoded = encoded_key(&picture.key, picture.several, &job.schedule);
                Seen {
                    source: Some(picture.source),
                    several: picture.several,
                    encoded,
                    decoded: decoded_key(&encoded, &job.schedule),
                    image: None,
                    steps: Vec::new(),
                }
            })
            .collect();
        Ok(Self {
            id: job.id,
            scope: job.scope,
            entries,
            pictures,
            schedule: job.schedule,
            max_tokens: job.max_tokens,
            stop: job.stop,
            draw: job.draw,
            logprobs: job.logprobs,
            trace: job.trace,
            arrived: Instant::now(),
            queued_ms: 0.0,
            decode_ms,
            tally,
            cached_pictures: 0,
            cached_tokens: 0,
        })
    }

    pub(super) fn text_tokens(&self) -> u32 {
        count(self.entries.iter().filter(|entry| matches!(entry, Entry::Token(_))).count())
    }

    /// Text tokens and embeddings, as far as the pictures are encoded; the others count one.
    pub(super) fn prompt_tokens(&self) -> u32 {
        self.entries.iter().map(|entry| self.tokens_of(*entry)).sum()
    }

    pub(super) fn tokens_of(&self, entry: Entry) -> u32 {
        match entry {
            Entry::Token(_) => 1,
            Entry::Image(number) => {
                self.pictures[number].image.as_ref().map_or(1, |image| image.plan.tokens.max(1))
            }
        }
    }

    /// The first position after the prompt, whose pictures are encoded.
    pub(super) fn end_position(&self) -> i32 {
        let of_entry = |entry: &Entry| match entry {
            Entry::Token(_) => 1,
            Entry::Image(number) => self.pictures[*number].image.as_ref().map_or(1, |image| image.extent),
        };
        self.entries.iter().map(of_entry).sum()
    }

    /// Gives its pictures closed positions; those whose embeddings are gone have to be found again.
    pub(super) fn close_up(&mut self) {
        self.schedule.positions = Positions::Closed;
        self.schedule.counts_sizes = false;
        for picture in &mut self.pictures {
            picture.decoded = decoded_key(&picture.encoded, &self.schedule);
            picture.image = picture.image.take().filter(|image| !image.embeddings.is_empty());
            if let Some(image) = &mut picture.image {
                image.place_at(Positions::Closed, false);
            }
        }
    }

    /// Cells that the prompt takes in segment `i`.
    pub(super) fn cells(&self, i: usize) -> u32 {
        let visual = self.entries.iter().filter_map(image_number).filter_map(|number| {
            let image = self.pictures[number].image.as_ref()?;
            image.plan.segments.get(i).map(|segment| segment.tokens)
        });
        self.text_tokens() + visual.sum::<u32>()
    }

    /// Pictures that entries from `kept` on need and that are not there, in order.
    pub(super) fn missing(&self, kept: usize) -> Vec<usize> {
        let mut numbers: Vec<usize> = self.entries[kept..]
            .iter()
            .filter_map(image_number)
            .filter(|&n| self.pictures[n].image.as_ref().is_none_or(|image| image.embeddings.is_empty()))
            .collect();
        numbers.dedup();
        numbers
    }

    /// Entries with which both prompts begin and that one can leave to the other.
    pub(super) fn common(&self, other: &Self) -> usize {
        if self.scope.is_none() || self.scope != other.scope {
            return 0;
        }
        let same = |(own, their): &(&Entry, &Entry)| match (own, their) {
            (Entry::Token(own), Entry::Token(their)) => own == their,
            (Entry::Image(own), Entry::Image(their)) => {
                self.pictures[*own].decoded == other.pictures[*their].decoded && !other.scores_by_question()
            }
            _ => false,
        };
        self.entries.iter().zip(&other.entries).take_while(same).count()
    }

    /// Whether what its pictures leave in the cache depends on the question.
    pub(super) fn scores_by_question(&self) -> bool {
        self.schedule.score == Score::LastToken && !self.schedule.merge_layers().is_empty()
    }

    pub(super) fn waited_ms(&self) -> f64 {
        milliseconds(self.arrived)
    }
}

pub(super) fn image_number(entry: &Entry) -> Option<usize> {
    match entry {
        Entry::Image(number) => Some(*number),
        Entry::Token(_) => None,
    }
}

pub(super) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
