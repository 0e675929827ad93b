//! Plan of a schedule for one picture's size: the tokens that each step removes, and the places of those that
//! stay.

use serde::{Deserialize, Serialize};

use super::amount::round;
use super::half::shares;
use super::{Amount, Amounts, HalfSchedule, Schedule, Shape, Strategy, auto};
use crate::error::{Error, Field, Kind, Result};

/// One merge step with its counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub layer: u32,
    /// Tokens removed; patches in the encoder.
    pub r: u32,
    pub n_in: u32,
    pub n_out: u32,
    /// Share of the scores that those kept must hold; `r` is then the least that goes until the scores are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mass: Option<f64>,
}

/// Encoder's part of the plan, for one tile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TilePlan {
    pub patches: u32,
    pub steps: Vec<Step>,
    /// Embeddings that the projector gives.
    pub tokens: u32,
    /// Budget, if the picture's content decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amounts: Option<Amounts>,
}

/// Tokens of a picture in one range of decoder layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Half-open range of layers.
    pub layers: (u32, u32),
    pub tokens: u32,
}

/// Everything that happens to the tokens of one picture.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Plan {
    pub tiles: Vec<TilePlan>,
    /// Embeddings without any merging.
    pub tokens_unmerged: u32,
    /// Embeddings that enter the decoder: one visual span.
    pub tokens: u32,
    /// Rows of the span that are tokens of the text model around and between tiles: they stay.
    #[serde(default)]
    pub marks: u32,
    pub decoder: Vec<Step>,
    /// Tokens that the cache holds once the prompt is computed.
    pub segments: Vec<Segment>,
    /// Whether all layers compute all tokens, and the cache is thinned after the prompt. Layers before the first step
    /// then keep as many as those behind it.
    #[serde(default)]
    pub thins: bool,
}

impl Plan {
    /// Returns the shares of tokens that the encoder keeps and of rows that the span keeps, if the span keeps
    /// much more. Pooled cells, or cells interpolated to a cap, seldom lose all their sources.
    #[must_use]
    pub fn kept_by_pooling(&self) -> Option<(f64, f64)> {
        let patches: u32 = self.tiles.iter().map(|tile| tile.patches).sum();
        let removed: u32 = self.tiles.iter().flat_map(|tile| &tile.steps).map(|step| step.r).sum();
        let encoder = 1.0 - f64::from(removed) / f64::from(patches.max(1));
        let rows = f64::from(self.tokens) / f64::from(self.tokens_unmerged.max(1));
        (removed > 0 && rows - encoder > 0.25).then_some((encoder, rows))
    }

    /// Plans a picture whose tiles have `patches` patches each.
    ///
    /// # Errors
    /// [`Kind::Schedule`] naming the step that removes too many tokens, or a count that is no whole number of
    /// groups.
    pub fn new(schedule: &Schedule, shape: &Shape, patches: &[u32]) -> Result<Self> {
        let tiles = Self::encoder(schedule, shape, patches)?;
        let tokens_unmerged = patches.iter().map(|&n| shape.tokens(n, n)).sum();
        let tokens = tiles.iter().map(|tile| tile.tokens).sum();
        Self::of_span(schedule, shape, tiles, tokens_unmerged, tokens)
    }

