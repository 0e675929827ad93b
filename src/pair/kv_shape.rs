//! Size of a KV cache, from the model's numbers alone.

use crate::error::{Error, Field, Kind, Result};
use crate::native::{Gguf, KvType};

/// Elements of K and V that one token has in each layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvShape {
    layers: Vec<LayerShape>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LayerShape {
    /// Heads of K and V; none if the layer reads another one's.
    heads: u64,
    key_length: u64,
    value_length: u64,
}

impl KvShape {
    #[must_use]
    pub fn new(heads: Vec<u64>, key_length: u64, value_length: u64) -> Self {
        Self {
            layers: heads.into_iter().map(|heads| LayerShape { heads, key_length, value_length }).collect(),
        }
    }

    /// The shape of the first `n_layer` of the `stored` layers that `file` has.
    pub(super) fn read(file: &Gguf, arch: &str, n_embd: u32, n_layer: u32, stored: u32) -> Option<Self> {
        let key = |name: &str| format!("{arch}.attention.{name}");
        let (n_layer, stored) = (n_layer as usize, stored as usize);
        // Newer files may give a list, one entry for each layer.
        let per_layer = |name: &str| -> Option<Vec<u64>> {
            match file.u32(&key(name)) {
                Some(n) => Some(vec![u64::from(n); stored]),
                None => file.integers(&key(name))?.into_iter().map(|n| u64::try_from(n).ok()).collect(),
            }
        };
        let query = per_layer("head_count")?;
        let heads = per_layer("head_count_kv").unwrap_or_else(|| query.clone());
        let first = query.iter().copied().find(|&n| n > 0)?;
        let head = u64::from(n_embd) / first;
        let length = |name: &str| file.u32(&key(name)).map_or(head, u64::from);
        let (key_length, value_length) = (length("key_length"), length("value_length"));
        // Layers with a sliding window may have heads of another size.
        let windowed = file.flags(&key("sliding_window_pattern")).unwrap_or_default();
        let near = |name: &str, usual: u64| file.u32(&key(name)).map_or(usual, u64::from);
        let shared = file.u32(&key("shared_kv_layers")).unwrap_or(0) as usize;
        let own = stored.saturating_sub(shared);
        let layer = |(i, heads): (usize, u64)| {
            let (key_length, value_length) = match windowed.get(i) {
                Some(true) => (near("key_length_swa", key_length), near("value_length_swa", value_length)),
                _ => (key_length, value_length),
            };
            LayerShape { heads: if i < own { heads } else { 0 }, key_length, value_length }
        };
        (heads.len() == stored)
            .then(|| Self { layers: heads.into_iter().take(n_layer).enumerate().map(layer).collect() })
    }

    /// Bytes of one token in the layers `from..to`.
    ///
    /// # Errors
    /// [`Kind::Model`] if a row is no whole number of the type's blocks.
    pub fn bytes(&self, from: u32, to: u32, k: KvType, v: KvType) -> Result<u64> {
        let layers = self.layers.get(from as usize..to as usize).unwrap_or_default();
        layers.iter().filter(|layer| layer.heads > 0).try_fold(0, |sum, layer| {
            let row = |kind: KvType, length: u64, field: Field| {
                // Blocks must not reach across heads.
                length.is_multiple_of(kind.block()).then(|| kind.row_bytes(length * layer.heads)).flatten().ok_or_else(|| {
                    Error::new(
                        Kind::Model,
                        format!("{field} {}: its blocks hold {} elements, this model's heads {length}; choose f16", kind.name(), kind.block()),
                    )
                })
            };
            Ok(sum + row(k, layer.key_length, Field::CacheTypeK)? + row(v, layer.value_length, Field::CacheTypeV)?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_per_token() {
        // Qwen2 0.5B: 24 layers, 2 KV heads of 64: 12 KiB in f16.
        let shape = KvShape::new(vec![2; 24], 64, 64);
        assert_eq!(shape.bytes(0, 24, KvType::F16, KvType::F16).unwrap(), 12 << 10);
        assert_eq!(shape.bytes(2, 24, KvType::F16, KvType::F16).unwrap(), 11 << 10);
        assert_eq!(shape.bytes(0, 1, KvType::Q8_0, KvType::Q4_0).unwrap(), 4 * 34 + 4 * 18);
        let narrow = KvShape::new(vec![4; 2], 24, 24);
        assert!(
            narrow.bytes(0, 2, KvType::Q8_0, KvType::F16).unwrap_err().to_string().contains("K cache q8_0")
        );
    }
}
