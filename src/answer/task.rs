//! A job on its way: its prompt as entries, its pictures as far as they are encoded, its measurements.

use std::sync::Arc;
use std::time::Instant;

use super::job::{Generation, Job, PictureSource};
use super::sequence::{CachedEntry, CachedPicture, Sequence};
use super::tally::{Spent, Tally};
use super::{Entry, MergeStep, count};
use crate::error::{Error, Kind, Result};
use crate::prompt::Chunk;
use crate::report::milliseconds;
use crate::schedule::{Positions, Schedule};
use crate::see::{EncodedImage, Expected, Key, VisualInput, decoded_key, encoded_key};

/// A job on its way.
pub(super) struct Task {
    pub id: u64,
    pub scope: Option<Vec<u8>>,
    pub entries: Vec<Entry>,
    pub pictures: Vec<TaskPicture>,
    pub schedule: Schedule,
    pub how: Generation,
    pub trace: bool,
    /// The slot that it was sent to; `None` is any.
    pub slot: Option<usize>,
    arrived: Instant,
    /// Milliseconds that decoding its pictures took before it arrived.
    spent: Spent,
    pub queued_ms: f64,
    pub tally: Tally,
    pub cached_pictures: u32,
    /// Tokens of the prompt that the cache held: text and embeddings.
    pub cached_tokens: u32,
}

/// A picture of a task.
pub(super) struct TaskPicture {
    /// Pixels, and whether they are shown among other pictures, until its prefill begins.
    pub pixels: Option<(Arc<VisualInput>, bool)>,
    /// As it was given, if it came encoded.
    pub given: Option<Arc<EncodedImage>>,
    /// Keys of its encoding, and of the entry that it leaves in the decoder's cache.
    pub encoded: Key,
    pub decoded: Key,
    /// Tokens it will bring, until it is encoded.
    pub expected: Expected,
    /// Plan cut at the context's merge layers, without embeddings if the cache has them.
    pub image: Option<EncodedImage>,
    /// Merge steps of the decoder.
    pub steps: Vec<MergeStep>,
}

impl Task {
    /// # Errors
    /// [`Kind::Prompt`] if the prompt and the pictures do not fit together, [`Kind::Usage`] for settings out of bounds.
    /// Penalties look back on `most` tokens at most.
    pub(super) fn new(job: Job, most: u32) -> Result<Self> {
        let mut how = job.how.checked()?;
        let most = i32::try_from(most).unwrap_or(i32::MAX);
        let last_n = &mut how.sampling.repeat_last_n;
        // Below 0 is the whole context.
        *last_n = if *last_n < 0 { most } else { most.min(*last_n) };
        let mut entries = Vec::new();
        for chunk in job.prompt {
            match chunk {
                Chunk::Tokens(tokens) => entries.extend(tokens.into_iter().map(Entry::Token)),
                Chunk::Image(number) => entries.push(Entry::Image(number)),
            }
        }
        let shown: Vec<usize> = entries.iter().filter_map(Entry::image).collect();
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
        let pictures = job.pictures.into_iter().map(|picture| {
            let (pixels, given, encoded) = match picture.source {
                PictureSource::Pixels { input, several } => {
                    let key = encoded_key(&picture.key, several, &job.schedule);
                    (Some((input, several)), None, key)
                }
                PictureSource::Encoded(image) => (None, Some(image), picture.key),
            };
            let decoded = decoded_key(&encoded, &job.schedule);
            TaskPicture {
                pixels,
                given,
                encoded,
                decoded,
                expected: picture.expected,
                image: None,
                steps: Vec::new(),
            }
        });
        Ok(Self {
            id: job.id,
            scope: job.scope,
            pictures: pictures.collect(),
            entries,
            how,
            trace: job.trace,
            slot: job.slot,
            arrived: job.arrived,
            spent: job.spent,
            queued_ms: 0.0,
            tally: Tally { spent: job.spent, ..Tally::default() },
            cached_pictures: 0,
            cached_tokens: 0,
            schedule: job.schedule,
        })
    }

    pub(super) fn text_tokens(&self) -> u32 {
        count(self.entries.iter().filter(|entry| matches!(entry, Entry::Token(_))).count())
    }

    /// Text tokens and embeddings, no fewer: pictures that are not encoded count what they bring for certain.
    pub(super) fn prompt_tokens(&self) -> u32 {
        self.tokens(|expected| expected.least)
    }

    /// The same, as near as can be told: pictures that are not encoded count what they are expected to bring.
    pub(super) fn about_tokens(&self) -> u32 {
        self.tokens(|expected| expected.about)
    }