    /// Plans the encoder's half alone, for tiles of `patches` patches each.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn encoder(schedule: &Schedule, shape: &Shape, patches: &[u32]) -> Result<Vec<TilePlan>> {
        let group = shape.group.max(1);
        if let Some(base) = &schedule.budget {
            return patches.iter().map(|&n| Self::at_once(schedule.strategy, base, shape, n)).collect();
        }
        if schedule.auto.is_some() {
            return Ok(Self::encoder_by_content(schedule, shape, patches, &[]));
        }
        let budget = Budget::new(schedule);
        patches
            .iter()
            .map(|&n| {
                let steps = match &budget {
                    Some(budget) => budget.encoder(&schedule.encoder, n, group),
                    None => encoder_steps(&schedule.encoder, n, group)?,
                };
                let left = steps.last().map_or(n, |step| step.n_out);
                Ok(TilePlan { patches: n, steps, tokens: shape.tokens(n, left), amounts: None })
            })
            .collect()
    }

    /// Plans one tile by a strategy that acts once: as many tokens as `base` leaves of the tile in the
    /// deepest decoder layers.
    fn at_once(strategy: Strategy, base: &Schedule, shape: &Shape, patches: u32) -> Result<TilePlan> {
        let group = shape.group.max(1);
        let plan = Self::new(base, shape, &[patches])?;
        let tokens = plan.segments.last().map_or(plan.tokens, |segment| segment.tokens);
        let steps = match strategy {
            _ if strategy.shows_less() => Vec::new(),
            _ => vec![step(shape.vit_layers_run, patches - tokens * group, patches)],
        };
        Ok(TilePlan { patches, steps, tokens, amounts: None })
    }

    /// Returns the whole plan, once it is known that `tokens` rows enter the decoder. Without merging it
    /// would be `tokens_unmerged`: tiles, newlines and padding make both other than a sum.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn of_span(
        schedule: &Schedule,
        shape: &Shape,
        tiles: Vec<TilePlan>,
        tokens_unmerged: u32,
        tokens: u32,
    ) -> Result<Self> {
        Self::of_marked_span(schedule, shape, tiles, (tokens_unmerged, tokens), 0)
    }

    /// The same for a span whose `(unmerged, left)` rows hold `marks`, which no share counts.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn of_marked_span(
        schedule: &Schedule,
        shape: &Shape,
        tiles: Vec<TilePlan>,
        (tokens_unmerged, tokens): (u32, u32),
        marks: u32,
    ) -> Result<Self> {
        let entering = Self { tiles, tokens_unmerged, tokens, marks, ..Self::default() };
        entering.decoded_by(schedule, shape.llm_layers)
    }

    /// Returns the tokens removed at each decoder merge layer.
    #[must_use]
    pub fn decoder_r(&self) -> Vec<u32> {
        self.decoder.iter().map(|step| step.r).collect()
    }
}

impl Plan {
    /// Returns the same encoding under the decoder's half of another schedule.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn decoded_by(&self, schedule: &Schedule, n_layers: u32) -> Result<Self> {
        let (tokens, unmerged) = (self.tokens - self.marks, self.tokens_unmerged - self.marks);
        let mut decoder = match Budget::new(schedule) {
            _ if schedule.auto.is_some() => auto::decoder(&schedule.decoder, &self.tiles, tokens),
            Some(budget) => budget.decoder(&schedule.decoder, tokens, unmerged),
            None => decoder_steps(&schedule.decoder, tokens)?,
        };
        for step in &mut decoder {
            (step.n_in, step.n_out) = (step.n_in + self.marks, step.n_out + self.marks);
            step.mass = schedule.mass;
        }
        let thins = schedule.strategy.thinning().is_some();
        let segments = segments(&decoder, self.tokens, n_layers, thins);
        Ok(Self { decoder, segments, thins, ..self.clone() })
    }

    /// Returns the same plan with a segment border at each of `layers`, the cuts of a cache. Steps that
    /// remove nothing stand at borders that this plan lacks.
    ///
    /// # Errors
    /// [`Kind::Schedule`] if the plan merges at a layer that is not among them.
    pub fn cut_at(&self, layers: &[u32], n_layers: u32) -> Result<Self> {
        if let Some(step) = self
            .decoder
            .iter()
            .find(|step| (step.r > 0 || step.mass.is_some()) && !layers.contains(&step.layer))
        {
            return Err(not_cut(step.layer, layers));
        }
        let mut n_in = self.tokens;
        let decoder: Vec<Step> = layers
            .iter()
            .map(|&layer| {
                let own = self.decoder.iter().find(|step| step.layer == layer);
                let mass = own.and_then(|step| step.mass);
                let step = Step { mass, ..step(layer, own.map_or(0, |step| step.r), n_in) };
                n_in = step.n_out;
                step
            })
            .collect();
        let segments = segments(&decoder, self.tokens, n_layers, self.thins);
        Ok(Self { decoder, segments, ..self.clone() })
    }
}

