//! A loaded text model and its vocabulary.

use std::ffi::c_void;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_sys_2 as sys;

use super::gguf::Gguf;
use super::placement::Placement;
use crate::error::{Error, Kind, Result};

/// How the weights are loaded.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LoadOptions {
    /// Layers on devices other than the CPU; `None` for as many as fit a build with a GPU backend.
    pub gpu_layers: Option<u32>,
    pub placement: Placement,
    pub weights: Weights,
}

/// Layout in memory of weights that stay on the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weights {
    /// As they are stored, instead of in the layout of the CPU's fastest kernels.
    pub no_repack: bool,
    pub mode: LoadMode,
    /// Holds for the process: the pair that is loaded last decides.
    pub kernels: super::Kernels,
}

/// How weights come from the file to the CPU's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoadMode {
    /// Mapped, or read if the CPU lays them out anew: the mapping would be a second copy.
    #[default]
    Auto,
    /// Read into memory of the process's own.
    Read,
    /// Mapped, so that the system can drop pages and read them again.
    Map,
}

/// A text model. Clones share the weights.
#[derive(Debug, Clone)]
pub struct TextModel {
    inner: Arc<LlamaModel>,
}

/// A text model's architecture without its weights: it says what the model can do, and cannot run.
///
/// ```compile_fail,E0308
/// # fn run(path: &std::path::Path, options: &illava::native::ContextOptions) -> illava::error::Result<()> {
/// let outline = illava::native::TextOutline::load(path)?;
/// illava::native::Context::new(&outline, options, 1)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TextOutline(pub(super) TextModel);

/// Callback that a load reports to, and whether it asked the load to stop.
struct Progress<F> {
    report: F,
    stopped: bool,
}

unsafe extern "C" fn told<F: FnMut(f32) -> bool>(share: f32, progress: *mut c_void) -> bool {
    super::callback::guard(|| {
        // SAFETY: `load` passes a pointer to its own `Progress<F>`, which outlives the call that loads and which
        // nothing else touches meanwhile.
        let progress = unsafe { &mut *progress.cast::<Progress<F>>() };
        progress.stopped = !(progress.report)(share);
        !progress.stopped
    })
    .unwrap_or(false)
}

impl TextModel {
    /// Loads the weights at `path`. `progress` is given 0 to 1 and returns whether to go on.
    ///
    /// # Errors
    /// [`Kind::File`] with the library's reason, [`Kind::Usage`] for a server that does not answer, [`Kind::Interrupted`] if `progress` returned false.
    pub fn load<F: FnMut(f32) -> bool>(path: &Path, options: &LoadOptions, progress: F) -> Result<Self> {
        super::file::regular(path)?;
        super::backend()?;
        let weights = options.weights;
        // SAFETY: takes nothing, returns plain values.
        let mut params = unsafe { sys::llama_model_default_params() };
        if let Some(layers) = options.gpu_layers {
            params.n_gpu_layers = i32::try_from(layers).unwrap_or(i32::MAX);
        }
        options.placement.rpc.iter().try_for_each(|server| super::rpc::connect(server))?;
        // The parameters point to values that live until the model is loaded.
        let _placed = options.placement.put(&mut params)?;
        params.use_extra_bufts = !weights.no_repack;
        params.load_mode = match weights.mode {
            LoadMode::Read => sys::LLAMA_LOAD_MODE_NONE,
            LoadMode::Map => sys::LLAMA_LOAD_MODE_MMAP,
            LoadMode::Auto if !weights.no_repack && !options.computes_elsewhere() && is_repacked(path)? => {
                sys::LLAMA_LOAD_MODE_NONE
            }
            LoadMode::Auto => sys::LLAMA_LOAD_MODE_AUTO,
        };
        load(path, params, progress)
    }

    /// Bytes of the weights that the CPU lays out for its fastest kernels, a copy of what is in the file.
    #[must_use]
    pub fn repacked_bytes(&self) -> u64 {
        // SAFETY: the model is alive.
        unsafe { sys::illava_model_repacked_bytes(self.as_ptr()) }
    }

