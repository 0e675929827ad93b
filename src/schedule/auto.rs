//! Budget for each picture: the number of tokens that an input of the encoder keeps follows from its cells'
//! content.
//!
//! A cell becomes one token: it is a patch or a group of them. Repeated cells (blank paper, sky, the flat
//! areas of a screenshot) merge in the first layers: one of [`REPEATED`] stays. Cells with edges (letters,
//! lines, outlines) stay. If they outnumber the plain ones, as on a page, the plain ones stay as well.
//! Otherwise plain cells keep as much as those of a photograph. The method is HiRED's, a budget divided by
//! the content of each tile, with pixels in place of attention: the amounts are known before anything is
//! encoded.

use serde::{Deserialize, Serialize};

use super::{Amount, Choice, Grid, HalfSchedule, MergeFlag, Plan, Schedule, Shape, Step, TilePlan};
use crate::error::{Error, Field, Result};

/// Number of repeated cells of which one stays.
const REPEATED: u32 = 10;
/// Share of a photograph's plain cells that enters the decoder, and that reaches its upper layers.
const PLAIN: (f64, f64) = (0.50, 0.30);
/// First of these shares if the text model dominates: the encoder's steps cost more of the answer there.
const PLAIN_OF_LARGE_TEXT: f64 = 0.75;
/// Encoder layers that merge repeated cells, as far as the others leave them room. At layer 0 attention has
/// not told a cell about its surroundings.
const FIRST_LAYERS: std::ops::Range<u32> = 1..4;

/// Least and most share of its tokens that a picture keeps in the upper decoder layers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    /// 0 < least <= most.
    pub least: f64,
    /// most <= 1.
    pub most: f64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { least: 0.05, most: 1.0 }
    }
}

impl Bounds {
    /// Returns the bounds that were asked for, with the usual ones in place of the others.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] for a bound that is no share, and for a least share above the most.
    pub(super) fn new(least: Option<f64>, most: Option<f64>) -> Result<Self> {
        let share = |field: Field, bound: Option<f64>| match bound {
            Some(bound) if !(bound > 0.0 && bound <= 1.0) => Err(Error::usage(format!(
                "{field} {bound}: give a share above 0 and up to 1, for example 0.2"
            ))),
            bound => Ok(bound),
        };
        let (least, most) = (share(Field::KeepMin, least)?, share(Field::KeepMax, most)?);
        let usual = Self::default();
        let bounds = Self {
            least: least.unwrap_or_else(|| usual.least.min(most.unwrap_or(1.0))),
            most: most.unwrap_or(usual.most),
        };
        if bounds.least > bounds.most {
            return Err(Error::usage(format!(
                "{} {} is above {} {}: give a smaller one",
                Field::KeepMin,
                bounds.least,
                Field::KeepMax,
                bounds.most
            )));
        }
        Ok(bounds)
    }

    /// Returns the most tokens that a picture of unknown content may bring, of `cells` cells.
    fn whole(self, cells: u32) -> Amounts {
        self.amounts(Content { cells, edges: cells, repeated: 0 }, 1.0)
    }

    fn amounts(self, content: Content, plain_in_encoder: f64) -> Amounts {
        let Content { cells, edges, repeated } = content;
        let (plain, page) = (content.plain(), content.is_page());
        let left = repeated.div_ceil(REPEATED);
        let share = |of: f64| if page { plain } else { whole(of * f64::from(plain)) };
        let wanted = edges + share(PLAIN.1) + left;

        let least = whole((self.least * f64::from(cells)).ceil()).clamp(1, cells);
        let most = whole((self.most * f64::from(cells)).floor()).clamp(least, cells);
        let decoder = wanted.clamp(least, most);
        let bound = match wanted {
            n if n < least => Some(Bound::Least),
            n if n > most => Some(Bound::Most),
            _ => None,
        };
        // Each half takes the square root of a limit: both then take the same part of their input.
        let limit = whole(f64::from(cells) * self.most.sqrt());
        let encoder = (edges + share(plain_in_encoder) + left).min(limit).clamp(decoder, cells);
        Amounts { content, encoder, decoder, bound }
    }
}

