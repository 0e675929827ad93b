//! A conversation on an engine: pictures are encoded once, what the cache already holds is not
//! computed again, and every answer comes with its report.

use std::time::Instant;

use super::rows::{Entry, Rows, end_position};
use super::sizing::{CacheLayout, Demand, Sizing, closed_up};
use super::tally::{Subject, Tally};
use super::utf8_stream::Utf8Stream;
use super::{Engine, Grammar, MergeStep, Sampling};
use crate::error::{Error, Kind, Result};
use crate::media::Pixels;
use crate::prompt::{Chunk, Message};
use crate::report::{Report, Trace, milliseconds};
use crate::schedule::{Positions, Schedule, Score};
use crate::see::{EncodedImage, VisualInput};
use crate::stop::Stop;

/// Bounds and sampling of one answer.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Tokens at most; `None` until the context is full.
    pub tokens: Option<u32>,
    pub sampling: Sampling,
    pub grammar: Option<Grammar>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it.
    Stop,
    /// The number of tokens was reached.
    Length,
    /// The context is full.
    ContextFull,
    /// The grammar allows no further token.
    Grammar,
    Interrupted,
}

/// One answer.
#[derive(Debug)]
pub struct Answer {
    pub finish: Finish,
    pub report: Report,
    pub trace: Trace,
}

/// A conversation.
pub struct Session<E> {
    engine: E,
    schedule: Schedule,
    sizing: Sizing,
    stop: Stop,
    images: Vec<EncodedImage>,
    /// Kept so that another schedule can encode them again.
    sources: Vec<VisualInput>,
    /// Pictures that are still to come with the ones there are.
    expected: usize,
    /// Whether the pictures were encoded as ones of several.
    several: bool,
    /// [images] what the decoder did to each picture.
    decoder_steps: Vec<Vec<MergeStep>>,
    /// What the cache holds, in order.
    cached: Vec<Entry>,
    layout: Option<CacheLayout>,
    /// Time spent on pictures since the last answer.
    pending: Tally,
}

impl<E: Engine> Session<E> {
    pub fn new(engine: E, schedule: Schedule, sizing: Sizing, stop: Stop) -> Self {
        Self {
            engine,
            schedule,
            sizing,
            stop,
            images: Vec::new(),
            sources: Vec::new(),
            expected: 0,
            several: false,
            decoder_steps: Vec::new(),
            cached: Vec::new(),
            layout: None,
            pending: Tally::default(),
        }
    }

    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// A picture or video by its number.
    pub fn image(&self, number: usize) -> Option<&EncodedImage> {
        self.images.get(number)
    }

    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Says that `count` pictures will be added: models that show fewer details of each picture
    /// where there are several then need not encode the first one twice.
    pub fn expect_images(&mut self, count: usize) {
        self.expected = count;
    }

    /// Encodes a picture, which took `decode_ms` to become pixels, and returns its number.
    ///
    /// # Errors
    /// A schedule it cannot take, or the library's own.
    pub fn add_image(&mut self, pixels: Pixels, decode_ms: f64) -> Result<usize> {
        let pictures = self.sources.iter().filter(|source| source.is_image()).count();
        let several = pictures + self.expected.max(1) > 1;
        if several && !self.several && pictures > 0 && self.engine.counts_pictures() {
            let again = self.encode_all(true, &self.schedule.clone())?;
            self.replace(again);
        }
        self.several = several;
        self.expected = self.expected.saturating_sub(1);
        self.add(VisualInput::Image(pixels), several, decode_ms)
    }

    /// Encodes the frames of a video, which took `decode_ms` to become pixels, and returns its
    /// number, which stands in a message like a picture's.
    ///
    /// # Errors
    /// As [`Session::add_image`]; a model that takes no videos.
    pub fn add_video(&mut self, frames: Vec<Pixels>, decode_ms: f64) -> Result<usize> {
        self.add(VisualInput::Video(frames), self.several, decode_ms)
    }

    /// Encodes either.
    ///
    /// # Errors
    /// As [`Session::add_image`] and [`Session::add_video`].
    pub fn add_shown(&mut self, shown: VisualInput, decode_ms: f64) -> Result<usize> {
        match shown {
            VisualInput::Image(pixels) => self.add_image(pixels, decode_ms),
            VisualInput::Video(frames) => self.add_video(frames, decode_ms),
        }
    }

    fn add(&mut self, source: VisualInput, several: bool, decode_ms: f64) -> Result<usize> {
        let image = self.engine.encode_span(&source.visual(several), &self.schedule)?;
        if self.stop.is_asked() {
            return Err(Error::interrupted());
        }
        self.pending.media_ms += decode_ms + image.preprocess_ms;
        self.pending.encoder_ms += image.encoder_ms;
        self.pending.projector_ms += image.projector_ms;
        self.images.push(image);
        self.sources.push(source);
        self.decoder_steps.push(Vec::new());
        Ok(self.images.len() - 1)
    }

    fn encode_all(&mut self, several: bool, schedule: &Schedule) -> Result<Vec<EncodedImage>> {
        self.sources.iter().map(|source| self.engine.encode_span(&source.visual(several), schedule)).collect()
    }