    /// `LlamaModel` hides its pointer but is `repr(transparent)` over it (its pointer type is a transparent
    /// wrapper of `NonNull`). A reference to the one is therefore a reference to the other.
    pub(super) fn as_ptr(&self) -> *mut sys::llama_model {
        const { assert!(size_of::<LlamaModel>() == size_of::<*mut sys::llama_model>()) };
        // SAFETY: see above; llama-cpp-2 is pinned to the exact version this was read in.
        unsafe { *std::ptr::from_ref::<LlamaModel>(&self.inner).cast::<*mut sys::llama_model>() }
    }

    pub(super) fn inner(&self) -> &LlamaModel {
        &self.inner
    }

    /// Whether both are clones of one model.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    #[must_use]
    pub fn n_embd(&self) -> u32 {
        self.inner.n_embd().unsigned_abs()
    }

    /// Values of an embedding that enters it: more than [`TextModel::n_embd`] if pictures bring features for several
    /// layers (Qwen3-VL).
    #[must_use]
    pub fn n_embd_in(&self) -> u32 {
        // SAFETY: the model is alive.
        unsafe { sys::llama_model_n_embd_inp(self.as_ptr()) }.unsigned_abs()
    }

    /// Bytes of the weights.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.inner.size()
    }

    /// Whether this architecture's graph can be cut at merge layers.
    #[must_use]
    pub fn can_merge(&self) -> bool {
        // SAFETY: the model is alive.
        unsafe { sys::illava_model_can_merge(self.as_ptr()) }
    }

    /// Heads of the queries.
    #[must_use]
    pub fn n_head(&self) -> i32 {
        // SAFETY: the model is alive.
        unsafe { sys::llama_model_n_head(self.as_ptr()) }
    }

    /// Heads of keys and values.
    #[must_use]
    pub fn n_head_kv(&self) -> i32 {
        // SAFETY: the model is alive.
        unsafe { sys::llama_model_n_head_kv(self.as_ptr()) }
    }

    /// Position rows of a call: 4 with M-RoPE, else 1.
    #[must_use]
    pub fn n_pos(&self) -> usize {
        // SAFETY: the model is alive.
        usize::try_from(unsafe { sys::illava_model_n_pos(self.as_ptr()) }).unwrap_or(1).max(1)
    }

    #[must_use]
    pub fn chat_template(&self) -> Option<String> {
        self.inner.chat_template(None).ok()?.to_string().ok()
    }

    /// The value of a key of the file's header, as text; none if the file lacks the key.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<String> {
        self.inner.meta_val_str(key).ok()
    }

    #[must_use]
    pub fn n_vocab(&self) -> i32 {
        self.inner.n_vocab()
    }

    /// The token's text as it stands in the vocabulary.
    #[must_use]
    pub fn text(&self, token: i32) -> Option<String> {
        Some(self.inner.vocab().text(self.known(token)?)?.to_string_lossy().into_owned())
    }

    /// The token's bytes as they appear in an answer; nothing for control tokens.
    #[must_use]
    pub fn piece(&self, token: i32) -> Vec<u8> {
        self.known(token).map_or_else(Vec::new, |token| self.inner.vocab().token_to_piece(token, false, None))
    }

    #[must_use]
    pub fn is_control(&self, token: i32) -> bool {
        self.known(token).is_some_and(|token| self.inner.vocab().is_control(token))
    }

    /// Whether an answer ends with this token.
    #[must_use]
    pub fn ends_generation(&self, token: i32) -> bool {
        self.known(token).is_some_and(|token| self.inner.vocab().is_eog(token))
    }

    /// The token in front of every prompt, if this model wants one.
    #[must_use]
    pub fn bos(&self) -> Option<i32> {
        let vocab = self.inner.vocab();
        (vocab.should_add_bos() && vocab.bos().0 >= 0).then(|| vocab.bos().0)
    }

    #[must_use]
    pub fn bos_text(&self) -> String {
        self.text(self.inner.vocab().bos().0).unwrap_or_default()
    }

    #[must_use]
    pub fn eos_text(&self) -> String {
        self.text(self.inner.vocab().eos().0).unwrap_or_default()
    }

    fn known(&self, token: i32) -> Option<LlamaToken> {
        (0..self.n_vocab()).contains(&token).then_some(LlamaToken(token))
    }
}

