//! The image encoder with its projector: pixels to tiles to embeddings.

use std::ffi::c_void;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use llama_cpp_sys_2 as sys;

use super::FlashAttention;
use super::cutter::Cutter;
use super::model::TextModel;
use super::picture::{Owner, PreprocessedImage, Tile};
use super::step::{self, MergeStep, Strategy};
use super::vision_info::VisionInfo;
use crate::error::{Error, Kind, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VisionOptions {
    pub use_gpu: bool,
    pub flash_attention: FlashAttention,
    pub threads: u32,
    /// Lower bound on a picture's tokens, for models whose number of tokens follows its size.
    pub min_tokens: Option<u32>,
    /// Upper bound on a picture's tokens, for models whose number of tokens follows its size.
    pub max_tokens: Option<u32>,
    /// On a CPU: weights in the layout of its fastest kernels, which round otherwise than llama.cpp does.
    pub repack: bool,
}

/// How a tile is encoded.
#[derive(Debug, Clone, Copy)]
pub struct EncodeOptions<'a> {
    /// Layers, ascending, with the patches each removes.
    pub steps: &'a [(u32, u32)],
    pub strategy: Strategy,
    /// Survivors are relabelled in order instead of keeping their places.
    pub reference_grid: bool,
    pub threads: u32,
    /// The call ends soon after one of these becomes true.
    pub stop: &'a [&'a AtomicBool],
    /// The class token's attention ranks patches; else the attention from all rows.
    pub class_scores: bool,
    /// Behind the first step a token that stands for several counts as often in attention.
    pub count_sizes: bool,
    /// \[patches, or whole groups of them\] 1 for one that merges last, which needs [`Strategy::Bipartite`]; empty: none.
    pub held: &'a [u8],
}

/// A loaded encoder.
pub struct Vision {
    pub(super) ptr: NonNull<sys::illava_vision>,
    /// Frees `ptr` with its last owner.
    pub(super) owner: Arc<Owner>,
    info: VisionInfo,
    /// The text model that the marks of its pictures are tokens of, if llama.cpp makes them.
    pub(super) text: Option<TextModel>,
}

/// A tile after the encoder and the projector.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Encoded {
    pub n_tokens: u32,
    /// [n_tokens, n_embd].
    pub embeddings: Vec<f32>,
    /// \[n_tokens\], ascending: the original output cell of each token, row * cells.0 + column.
    pub kept: Vec<i32>,
    /// \[n_tokens\] original tokens that each stands for; empty if the strategy keeps no count.
    pub sizes: Vec<f32>,
    /// \[n_tokens\] 1 for a token that merges last; empty: none.
    pub held: Vec<u8>,
    /// \[n_embd\] the row behind each line of cells that has a token left, but the grid's last; empty: none.
    pub line_break: Vec<f32>,
    /// Output cells without merging, across and down.
    pub cells: (u32, u32),
    pub steps: Vec<MergeStep>,
    pub encoder_ms: f64,
    pub projector_ms: f64,
}

unsafe extern "C" fn paused<F: FnMut()>(between: *mut c_void) {
    super::callback::guard(|| {
        // SAFETY: `encode_in_pieces` passes a pointer to its own `F`, which outlives the call that encodes and
        // which nothing else touches meanwhile.
        unsafe { (*between.cast::<F>())() };
    });
}

unsafe extern "C" fn told<F: FnMut(f32) -> bool>(share: f32, progress: *mut c_void) -> bool {
    super::callback::guard(|| {
        // SAFETY: as in `paused`, for the `F` of `load_with_progress`.
        unsafe { (*progress.cast::<F>())(share) }
    })
    .unwrap_or(false)
}

impl Vision {
    /// # Errors
    /// [`Kind::File`] or [`Kind::Model`] with the library's reason.
    pub fn load(path: &Path, options: &VisionOptions) -> Result<Self> {
        Self::load_with_progress(path, options, |_| true)
    }

    /// The same; `progress` is given 0 to 1 and returns whether to go on.
    ///
    /// # Errors
    /// As [`Vision::load`], and [`Kind::Interrupted`] if `progress` returned false.
    pub fn load_with_progress<F: FnMut(f32) -> bool>(
        path: &Path,
        options: &VisionOptions,
        mut progress: F,
    ) -> Result<Self> {
        super::file::regular(path)?;
        super::backend()?;
        let name = super::c_path(path)?;
        let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        // SAFETY: takes nothing, returns plain values.
        let mut params = unsafe { sys::illava_vision_default_params() };
        params.use_gpu = options.use_gpu;
        params.flash_attn = options.flash_attention.raw();
        params.n_threads = number(options.threads);
        params.image_min_tokens = number(options.min_tokens.unwrap_or(0));
        params.image_max_tokens = number(options.max_tokens.unwrap_or(0));
        params.repack = options.repack;
        params.progress = Some(told::<F>);
        params.progress_data = (&raw mut progress).cast();
        let mut ptr = std::ptr::null_mut();
        // SAFETY: the path is zero-terminated; the struct and what it points to live until the call returns.
        let status = unsafe { sys::illava_vision_load(name.as_ptr(), &raw const params, &raw mut ptr) };
        let vision = NonNull::new(ptr).map(|ptr| Self {
            ptr,
            owner: Arc::new(Owner(ptr)),
            info: VisionInfo::none(),
            text: None,
        });
        super::check(status)?;
        let mut vision = vision.ok_or_else(|| {
            Error::new(Kind::Native, format!("{}: the library loaded no projector", path.display()))
        })?;
        vision.info = vision.describe()?;
        Ok(vision)
    }

