//! Number of tokens that one step removes: a count, a count relative to a reference size, or a share.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Field, Kind, Result};

/// Tokens that one merge step removes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Amount {
    /// Exactly this many.
    Count(u32),
    /// `r` of `of` tokens: scales with the number that enters the half, r' = round(r N / of).
    Scaled { r: u32, of: u32 },
    /// This share of the tokens that enter the step, 0 <= share < 1.
    Share(f64),
    /// All but this share of the tokens that enter the step, 0 < keep <= 1.
    Keep(f64),
}

impl Amount {
    /// Returns the tokens removed of `n_step` that enter the step, if `n_half` entered the half. Encoder
    /// rule: a share rounds down, and everything rounds down to whole groups.
    #[must_use]
    pub fn encoder_count(self, n_half: u32, n_step: u32, group: u32) -> u32 {
        let r = match self {
            Amount::Count(r) => r,
            Amount::Scaled { r, of } => scale(r, n_half, of),
            Amount::Share(share) => floor(share * f64::from(n_step)),
            Amount::Keep(keep) => floor((1.0 - keep) * f64::from(n_step)),
        };
        r - r % group
    }

    /// Decoder rule: r = round(N (1 - keep)), a half to the even number, as Python rounds in the authors'
    /// code.
    #[must_use]
    pub fn decoder_count(self, n_half: u32, n_step: u32) -> u32 {
        match self {
            Amount::Count(r) => r,
            Amount::Scaled { r, of } => scale(r, n_half, of),
            Amount::Share(share) => round_half_even(share * f64::from(n_step)),
            Amount::Keep(keep) => round_half_even((1.0 - keep) * f64::from(n_step)),
        }
    }

    /// Returns the share of tokens that stays after this step at the amount's own reference size, `before`
    /// being the share that entered. A plain count has no such share.
    #[must_use]
    pub(super) fn share_after(self, before: f64) -> Option<f64> {
        match self {
            Amount::Count(_) => None,
            Amount::Scaled { r, of } => Some(before - f64::from(r) / f64::from(of)),
            Amount::Share(share) => Some(before * (1.0 - share)),
            Amount::Keep(keep) => Some(before * keep),
        }
    }
}

/// Returns round(r n / of), halves away from zero.
pub(super) fn scale(r: u32, n: u32, of: u32) -> u32 {
    round(f64::from(r) * f64::from(n) / f64::from(of))
}

// The added 1e-9 keeps 0.3 * 10 = 2.9999999999999996 a whole 3.
fn floor(x: f64) -> u32 {
    clamp((x + 1e-9).floor())
}

pub(super) fn round(x: f64) -> u32 {
    clamp((x + 1e-9).round())
}