/// Schedule for a cache that is cut elsewhere.
#[must_use]
pub fn not_cut(layer: u32, layers: &[u32]) -> Error {
    let there: Vec<String> = layers.iter().map(ToString::to_string).collect();
    let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    Error::new(
        Kind::Schedule,
        format!(
            "merging at decoder layer {layer}: the cache was made for the layers {there}; choose among them, or start the program with {layer} among its {} to have this one too",
            Field::LlmLayers
        ),
    )
}

fn encoder_steps(half: &HalfSchedule, n: u32, group: u32) -> Result<Vec<Step>> {
    take(half, n, Field::VitR, group, |amount, n_step| {
        if let Amount::Count(r) = amount
            && r % group != 0
        {
            return Err(Error::new(
                Kind::Schedule,
                format!(
                    "{} {r}: this encoder merges whole groups of {group} patches; take {}",
                    Field::VitR,
                    r - r % group
                ),
            ));
        }
        Ok(amount.encoder_count(n, n_step, group))
    })
}

fn decoder_steps(half: &HalfSchedule, n: u32) -> Result<Vec<Step>> {
    take(half, n, Field::LlmR, 1, |amount, n_step| Ok(amount.decoder_count(n, n_step)))
}

fn take(
    half: &HalfSchedule,
    n: u32,
    field: Field,
    group: u32,
    count: impl Fn(Amount, u32) -> Result<u32>,
) -> Result<Vec<Step>> {
    let mut n_in = n;
    half.steps
        .iter()
        .map(|&(layer, amount)| {
            let r = count(amount, n_in)?;
            let most = n_in.saturating_sub(group);
            if r > most {
                return Err(Error::new(
                    Kind::Schedule,
                    format!(
                        "{field} {r} at layer {layer}: only {n_in} tokens enter it, so at most {most} can go"
                    ),
                ));
            }
            let step = step(layer, r, n_in);
            n_in = step.n_out;
            Ok(step)
        })
        .collect()
}

/// Exponents of `--keep R`. They turn a preset's shares into those whose product is R. Each half and each
/// step keeps the preset's proportion, of the logarithms, so that it holds for any R.
struct Budget {
    keep: f64,
    exponent: f64,
}

impl Budget {
    fn new(schedule: &Schedule) -> Option<Self> {
        let keep = schedule.keep.or(schedule.preset_share)?;
        let total = schedule.own_share();
        // A preset that removes nothing gives no proportion. Its steps then remove nothing.
        let exponent = if total > 0.0 && total < 1.0 { keep.ln() / total.ln() } else { 0.0 };
        Some(Self { keep, exponent })
    }

    fn encoder(&self, half: &HalfSchedule, n: u32, group: u32) -> Vec<Step> {
        let mut n_in = n;
        half.steps
            .iter()
            .zip(shares(half))
            .map(|(&(layer, _), share)| {
                let target = round(f64::from(n) * share.powf(self.exponent)).max(group).min(n_in);
                let r = n_in - target;
                let step = step(layer, r - r % group, n_in);
                n_in = step.n_out;
                step
            })
            .collect()
    }

    /// The last step ends at round(R N), for any rounding in the encoder.
    fn decoder(&self, half: &HalfSchedule, n: u32, unmerged: u32) -> Vec<Step> {
        let goal = round(f64::from(unmerged) * self.keep).max(1);
        let last = half.steps.len().saturating_sub(1);
        let mut n_in = n;
        half.steps
            .iter()
            .zip(shares(half))
            .enumerate()
            .map(|(i, (&(layer, _), share))| {
                let target =
                    if i == last { goal } else { round(f64::from(n) * share.powf(self.exponent)).max(goal) };
                let step = step(layer, n_in - target.min(n_in), n_in);
                n_in = step.n_out;
                step
            })
            .collect()
    }
}

pub(super) fn step(layer: u32, r: u32, n_in: u32) -> Step {
    Step { layer, r, n_in, n_out: n_in - r, mass: None }
}

