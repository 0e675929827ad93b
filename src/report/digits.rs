//! Figures as files have them: with the digits that a clock or a sample is good for.

use serde::{Serialize, Serializer};

/// Milliseconds to the microsecond, and rates to a thousandth.
///
/// # Errors
/// The serializer's own.
pub fn thousandths<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(rounded(*value, 1e3))
}

/// The same for a time that may not be there.
///
/// # Errors
/// The serializer's own.
pub fn maybe_thousandths<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(|value| rounded(value, 1e3)).serialize(serializer)
}

/// Milliseconds to the microsecond, for what is shown before it is in a file: what is read back then looks the same.
#[must_use]
pub fn to_thousandths(value: f64) -> f64 {
    rounded(value, 1e3)
}

/// Shares to a ten-thousandth of a percent, likewise.
#[must_use]
pub fn to_millionths(value: f64) -> f64 {
    rounded(value, 1e6)
}

fn rounded(value: f64, parts: f64) -> f64 {
    let scaled = value * parts;
    // Beyond this every number is whole anyway.
    if scaled.abs() < 9e15 { scaled.round() / parts } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        for (value, parts, text) in [
            (0.1 + 0.2, 1e3, "0.3"),
            (1_234.567_891_2, 1e3, "1234.568"),
            (2.0 / 3.0, 1e6, "0.666667"),
            (-1.0 / 3.0, 1e6, "-0.333333"),
            (1e300, 1e3, "1e300"),
            (0.0, 1e3, "0.0"),
        ] {
            assert_eq!(format!("{:?}", rounded(value, parts)), text);
        }
        assert!(rounded(f64::NAN, 1e3).is_nan());
    }
}
