//! Layers of a preset on a model of another depth.

/// First layer at which presets merge, if the encoder has room above it. Below it the encoder ranks a
/// picture's objects under its ground, for encoders of any depth.
pub(super) const ENCODER_FLOOR: u32 = 3;

/// Maps `layers` (ascending, of a model with `reference` layers) to a model with `stored` layers of which
/// `limit` can merge. None lies below `first`, and none below `floor` if there is room. Shallower models
/// scale the layers, deeper ones keep them; the result stays strictly ascending. Returns `None` if the layers
/// do not fit.
pub(super) fn scale(
    layers: &[u32],
    (reference, stored): (u32, u32),
    (first, floor): (u32, u32),
    limit: u32,
) -> Option<Vec<u32>> {
    let count = u32::try_from(layers.len()).ok()?;
    let room = limit.checked_sub(count).filter(|&room| room >= first)?;
    let mut scaled: Vec<u32> = layers
        .iter()
        .map(|&layer| if stored < reference { super::amount::scale(layer, stored, reference) } else { layer })
        .collect();
    let mut lowest = floor.clamp(first, room);
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
        let encoder = (0, ENCODER_FLOOR);
        // (layers, (reference, stored), (first, floor), limit, expected)
        let cases: [(&[u32], (u32, u32), (u32, u32), u32, Option<&[u32]>); 16] = [
            (&[3, 4, 5, 6], (27, 27), encoder, 26, Some(&[3, 4, 5, 6])),
            (&[3, 4, 5, 6], (27, 26), encoder, 26, Some(&[3, 4, 5, 6])),
            (&[5, 6, 7, 8], (27, 26), encoder, 26, Some(&[5, 6, 7, 8])),
            (&[3, 4, 5, 6], (27, 24), encoder, 23, Some(&[3, 4, 5, 6])),
            // the first layers rank upside down
            (&[3, 4, 5, 6], (27, 12), encoder, 11, Some(&[3, 4, 5, 6])),
            (&[5, 6, 7, 8], (27, 12), encoder, 11, Some(&[3, 4, 5, 6])),
            (&[5, 6, 7, 8], (12, 12), encoder, 11, Some(&[5, 6, 7, 8])),
            (&[5, 6, 7, 8], (12, 27), encoder, 26, Some(&[5, 6, 7, 8])),
            (&[5, 6, 7, 8], (27, 9), encoder, 8, Some(&[3, 4, 5, 6])),
            // without room they are taken all the same
            (&[5, 6, 7, 8], (27, 6), encoder, 6, Some(&[2, 3, 4, 5])),
            (&[5, 6, 7, 8], (27, 4), encoder, 4, Some(&[0, 1, 2, 3])),
            (&[5, 6, 7, 8], (27, 3), encoder, 3, None),
            (&[12, 13, 14, 15], (32, 32), encoder, 32, Some(&[12, 13, 14, 15])),
            (&[8], (28, 24), (1, 1), 24, Some(&[7])),
            (&[2], (28, 4), (1, 1), 4, Some(&[1])),
            (&[6, 7, 8], (28, 4), (1, 1), 4, Some(&[1, 2, 3])),
        ];
        for (layers, depths, lowest, limit, expected) in cases {
            assert_eq!(
                scale(layers, depths, lowest, limit).as_deref(),
                expected,
                "{layers:?} on {depths:?} layers"
            );
        }
    }

    #[test]
    fn deeper_models_keep_the_layers() {
        assert_eq!(scale(&[2], (28, 80), (1, 1), 80), Some(vec![2]));
    }
}