    fn tokens(&self, expected: impl Fn(Expected) -> u32) -> u32 {
        let of = |entry: &Entry| match entry {
            Entry::Token(_) => 1,
            Entry::Image(number) => {
                let picture = &self.pictures[*number];
                picture.image.as_ref().map_or(expected(picture.expected), |image| image.plan.tokens).max(1)
            }
        };
        self.entries.iter().map(of).fold(0, u32::saturating_add)
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

    /// Cells that the prompt takes in segment `i` while it is computed.
    pub(super) fn cells(&self, i: usize) -> u32 {
        let visual = self.entries.iter().filter_map(Entry::image).filter_map(|number| {
            let image = self.pictures[number].image.as_ref()?;
            image.plan.computed().get(i).copied()
        });
        self.text_tokens() + visual.sum::<u32>()
    }

    /// Pictures that entries from `kept` on need and that are not there, in order.
    pub(super) fn missing(&self, kept: usize) -> Vec<usize> {
        let mut numbers: Vec<usize> = self.entries[kept..]
            .iter()
            .filter_map(Entry::image)
            .filter(|&n| self.pictures[n].image.as_ref().is_none_or(|image| image.embeddings.is_empty()))
            .collect();
        numbers.dedup();
        numbers
    }

    /// Entries with which both prompts begin and that this one can leave to `other`.
    pub(super) fn common(&self, other: &Self) -> usize {
        let same = |(own, their): &(&Entry, &Entry)| match (own, their) {
            (Entry::Token(own), Entry::Token(their)) => own == their,
            (Entry::Image(own), Entry::Image(their)) => {
                self.pictures[*own].decoded == other.pictures[*their].decoded
            }
            _ => false,
        };
        let common = self.entries.iter().zip(&other.entries).take_while(same).count();
        if self.shares_with(other.scope.as_ref()) { other.usable(common) } else { 0 }
    }

    /// Entries of the prompt that `sequence`, which belongs to `scope`, begins with and that may be used. At least one
    /// is left, whose logits begin the answer.
    pub(super) fn cached(&self, sequence: &Sequence, scope: Option<&Vec<u8>>) -> usize {
        let same = |(held, entry): &(&CachedEntry, &Entry)| match (held, entry) {
            (CachedEntry::Token(held), Entry::Token(token)) => held == token,
            (CachedEntry::Picture(held), Entry::Image(number)) => held.key == self.pictures[*number].decoded,
            _ => false,
        };
        let common = sequence.entries().iter().zip(&self.entries).take_while(same).count();
        let common = if self.shares_with(scope) { self.usable(common) } else { 0 };
        common.min(self.entries.len().saturating_sub(1))
    }

    fn shares_with(&self, scope: Option<&Vec<u8>>) -> bool {
        scope.is_some() && scope == self.scope.as_ref()
    }

    /// Counts those of `common` entries that another question may use: a picture that the question ranks is ranked for
    /// that one question.
    fn usable(&self, common: usize) -> usize {
        if !self.schedule.score.reads_the_question() || self.schedule.merge_layers().is_empty() {
            return common;
        }
        let picture = self.entries.iter().position(|entry| matches!(entry, Entry::Image(_)));
        common.min(picture.unwrap_or(common))
    }

    /// Takes over what the cache holds of the prompt: `sequence`.
    pub(super) fn adopt_cached(&mut self, sequence: &Sequence) {
        self.cached_tokens = sequence.tokens(sequence.entries().len());
        for (held, entry) in sequence.entries().iter().zip(&self.entries) {
            if let (CachedEntry::Picture(held), Some(number)) = (held, entry.image()) {
                let picture = &mut self.pictures[number];
                if picture.image.is_none() {
                    self.cached_pictures += 1;
                    picture.image = Some(held.image.clone());
                }
                picture.steps.clone_from(&held.steps);
            }
        }
    }

    /// Hands the steps of a prefill that began at entry `kept` to the pictures they belong to. Gives the
    /// cache's account the entries that it now holds. The pictures have given up their embeddings by now.
    pub(super) fn prefilled(&mut self, kept: usize, steps: Vec<MergeStep>, sequence: &mut Sequence) {
        let shown: Vec<usize> = self.entries[kept..].iter().filter_map(Entry::image).collect();
        let owners = self.owners(&shown);
        for &number in &shown {
            self.pictures[number].steps.clear();
        }
        for step in steps {
            if let Some(&Some((number, first))) = owners.get(step.span) {
                self.pictures[number].steps.push(step.behind(first));
            }
        }
        self.settle(&shown);
        let mut cached: Vec<Option<Arc<CachedPicture>>> = vec![None; self.pictures.len()];
        for entry in &self.entries[kept..] {
            sequence.push(match *entry {
                Entry::Token(token) => CachedEntry::Token(token),
                Entry::Image(number) => {
                    let picture = &self.pictures[number];
                    let cached = cached[number].get_or_insert_with(|| {
                        Arc::new(CachedPicture {
                            key: picture.decoded,
                            image: picture.image.clone().unwrap_or_default(),
                            steps: picture.steps.clone(),
                        })
                    });
                    CachedEntry::Picture(Arc::clone(cached))
                }
            });
        }
    }

    /// For each span of a prefill that shows `shown`: the picture that it is part of, and the picture's row that it begins
    /// at. A picture that is shown again has none: its first place tells its steps.
    fn owners(&self, shown: &[usize]) -> Vec<Option<(usize, usize)>> {
        let mut owners = Vec::new();
        for (i, &number) in shown.iter().enumerate() {
            let told = !shown[..i].contains(&number);
            let firsts =
                self.pictures[number].image.as_ref().map_or_else(|| vec![0], EncodedImage::span_rows);
            owners.extend(firsts.into_iter().map(|first| told.then_some((number, first))));
        }
        owners
    }

    /// If the scores decided how many tokens stay, the plans of the pictures `shown` learn it: the cells that they do not
    /// fill are free. A picture that is shown again keeps its bounds: its places differ in what goes.
    fn settle(&mut self, shown: &[usize]) {
        for &number in shown {
            if shown.iter().filter(|&&other| other == number).count() > 1 {
                continue;
            }
            let picture = &mut self.pictures[number];
            let (steps, Some(image)) = (&picture.steps, &mut picture.image) else { continue };
            if image.plan.decoder.iter().any(|step| step.mass.is_some()) {
                let at = |layer| steps.iter().filter(move |step| step.layer == layer);
                image.plan.settle(|layer| at(layer).map(|step| step.n_in - step.n_out).sum());
            }
        }
    }

    /// The last tokens of the prompt's text, as far as penalties look back.
    pub(super) fn seen(&self) -> Vec<i32> {
        let tokens = self.entries.iter().filter_map(|entry| match entry {
            Entry::Token(token) => Some(*token),
            Entry::Image(_) => None,
        });
        let tokens: Vec<i32> = tokens.collect();
        let last_n = usize::try_from(self.how.sampling.repeat_last_n).unwrap_or(0);
        tokens[tokens.len().saturating_sub(last_n)..].to_vec()
    }

    pub(super) fn waited_ms(&self) -> f64 {
        milliseconds(self.arrived)
    }

    /// Notes that the first token is there. The report adds what was spent on pictures, most of it since the request
    /// arrived.
    pub(super) fn note_first_token(&mut self) {
        let since = self.spent.total_ms() + self.waited_ms();
        self.tally.to_first_token_ms = (since - self.tally.spent.total_ms()).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::PromptPicture;
    use crate::see::{Layout, picture};

    /// A task that shows pictures by their numbers, each of two tiles behind a mark of its own.
    fn task(shown: &[usize]) -> Task {
        let tiles =
            Layout { tokens: vec![9, -1, -1, 9, -1, -1], tiles: vec![(1, 2), (4, 2)], ..Layout::default() };
        let tiled = || EncodedImage { layout: tiles.clone(), ..picture(6, 4) };
        let one = |key| PromptPicture {
            key: [key; 32],
            source: PictureSource::Encoded(Arc::new(tiled())),
            expected: Expected::default(),
        };
        let most = shown.iter().max().copied().unwrap_or(0);
        let job = Job {
            id: 1,
            scope: None,
            prompt: shown.iter().map(|&number| Chunk::Image(number)).collect(),
            pictures: (0..=most).map(|number| one(u8::try_from(number).unwrap())).collect(),
            schedule: Schedule::default(),
            how: Generation::greedy(None),
            trace: false,
            slot: None,
            arrived: Instant::now(),
            spent: Spent::default(),
        };
        let mut task = Task::new(job, 8).unwrap();
        for picture in &mut task.pictures {
            picture.image = Some(tiled());
        }
        task
    }

    #[test]
    fn steps_belong_to_the_picture_of_their_span() {
        let step = |span| MergeStep {
            span,
            layer: 2,
            n_in: 2,
            n_out: 1,
            kept: vec![0],
            merged: vec![1, 0],
            into: Some(0),
            groups: vec![vec![1, 0]],
            ..MergeStep::default()
        };
        let mut task = task(&[0, 1, 0]);
        task.prefilled(0, (0..6).map(step).collect(), &mut Sequence::default());
        for picture in &task.pictures {
            let told: Vec<_> = picture.steps.iter().map(|step| (step.kept[0], step.merged.clone())).collect();
            assert_eq!(told, [(1, vec![2, 1]), (4, vec![5, 4])], "rows of the picture");
            assert_eq!((picture.steps[1].into, &picture.steps[1].groups), (Some(4), &vec![vec![5, 4]]));
        }
    }
}
