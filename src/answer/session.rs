//! A conversation of one person: a scheduler with one slot, driven until the answer is over. Pictures are encoded once,
//! and the cache is made as large as the conversation needs.

use std::sync::Arc;
use std::time::Instant;

use super::{
    CacheLayout, Decoder, Demand, Finish, Generation, Job, Output, PictureSource, PromptPicture, Scheduler,
    Settings, Sizing, Spent, Token, count,
};
use crate::error::{Error, Kind, Result};
use crate::media::Pixels;
use crate::pair::Facts;
use crate::prompt::{self, Chunk, Message};
use crate::report::{Report, Trace};
use crate::schedule::{Positions, Schedule};
use crate::see::{EncodedImage, Encoder, Expected, Key, Visual, VisualInput};
use crate::stop::Stop;

/// A loaded pair of text model and image encoder.
pub trait Engine: Encoder {
    type Decoder: Decoder;

    /// The loaded pair's facts.
    fn facts(&self) -> &Arc<Facts>;

    /// Messages to token ids and the places of pictures.
    ///
    /// # Errors
    /// [`Kind::Prompt`].
    fn tokenize(&self, messages: &[Message]) -> Result<Vec<Chunk>>;

    /// Makes a decoder for one conversation.
    ///
    /// # Errors
    /// Sizes or merge layers that the model cannot take, or no memory.
    fn open(&self, layout: &CacheLayout) -> Result<Self::Decoder>;
}

/// One answer.
#[derive(Debug)]
pub struct Answer {
    /// [`Finish::Cancelled`] after an interruption.
    pub finish: Finish,
    pub report: Report,
    pub trace: Trace,
    /// Its tokens, if log-probabilities were asked for.
    pub tokens: Vec<Token>,
}

/// A picture or video of the conversation.
struct HeldPicture {
    /// Kept so that another schedule can encode it again.
    input: VisualInput,
    /// `None` until a question is there that decides what the encoder sees.
    image: Option<Arc<EncodedImage>>,
    /// Key in the cache: another one each time it is encoded.
    key: Key,
}

/// A conversation.
pub struct Session<E: Engine> {
    engine: E,
    schedule: Schedule,
    sizing: Sizing,
    stop: Stop,
    shown: Vec<HeldPicture>,
    /// Spans encoded so far.
    encoded: u64,
    /// Pictures that are still to come with the ones there are.
    expected: usize,
    /// Whether the pictures were encoded as ones of several.
    several: bool,
    open: Option<(CacheLayout, Scheduler<E::Decoder>)>,
    /// Time spent on pictures since the last answer.
    spent: Spent,
    /// The most bytes of compute buffers that stood while these pictures were encoded.
    encoding_bytes: u64,
}

impl<E: Engine> Session<E> {
    pub fn new(engine: E, schedule: Schedule, sizing: Sizing, stop: Stop) -> Self {
        Self {
            engine,
            schedule,
            sizing,
            stop,
            shown: Vec::new(),
            encoded: 0,
            expected: 0,
            several: false,
            open: None,
            spent: Spent::default(),
            encoding_bytes: 0,
        }
    }

    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// A picture or video by its number.
    pub fn image(&self, number: usize) -> Option<&EncodedImage> {
        self.shown.get(number)?.image.as_deref()
    }

    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Says that `count` pictures will be added: models that show fewer details of each picture among several then need
    /// not encode the first one twice.
    pub fn expect_images(&mut self, count: usize) {
        self.expected = count;
    }

    /// Encodes a picture, which took `decode_ms` to become pixels, and returns its number.
    ///
    /// # Errors
    /// A schedule it cannot take, or the library's own.
    pub fn add_image(&mut self, pixels: Pixels, decode_ms: f64) -> Result<usize> {
        let pictures = self.shown.iter().filter(|shown| shown.input.is_image()).count();
        let several = pictures + self.expected.max(1) > 1;
        if several && !self.several && pictures > 0 && self.engine.facts().counts_pictures {
            self.encode_again(true, self.schedule.clone())?;
        }
        self.several = several;
        self.expected = self.expected.saturating_sub(1);
        self.add(VisualInput::Image(pixels), decode_ms)
    }

    /// Encodes the frames of a video, which took `decode_ms` to become pixels, and returns its number, which stands in
    /// a message like a picture's.
    ///
    /// # Errors
    /// As [`Session::add_image`]; a model that takes no videos.
    pub fn add_video(&mut self, frames: Vec<Pixels>, decode_ms: f64) -> Result<usize> {
        self.add(VisualInput::Video(frames), decode_ms)
    }