/// Rounds to the nearest integer, a half to the even one. A product within 1e-9 of a half is one.
fn round_half_even(x: f64) -> u32 {
    let halves = (x * 2.0).round();
    let x = if (x * 2.0 - halves).abs() < 2e-9 { halves / 2.0 } else { x };
    clamp(x.round_ties_even())
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn clamp(x: f64) -> u32 {
    x.clamp(0.0, f64::from(u32::MAX)) as u32
}

/// Reads `5,6,7,8`: strictly ascending layer numbers, counted from 0.
///
/// # Errors
/// [`Kind::Usage`] with the item that is no number or out of order.
pub fn parse_layers(field: Field, text: &str) -> Result<Vec<u32>> {
    let layers = text
        .split(',')
        .map(|item| {
            item.trim().parse::<u32>().map_err(|_| {
                Error::new(
                    Kind::Usage,
                    format!("{field} {text}: `{item}` is not a layer number; write for example 5,6,7,8"),
                )
            })
        })
        .collect::<Result<Vec<_>>>()?;
    if let Some(pair) = layers.windows(2).find(|pair| pair[0] >= pair[1]) {
        return Err(Error::usage(format!(
            "{field} {text}: layer {} stands after layer {}; give each layer once, ascending",
            pair[1], pair[0]
        )));
    }
    Ok(layers)
}

/// Reads `92`, `12.6%` or a comma list of them, one for each layer.
///
/// # Errors
/// [`Kind::Usage`] with the item that is neither a count nor a percentage below 100.
pub fn parse_amounts(field: Field, text: &str) -> Result<Vec<Amount>> {
    text.split(',')
        .map(|item| {
            let item = item.trim();
            let amount = match item.strip_suffix('%') {
                Some(percent) => percent
                    .trim()
                    .parse::<f64>()
                    .ok()
                    .filter(|p| (0.0..100.0).contains(p))
                    .map(|p| Amount::Share(p / 100.0)),
                None => item.parse::<u32>().ok().map(Amount::Count),
            };
            amount.ok_or_else(|| {
                Error::usage(format!(
                    "{field} {text}: `{item}` is neither a count (92) nor a percentage below 100 (12.6%)"
                ))
            })
        })
        .collect()
}

/// Reads `0.7` or a comma list of shares, one for each layer.
///
/// # Errors
/// [`Kind::Usage`] with the item that is no share above 0 and up to 1.
pub fn parse_keeps(field: Field, text: &str) -> Result<Vec<Amount>> {
    let share = |item: &str| {
        let share = item.trim().parse::<f64>().ok().filter(|keep| *keep > 0.0 && *keep <= 1.0);
        share
            .map(Amount::Keep)
            .ok_or_else(|| Error::usage(format!("{field} {text}: `{item}` is no share above 0 and up to 1")))
    };
    text.split(',').map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_to_even_in_the_decoder() {
        // (tokens, keep, removed): right-hand sides are Python's round(n * share) in decimals.
        for (n, keep, removed) in
            [(25, 0.9, 2), (35, 0.9, 4), (15, 0.7, 4), (5, 0.5, 2), (7, 0.5, 4), (361, 0.7, 108)]
        {
            assert_eq!(Amount::Keep(keep).decoder_count(n, n), removed, "{n} {keep}");
            assert_eq!(Amount::Share(1.0 - keep).decoder_count(n, n), removed, "{n} {keep}");
        }
    }

    #[test]
    fn counts() {
        use Amount::{Count, Keep, Scaled, Share};
        let paper = Scaled { r: 92, of: 729 };
        // (amount, tokens entering the half, tokens entering the step, group, encoder, decoder)
        for (amount, half, step, group, encoder, decoder) in [
            (Count(92), 729, 637, 1, 92, 92),
            (Count(93), 729, 637, 4, 92, 93),
            (paper, 729, 637, 1, 92, 92),
            (paper, 576, 576, 1, 73, 73),
            (paper, 196, 196, 1, 25, 25),
            (paper, 1024, 900, 4, 128, 129),
            (Share(0.16), 1024, 1024, 4, 160, 164),
            (Share(0.126), 729, 729, 1, 91, 92),
            (Share(0.3), 10, 10, 1, 3, 3),
            (Keep(0.70), 361, 361, 1, 108, 108),
            (Keep(0.90), 256, 256, 1, 25, 26),
            (Keep(1.0), 256, 256, 1, 0, 0),
            (Share(0.0), 256, 256, 4, 0, 0),
        ] {
            assert_eq!(amount.encoder_count(half, step, group), encoder, "{amount:?} {half} {step}");
            assert_eq!(amount.decoder_count(half, step), decoder, "{amount:?} {half} {step}");
        }
    }

    #[test]
    fn layer_lists() {
        assert_eq!(parse_layers(Field::VitLayers, "5, 6,7").unwrap(), [5, 6, 7]);
        for (text, part) in [
            ("5,x", "`x`"),
            ("", "``"),
            ("6,5", "layer 5 stands after layer 6"),
            ("5,5", "layer 5"),
            ("-1", "`-1`"),
        ] {
            let error = parse_layers(Field::VitLayers, text).unwrap_err();
            assert!(error.to_string().contains(part), "{text}: {error}");
            assert_eq!(error.kind(), Kind::Usage);
        }
    }

    #[test]
    fn amount_lists() {
        assert_eq!(
            parse_amounts(Field::VitR, "92,12.5%").unwrap(),
            [Amount::Count(92), Amount::Share(0.125)]
        );
        for text in ["", "x", "100%", "-3", "-1%", "NaN%", "1.5"] {
            assert!(parse_amounts(Field::VitR, text).is_err(), "{text}");
        }
    }
}
