//! The image encoder of a pair: the loaded tower, the processor that cuts its inputs, and what encodes spans with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::cache::Key;
use super::crop::{FilmScores, RegionScorer};
use super::processor::Processor;
use super::visual::Visual;
use super::{ComputeLock, EncodedImage, Encoder, Outline, identity};
use crate::error::{Error, Result};
use crate::media::video::Sampling;
use crate::native::{Gguf, TextModel, Vision, VisionInfo, VisionOptions};
use crate::schedule::{Schedule, Shape};
use crate::stop::Stop;

/// A loaded image encoder with its projector, and how its file wants pictures cut.
pub struct Tower {
    pub(super) vision: Vision,
    pub(super) processor: Processor,
    file: PathBuf,
    pub(super) options: VisionOptions,
    /// One line for each thing the file lacks, with what that costs.
    pub missing: Vec<String>,
}

/// Width, height and normalised samples, [height, width, 3], of one input of the encoder.
pub type Input = (u32, u32, Vec<f32>);

impl Tower {
    /// Loads the projector at `file`; `progress` is given 0 to 1 and returns whether to go on.
    ///
    /// # Errors
    /// [`crate::error::Kind::File`] or [`crate::error::Kind::Model`] for a projector that cannot be used,
    /// [`crate::error::Kind::Interrupted`] if `progress` returned false.
    pub fn load(file: &Path, options: VisionOptions, progress: impl FnMut(f32) -> bool) -> Result<Self> {
        let vision = Vision::load_with_progress(file, &options, progress)?;
        let (processor, missing) = Processor::read(
            &Gguf::open(file)?,
            file,
            vision.info(),
            (options.min_tokens, options.max_tokens),
        )?;
        Ok(Self { vision, processor, file: file.to_owned(), options, missing })
    }

    #[must_use]
    pub fn info(&self) -> &VisionInfo {
        self.vision.info()
    }

    /// Whether [`Visual::OneOfSeveral`] is encoded otherwise than [`Visual::Image`].
    #[must_use]
    pub fn counts_pictures(&self) -> bool {
        self.processor.counts_pictures()
    }

    /// The rule for the frames of a video; `None` if [`Visual::Video`] cannot be encoded.
    #[must_use]
    pub fn video_sampling(&self) -> Option<Sampling> {
        self.processor.video_sampling()
    }

    /// Has the marks of pictures follow `text`, if llama.cpp makes them.
    ///
    /// # Errors
    /// As [`Vision::set_text`].
    pub fn set_text(&mut self, text: &TextModel) -> Result<()> {
        if self.info().by_library { self.vision.set_text(text) } else { Ok(()) }
    }

    pub(crate) fn parts(&mut self) -> (&mut Vision, &Processor) {
        (&mut self.vision, &self.processor)
    }
}

/// A tower that encodes for one decoder.
pub struct TowerEncoder {
    pub(super) tower: Tower,
    pub(super) shape: Shape,
    /// Position rows of the decoder: 4 with M-RoPE, else 1.
    pub(super) n_pos: usize,
    pub(super) stop: Stop,
    pub(super) lock: Option<ComputeLock>,
    /// Finds the regions of a strategy that crops.
    pub(crate) scorer: Option<RegionScorer>,
    /// Cosines of several pictures, while the rest of them is still to be encoded.
    pub(super) chosen: Option<(Key, FilmScores)>,
}

impl TowerEncoder {
    #[must_use]
    pub fn new(tower: Tower, shape: Shape, n_pos: usize, stop: Stop) -> Self {
        Self { tower, shape, n_pos, stop, lock: None, scorer: None, chosen: None }
    }

    /// Encodes in pieces from now on. Between two of them a holder of the same lock can compute.
    pub fn share(&mut self, lock: ComputeLock) {
        self.lock = Some(lock);
    }

    /// The rules for the tokens of a span, which do not wait for the encoder.
    #[must_use]
    pub fn outline(&self) -> Outline {
        let patch = self.tower.info().patch_size;
        let counts = self.tower.info().by_library || self.tower.processor.is_library();
        let cutter = counts.then(|| Arc::new(self.tower.vision.cutter()));
        Outline { processor: self.tower.processor.clone(), patch, shape: self.shape.clone(), cutter }
    }

    /// Inputs of the encoder for `visual`, the two frames of a temporal patch one after the other; `None` if llama.cpp
    /// cuts the picture.
    ///
    /// # Errors
    /// As [`Encoder::encode_span`].
    pub fn inputs(&self, visual: &Visual<'_>) -> Result<Option<Vec<Input>>> {
        let Some(prepared) = self.tower.processor.prepare(visual)? else { return Ok(None) };
        let pictures = prepared.cuts.iter().flat_map(|cut| std::iter::once(&cut.first).chain(&cut.second));
        let input = |p: &crate::media::Pixels| (p.width, p.height, self.tower.processor.normalised(p));
        Ok(Some(pictures.map(input).collect()))
    }

    /// Hash of everything but picture and schedule that an embedding depends on.
    ///
    /// # Errors
    /// [`crate::error::Kind::File`] for a projector that cannot be read.
    pub fn identity(&self) -> Result<Key> {
        let tower = identity::of(&self.tower.file, &self.tower.options, &self.tower.info().backend)?;
        let tower = match self.tower.vision.text() {
            None => tower,
            Some(text) => identity::with_vocabulary(&tower, text),
        };
        let scorer = self.scorer.as_ref().map(RegionScorer::identity).transpose()?;
        Ok(scorer.map_or(tower, |scorer| identity::both(&tower, &scorer)))
    }
}

impl Encoder for TowerEncoder {
    fn encode_until(
        &mut self,
        visual: &Visual<'_>,
        schedule: &Schedule,
        cancelled: &AtomicBool,
    ) -> Result<EncodedImage> {
        self.encode_visual(visual, schedule, cancelled)
    }

    fn encoder_bytes(&self) -> u64 {
        self.tower.vision.compute_bytes()
    }

    fn free_buffers(&mut self) -> Result<()> {
        self.tower.vision.free_buffers()
    }
}

/// The encoder of a text model alone: none, which every picture is told.
impl Encoder for Option<TowerEncoder> {
    fn encode_until(
        &mut self,
        visual: &Visual<'_>,
        schedule: &Schedule,
        cancelled: &AtomicBool,
    ) -> Result<EncodedImage> {
        let none =
            || Error::usage("no image projector: pictures and videos need one; load its GGUF file, too");
        self.as_mut().ok_or_else(none)?.encode_until(visual, schedule, cancelled)
    }

    fn encoder_bytes(&self) -> u64 {
        self.as_ref().map_or(0, TowerEncoder::encoder_bytes)
    }

    fn free_buffers(&mut self) -> Result<()> {
        self.as_mut().map_or(Ok(()), TowerEncoder::free_buffers)
    }
}