/// Content of the cells of one input of the encoder. A cell with neither edges nor a repeated colour is
/// plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Content {
    pub cells: u32,
    /// Cells in which neighbouring pixels differ sharply.
    pub edges: u32,
    /// Cells of one colour that the cell to the left or above has, too.
    pub repeated: u32,
}

impl Content {
    fn plain(self) -> u32 {
        self.cells.saturating_sub(self.edges + self.repeated)
    }

    /// Whether edges outnumber the plain cells that a photograph would have.
    fn is_page(self) -> bool {
        self.edges > self.plain()
    }
}

/// Bound that decided instead of the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    Least,
    Most,
}

/// Tokens that one input of the encoder keeps, and the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amounts {
    pub content: Content,
    /// Tokens that leave the encoder.
    pub encoder: u32,
    /// Tokens that reach the upper decoder layers.
    pub decoder: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<Bound>,
}

/// Returns the reason for the budget of a picture's inputs: one sentence without a full stop.
#[must_use]
pub fn why(inputs: &[Amounts]) -> String {
    let sum = |part: fn(&Amounts) -> u32| inputs.iter().map(part).sum::<u32>();
    let (cells, edges) = (sum(|a| a.content.cells), sum(|a| a.content.edges));
    let repeated = sum(|a| a.content.repeated);
    let pages = inputs.iter().filter(|a| a.content.is_page()).count();
    let kind = match (pages, inputs.len()) {
        (0, _) => "plain cells merge".to_owned(),
        (n, all) if n == all => "a page keeps all but repeated cells".to_owned(),
        (n, all) => format!("{n} of {all} tiles are pages and keep all but repeated cells"),
    };
    let bounded = |bound| inputs.iter().any(|a| a.bound == Some(bound));
    let least = if bounded(Bound::Least) { ", raised to the least share" } else { "" };
    let most = if bounded(Bound::Most) { ", cut to the most share" } else { "" };
    format!(
        "of {cells} cells {edges} have edges, {repeated} repeat a neighbour and {} are plain: {kind}{least}{most}",
        sum(|a| a.content.plain())
    )
}

/// Refuses bounds of other schedules. Under auto it refuses fields that name an amount or leave none to vary.
///
/// # Errors
/// [`crate::error::Kind::Usage`] with both names.
pub(super) fn check(choice: &Choice) -> Result<()> {
    if choice.merge != Some(MergeFlag::Auto) {
        let bound = choice.keep_min.map(|_| Field::KeepMin).or(choice.keep_max.map(|_| Field::KeepMax));
        return bound.map_or(Ok(()), |bound| {
            Err(Error::usage(format!(
                "{bound}: a bound is for amounts that follow from the picture; choose {} auto, or leave it out",
                Field::Merge
            )))
        });
    }
    let other = choice
        .keep
        .map(|keep| format!("{} {keep}", Field::Keep))
        .or(choice.vit.as_ref().map(|_| Field::VitLayers.to_string()))
        .or(choice.llm.as_ref().map(|_| Field::LlmLayers.to_string()));
    if let Some(other) = other {
        return Err(Error::usage(format!(
            "{other} and {} auto exclude each other: auto takes its amounts from the picture; bound them with {} and {}",
            Field::Merge,
            Field::KeepMin,
            Field::KeepMax
        )));
    }
    if choice.grid == Grid::Reference {
        return Err(Error::usage(format!(
            "{} reference needs a square number of tokens, and {} auto leaves what the picture needs; take the faithful grid",
            Field::Grid,
            Field::Merge
        )));
    }
    if let Some(strategy) = choice.strategy.filter(|strategy| strategy.acts_once()) {
        return Err(Error::usage(format!(
            "{} {} acts once on a fixed budget, and {} auto has one for each picture; choose another strategy",
            Field::Strategy,
            strategy.name(),
            Field::Merge
        )));
    }
    Ok(())
}

