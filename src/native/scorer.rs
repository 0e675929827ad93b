//! A text-image model: features of texts and pictures, and CLIPSeg's map of a picture for a text.

use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::AtomicBool;

use llama_cpp_sys_2 as sys;

use crate::error::{Error, Kind, Result};

/// Facts of a text-image model's file.
#[derive(Debug, Clone, PartialEq)]
pub struct ScorerInfo {
    /// Whether it has CLIPSeg's decoder.
    pub has_map: bool,
    /// Pixels per side of a picture.
    pub image_size: u32,
    pub patch_size: u32,
    /// Values per side of a map; 0 without one.
    pub map_size: u32,
    /// Values of a feature vector.
    pub n_projection: u32,
    pub n_vocab: u32,
    /// Tokens of a text at most, with the marks of its beginning and end.
    pub n_text: u32,
    pub mean: [f32; 3],
    pub std: [f32; 3],
    /// Factor that makes a logit of the cosine of two feature vectors.
    pub logit_scale: f32,
    /// Whether pictures are resized by the bilinear filter; else by the bicubic one.
    pub bilinear: bool,
    pub weight_bytes: u64,
    pub backend: String,
}

/// Result for a batch of pictures.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// [n_images, n_projection], of any length.
    pub features: Vec<f32>,
    /// [n_images, patches, n_projection], of any length; empty unless asked for.
    pub patches: Vec<f32>,
    /// [n_images, map_size, map_size] logits; empty unless asked for.
    pub map: Vec<f32>,
}

/// Which of them are computed beside the features.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    pub patches: bool,
    /// \[n_projection\] features of the text that the map is for.
    pub map: Option<&'a [f32]>,
}

/// A loaded model.
pub struct Scorer {
    ptr: NonNull<sys::illava_scorer>,
    info: ScorerInfo,
}

impl Scorer {
    /// # Errors
    /// [`Kind::File`] or [`Kind::Model`] with the library's reason.
    pub fn load(path: &Path, use_gpu: bool, threads: u32) -> Result<Self> {
        super::file::regular(path)?;
        super::backend()?;
        let name = super::c_path(path)?;
        // SAFETY: takes nothing, returns plain values.
        let mut params = unsafe { sys::illava_scorer_default_params() };
        params.use_gpu = use_gpu;
        params.n_threads = i32::try_from(threads).unwrap_or(i32::MAX);
        let mut ptr = std::ptr::null_mut();
        // SAFETY: the path is zero-terminated; the struct lives until the call returns.
        let status = unsafe { sys::illava_scorer_load(name.as_ptr(), &raw const params, &raw mut ptr) };
        super::check(status)?;
        let ptr = NonNull::new(ptr).ok_or_else(|| {
            Error::new(Kind::Native, format!("{}: the library loaded no model", path.display()))
        })?;
        // SAFETY: a plain C struct of numbers and characters.
        let mut raw: sys::illava_scorer_info = unsafe { std::mem::zeroed() };
        raw.size = super::size_of::<sys::illava_scorer_info>();
        // SAFETY: the handle is alive.
        let status = unsafe { sys::illava_scorer_describe(ptr.as_ptr(), &raw mut raw) };
        let scorer = Self { ptr, info: read(&raw) };
        super::check(status)?;
        Ok(scorer)
    }

    #[must_use]
    pub fn info(&self) -> &ScorerInfo {
        &self.info
    }

    /// Features of a text, \[n_projection\]; the row of token `pooled` stands for the text.
    ///
    /// # Errors
    /// The library's own, for tokens that the model does not have and for too many of them.
    pub fn text(&mut self, tokens: &[i32], pooled: usize) -> Result<Vec<f32>> {
        let mut features = vec![0.0; self.info.n_projection as usize];
        // SAFETY: the handle is alive; both arrays have the lengths that the header asks for.
        super::check(unsafe {
            sys::illava_scorer_text(
                self.ptr.as_ptr(),
                tokens.as_ptr(),
                tokens.len(),
                pooled,
                features.as_mut_ptr(),
            )
        })?;
        Ok(features)
    }

    /// Scores of pictures, [n_images, 3, image_size, image_size], normalised. It ends soon after a flag of `stop`
    /// becomes true.
    ///
    /// # Errors
    /// [`Kind::Interrupted`] after that, [`Kind::Model`] for a map without a decoder, or the library's own.
    pub fn images(&mut self, pixels: &[f32], wanted: Wanted<'_>, stop: &[&AtomicBool]) -> Result<Scores> {
        let side = self.info.image_size as usize;
        let one = 3 * side * side;
        let n = pixels.len() / one;
        let count = u32::try_from(n).ok().filter(|_| pixels.len() == n * one);
        let Some(n_images) = count else {
            return Err(Error::new(
                Kind::Native,
                format!("{} values are no pictures of {side}x{side} pixels", pixels.len()),
            ));
        };
        let projection = self.info.n_projection as usize;
        if let Some(text) = wanted.map.filter(|text| text.len() != projection) {
            return Err(Error::new(
                Kind::Native,
                format!("{} values are no features of {projection}", text.len()),
            ));
        }
        let cells = (self.info.image_size / self.info.patch_size).pow(2) as usize;
        let map = (self.info.map_size as usize).pow(2);
        let mut scores = Scores {
            features: vec![0.0; n * projection],
            patches: vec![0.0; if wanted.patches { n * cells * projection } else { 0 }],
            map: vec![0.0; if wanted.map.is_some() { n * map } else { 0 }],
        };
        // SAFETY: takes nothing, returns plain values.
        let mut params = unsafe { sys::illava_scorer_default_images() };
        params.pixels = pixels.as_ptr();
        params.n_images = n_images;
        params.features = scores.features.as_mut_ptr();
        if wanted.patches {
            params.patches = scores.patches.as_mut_ptr();
        }
        if let Some(text) = wanted.map {
            params.text = text.as_ptr();
            params.map = scores.map.as_mut_ptr();
        }
        if !stop.is_empty() {
            params.stop = Some(super::callback::one_is_set);
            params.stop_data = std::ptr::from_ref(&stop).cast_mut().cast();
        }
        // SAFETY: the handle is alive; all arrays have the lengths that the header asks for and live until the call
        // returns, as the flags do.
        super::check(unsafe { sys::illava_scorer_score(self.ptr.as_ptr(), &raw const params) })?;
        Ok(scores)
    }
}

fn read(raw: &sys::illava_scorer_info) -> ScorerInfo {
    ScorerInfo {
        has_map: raw.has_map,
        image_size: raw.image_size.unsigned_abs(),
        patch_size: raw.patch_size.unsigned_abs().max(1),
        map_size: raw.map_size.unsigned_abs(),
        n_projection: raw.n_projection.unsigned_abs(),
        n_vocab: raw.n_vocab.unsigned_abs(),
        n_text: raw.n_text.unsigned_abs(),
        mean: raw.mean,
        std: raw.std,
        logit_scale: raw.logit_scale,
        bilinear: raw.bilinear,
        weight_bytes: raw.weight_bytes,
        backend: super::from_array(&raw.backend),
    }
}

impl Drop for Scorer {
    fn drop(&mut self) {
        // SAFETY: this is the one owner.
        unsafe { sys::illava_scorer_free(self.ptr.as_ptr()) };
    }
}

// SAFETY: the model is used through one `&mut` at a time and has no thread-local state.
unsafe impl Send for Scorer {}