    fn replace(&mut self, images: Vec<EncodedImage>) {
        self.decoder_steps = vec![Vec::new(); images.len()];
        self.images = images;
        self.forget();
    }

    /// Forgets the pictures and everything cached.
    pub fn clear(&mut self) {
        self.images.clear();
        self.sources.clear();
        self.several = false;
        self.decoder_steps.clear();
        self.forget();
    }

    fn forget(&mut self) {
        self.cached.clear();
        self.layout = None;
    }

    /// Changes the schedule; the pictures there are get encoded again.
    ///
    /// # Errors
    /// As [`Session::add_image`]; the old schedule then stays.
    pub fn set_schedule(&mut self, schedule: Schedule) -> Result<()> {
        let images = self.encode_all(self.several, &schedule)?;
        self.replace(images);
        self.schedule = schedule;
        Ok(())
    }

    /// Answers the conversation; text is handed to `show` as it comes.
    ///
    /// # Errors
    /// Prompts without place, grammars, interruption before the first token, the library's own.
    pub fn answer(
        &mut self,
        messages: &[Message],
        limits: &Limits,
        show: &mut dyn FnMut(&str),
    ) -> Result<Answer> {
        let start = Instant::now();
        let mut tally = std::mem::take(&mut self.pending);
        let prompt = self.entries(self.engine.tokenize(messages)?)?;
        self.engine.start_sampling(&limits.sampling, limits.grammar.as_ref())?;
        tally.remarks.extend(self.fit_positions(&prompt));
        self.make_room(&prompt, limits)?;
        let reused = self.reuse(&prompt)?;
        let new = &prompt[reused..];
        let start_position = end_position(&prompt[..reused], &self.images);
        let rows = Rows::new(
            new,
            &self.images,
            start_position,
            self.engine.facts().pair.n_embd as usize,
            self.engine.facts().n_pos,
        );
        let prefill_start = Instant::now();
        tally.prefill_rows = rows.tokens.len();
        let steps = self.engine.prefill(&rows, self.schedule.score == Score::LastToken)?;
        tally.prefill_ms = milliseconds(prefill_start);
        self.keep_steps(new, steps);
        self.cached.extend_from_slice(new);
        tally.compute_bytes = self.engine.compute_bytes();
        tally.cells_unmerged = self.layout.as_ref().map_or(0, |layout| layout.cells_unmerged);

        let (finish, text) = self.generate(limits, start, &mut tally, show)?;
        let segments = self.engine.segments();
        let subject = Subject {
            facts: self.engine.facts(),
            schedule: &self.schedule,
            prompt: &prompt,
            images: &self.images,
            decoder_steps: &self.decoder_steps,
            segments: &segments,
        };
        let report = subject.report(&tally, limits.sampling.seed, text);
        Ok(Answer { finish, report, trace: subject.trace() })
    }