/// Stands for an amount in the first layers.
const EARLY: Amount = Amount::Keep(1.0);

/// Puts steps that merge repeated cells before the others, unless the strategy ranks by attention: that is
/// upside down in the first layers.
pub(super) fn begin_early(schedule: &mut Schedule, choice: &Choice, shape: &Shape) {
    let steps = &mut schedule.encoder.steps;
    let (Some(&(end, _)), false) =
        (steps.first(), choice.strategy.unwrap_or(schedule.usual).ranks_by_attention())
    else {
        return;
    };
    let first = FIRST_LAYERS.start.max(shape.vit_first)..FIRST_LAYERS.end.min(end);
    steps.splice(..0, first.map(|layer| (layer, EARLY)));
}

impl Plan {
    /// Returns the encoder's half if each input, of `patches` patches, has a budget by its content.
    /// `contents` of unknown pictures is empty, and the plan is then the largest there can be.
    pub(crate) fn encoder_by_content(
        schedule: &Schedule,
        shape: &Shape,
        patches: &[u32],
        contents: &[Content],
    ) -> Vec<TilePlan> {
        let bounds = schedule.auto.unwrap_or_default();
        let group = shape.group.max(1);
        let plain = if shape.text_dominates() { PLAIN_OF_LARGE_TEXT } else { PLAIN.0 };
        let tile = |(i, &patches): (usize, &u32)| {
            let mut amounts = match contents.get(i) {
                Some(content) => bounds.amounts(*content, plain),
                None => bounds.whole(patches / group),
            };
            // A half that cannot merge passes its input on.
            if schedule.encoder.steps.is_empty() {
                amounts.encoder = patches / group;
            }
            if schedule.decoder.steps.is_empty() {
                amounts.decoder = amounts.encoder;
            }
            let steps = encoder(&schedule.encoder, &amounts, patches, group);
            let tokens = shape.tokens(patches, steps.last().map_or(patches, |step| step.n_out));
            TilePlan { patches, steps, tokens, amounts: Some(amounts) }
        };
        patches.iter().enumerate().map(tile).collect()
    }
}

/// Each step in the first layers merges half of the repeated cells that are left. The others take equal parts
/// of the rest. A matching pairs one half of the tokens with the other: a larger step would merge cells that
/// repeat nothing.
fn encoder(half: &HalfSchedule, amounts: &Amounts, patches: u32, group: u32) -> Vec<Step> {
    let early =
        half.steps.iter().filter(|(layer, amount)| FIRST_LAYERS.contains(layer) && *amount == EARLY).count();
    let later = u32::try_from(half.steps.len() - early).unwrap_or(1).max(1);
    let repeated = amounts.content.repeated;
    let mut n_in = patches;
    let mut entering = patches / group;
    let step = |(i, &(layer, _)): (usize, &(u32, Amount))| {
        let left = if i < early {
            let left = repeated.div_ceil(2 << i).max(repeated.div_ceil(REPEATED));
            entering = (patches / group - (repeated - left)).max(amounts.encoder);
            entering
        } else {
            let done = u32::try_from(i - early + 1).unwrap_or(later).min(later);
            entering - (entering - amounts.encoder) * done / later
        };
        let n_out = (left * group).min(n_in);
        let step = Step { layer, r: n_in - n_out, n_in, n_out, mass: None };
        n_in = n_out;
        step
    };
    half.steps.iter().enumerate().map(step).collect()
}