    /// Encodes either.
    ///
    /// # Errors
    /// As [`Session::add_image`] and [`Session::add_video`].
    pub fn add_input(&mut self, input: VisualInput, decode_ms: f64) -> Result<usize> {
        match input {
            VisualInput::Image(pixels) => self.add_image(pixels, decode_ms),
            VisualInput::Video(frames) => self.add_video(frames, decode_ms),
            VisualInput::Among { pictures, at, .. } => {
                let none = || Error::new(Kind::Native, "a picture that is none of those it stands among");
                self.add_image(pictures.get(at).cloned().ok_or_else(none)?, decode_ms)
            }
        }
    }

    fn add(&mut self, input: VisualInput, decode_ms: f64) -> Result<usize> {
        let image = match self.schedule.strategy.needs_question() {
            true => None,
            false => Some(self.engine.encode_span(&input.visual(self.several), &self.schedule)?),
        };
        self.note_buffers();
        if self.stop.is_asked() {
            return Err(Error::interrupted());
        }
        self.spent.media_ms += decode_ms;
        image.iter().for_each(|image| self.spent.add(image));
        let key = self.next_key();
        self.shown.push(HeldPicture { input, image: image.map(Arc::new), key });
        Ok(self.shown.len() - 1)
    }

    /// Encodes the pictures for the question of `messages`, if it decides what the encoder sees.
    fn ask(&mut self, messages: &[Message]) -> Result<()> {
        if !self.schedule.strategy.needs_question() || self.shown.is_empty() {
            return Ok(());
        }
        let schedule = self.schedule.clone().asked(&prompt::question(messages))?;
        if schedule == self.schedule && self.shown.iter().all(|shown| shown.image.is_some()) {
            return Ok(());
        }
        self.encode_again(self.several, schedule)?;
        for shown in &self.shown {
            shown.image.iter().for_each(|image| self.spent.add(image));
        }
        Ok(())
    }

    /// Notes the compute buffers that stand while a picture is encoded: those of an open cache beside the encoder's.
    fn note_buffers(&mut self) {
        let decoder = self.open.as_ref().map_or(0, |(_, scheduler)| scheduler.decoder_bytes());
        self.encoding_bytes = self.encoding_bytes.max(self.engine.encoder_bytes() + decoder);
    }

    fn next_key(&mut self) -> Key {
        self.encoded += 1;
        let mut key = Key::default();
        key[..8].copy_from_slice(&self.encoded.to_le_bytes());
        key
    }

    fn encode_again(&mut self, several: bool, schedule: Schedule) -> Result<()> {
        let mut images = Vec::with_capacity(self.shown.len());
        let all = self.next_key();
        let pictures: Vec<&Pixels> = self
            .shown
            .iter()
            .filter_map(
                |shown| if let VisualInput::Image(pixels) = &shown.input { Some(pixels) } else { None },
            )
            .collect();
        let compared = schedule.strategy.chooses_frames() && pictures.len() > 1;
        let mut places = 0..pictures.len();
        for shown in &self.shown {
            let at = if compared && shown.input.is_image() { places.next() } else { None };
            let visual = match at {
                Some(at) => Visual::Among { pictures: pictures.clone(), at, all },
                None => shown.input.visual(several),
            };
            images.push(match schedule.strategy.needs_question() && schedule.question.is_none() {
                true => None,
                false => Some(Arc::new(self.engine.encode_span(&visual, &schedule)?)),
            });
        }
        self.note_buffers();
        for (i, image) in images.into_iter().enumerate() {
            (self.shown[i].image, self.shown[i].key) = (image, self.next_key());
        }
        self.schedule = schedule;
        self.open = None;
        Ok(())
    }

    /// Forgets the pictures and everything cached.
    pub fn clear(&mut self) {
        self.shown.clear();
        self.several = false;
        self.open = None;
    }

    /// Changes the schedule; the pictures there are get encoded again.
    ///
    /// # Errors
    /// As [`Session::add_image`]; the old schedule then stays.
    pub fn set_schedule(&mut self, schedule: Schedule) -> Result<()> {
        self.encode_again(self.several, schedule)
    }