    fn describe(&self) -> Result<VisionInfo> {
        // SAFETY: a plain C struct of numbers and characters; the handle is alive.
        let raw = unsafe {
            let mut raw: sys::illava_vision_info = std::mem::zeroed();
            raw.size = super::size_of::<sys::illava_vision_info>();
            super::check(sys::illava_vision_describe(self.ptr.as_ptr(), &raw mut raw))?;
            raw
        };
        Ok(VisionInfo::read(&raw))
    }

    #[must_use]
    pub fn info(&self) -> &VisionInfo {
        &self.info
    }

    /// Bytes of the encoder's compute buffers as they stand.
    #[must_use]
    pub fn compute_bytes(&self) -> u64 {
        // SAFETY: the handle is alive.
        unsafe { sys::illava_vision_compute_bytes(self.ptr.as_ptr()) }
    }

    /// Frees the compute buffers; the next tile allocates what it needs.
    ///
    /// # Errors
    /// The library's own, without memory.
    pub fn free_buffers(&mut self) -> Result<()> {
        // SAFETY: the handle is alive.
        super::check(unsafe { sys::illava_vision_free_buffers(self.ptr.as_ptr()) })
    }

    /// Upstream's own preprocessing of `rgb`, interleaved [height, width, 3].
    ///
    /// # Errors
    /// The library's own, for pictures this model cannot take.
    pub fn picture(&mut self, rgb: &[u8], width: u32, height: u32) -> Result<PreprocessedImage> {
        if rgb.len() as u64 != u64::from(width) * u64::from(height) * 3 {
            return Err(Error::new(
                Kind::Native,
                format!("{} bytes are no {width}x{height} picture", rgb.len()),
            ));
        }
        let mut ptr = std::ptr::null_mut();
        // SAFETY: the length was checked against the size; the library copies the pixels.
        super::check(unsafe {
            sys::illava_image_from_rgb(self.ptr.as_ptr(), rgb.as_ptr(), width, height, &raw mut ptr)
        })?;
        let ptr = NonNull::new(ptr).ok_or_else(|| Error::new(Kind::Native, "the library made no picture"))?;
        Ok(PreprocessedImage { ptr })
    }

    /// One tile of pixels that are normalised already, [height, width, 3].
    ///
    /// # Errors
    /// The library's own, for sizes this model cannot take.
    pub fn picture_from_pixels(
        &mut self,
        pixels: &[f32],
        width: u32,
        height: u32,
    ) -> Result<PreprocessedImage> {
        if pixels.len() as u64 != u64::from(width) * u64::from(height) * 3 {
            return Err(Error::new(
                Kind::Native,
                format!("{} values are no {width}x{height} picture", pixels.len()),
            ));
        }
        let mut ptr = std::ptr::null_mut();
        // SAFETY: the length was checked against the size; the library copies the pixels.
        super::check(unsafe {
            sys::illava_image_from_f32(self.ptr.as_ptr(), pixels.as_ptr(), width, height, &raw mut ptr)
        })?;
        let ptr = NonNull::new(ptr).ok_or_else(|| Error::new(Kind::Native, "the library made no picture"))?;
        Ok(PreprocessedImage { ptr })
    }

    /// Two frames of a video that one temporal patch takes together, both [height, width, 3] and normalised.
    ///
    /// # Errors
    /// The library's own, for encoders that take frames one by one and for sizes.
    pub fn picture_from_frames(
        &mut self,
        first: &[f32],
        second: &[f32],
        width: u32,
        height: u32,
    ) -> Result<PreprocessedImage> {
        let values = u64::from(width) * u64::from(height) * 3;
        if first.len() as u64 != values || second.len() as u64 != values {
            return Err(Error::new(
                Kind::Native,
                format!("{} and {} values are no {width}x{height} frames", first.len(), second.len()),
            ));
        }
        let mut ptr = std::ptr::null_mut();
        // SAFETY: both lengths were checked against the size; the library copies the pixels.
        super::check(unsafe {
            sys::illava_image_from_frames(
                self.ptr.as_ptr(),
                first.as_ptr(),
                second.as_ptr(),
                width,
                height,
                &raw mut ptr,
            )
        })?;
        let ptr = NonNull::new(ptr).ok_or_else(|| Error::new(Kind::Native, "the library made no picture"))?;
        Ok(PreprocessedImage { ptr })
    }

    /// # Errors
    /// The library's own.
    pub fn tiles(&self, picture: &PreprocessedImage) -> Result<Vec<Tile>> {
        super::picture::tiles(&self.owner, picture)
    }