pub(super) fn segments(decoder: &[Step], tokens: u32, n_layers: u32, thins: bool) -> Vec<Segment> {
    let mut begin = 0;
    let first = decoder.iter().find(|step| thins && step.r > 0).map_or(tokens, |step| step.n_out);
    let mut held = first;
    let mut out = Vec::with_capacity(decoder.len() + 1);
    for step in decoder {
        out.push(Segment { layers: (begin, step.layer), tokens: held });
        begin = step.layer;
        held = step.n_out.min(first);
    }
    out.push(Segment { layers: (begin, n_layers), tokens: held });
    out
}

#[cfg(test)]
mod tests {
    use super::super::choice::tests::so400m;
    use super::super::{Choice, Half, MergeFlag, Preset, select};
    use super::*;

    fn preset(preset: Preset) -> Choice {
        Choice { merge: Some(MergeFlag::Preset(preset)), ..Choice::default() }
    }

    fn plan(choice: &Choice, shape: &Shape, patches: u32) -> Result<Plan> {
        Plan::new(&select(choice, shape, None)?, shape, &[patches])
    }

    fn qwen2vl() -> Shape {
        Shape { vit_layers: 32, vit_layers_run: 32, vit_tokens: 1600, group: 4, is_qwen2vl: true, ..so400m() }
    }

    #[test]
    fn presets() {
        let clip = Shape { vit_layers: 24, vit_layers_run: 23, vit_tokens: 576, llm_layers: 32, ..so400m() };
        // (preset, shape, patches, encoder r, span, decoder r, tokens in the deepest layers)
        let cases: [(Preset, Shape, u32, &[u32], u32, &[u32], u32); 6] = [
            (Preset::Paper, so400m(), 729, &[92; 4], 361, &[108], 253),
            (Preset::Image, so400m(), 729, &[92; 4], 361, &[108], 253),
            (Preset::Video, so400m(), 196, &[25; 4], 96, &[29], 67),
            (Preset::Paper, clip, 576, &[73; 4], 284, &[85], 199),
            (Preset::Qwen2Vl, qwen2vl(), 1024, &[160, 136, 116, 96], 129, &[13, 12, 10], 94),
            (Preset::Qwen2Vl, qwen2vl(), 16, &[0, 0, 0, 0], 4, &[0, 0, 0], 4),
        ];
        for (name, shape, patches, vit_r, span, llm_r, deepest) in cases {
            let plan = plan(&preset(name), &shape, patches).unwrap();
            let r: Vec<u32> = plan.tiles[0].steps.iter().map(|s| s.r).collect();
            assert_eq!(r, vit_r, "{name:?} {patches}");
            assert_eq!(plan.tokens, span, "{name:?} {patches}");
            assert_eq!(plan.decoder_r(), llm_r, "{name:?} {patches}");
            assert_eq!(plan.segments.last().unwrap().tokens, deepest, "{name:?} {patches}");
        }
    }

    #[test]
    fn segments_cover_the_decoder() {
        let plan = plan(&preset(Preset::Paper), &so400m(), 729).unwrap();
        assert_eq!(
            plan.segments,
            [Segment { layers: (0, 2), tokens: 361 }, Segment { layers: (2, 28), tokens: 253 }]
        );
        let off = Plan::new(&Schedule::default(), &so400m(), &[729, 729]).unwrap();
        assert_eq!(off.segments, [Segment { layers: (0, 28), tokens: 1458 }]);
    }

    #[test]
    fn one_encoding_serves_several_decoder_schedules() {
        let schedule = |name| select(&preset(name), &so400m(), None).unwrap();
        let paper = Plan::new(&schedule(Preset::Paper), &so400m(), &[729]).unwrap();
        let video = Plan::new(&schedule(Preset::Video), &so400m(), &[729]).unwrap();
        assert_eq!(paper.decoded_by(&schedule(Preset::Video), 28).unwrap(), video);
        assert_eq!(paper.decoded_by(&Schedule::default(), 28).unwrap().segments.len(), 1);
        let choice = Choice { keep: Some(0.3), ..preset(Preset::Paper) };
        let budget = select(&choice, &so400m(), None).unwrap();
        let plan = Plan::new(&budget, &so400m(), &[729]).unwrap();
        assert_eq!(plan.decoded_by(&budget, 28).unwrap(), plan);
    }

