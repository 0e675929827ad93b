//! Percentile bootstrap (Efron, 1979) of a mean, and of the mean difference of two schedules on the same
//! questions.

use serde::{Deserialize, Serialize};

use crate::report::digits;

const DRAWS: usize = 10_000;

/// Mean with the interval that holds 95 % of its bootstrap means, each with the digits that files have.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Interval {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

impl Interval {
    /// Returns the interval of `values`, all zeros if there are none. The same values give the same interval.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        let n = values.len();
        let mean = values.iter().sum::<f64>() / n as f64;
        let mut random = fastrand::Rng::with_seed(n as u64);
        let mut means: Vec<f64> =
            (0..DRAWS).map(|_| (0..n).map(|_| values[random.usize(..n)]).sum::<f64>() / n as f64).collect();
        means.sort_by(f64::total_cmp);
        let [mean, low, high] =
            [mean, means[DRAWS / 40], means[DRAWS - 1 - DRAWS / 40]].map(digits::to_millionths);
        Self { mean, low, high }
    }

    /// Returns the interval of `b - a`, question by question.
    #[must_use]
    pub fn of_differences(a: &[f64], b: &[f64]) -> Self {
        Self::of(&a.iter().zip(b).map(|(a, b)| b - a).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_has_the_normal_interval() {
        // For 800 of 1,000: 1.96 sqrt(0.8 * 0.2 / 1000) = 0.0248.
        let values: Vec<f64> = (0..1000).map(|i| f64::from(u8::from(i % 5 != 0))).collect();
        let interval = Interval::of(&values);
        assert!((interval.mean - 0.8).abs() < 1e-12);
        assert!((interval.high - 0.8248).abs() < 0.002, "{interval:?}");
        assert!((interval.low - 0.7752).abs() < 0.002, "{interval:?}");
    }

    #[test]
    fn pairs_are_narrower_than_their_parts() {
        let a: Vec<f64> = (0..200).map(|i| f64::from(u8::from(i % 2 == 0))).collect();
        let mut b = a.clone();
        b[0] = 0.0;
        let paired = Interval::of_differences(&a, &b);
        assert!((paired.mean + 0.005).abs() < 1e-12);
        assert!(paired.high - paired.low < 0.03 && paired.high <= 0.0, "{paired:?}");
        let alone = Interval::of(&a);
        assert!(alone.high - alone.low > 0.1);
    }

    #[test]
    fn nothing_and_certainty() {
        assert_eq!(Interval::of(&[]), Interval::default());
        assert_eq!(Interval::of(&[1.0; 5]), Interval { mean: 1.0, low: 1.0, high: 1.0 });
    }
}