/// Facts in a model's file about conversations.
#[derive(Debug, Clone)]
pub struct ChatSetup {
    /// Jinja.
    pub template: Option<String>,
    /// Whether the vocabulary has ChatML's marks.
    pub has_chatml_marks: bool,
    /// Whether keys have fewer heads than queries.
    pub grouped_queries: bool,
    pub bos: String,
    pub eos: String,
}

impl TextModel {
    #[must_use]
    pub fn chat_setup(&self) -> ChatSetup {
        ChatSetup {
            template: self.chat_template(),
            has_chatml_marks: self.tokenize("<|im_start|>", true).len() == 1,
            grouped_queries: self.n_head_kv() < self.n_head(),
            bos: self.bos_text(),
            eos: self.eos_text(),
        }
    }
}

impl TextOutline {
    /// As [`TextModel::chat_setup`].
    #[must_use]
    pub fn chat_setup(&self) -> ChatSetup {
        self.0.chat_setup()
    }

    /// Reads the model at `path` but for its weights.
    ///
    /// # Errors
    /// [`Kind::File`] with the library's reason.
    pub fn load(path: &Path) -> Result<Self> {
        super::file::regular(path)?;
        super::backend()?;
        // SAFETY: takes nothing, returns plain values.
        let mut params = unsafe { sys::llama_model_default_params() };
        params.n_gpu_layers = 0;
        params.no_alloc = true;
        // Weights without memory cannot be mapped.
        params.load_mode = sys::LLAMA_LOAD_MODE_NONE;
        load(path, params, |_| true).map(Self)
    }

    /// As [`TextModel::can_merge`].
    #[must_use]
    pub fn can_merge(&self) -> bool {
        self.0.can_merge()
    }

    /// Bytes of the weights that the CPU would lay out for its fastest kernels.
    #[must_use]
    pub fn repacked_bytes(&self) -> u64 {
        self.0.repacked_bytes()
    }
}

fn load<F: FnMut(f32) -> bool>(
    path: &Path,
    mut params: sys::llama_model_params,
    report: F,
) -> Result<TextModel> {
    let name = super::c_path(path)?;
    let mut progress = Progress { report, stopped: false };
    params.progress_callback = Some(told::<F>);
    params.progress_callback_user_data = (&raw mut progress).cast();
    let (model, reason) = super::log::listening(|| {
        // SAFETY: the path ends in zero; `params` points to nothing but the callback's data, and all live
        // until the call returns.
        NonNull::new(unsafe { sys::llama_model_load_from_file(name.as_ptr(), params) })
    });
    let model = model.map(|model| {
        // SAFETY: `LlamaModel` is `repr(transparent)` over a `NonNull` of the same type and owns what it
        // points to. This pointer has no other owner.
        unsafe { std::mem::transmute::<NonNull<sys::llama_model>, LlamaModel>(model) }
    });
    super::callback::resume();
    match model {
        Some(inner) => Ok(TextModel { inner: Arc::new(inner) }),
        None if progress.stopped => Err(Error::interrupted()),
        None => {
            let reason = reason.unwrap_or_else(|| "llama.cpp gives no reason".into());
            let text = format!("{}: cannot be loaded as a text model ({reason})", path.display());
            Err(Error::new(Kind::File, text))
        }
    }
}

impl LoadOptions {
    /// Whether layers of a text model that is loaded so are on another device than the CPU.
    #[must_use]
    pub fn computes_elsewhere(&self) -> bool {
        let devices = self.placement.devices.as_ref().is_none_or(|devices| !devices.is_empty());
        self.gpu_layers != Some(0) && devices && super::placement::has_gpu()
    }
}

/// Whether the CPU would lay most of the file's weights out anew.
fn is_repacked(path: &Path) -> Result<bool> {
    let file = Gguf::open(path)?;
    let (mut repacked, mut all) = (0, 0);
    for (kind, bytes) in file.bytes_by_type() {
        all += bytes;
        let number = i32::try_from(kind).unwrap_or(-1);
        // SAFETY: takes a number, and refuses those that are no type.
        repacked += if unsafe { sys::illava_cpu_repacks(number) } { bytes } else { 0 };
    }
    Ok(repacked * 2 > all)
}
