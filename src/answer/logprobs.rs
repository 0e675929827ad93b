//! Log-probabilities of a model's own distribution.

/// That of `token`, and the `top` most likely tokens with theirs, most likely first; equal ones
/// by id. Sums in f64.
pub(super) fn of(logits: &[f32], token: i32, top: u32) -> (f32, Vec<(i32, f32)>) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
    let log_sum = f64::from(max) + sum.ln();
    #[allow(clippy::cast_possible_truncation)]
    let logprob = |x: f32| (f64::from(x) - log_sum) as f32;
    let own = usize::try_from(token).ok().and_then(|i| logits.get(i)).copied();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    let top = (top as usize).min(order.len());
    let descending = |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b));
    if top > 0 && top < order.len() {
        order.select_nth_unstable_by(top - 1, descending);
    }
    order.truncate(top);
    order.sort_unstable_by(descending);
    let alternatives =
        order.into_iter().map(|i| (i32::try_from(i).unwrap_or(i32::MAX), logprob(logits[i]))).collect();
    (own.map_or(f32::NEG_INFINITY, logprob), alternatives)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // The sum of e^0, e^1, e^1 and e^-inf is 1 + 2e.
        let logits = [0.0, 1.0, 1.0, f32::NEG_INFINITY];
        let sum = (1.0 + 2.0 * 1f64.exp()).ln();
        let (own, top) = of(&logits, 0, 2);
        assert!((f64::from(own) + sum).abs() < 1e-6);
        assert_eq!(top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2]);
        assert!((f64::from(top[0].1) - (1.0 - sum)).abs() < 1e-6);
        assert_eq!(of(&logits, 3, 0), (f32::NEG_INFINITY, vec![]));
        assert_eq!(of(&logits, 1, 9).1.len(), 4);
        let large = of(&[1e4, 1e4], 0, 1).0;
        assert!((large - 0.5f32.ln()).abs() < 1e-3, "{large}");
    }
}
