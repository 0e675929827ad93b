//! One half of a schedule: from a preset, from what the pair recommends, or as somebody wrote it.

use super::preset::PresetHalf;
use super::{Amount, Half, HalfSchedule, Recommended, Schedule, Shape, layers};
use crate::error::{Error, Field, Kind, Result};

/// Layers of a preset's or method's half on a half with `stored` layers. None is below the first of `lowest`, below the
/// second if there is room, nor at `limit` or above. `asked` is the setting that names them, `what` the half.
///
/// # Errors
/// [`Kind::Schedule`] if the layers do not fit.
pub(super) fn of_preset(
    asked: &str,
    half: &PresetHalf,
    stored: u32,
    lowest: (u32, u32),
    limit: u32,
    what: &str,
) -> Result<HalfSchedule> {
    let layers = layers::scale(half.layers, (half.depth, stored), lowest, limit).ok_or_else(|| {
        Error::new(
            Kind::Schedule,
            format!(
                "{asked}: needs {} merge layers, the {what} has {}; name layers with {} and {}",
                half.layers.len(),
                limit - lowest.0.min(limit),
                Field::VitLayers,
                Field::LlmLayers
            ),
        )
    })?;
    Ok(HalfSchedule { steps: layers.into_iter().map(|layer| (layer, half.amount)).collect() })
}

pub(super) fn own_encoder(own: &Recommended, shape: &Shape) -> Result<HalfSchedule> {
    if own.vit_layers.len() != own.vit_r.len() {
        return Err(own_lengths("vit_layers", own.vit_layers.len(), "vit_r", own.vit_r.len()));
    }
    let of = shape.vit_tokens.max(1);
    let amounts = own.vit_r.iter().map(|&r| Amount::Scaled { r, of });
    Ok(HalfSchedule { steps: own.vit_layers.iter().copied().zip(amounts).collect() })
}

pub(super) fn own_decoder(own: &Recommended) -> Result<HalfSchedule> {
    if own.llm_layers.len() != own.llm_keep.len() {
        return Err(own_lengths("llm_layers", own.llm_layers.len(), "llm_keep", own.llm_keep.len()));
    }
    if let Some(keep) = own.llm_keep.iter().find(|keep| !(**keep > 0.0 && **keep <= 1.0)) {
        return Err(Error::new(
            Kind::Schedule,
            format!(
                "illava.merge.llm_keep {keep}: the pair's metadata must keep a share above 0 and up to 1"
            ),
        ));
    }
    let amounts = own.llm_keep.iter().map(|&keep| Amount::Keep(keep));
    Ok(HalfSchedule { steps: own.llm_layers.iter().copied().zip(amounts).collect() })
}

fn own_lengths(a: &str, n_a: usize, b: &str, n_b: usize) -> Error {
    Error::new(
        Kind::Schedule,
        format!(
            "the pair's metadata has {n_a} illava.merge.{a} but {n_b} illava.merge.{b}; choose another schedule"
        ),
    )
}

pub(super) fn as_written(half: &Half, at: Field, at_amounts: Field) -> Result<HalfSchedule> {
    let (layers, amounts) = (&half.layers, &half.amounts);
    if amounts.len() != 1 && amounts.len() != layers.len() {
        return Err(Error::usage(format!(
            "{at} names {} layers, {at_amounts} {} amounts: give one amount, or one for each layer",
            layers.len(),
            amounts.len()
        )));
    }
    let amount = |i: usize| if amounts.len() == 1 { amounts[0] } else { amounts[i] };
    Ok(HalfSchedule { steps: layers.iter().enumerate().map(|(i, &layer)| (layer, amount(i))).collect() })
}

pub(super) fn cannot_merge(half: &str, field: Field) -> Error {
    Error::new(
        Kind::Model,
        format!(
            "{field}: the {half}'s architecture has no merge points; turn merging off, or name layers of the other half alone"
        ),
    )
}

/// Returns the share of tokens left after each step, at the amounts' own reference size.
pub(super) fn shares(half: &HalfSchedule) -> Vec<f64> {
    let mut share = 1.0;
    half.steps
        .iter()
        .map(|(_, amount)| {
            share = amount.share_after(share).unwrap_or(share).max(f64::MIN_POSITIVE);
            share
        })
        .collect()
}

impl Schedule {
    /// Share of a picture's tokens that the deepest layers of the text model keep. An amount that is a plain count has
    /// no share and counts as none.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.keep.or(self.preset_share).unwrap_or_else(|| self.own_share())
    }

    pub(super) fn own_share(&self) -> f64 {
        shares(&self.encoder).last().unwrap_or(&1.0) * shares(&self.decoder).last().unwrap_or(&1.0)
    }
}