    /// Answers the conversation; text is handed to `show` as it comes.
    ///
    /// # Errors
    /// Prompts without place, settings out of bounds, interruption before the first token, the library's own.
    pub fn answer(
        &mut self,
        messages: &[Message],
        how: &Generation,
        show: &mut dyn FnMut(&str),
    ) -> Result<Answer> {
        self.ask(messages)?;
        let arrived = Instant::now();
        let mut prompt = self.engine.tokenize(messages)?;
        let numbers = self.number(&mut prompt)?;
        let spent = std::mem::take(&mut self.spent);
        let encoding_bytes = std::mem::take(&mut self.encoding_bytes);
        let pictures: Vec<PromptPicture> = numbers
            .iter()
            .filter_map(|&number| {
                let HeldPicture { image, key, .. } = &self.shown[number];
                let source = PictureSource::Encoded(Arc::clone(image.as_ref()?));
                Some(PromptPicture { key: *key, source, expected: Expected::default() })
            })
            .collect();
        self.make_room(&prompt, &pictures, how.limits.max_tokens)?;
        let Some((_, scheduler)) = &mut self.open else {
            return Err(Error::new(Kind::Native, "no context is open"));
        };
        scheduler.submit(Job {
            id: 0,
            scope: Some(Vec::new()),
            prompt,
            pictures,
            schedule: self.schedule.clone(),
            how: how.clone(),
            trace: true,
            slot: None,
            arrived,
            spent,
        });
        let mut tokens = Vec::new();
        loop {
            if self.stop.is_asked() {
                scheduler.cancel(0);
            }
            let computing = scheduler.turn();
            for output in scheduler.take_output() {
                match output {
                    Output::Delta(delta) => {
                        if !delta.text.is_empty() {
                            show(&delta.text);
                        }
                        tokens.extend(delta.tokens);
                    }
                    Output::Failed(failed) => return Err(Error::new(failed.kind, failed.message)),
                    Output::Done(done) if done.finish == Finish::Cancelled && done.generated_tokens == 0 => {
                        return Err(Error::interrupted());
                    }
                    Output::Done(done) => {
                        let mut report = done.report;
                        if report.merge.positions != self.schedule.positions.name() {
                            // Closed up for this prompt, they stay so for what follows.
                            self.schedule.positions = Positions::Closed;
                            self.schedule.counts_sizes = false;
                        }
                        report.bytes.compute += self.engine.encoder_bytes();
                        report.bytes.compute = report.bytes.compute.max(encoding_bytes);
                        let trace = named(done.trace.unwrap_or_default(), &numbers);
                        return Ok(Answer { finish: done.finish, report, trace, tokens });
                    }
                    Output::Started(_) | Output::Encode(_) => {}
                }
            }
            if !computing {
                return Err(Error::new(Kind::Native, "nothing is left to compute, and no answer is there"));
            }
        }
    }

    /// The pictures that `prompt` shows, ascending; in it they get the numbers of their places in this list.
    fn number(&self, prompt: &mut [Chunk]) -> Result<Vec<usize>> {
        let images = |prompt: &[Chunk]| -> Vec<usize> {
            prompt
                .iter()
                .filter_map(|chunk| if let Chunk::Image(n) = chunk { Some(*n) } else { None })
                .collect()
        };
        let mut numbers = images(prompt);
        numbers.sort_unstable();
        numbers.dedup();
        if let Some(number) = numbers.iter().find(|&&number| number >= self.shown.len()) {
            return Err(Error::new(
                Kind::Prompt,
                format!("the conversation names picture {number}, of {} there are", self.shown.len()),
            ));
        }
        for chunk in prompt {
            if let Chunk::Image(number) = chunk {
                *number = numbers.binary_search(number).unwrap_or_default();
            }
        }
        Ok(numbers)
    }

    /// Sees that a cache is open in which the prompt fits.
    fn make_room(&mut self, prompt: &[Chunk], pictures: &[PromptPicture], most: Option<u32>) -> Result<()> {
        let merge_layers = self.schedule.merge_layers();
        let mut text = 0;
        let mut images: Vec<&EncodedImage> = Vec::new();
        for chunk in prompt {
            match chunk {
                Chunk::Tokens(tokens) => text += count(tokens.len()),
                Chunk::Image(number) => {
                    if let PictureSource::Encoded(image) = &pictures[*number].source {
                        images.push(image);
                    }
                }
            }
        }
        let demand = Demand::new(text, &images, merge_layers.len() + 1, most);
        let facts = Arc::clone(self.engine.facts());
        let layout = demand.layout(merge_layers, self.sizing, facts.pair.n_ctx_train)?;
        if self.open.as_ref().is_some_and(|(open, _)| open.holds(&layout)) {
            return Ok(());
        }
        // The old cache and the encoder's buffers go before the new cache comes with buffers of its own.
        self.open = None;
        self.engine.free_buffers()?;
        let decoder = self.engine.open(&layout)?;
        let settings = Settings {
            slots: 1,
            cells: decoder.segments().iter().map(|segment| segment.cells).collect(),
            merge_layers: layout.merge_layers.clone(),
            picture_bytes: 0,
            positions: self.sizing.positions(facts.pair.n_ctx_train),
            pair: None,
            sole: Some(layout.cells_unmerged),
        };
        self.open = Some((layout, Scheduler::new(decoder, facts, settings)));
        Ok(())
    }
}

/// The trace with the session's numbers of the pictures.
fn named(mut trace: Trace, numbers: &[usize]) -> Trace {
    for tile in &mut trace.images {
        tile.index = numbers[tile.index];
    }
    for image in trace.steps.iter_mut().filter_map(|step| step.image.as_mut()) {
        *image = numbers[*image];
    }
    trace
}

#[cfg(test)]
mod tests;
