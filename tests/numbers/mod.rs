//! The context and the distance by which tests compare numbers.

use illava::native::{ContextOptions, FlashAttention, KvType};

/// Options for 256 rows, with the decoder cut at `layers` and a cache of type `kv`.
pub fn options(layers: Vec<u32>, ubatch: u32, flash_attention: FlashAttention, kv: &str) -> ContextOptions {
    let kv = KvType::named(kv).expect("a cache type");
    ContextOptions {
        cells: 256,
        deep_cells: vec![256; layers.len()],
        merge_layers: layers,
        batch: 256,
        ubatch,
        threads: 1,
        threads_batch: 1,
        flash_attention,
        type_k: kv,
        type_v: kv,
        offload: false,
        stop: None,
    }
}

/// Relative error over the whole vector, |a - b| / |b|.
pub fn distance(actual: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(actual.len(), expected.len());
    let square = |x: f64| x * x;
    let error: f64 = actual.iter().zip(expected).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    let norm: f64 = expected.iter().map(|&b| square(f64::from(b))).sum();
    (error / norm).sqrt()
}