/// Returns the decoder's steps if `tokens` rows come of inputs with their own budgets: the first takes all
/// that is to go. Newlines and pooled cells keep the share of the rest.
pub(super) fn decoder(half: &HalfSchedule, tiles: &[TilePlan], tokens: u32) -> Vec<Step> {
    let sum = |part: fn(&TilePlan) -> u32| tiles.iter().map(|tile| u64::from(part(tile))).sum::<u64>();
    let entering = sum(|tile| tile.tokens).max(1);
    let staying = sum(|tile| tile.amounts.map_or(tile.tokens, |amounts| amounts.decoder.min(tile.tokens)));
    #[allow(clippy::cast_possible_truncation)]
    let goal = ((u64::from(tokens) * staying).div_ceil(entering) as u32).clamp(1, tokens.max(1));
    let mut n_in = tokens;
    half.steps
        .iter()
        .map(|&(layer, _)| {
            let n_out = goal.min(n_in);
            let step = Step { layer, r: n_in - n_out, n_in, n_out, mass: None };
            n_in = n_out;
            step
        })
        .collect()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(x: f64) -> u32 {
    (x - 1e-9).ceil().max(0.0) as u32
}

#[cfg(test)]
mod tests {
    use super::super::choice::tests::so400m;
    use super::super::{Half, Strategy, select};
    use super::*;

    fn auto() -> Choice {
        Choice { merge: Some(MergeFlag::Auto), ..Choice::default() }
    }

    fn plan(choice: &Choice, contents: &[Content]) -> Plan {
        let (schedule, shape) = (select(choice, &so400m(), None).unwrap(), so400m());
        let patches: Vec<u32> = contents.iter().map(|content| content.cells).collect();
        let tiles = Plan::encoder_by_content(&schedule, &shape, &patches, contents);
        let tokens = tiles.iter().map(|tile| tile.tokens).sum();
        Plan::of_span(&schedule, &shape, tiles, patches.iter().sum(), tokens).unwrap()
    }

    fn deep(plan: &Plan) -> u32 {
        plan.segments.last().unwrap().tokens
    }

    const PAGE: Content = Content { cells: 729, edges: 600, repeated: 100 };
    const BLANK: Content = Content { cells: 729, edges: 0, repeated: 720 };
    const PHOTO: Content = Content { cells: 729, edges: 80, repeated: 249 };

    #[test]
    fn what_is_shown_decides() {
        // (content, tokens after each encoder step, in the upper decoder layers)
        for (content, left, upper) in [
            // 10 of the 100 repeated cells stay
            (PAGE, [679, 654, 642, 642, 641, 640, 639], 639),
            // 72 of 720 repeated cells, and of 9 plain ones 5 and then 3
            (BLANK, [369, 189, 99, 94, 88, 83, 77], 75),
            // 80 with edges, 25 of 249 repeated, half and then 3 of 10 of 400 plain ones
            (PHOTO, [605, 543, 512, 461, 409, 357, 305], 225),
            (Content { cells: 729, edges: 729, repeated: 0 }, [729; 7], 729),
        ] {
            let plan = plan(&auto(), &[content]);
            let outs: Vec<u32> = plan.tiles[0].steps.iter().map(|step| step.n_out).collect();
            assert_eq!((outs.as_slice(), deep(&plan)), (left.as_slice(), upper), "{content:?}");
            assert_eq!(plan.tiles[0].steps[0].layer, FIRST_LAYERS.start);
        }
    }

    #[test]
    fn bounds_hold_and_say_so() {
        let bounded = |least, most| Choice { keep_min: least, keep_max: most, ..auto() };
        let amounts = |choice: &Choice, content| {
            let plan = plan(choice, &[content]);
            (deep(&plan), plan.tiles[0].amounts.unwrap().bound)
        };
        assert_eq!(amounts(&bounded(Some(0.2), None), BLANK), (146, Some(Bound::Least)));
        assert_eq!(amounts(&bounded(None, Some(0.5)), PAGE), (364, Some(Bound::Most)));
        assert_eq!(amounts(&bounded(None, Some(0.03)), BLANK), (22, Some(Bound::Most)));
        assert_eq!(amounts(&bounded(Some(0.2), Some(0.5)), PHOTO), (225, None));
        let half = plan(&bounded(None, Some(0.25)), &[PAGE]);
        assert_eq!((half.tokens, deep(&half)), (365, 182), "both halves take the same part");
        assert!(why(&[half.tiles[0].amounts.unwrap()]).ends_with("cut to the most share"));
    }

    #[test]
    fn each_tile_has_a_budget_of_its_own() {
        let plan = plan(&auto(), &[PHOTO, PAGE, BLANK]);
        let tokens: Vec<u32> = plan.tiles.iter().map(|tile| tile.tokens).collect();
        assert_eq!(tokens, [305, 639, 77]);
        assert_eq!(deep(&plan), 225 + 639 + 75);
    }

    #[test]
    fn a_picture_that_is_not_known_yet_counts_whole() {
        let schedule = select(&auto(), &so400m(), None).unwrap();
        let plan = Plan::new(&schedule, &so400m(), &[729, 729]).unwrap();
        assert_eq!((plan.tokens, deep(&plan)), (1458, 1458));
        let most = Choice { keep_max: Some(0.25), ..auto() };
        let plan = Plan::new(&select(&most, &so400m(), None).unwrap(), &so400m(), &[729]).unwrap();
        assert_eq!(deep(&plan), 182);
    }

    #[test]
    fn whole_groups_merge() {
        let shape = Shape { group: 4, is_qwen2vl: true, vit_layers: 32, vit_layers_run: 32, ..so400m() };
        let schedule = select(&auto(), &shape, None).unwrap();
        let content = Content { cells: 256, edges: 30, repeated: 111 };
        let tiles = Plan::encoder_by_content(&schedule, &shape, &[1024], &[content]);
        assert!(tiles[0].steps.iter().all(|step| step.r % 4 == 0));
        assert_eq!(tiles[0].tokens, tiles[0].amounts.unwrap().encoder);
    }

    #[test]
    fn the_text_model_may_dominate() {
        let shape = Shape { widths: (1152, 3584), ..so400m() };
        let schedule = select(&auto(), &shape, None).unwrap();
        let tiles = Plan::encoder_by_content(&schedule, &shape, &[729], &[PHOTO]);
        assert_eq!((tiles[0].tokens, tiles[0].amounts.unwrap().decoder), (405, 225));
    }

    #[test]
    fn what_auto_cannot_do_is_refused() {
        let half = Some(Half { layers: vec![2], amounts: vec![Amount::Count(9)] });
        for (choice, part) in [
            (Choice { keep: Some(0.5), ..auto() }, "merge.keep 0.5"),
            (Choice { vit: half, ..auto() }, "merge.vit_layers"),
            (Choice { grid: Grid::Reference, ..auto() }, "reference"),
            (Choice { strategy: Some(Strategy::Prumerge), ..auto() }, "prumerge"),
            (Choice { keep_min: Some(0.0), ..auto() }, "merge.keep_min 0"),
            (Choice { keep_max: Some(1.5), ..auto() }, "merge.keep_max 1.5"),
            (Choice { keep_min: Some(0.5), keep_max: Some(0.4), ..auto() }, "merge.keep_min 0.5 is above"),
            (Choice { keep_min: Some(0.5), ..Choice::default() }, "merge.keep_min"),
        ] {
            let error = select(&choice, &so400m(), None).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains('\n'), "{part}: {error}");
        }
    }

    #[test]
    fn attention_ranks_nothing_in_the_first_layers() {
        let layers = |strategy| {
            let schedule = select(&Choice { strategy, ..auto() }, &so400m(), None).unwrap();
            schedule.encoder.steps.iter().map(|(layer, _)| *layer).collect::<Vec<_>>()
        };
        assert_eq!(layers(None), [1, 2, 3, 5, 6, 7, 8]);
        assert_eq!(layers(Some(Strategy::Merge)), [5, 6, 7, 8]);
    }
}
