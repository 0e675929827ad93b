//! Kernels that compute on the CPU.

use std::ffi::CStr;

use llama_cpp_sys_2 as sys;

/// Kernels for products of many rows on the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kernels {
    /// This library's own, if they have code for the processor.
    #[default]
    Auto,
    /// ggml's, whose results are those of an unpatched library to the last bit.
    Stock,
}

impl Kernels {
    /// Makes the choice for the whole process, for what is computed from now on.
    pub fn choose(self) {
        // SAFETY: takes a plain value and stores it in an atomic one.
        unsafe { sys::illava_set_kernels(self == Kernels::Auto) }
    }
}

impl Kernels {
    /// Whether a quantised encoder is faster in the layout of ggml's fastest kernels: nobody asked for llama.cpp's
    /// bits, and this library has no kernels for the processor.
    #[must_use]
    pub fn wants_repacking(self) -> bool {
        self == Kernels::Auto && kernels_used() == "stock"
    }
}

/// The instructions that this library's kernels use now, such as `avx512-bf16, avx512-vnni`; `stock` if ggml computes
/// everything.
#[must_use]
pub fn kernels_used() -> &'static str {
    // SAFETY: returns a constant text that ends in a zero byte.
    let name = unsafe { CStr::from_ptr(sys::illava_kernels_used()) };
    name.to_str().unwrap_or("stock")
}