    /// Returns a view that cuts pictures by their sizes, also while this one encodes.
    #[must_use]
    pub fn cutter(&self) -> Cutter {
        Cutter::new(Arc::clone(&self.owner), self.text.clone())
    }

    /// Encodes one tile.
    ///
    /// # Errors
    /// The library's own, for steps this encoder cannot take or memory it cannot get.
    pub fn encode(
        &mut self,
        picture: &PreprocessedImage,
        tile: usize,
        options: &EncodeOptions<'_>,
    ) -> Result<Encoded> {
        self.encode_with(picture, tile, options, (None, std::ptr::null_mut()))
    }

    /// The same, with a call of `between` at some 64 moments in which nothing is computed. The time it
    /// takes is no part of the tile's.
    ///
    /// # Errors
    /// As [`Vision::encode`].
    pub fn encode_in_pieces<F: FnMut()>(
        &mut self,
        picture: &PreprocessedImage,
        tile: usize,
        options: &EncodeOptions<'_>,
        mut between: F,
    ) -> Result<Encoded> {
        self.encode_with(picture, tile, options, (Some(paused::<F>), (&raw mut between).cast()))
    }

    fn encode_with(
        &mut self,
        picture: &PreprocessedImage,
        tile: usize,
        options: &EncodeOptions<'_>,
        (pause, pause_data): (Option<unsafe extern "C" fn(*mut c_void)>, *mut c_void),
    ) -> Result<Encoded> {
        let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let steps: Vec<sys::illava_merge_step> = options
            .steps
            .iter()
            .map(|&(layer, r)| sys::illava_merge_step { layer: number(layer), r: number(r) })
            .collect();
        // SAFETY: takes nothing, returns plain values.
        let mut params = unsafe { sys::illava_encode_default_params() };
        params.steps = steps.as_ptr();
        params.n_steps = steps.len();
        params.grid =
            if options.reference_grid { sys::ILLAVA_GRID_REFERENCE } else { sys::ILLAVA_GRID_FAITHFUL };
        params.n_threads = number(options.threads);
        params.strategy = options.strategy.raw();
        params.seed = options.strategy.seed();
        params.count_sizes = options.count_sizes;
        if !options.held.is_empty() {
            params.held = options.held.as_ptr();
            params.n_held = options.held.len();
        }
        params.score = if options.class_scores {
            sys::ILLAVA_TOWER_SCORE_CLASS
        } else {
            sys::ILLAVA_TOWER_SCORE_RECEIVED
        };
        params.pause = pause;
        params.pause_data = pause_data;
        if !options.stop.is_empty() {
            params.stop = Some(super::callback::one_is_set);
            params.stop_data = std::ptr::from_ref(&options.stop).cast_mut().cast();
        }
        let mut ptr = std::ptr::null_mut();
        // SAFETY: all handles are alive; the steps, the flags, `held` and what `pause_data` points to live until the call
        // returns.
        let status = unsafe {
            sys::illava_encode(self.ptr.as_ptr(), picture.ptr.as_ptr(), tile, &raw const params, &raw mut ptr)
        };
        let encoded = NonNull::new(ptr).map(Owned);
        super::check(status)?;
        let encoded = encoded.ok_or_else(|| Error::new(Kind::Native, "the library encoded nothing"))?;
        encoded.copy()
    }
}

/// Frees an encoded tile after its contents were copied.
struct Owned(NonNull<sys::illava_encoded>);

impl Owned {
    fn copy(&self) -> Result<Encoded> {
        // SAFETY: plain numbers and pointers into the encoded tile, which is alive.
        let view = unsafe {
            let mut view: sys::illava_encoded_view = std::mem::zeroed();
            view.size = super::size_of::<sys::illava_encoded_view>();
            super::check(sys::illava_encoded_get(self.0.as_ptr(), &raw mut view))?;
            view
        };
        let n = view.n_tokens as usize;
        let steps = (0..view.n_steps)
            .map(|i| {
                let mut raw = step::empty();
                // SAFETY: as above; i is below the count, and the step is copied at once.
                unsafe {
                    super::check(sys::illava_encoded_step(self.0.as_ptr(), i, &raw mut raw))?;
                    Ok(step::copy(&raw))
                }
            })
            .collect::<Result<Vec<_>>>()?;
        // SAFETY: the header gives the lengths: [n_tokens, n_embd], and [n_tokens] of the others, of
        // which the last may be null.
        let (embeddings, kept, sizes, line_break) = unsafe {
            (
                super::copied(view.embd, n * view.n_embd as usize),
                super::copied(view.kept, n),
                super::copied(view.sizes, n),
                super::copied(view.line_break, view.n_embd as usize),
            )
        };
        Ok(Encoded {
            n_tokens: view.n_tokens,
            embeddings,
            kept,
            sizes,
            held: Vec::new(),
            line_break,
            cells: (view.cells_x, view.cells_y),
            steps,
            encoder_ms: view.encoder_ms,
            projector_ms: view.projector_ms,
        })
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: this is the one owner.
        unsafe { sys::illava_encoded_free(self.0.as_ptr()) };
    }
}

// SAFETY: the encoder is used through one `&mut` at a time and has no thread-local state.
unsafe impl Send for Vision {}
