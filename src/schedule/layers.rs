//! A preset's layers on a model of another depth.

/// `layers` (ascending, of a model with `reference` layers) for one with `stored` layers of which
/// `limit` can merge, none below `first`. Shallower models scale the layers, deeper ones keep
/// them; the result stays strictly ascending. `None` if the layers do not fit.
pub(super) fn scale(layers: &[u32], reference: u32, stored: u32, first: u32, limit: u32) -> Option<Vec<u32>> {
    let count = u32::try_from(layers.len()).ok()?;
    if first + count > limit {
        return None;
    }
    let mut scaled: Vec<u32> = layers
        .iter()
        .map(|&layer| if stored < reference { super::amount::scale(layer, stored, reference) } else { layer })
        .collect();
    let mut lowest = first;
    for layer in &mut scaled {
        *layer = (*layer).max(lowest);
        lowest = *layer + 1;
    }
    let mut highest = limit;
    for layer in scaled.iter_mut().rev() {
        *layer = (*layer).min(highest - 1);
        highest = *layer;
    }
    Some(scaled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling() {
        // (layers, reference, stored, first, limit, expected)
        let cases: [(&[u32], u32, u32, u32, u32, Option<&[u32]>); 11] = [
            (&[3, 4, 5, 6], 27, 27, 0, 26, Some(&[3, 4, 5, 6])),
            (&[3, 4, 5, 6], 27, 26, 0, 26, Some(&[3, 4, 5, 6])),
            (&[5, 6, 7, 8], 27, 26, 0, 26, Some(&[5, 6, 7, 8])),
            (&[3, 4, 5, 6], 27, 24, 0, 23, Some(&[3, 4, 5, 6])),
            (&[5, 6, 7, 8], 27, 9, 0, 8, Some(&[2, 3, 4, 5])),
            (&[5, 6, 7, 8], 27, 4, 0, 4, Some(&[0, 1, 2, 3])),
            (&[5, 6, 7, 8], 27, 3, 0, 3, None),
            (&[12, 13, 14, 15], 32, 32, 0, 32, Some(&[12, 13, 14, 15])),
            (&[8], 28, 24, 1, 24, Some(&[7])),
            (&[2], 28, 4, 1, 4, Some(&[1])),
            (&[6, 7, 8], 28, 4, 1, 4, Some(&[1, 2, 3])),
        ];
        for (layers, reference, stored, first, limit, expected) in cases {
            assert_eq!(
                scale(layers, reference, stored, first, limit).as_deref(),
                expected,
                "{layers:?} on {stored} layers"
            );
        }
    }

    #[test]
    fn deeper_models_keep_the_layers() {
        assert_eq!(scale(&[2], 28, 80, 1, 80), Some(vec![2]));
    }
}