    #[test]
    fn a_cache_cut_elsewhere() {
        let plan = plan(&preset(Preset::Paper), &so400m(), 729).unwrap();
        let cut = plan.cut_at(&[2, 7], 28).unwrap();
        assert_eq!(cut.decoder_r(), [108, 0]);
        let segments: Vec<((u32, u32), u32)> = cut.segments.iter().map(|s| (s.layers, s.tokens)).collect();
        assert_eq!(segments, [((0, 2), 361), ((2, 7), 253), ((7, 28), 253)]);
        let off = Plan::new(&Schedule::default(), &so400m(), &[729]).unwrap().cut_at(&[2, 7], 28).unwrap();
        assert_eq!((off.decoder_r(), off.segments.len()), (vec![0, 0], 3));
        let error = plan.cut_at(&[6, 7], 28).unwrap_err().to_string();
        assert!(error.contains("layer 2") && error.contains("6, 7"), "{error}");
    }

    #[test]
    fn tiles_merge_apart_and_enter_the_decoder_together() {
        let schedule = select(&preset(Preset::Paper), &so400m(), None).unwrap();
        let plan = Plan::new(&schedule, &so400m(), &[729, 729, 729]).unwrap();
        assert_eq!(plan.tokens, 3 * 361);
        assert_eq!(plan.decoder_r(), [324]);
        assert_eq!(plan.tokens_unmerged, 3 * 729);
    }

    #[test]
    fn a_budget_is_met_whatever_the_preset() {
        for name in Preset::ALL {
            for (shape, patches) in [(so400m(), 729), (qwen2vl(), 1024)] {
                let mut previous = 0;
                for keep in [0.05, 0.1, 0.35, 0.5, 0.8, 1.0] {
                    let choice = Choice { keep: Some(keep), ..preset(name) };
                    let plan = plan(&choice, &shape, patches).unwrap();
                    let goal = round(f64::from(patches / shape.group) * keep);
                    let left = plan.segments.last().unwrap().tokens;
                    assert!(
                        left.abs_diff(goal) <= 1,
                        "{name:?} keep {keep}: {left} of {patches}, goal {goal}"
                    );
                    assert!(plan.tokens >= left && plan.tokens > previous, "{name:?} {keep}");
                    assert!(plan.tiles[0].steps.iter().all(|s| s.r % shape.group == 0));
                    previous = plan.tokens;
                }
            }
        }
    }

    #[test]
    fn a_budget_keeps_the_presets_proportion() {
        let paper = plan(&preset(Preset::Paper), &so400m(), 729).unwrap();
        let choice = Choice { keep: Some(253.0 / 729.0), ..preset(Preset::Paper) };
        assert_eq!(plan(&choice, &so400m(), 729).unwrap(), paper);
    }

    #[test]
    fn errors_name_the_number() {
        let vit = |layers: &[u32], r: u32| Choice {
            vit: Some(Half { layers: layers.to_vec(), amounts: vec![Amount::Count(r)] }),
            ..Choice::default()
        };
        let llm = |r: u32| Choice {
            llm: Some(Half { layers: vec![2], amounts: vec![Amount::Count(r)] }),
            ..Choice::default()
        };
        let cases = [
            (
                vit(&[3], 729),
                so400m(),
                "merge.vit_r 729 at layer 3: only 729 tokens enter it, so at most 728 can go",
            ),
            (vit(&[3, 4], 400), so400m(), "merge.vit_r 400 at layer 4: only 329 tokens enter it"),
            (
                vit(&[3], 93),
                qwen2vl(),
                "merge.vit_r 93: this encoder merges whole groups of 4 patches; take 92",
            ),
            (vit(&[3], 728), qwen2vl(), "at most 725 can go"),
            (llm(729), so400m(), "merge.llm_r 729 at layer 2: only 729"),
        ];
        for (choice, shape, part) in cases {
            let error = plan(&choice, &shape, 729).unwrap_err();
            assert_eq!(error.kind(), Kind::Schedule);
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    }
}
