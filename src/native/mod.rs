//! The only unsafe code: owners and safe calls over llama-cpp-2, llama.cpp's C API and `illava.h`.
//!
//! Rules kept here: every handle has one owner that frees it; no C type shows in a public
//! signature; a status that is not OK becomes an [`Error`] with the library's own sentence;
//! values read from C are copied out before the next call.
#![allow(unsafe_code)]

mod callback;
mod constraint;
mod context;
mod cutter;
mod file;
mod gguf;
mod kernels;
mod kv_type;
mod log;
mod model;
mod native_sampler;
mod parts;
mod picture;
mod placement;
mod prefill;
mod quantize;
mod rpc;
mod sampler;
mod scorer;
mod step;
mod thought;
mod tokenize;
mod trace;
mod vision;
mod vision_info;

use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::sync::OnceLock;

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_sys_2 as sys;

pub use constraint::{Grammar, Schemas};
pub use context::{Context, ContextOptions, MAX_SEQUENCES, Next, SegmentInfo};
pub use cutter::Cutter;
pub use file::is_same as is_same_file;
pub use gguf::{Gguf, TypeBytes};
pub use kernels::{Kernels, kernels_used};
pub use kv_type::KvType;
pub use model::{ChatSetup, LoadMode, LoadOptions, TextModel, TextOutline, Weights};
pub use parts::View;
pub use picture::{PicturePart, PreprocessedImage, Tile};
pub use placement::{Placement, Split, has_own_gpu};
pub use prefill::Prefill;
pub use quantize::quantize;
pub use rpc::serve as serve_rpc;
pub use sampler::{Penalties, Sampler, Sampling};
pub use scorer::{Scorer, ScorerInfo, Scores, Wanted};
pub use step::{MergeStep, Score, Strategy, Thinning};
pub use thought::Thought;
pub use vision::{EncodeOptions, Encoded, Vision, VisionOptions};
pub use vision_info::VisionInfo;

use crate::error::{Error, Kind, Result};

/// Use of flash attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FlashAttention {
    Off,
    On,
    /// Used if the backend has it.
    #[default]
    Auto,
}

impl FlashAttention {
    fn raw(self) -> i32 {
        match self {
            FlashAttention::Off => 0,
            FlashAttention::On => 1,
            FlashAttention::Auto => -1,
        }
    }
}

/// Starts the library once for the process and sends its log lines to `tracing`.
fn backend() -> Result<&'static LlamaBackend> {
    static BACKEND: OnceLock<std::result::Result<LlamaBackend, String>> = OnceLock::new();
    BACKEND
        .get_or_init(|| {
            log::install();
            LlamaBackend::init().map_err(|error| error.to_string())
        })
        .as_ref()
        .map_err(|error| Error::new(Kind::Native, format!("llama.cpp does not start: {error}")))
}

/// The gate for status codes, and for a panic in what the call has called back.
fn check(status: sys::illava_status) -> Result<()> {
    callback::resume();
    let kind = match status {
        sys::ILLAVA_OK => return Ok(()),
        sys::ILLAVA_BAD_FILE => Kind::File,
        sys::ILLAVA_UNSUPPORTED => Kind::Model,
        sys::ILLAVA_KV_FULL => Kind::Context,
        sys::ILLAVA_ABORTED => Kind::Interrupted,
        // This covers BAD_ARG, NO_MEMORY, INTERNAL and the codes of later libraries.
        _ => Kind::Native,
    };
    // SAFETY: the function takes nothing and returns null or a string that stays valid until
    // this thread's next call into the library; it is copied here.
    let message = unsafe { owned(sys::illava_last_error()) };
    let message =
        if message.is_empty() { format!("the native library failed with status {status}") } else { message };
    Err(Error::new(kind, message))
}

/// # Safety
/// `text` is null or points to a zero-terminated string that is valid during the call.
unsafe fn owned(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: by the contract above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// A fixed array that C filled with a zero-terminated string.
fn from_array(text: &[c_char]) -> String {
    let bytes: Vec<u8> = text.iter().take_while(|&&c| c != 0).map(|&c| c.cast_unsigned()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn c_path(path: &Path) -> Result<CString> {
    let unusable = || {
        Error::new(
            Kind::File,
            format!("{}: the file's name must be UTF-8 without zero bytes", path.display()),
        )
    };
    let text = path.to_str().ok_or_else(unusable)?;
    CString::new(text).map_err(|_| unusable())
}

fn size_of<T>() -> usize {
    std::mem::size_of::<T>()
}

/// # Safety
/// `data` points to `len` values that stay valid during the call; it may be null if `len` is 0.
unsafe fn copied<T: Copy>(data: *const T, len: usize) -> Vec<T> {
    if data.is_null() || len == 0 {
        return Vec::new();
    }
    // SAFETY: by the contract above.
    unsafe { std::slice::from_raw_parts(data, len) }.to_vec()
}
