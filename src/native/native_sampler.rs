//! One of llama.cpp's samplers, owned.

use std::ffi::CString;
use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use super::model::TextModel;
use crate::error::{Error, Kind, Result};

/// A token that may be drawn: its number, logit and probability.
pub(super) type Candidate = sys::llama_token_data;

/// A sampler or a chain of them. A grammar reads the vocabulary of its model, which must outlive it.
pub(super) struct NativeSampler(NonNull<sys::llama_sampler>);

impl NativeSampler {
    /// # Safety
    /// `ptr` is null or a sampler that nothing else frees.
    unsafe fn from_raw(ptr: *mut sys::llama_sampler) -> Result<Self> {
        NonNull::new(ptr).map(Self).ok_or_else(|| Error::new(Kind::Native, "llama.cpp makes no such sampler"))
    }

    /// Takes the most likely candidate.
    pub(super) fn greedy() -> Result<Self> {
        // SAFETY: takes nothing; the result is ours.
        unsafe { Self::from_raw(sys::llama_sampler_init_greedy()) }
    }

    /// Draws from the probabilities.
    pub(super) fn draw(seed: u32) -> Result<Self> {
        // SAFETY: takes a number; the result is ours.
        unsafe { Self::from_raw(sys::llama_sampler_init_dist(seed)) }
    }

    pub(super) fn top_k(k: i32) -> Result<Self> {
        // SAFETY: takes a number; the result is ours.
        unsafe { Self::from_raw(sys::llama_sampler_init_top_k(k)) }
    }

    pub(super) fn top_p(p: f32) -> Result<Self> {
        // SAFETY: takes numbers; the result is ours.
        unsafe { Self::from_raw(sys::llama_sampler_init_top_p(p, 1)) }
    }

    pub(super) fn min_p(p: f32) -> Result<Self> {
        // SAFETY: takes numbers; the result is ours.
        unsafe { Self::from_raw(sys::llama_sampler_init_min_p(p, 1)) }
    }

    pub(super) fn temperature(temperature: f32) -> Result<Self> {
        // SAFETY: takes a number; the result is ours.
        unsafe { Self::from_raw(sys::llama_sampler_init_temp(temperature)) }
    }

    /// Adds to logits, by token.
    pub(super) fn bias(n_vocab: i32, bias: &[(i32, f32)]) -> Result<Self> {
        let bias: Vec<_> = bias.iter().map(|&(token, bias)| sys::llama_logit_bias { token, bias }).collect();
        let n = i32::try_from(bias.len())
            .map_err(|_| Error::usage(format!("{} biases are more than fit", bias.len())))?;
        // SAFETY: an array of n values, which the library copies.
        unsafe { Self::from_raw(sys::llama_sampler_init_logit_bias(n_vocab, n, bias.as_ptr())) }
    }

    /// Lowers the logits of the last `last_n` tokens.
    pub(super) fn penalties(
        n_vocab: i32,
        last_n: i32,
        (repeat, frequency, presence): (f32, f32, f32),
    ) -> Result<Self> {
        // SAFETY: takes numbers; the caller bounds the length of the list that is made.
        unsafe {
            Self::from_raw(sys::llama_sampler_init_penalties(n_vocab, last_n, repeat, frequency, presence))
        }
    }

    /// A GBNF grammar over the vocabulary of `model`, which the caller keeps alive beside it.
    ///
    /// # Errors
    /// The parser's reason.
    pub(super) fn grammar(model: &TextModel, text: &str) -> std::result::Result<Self, String> {
        let text = CString::new(text).map_err(|_| "it has a zero byte".to_owned())?;
        let (mut ptr, root) = (std::ptr::null_mut(), c"root");
        // SAFETY: the model is alive, both strings end in zero and are copied; the result is ours.
        unsafe {
            let status =
                sys::illava_sampler_grammar(model.as_ptr(), text.as_ptr(), root.as_ptr(), &raw mut ptr);
            super::check(status).and_then(|()| Self::from_raw(ptr)).map_err(|error| error.to_string())
        }
    }

    /// One sampler that applies `parts` in their order.
    pub(super) fn chain(parts: Vec<Self>) -> Result<Self> {
        // SAFETY: takes plain values; the result is ours.
        let chain = unsafe {
            Self::from_raw(sys::llama_sampler_chain_init(sys::llama_sampler_chain_default_params()))?
        };
        for part in parts {
            // SAFETY: both are alive; the chain frees the part, so that its own drop must not.
            unsafe { sys::llama_sampler_chain_add(chain.0.as_ptr(), part.0.as_ptr()) };
            std::mem::forget(part);
        }
        Ok(chain)
    }

    /// Changes, reorders or drops candidates; returns the token chosen, if this sampler chooses one.
    ///
    /// # Errors
    /// The library's own.
    pub(super) fn apply(&mut self, candidates: &mut Vec<Candidate>) -> Result<Option<i32>> {
        let data = candidates.as_mut_ptr();
        let mut array =
            sys::llama_token_data_array { data, size: candidates.len(), selected: -1, sorted: false };
        // SAFETY: the sampler is alive; the array holds the list's candidates.
        super::check(unsafe { sys::illava_sampler_apply(self.0.as_ptr(), &raw mut array) })?;
        if array.data == data {
            candidates.truncate(array.size);
        } else {
            // SAFETY: a sampler may point the array at a list of its own, valid until the next call; it is copied here.
            *candidates = unsafe { super::copied(array.data, array.size) };
        }
        Ok(usize::try_from(array.selected).ok().and_then(|at| candidates.get(at)).map(|chosen| chosen.id))
    }

    /// Goes on to the next token.
    ///
    /// # Errors
    /// The library's own, for a token that a grammar does not allow here.
    pub(super) fn accept(&mut self, token: i32) -> Result<()> {
        // SAFETY: the sampler is alive.
        super::check(unsafe { sys::illava_sampler_accept(self.0.as_ptr(), token) })
    }
}

impl Drop for NativeSampler {
    fn drop(&mut self) {
        // SAFETY: this is the one owner.
        unsafe { sys::llama_sampler_free(self.0.as_ptr()) };
    }
}

// SAFETY: a sampler is used through one `&mut` at a time and has no thread-local state.
unsafe impl Send for NativeSampler {}
