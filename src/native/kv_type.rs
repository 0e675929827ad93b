//! Types of a KV cache.

use llama_cpp_sys_2 as sys;

/// The element type of a K or V cache, by its llama.cpp name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvType {
    F32,
    #[default]
    F16,
    Bf16,
    Q8_0,
    Q4_0,
    Q4_1,
    Iq4Nl,
    Q5_0,
    Q5_1,
}

impl KvType {
    pub const ALL: [KvType; 9] = [
        KvType::F32,
        KvType::F16,
        KvType::Bf16,
        KvType::Q8_0,
        KvType::Q4_0,
        KvType::Q4_1,
        KvType::Iq4Nl,
        KvType::Q5_0,
        KvType::Q5_1,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            KvType::F32 => "f32",
            KvType::F16 => "f16",
            KvType::Bf16 => "bf16",
            KvType::Q8_0 => "q8_0",
            KvType::Q4_0 => "q4_0",
            KvType::Q4_1 => "q4_1",
            KvType::Iq4Nl => "iq4_nl",
            KvType::Q5_0 => "q5_0",
            KvType::Q5_1 => "q5_1",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(super) fn raw(self) -> sys::ggml_type {
        match self {
            KvType::F32 => sys::GGML_TYPE_F32,
            KvType::F16 => sys::GGML_TYPE_F16,
            KvType::Bf16 => sys::GGML_TYPE_BF16,
            KvType::Q8_0 => sys::GGML_TYPE_Q8_0,
            KvType::Q4_0 => sys::GGML_TYPE_Q4_0,
            KvType::Q4_1 => sys::GGML_TYPE_Q4_1,
            KvType::Iq4Nl => sys::GGML_TYPE_IQ4_NL,
            KvType::Q5_0 => sys::GGML_TYPE_Q5_0,
            KvType::Q5_1 => sys::GGML_TYPE_Q5_1,
        }
    }

    #[must_use]
    pub fn is_quantised(self) -> bool {
        !matches!(self, KvType::F32 | KvType::F16 | KvType::Bf16)
    }

    /// Elements that one block holds: a row's length must be a multiple of it.
    #[must_use]
    pub fn block(self) -> u64 {
        // SAFETY: a table look-up by a type this library has.
        unsafe { sys::ggml_blck_size(self.raw()) }.unsigned_abs()
    }

    /// Bytes of a row of `n` elements; `None` if n is no whole number of blocks.
    #[must_use]
    pub fn row_bytes(self, n: u64) -> Option<u64> {
        // SAFETY: a table look-up by a type this library has.
        let size = unsafe { sys::ggml_type_size(self.raw()) } as u64;
        n.is_multiple_of(self.block()).then(|| n / self.block() * size)
    }
}

/// The name users know a tensor type by, `Q4_K` for example.
pub(super) fn type_name(kind: sys::ggml_type) -> String {
    if kind >= sys::GGML_TYPE_COUNT {
        return format!("type {kind}");
    }
    // SAFETY: the type is inside the library's table, whose names are static strings or null.
    unsafe { super::owned(sys::ggml_type_name(kind)) }.to_uppercase()
}
