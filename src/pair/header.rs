//! Faults in a header that the library would not survive, because it asserts.

use std::collections::HashSet;

use crate::native::Gguf;

/// Layers that llama.cpp's tables hold.
const MAX_LAYERS: u32 = 512;

/// Finds a fault in a text model's header; `n_layer` counts all stored layers, `length` is that of an
/// attention head.
pub(super) fn text_fault(file: &Gguf, arch: &str, n_layer: u32, length: u64) -> Option<String> {
    if !(1..=MAX_LAYERS).contains(&n_layer) {
        return Some(format!("{arch}.block_count is {n_layer}, not 1 to {MAX_LAYERS}"));
    }
    let guessing = guessing_layers(file, arch);
    if guessing >= n_layer {
        return Some(format!("{arch}.nextn_predict_layers is {guessing}, of {n_layer} layers in all"));
    }
    for name in ["layer_norm_rms_epsilon", "layer_norm_epsilon"] {
        let key = format!("{arch}.attention.{name}");
        if let Some(fault) = file.f32(&key).and_then(|value| epsilon_fault(&key, value)) {
            return Some(fault);
        }
    }
    let sections = file.integers(&format!("{arch}.rope.dimension_sections"));
    sections_fault(arch, &sections.unwrap_or_default(), length).or_else(|| {
        let tokens = file.strings("tokenizer.ggml.tokens").unwrap_or_default();
        duplicate(&tokens).map(|token| format!("the vocabulary has the token `{token}` twice"))
    })
}

/// Returns the number of layers behind the model's own that guess further tokens.
pub(super) fn guessing_layers(file: &Gguf, arch: &str) -> u32 {
    file.u32(&format!("{arch}.nextn_predict_layers")).unwrap_or(0)
}

/// Finds a fault in a projector's header.
pub(super) fn projector_fault(file: &Gguf) -> Option<String> {
    let key = "clip.vision.attention.layer_norm_epsilon";
    epsilon_fault(key, file.f32(key)?)
}

fn epsilon_fault(key: &str, value: f32) -> Option<String> {
    (!(value.is_finite() && value >= 0.0)).then(|| format!("{key} is {value}"))
}

/// Parts of a head that rotate by time, height and width.
fn sections_fault(arch: &str, sections: &[i64], length: u64) -> Option<String> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let fits =
        sections.iter().all(|part| (0..=length).contains(part)) && sections.iter().sum::<i64>() <= length;
    (!fits).then(|| format!("{arch}.rope.dimension_sections {sections:?} do not fit a head of {length}"))
}

fn duplicate(tokens: &[Vec<u8>]) -> Option<String> {
    let mut seen = HashSet::with_capacity(tokens.len());
    // The library gives empty tokens names of their own.
    let twice = tokens.iter().find(|token| !token.is_empty() && !seen.insert(token.as_slice()))?;
    Some(String::from_utf8_lossy(twice).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults() {
        for (value, fault) in
            [(1e-6, false), (0.0, false), (-1.0, true), (f32::NAN, true), (f32::INFINITY, true)]
        {
            assert_eq!(epsilon_fault("k", value).is_some(), fault, "{value}");
        }
        for (sections, fault) in [
            (&[][..], false),
            (&[4, 6, 6, 0], false),
            (&[1_000_000, 6, 6, 0], true),
            (&[-1, 6, 6, 0], true),
            (&[i64::MAX, i64::MAX], true),
        ] {
            assert_eq!(sections_fault("a", sections, 32).is_some(), fault, "{sections:?}");
        }
        let tokens = |list: &[&str]| list.iter().map(|token| token.as_bytes().to_vec()).collect::<Vec<_>>();
        assert_eq!(duplicate(&tokens(&["a", "b", "", ""])), None);
        assert_eq!(duplicate(&tokens(&["a", "b", "a"])), Some("a".to_owned()));
    }
}