    fn entries(&self, chunks: Vec<Chunk>) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for chunk in chunks {
            match chunk {
                Chunk::Tokens(tokens) => entries.extend(tokens.into_iter().map(Entry::Token)),
                Chunk::Image(number) if number < self.images.len() => entries.push(Entry::Image(number)),
                Chunk::Image(number) => {
                    return Err(Error::new(
                        Kind::Prompt,
                        format!(
                            "the conversation names picture {number}, of {} there are",
                            self.images.len()
                        ),
                    ));
                }
            }
        }
        Ok(entries)
    }

    fn most_positions(&self) -> u32 {
        self.sizing.positions(self.engine.facts().pair.n_ctx_train)
    }

    /// Closes the pictures' positions up if own ones would pass the last that the model knows, and says why. They stay
    /// closed for what follows.
    fn fit_positions(&mut self, prompt: &[Entry]) -> Option<String> {
        let most = self.most_positions();
        let end = end_position(prompt, &self.images);
        let gaps = prompt.iter().any(|entry| match entry {
            Entry::Image(number) => self.images.get(*number).is_some_and(EncodedImage::has_gaps),
            Entry::Token(_) => false,
        });
        if !gaps || end.unsigned_abs() < most {
            return None;
        }
        self.schedule.positions = Positions::Closed;
        self.schedule.counts_sizes = false;
        self.images.iter_mut().for_each(|image| image.place_at(Positions::Closed, false));
        self.forget();
        Some(closed_up(end, most))
    }

    /// Sees that a context is open and that the prompt fits.
    fn make_room(&mut self, prompt: &[Entry], limits: &Limits) -> Result<()> {
        let merge_layers = self.schedule.merge_layers();
        let text = prompt.iter().filter(|entry| matches!(entry, Entry::Token(_))).count();
        let shown: Vec<&EncodedImage> = prompt
            .iter()
            .filter_map(|entry| match entry {
                Entry::Image(number) => self.images.get(*number),
                Entry::Token(_) => None,
            })
            .collect();
        let demand = Demand::new(
            u32::try_from(text).unwrap_or(u32::MAX),
            &shown,
            merge_layers.len() + 1,
            limits.tokens,
        );
        let layout = demand.layout(merge_layers, self.sizing, self.engine.facts().pair.n_ctx_train)?;
        let fits = self.layout.as_ref().is_some_and(|open| {
            open.cells >= layout.cells && open.deep.iter().zip(&layout.deep).all(|(open, need)| open >= need)
        });
        if !fits {
            self.cached.clear();
            self.engine.open(&layout)?;
            self.layout = Some(layout);
        }
        Ok(())
    }

    /// How many entries of `prompt` the cache holds already; the rest of the cache is forgotten.
    /// At least one entry is left, whose logits begin the answer.
    fn reuse(&mut self, prompt: &[Entry]) -> Result<usize> {
        let mut common = prompt.iter().zip(&self.cached).take_while(|(a, b)| a == b).count();
        // A picture ranked by the prompt's last token is ranked for that one question.
        if self.schedule.score == Score::LastToken && !self.schedule.merge_layers().is_empty() {
            let pictures = prompt.iter().position(|entry| matches!(entry, Entry::Image(_)));
            common = common.min(pictures.unwrap_or(common));
        }
        let mut keep = common.min(prompt.len().saturating_sub(1));
        // A span is merged from its own rows; it is kept or computed as a whole, never its last row alone.
        if keep < self.cached.len() {
            let position = end_position(&self.cached[..keep], &self.images);
            if !self.engine.forget_from(position) {
                keep = 0;
                if !self.engine.forget_from(0) {
                    let layout =
                        self.layout.clone().ok_or_else(|| Error::new(Kind::Native, "no context is open"))?;
                    self.engine.open(&layout)?;
                }
            }
            self.cached.truncate(keep);
        }
        Ok(keep)
    }

    fn keep_steps(&mut self, new: &[Entry], steps: Vec<MergeStep>) {
        let shown: Vec<usize> = new
            .iter()
            .filter_map(|entry| if let Entry::Image(number) = entry { Some(*number) } else { None })
            .collect();
        for number in &shown {
            self.decoder_steps[*number].clear();
        }
        for step in steps {
            if let Some(number) = shown.get(step.span) {
                self.decoder_steps[*number].push(step);
            }
        }
    }

    /// Tokens that the fullest segment still takes, and the positions that are left.
    fn room(&self) -> u32 {
        let text = self.cached.iter().filter(|entry| matches!(entry, Entry::Token(_))).count();
        let images: Vec<Vec<u32>> = self
            .cached
            .iter()
            .filter_map(|entry| match entry {
                Entry::Image(number) => Some(self.images.get(*number)?.tokens_by_segment()),
                Entry::Token(_) => None,
            })
            .collect();
        let used = |i: usize| {
            let visual: u32 = images.iter().map(|tokens| tokens.get(i).copied().unwrap_or(0)).sum();
            u32::try_from(text).unwrap_or(u32::MAX).saturating_add(visual)
        };
        self.engine
            .segments()
            .iter()
            .enumerate()
            .map(|(i, segment)| segment.cells.saturating_sub(used(i)))
            .chain([self
                .most_positions()
                .saturating_sub(end_position(&self.cached, &self.images).unsigned_abs())])
            .min()
            .unwrap_or(0)
    }

    fn generate(
        &mut self,
        limits: &Limits,
        start: Instant,
        tally: &mut Tally,
        show: &mut dyn FnMut(&str),
    ) -> Result<(Finish, String)> {
        let mut room = self.room();
        let mut position = end_position(&self.cached, &self.images);
        let mut letters = Utf8Stream::default();
        let mut text = String::new();
        let mut say = |piece: &str, text: &mut String| {
            if !piece.is_empty() {
                show(piece);
                text.push_str(piece);
            }
        };
        let mut first_token = None;
        let finish = loop {
            if self.stop.is_asked() {
                break Finish::Interrupted;
            }
            if limits.tokens.is_some_and(|most| tally.generated >= most) {
                break Finish::Length;
            }
            let Some(token) = self.engine.sample()? else { break Finish::Grammar };
            if first_token.is_none() {
                tally.to_first_token_ms = milliseconds(start);
                first_token = Some(Instant::now());
            }
            if self.engine.ends_generation(token) {
                break Finish::Stop;
            }
            tally.generated += 1;
            say(&letters.push(&self.engine.piece(token)), &mut text);
            if limits.tokens.is_some_and(|most| tally.generated >= most) {
                break Finish::Length;
            }
            if room == 0 {
                break Finish::ContextFull;
            }
            match self.engine.decode(token, position) {
                Ok(()) => {}
                Err(error) if error.kind() == Kind::Interrupted => {
                    // Some layers may hold the token, others not.
                    if !self.engine.forget_from(position) {
                        self.forget();
                    }
                    break Finish::Interrupted;
                }
                Err(error) => return Err(error),
            }
            self.cached.push(Entry::Token(token));
            position += 1;
            room -= 1;
        };
        say(&letters.finish(), &mut text);
        tally.generate_ms = first_token.map_or(0.0, milliseconds);
        if first_token.is_none() {
            tally.to_first_token_ms = milliseconds(start);
        }
        Ok((finish, text))
    }
}

#[cfg(test)]
mod tests;
