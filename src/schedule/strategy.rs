//! Strategies for the tokens that a schedule takes away: the method of the paper, and others to compare it
//! with at the same number of tokens. docs/strategies.md describes each.

use serde::{Deserialize, Serialize};

use super::method::Method;
use super::{Bounds, Choice, HalfSchedule, Schedule, Score, Shape, Thinning, TowerScore, question};
use crate::error::{Error, Field, Kind, Result};

/// Strategy by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Strategy {
    /// The least attended become one.
    #[default]
    Merge,
    /// The least attended are dropped.
    Prune,
    /// Tokens are drawn and dropped; the seed of the draw.
    Random(u32),
    /// ToMe: the most similar pairs of two alternating halves merge.
    Bipartite,
    /// Five iterations of k-means.
    Kmeans,
    /// The most similar pair merges, again and again.
    Greedy,
    /// The least attended go, each into the survivor it is most like.
    Assign,
    /// Behind the encoder: outliers of the attention stay, the others merge into the nearest.
    Prumerge,
    /// Nothing merges: the picture is shown smaller.
    Downsample,
    /// A text-image model chooses the region that the question is about, which is shown in the picture's place.
    Crop,
    /// Free Video-LLM: the question chooses frames and regions shown in detail, the others are shown in outline.
    FreeVideo,
    /// FastV: half of the tokens are dropped at one layer of the text model.
    FastV,
    /// PyramidDrop: half of the tokens are dropped at each of three layers of the text model.
    PyramidDrop,
    /// VisionZip: behind the encoder the most attended stay, and some of the others take up the rest.
    VisionZip,
    /// HiRED: behind the encoder the least attended are dropped; the whole picture says how many each tile keeps.
    Hired,
    /// SparseVLM: tokens that the question looks at stay in the text model, some of the others become clusters.
    SparseVlm,
    /// ZipVL: as few tokens stay in the text model as hold a share of the attention.
    ZipVl,
    /// LOOK-M: once the prompt is computed, the tokens that it attended to least leave the cache, and their keys and
    /// values merge into those that stay.
    LookM(Thinning),
}

impl Strategy {
    pub const ALL: [Strategy; 20] = [
        Strategy::Merge,
        Strategy::Prune,
        Strategy::Random(0),
        Strategy::Bipartite,
        Strategy::Kmeans,
        Strategy::Greedy,
        Strategy::Assign,
        Strategy::Prumerge,
        Strategy::Downsample,
        Strategy::Crop,
        Strategy::FreeVideo,
        Strategy::FastV,
        Strategy::PyramidDrop,
        Strategy::VisionZip,
        Strategy::Hired,
        Strategy::SparseVlm,
        Strategy::ZipVl,
        Strategy::LookM(Thinning::Pivotal),
        Strategy::LookM(Thinning::Averaged),
        Strategy::LookM(Thinning::Weighted),
    ];

    /// Returns the strategy of a name, `seed` being that of `random`.
    ///
    /// # Errors
    /// [`Kind::Usage`] with the names there are.
    pub fn parse(name: &str, seed: u32) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|strategy| strategy.name() == name);
        found.map(|strategy| strategy.with_seed(seed)).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|strategy| strategy.name()).collect();
            Error::usage(format!("{} {name}: choose {}", Field::Strategy, names.join(", ")))
        })
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Merge => "merge",
            Strategy::Prune => "prune",
            Strategy::Random(_) => "random",
            Strategy::Bipartite => "bipartite",
            Strategy::Kmeans => "kmeans",
            Strategy::Greedy => "greedy",
            Strategy::Assign => "assign",
            Strategy::Prumerge => "prumerge",
            Strategy::Downsample => "downsample",
            Strategy::Crop => "crop",
            Strategy::FreeVideo => "free-videollm",
            Strategy::FastV => "fastv",
            Strategy::PyramidDrop => "pyramiddrop",
            Strategy::VisionZip => "visionzip",
            Strategy::Hired => "hired",
            Strategy::SparseVlm => "sparsevlm",
            Strategy::ZipVl => "zipvl",
            Strategy::LookM(Thinning::Pivotal) => "look-m",
            Strategy::LookM(Thinning::Averaged) => "look-m-averaged",
            Strategy::LookM(Thinning::Weighted) => "look-m-weighted",
        }
    }

    #[must_use]
    pub fn seed(self) -> u32 {
        if let Strategy::Random(seed) = self { seed } else { 0 }
    }

    fn with_seed(self, seed: u32) -> Self {
        if let Strategy::Random(_) = self { Strategy::Random(seed) } else { self }
    }

    /// Whether all tokens go in one place between the picture and the decoder, so that a schedule only gives
    /// their number.
    #[must_use]
    pub fn acts_once(self) -> bool {
        matches!(
            self,
            Strategy::Prumerge
                | Strategy::Downsample
                | Strategy::Crop
                | Strategy::FreeVideo
                | Strategy::VisionZip
                | Strategy::Hired
        )
    }

    /// Whether it decides what the encoder sees, so that nothing is to go behind it.
    #[must_use]
    pub fn shows_less(self) -> bool {
        matches!(self, Strategy::Downsample | Strategy::Crop | Strategy::FreeVideo)
    }

    /// Whether groups of tokens describe its result.
    #[must_use]
    pub fn merges_by_groups(self) -> bool {
        self.keeps_sizes() || matches!(self, Strategy::Prumerge | Strategy::VisionZip | Strategy::SparseVlm)
    }

    /// Whether it counts, from layer to layer, how many tokens each one stands for.
    #[must_use]
    pub fn keeps_sizes(self) -> bool {
        matches!(self, Strategy::Bipartite | Strategy::Kmeans | Strategy::Greedy | Strategy::Assign)
    }

    pub(super) fn ranks_by_attention(self) -> bool {
        matches!(
            self,
            Strategy::Merge
                | Strategy::Prune
                | Strategy::Assign
                | Strategy::Prumerge
                | Strategy::FastV
                | Strategy::PyramidDrop
                | Strategy::VisionZip
                | Strategy::Hired
                | Strategy::SparseVlm
                | Strategy::ZipVl
                | Strategy::LookM(_)
        )
    }
}

impl Schedule {
    /// Returns the schedule's name with its budget, its strategy and its sizes, if they are not the usual.
    #[must_use]
    pub fn label(&self) -> String {
        let keep = self.keep.map(|keep| format!(" keep {keep}")).unwrap_or_default();
        let bounds = self.auto.filter(|bounds| *bounds != Bounds::default());
        let bounds = bounds.map(|b| format!(" {} to {}", b.least, b.most)).unwrap_or_default();
        let strategy = match self.strategy == self.usual {
            true => String::new(),
            false => format!("/{}", self.strategy.name()),
        };
        let sizes = if self.strategy.keeps_sizes() && !self.vit_sizes { ", sizes off" } else { "" };
        let own_mass = self.strategy.method().and_then(Method::mass);
        let mass = self.mass.filter(|_| self.mass != own_mass).map(|mass| format!(" mass {mass}"));
        format!("{}{keep}{bounds}{}{strategy}{sizes}", self.name, mass.unwrap_or_default())
    }
}

/// Returns `schedule` by the strategy of `choice`.
///
/// # Errors
/// [`Kind::Usage`] for a strategy that has nothing to do, or less than it was told.
pub(super) fn apply(schedule: Schedule, choice: &Choice, shape: &Shape) -> Result<Schedule> {
    let strategy = choice.strategy.unwrap_or(schedule.usual);
    let refuse =
        |reason: String| Err(Error::usage(format!("{} {}: {reason}", Field::Strategy, strategy.name())));
    check_sizes(strategy, choice)?;
    check_class_score(strategy, choice, shape)?;
    check_mass(&schedule, strategy)?;
    let vit_score = match strategy {
        // The class token's attention, if there is one.
        Strategy::Hired if shape.class_token => TowerScore::Class,
        _ => schedule.vit_score,
    };
    let vit_sizes = choice.vit_sizes.unwrap_or(strategy.keeps_sizes());
    let schedule = Schedule { vit_sizes, vit_score, ..schedule };
    if strategy == Strategy::Merge {
        return Ok(Schedule { strategy, ..schedule });
    }
    question::check_frames(strategy, shape)?;
    if schedule.is_off() && !question::has_amounts(strategy, choice) {
        if choice.strategy.is_none() {
            return Ok(schedule);
        }
        return refuse(format!(
            "nothing is to go with merging off; say how much, for example {} paper",
            Field::Merge
        ));
    }
    let ranks_there = strategy.ranks_by_attention() && !strategy.acts_once();
    if choice.score != Score::default() && !ranks_there {
        return refuse(format!(
            "the decoder's attention decides nothing, so leave out {} {}",
            Field::Score,
            choice.score.name()
        ));
    }
    if !strategy.acts_once() {
        return Ok(Schedule { strategy, ..schedule });
    }
    if choice.llm.is_some() {
        return refuse(format!(
            "it acts before the decoder, so {} would do nothing; give the amount with {} or {}",
            Field::LlmLayers,
            Field::VitLayers,
            Field::Keep
        ));
    }
    question::check_scorer(strategy, shape)?;
    if !strategy.shows_less() && !shape.vit_can_merge {
        return Err(Error::new(
            Kind::Model,
            format!(
                "{} {}: the encoder's architecture has no merge points, and it acts behind the encoder",
                Field::Strategy,
                strategy.name()
            ),
        ));
    }
    Ok(Schedule {
        strategy,
        encoder: HalfSchedule::default(),
        decoder: HalfSchedule::default(),
        budget: Some(Box::new(schedule.clone())),
        keep: schedule.keep,
        ..schedule
    })
}

/// The number of tokens follows only from scores that there are.
fn check_mass(schedule: &Schedule, strategy: Strategy) -> Result<()> {
    let Some(mass) = schedule.mass else { return Ok(()) };
    if !(mass > 0.0 && mass < 1.0) {
        return Err(Error::usage(format!(
            "{} {mass}: give a share above 0 and below 1, for example 0.9",
            Field::LlmMass
        )));
    }
    if strategy.acts_once() || !strategy.ranks_by_attention() {
        return Err(Error::usage(format!(
            "{}: the strategy {} ranks nothing in the text model; choose merge, prune, assign or sparsevlm",
            Field::LlmMass,
            strategy.name()
        )));
    }
    if strategy.thinning().is_some() {
        return Err(Error::usage(format!(
            "{}: {} takes the schedule's number of tokens from the cache; give the share with {}",
            Field::LlmMass,
            strategy.name(),
            Field::Keep
        )));
    }
    if schedule.decoder.steps.is_empty() {
        return Err(Error::usage(format!(
            "{}: nothing is merged in the text model; name its layers with {}",
            Field::LlmMass,
            Field::LlmLayers
        )));
    }
    Ok(())
}

/// Attention counts sizes only if the strategy keeps them.
fn check_sizes(strategy: Strategy, choice: &Choice) -> Result<()> {
    if choice.vit_sizes == Some(true) && !strategy.keeps_sizes() {
        let keep: Vec<&str> = Strategy::ALL
            .into_iter()
            .filter(|strategy| strategy.keeps_sizes() && !strategy.is_method())
            .map(Strategy::name)
            .collect();
        return Err(Error::usage(format!(
            "{} on: the strategy {} keeps no sizes; choose one that does: {}",
            Field::VitSizes,
            strategy.name(),
            keep.join(", ")
        )));
    }
    Ok(())
}

fn check_class_score(strategy: Strategy, choice: &Choice, shape: &Shape) -> Result<()> {
    if choice.vit_score != TowerScore::Class {
        return Ok(());
    }
    if !strategy.ranks_by_attention() {
        return Err(Error::usage(format!(
            "{} class: the strategy {} looks at no attention; choose the strategy assign, or leave out class",
            Field::Score,
            strategy.name()
        )));
    }
    if !shape.class_token {
        return Err(Error::new(
            Kind::Model,
            format!(
                "{} class: this image encoder has no class token; leave out class to rank by attention received",
                Field::Score
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::choice::tests::so400m;
    use super::super::{Amount, Half, MergeFlag, Preset, parse_scores, select};
    use super::*;

    /// The paper's preset by `strategy`.
    pub fn paper(strategy: Strategy) -> Choice {
        Choice {
            merge: Some(MergeFlag::Preset(Preset::Paper)),
            strategy: Some(strategy),
            ..Choice::default()
        }
    }

    #[test]
    fn names_and_seeds() {
        for strategy in Strategy::ALL {
            assert_eq!(Strategy::parse(strategy.name(), 0).unwrap(), strategy);
        }
        assert_eq!(Strategy::parse("random", 7).unwrap(), Strategy::Random(7));
        assert_eq!(Strategy::parse("greedy", 7).unwrap().seed(), 0);
        let error = Strategy::parse("best", 0).unwrap_err().to_string();
        assert!(error.contains("merge.strategy best: choose merge, prune, random"), "{error}");
    }

    #[test]
    fn strategies_that_act_once_know_only_how_much() {
        for strategy in [Strategy::Prumerge, Strategy::Downsample] {
            let schedule = select(&paper(strategy), &so400m(), None).unwrap();
            assert!(schedule.merge_layers().is_empty() && !schedule.is_off());
            assert_eq!(schedule.budget.as_ref().unwrap().merge_layers(), [2]);
            assert_eq!(schedule.label(), format!("paper/{}", strategy.name()));
        }
        let prune = select(&paper(Strategy::Prune), &so400m(), None).unwrap();
        assert_eq!((prune.merge_layers(), prune.budget), (vec![2], None));
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_one_line() {
        let llm = Some(Half { layers: vec![2], amounts: vec![Amount::Count(9)] });
        let last = |strategy| Choice { score: Score::LastToken, ..paper(strategy) };
        let off = Choice { merge: Some(MergeFlag::Off), ..paper(Strategy::Greedy) };
        let cases = [
            (off, "nothing is to go"),
            (Choice { llm: llm.clone(), ..paper(Strategy::Prumerge) }, "acts before the decoder"),
            (Choice { llm, ..paper(Strategy::Downsample) }, "acts before the decoder"),
            (last(Strategy::Random(0)), "merge.score last-token"),
            (last(Strategy::Kmeans), "merge.score last-token"),
            (last(Strategy::Downsample), "merge.score last-token"),
        ];
        for (choice, part) in cases {
            let error = select(&choice, &so400m(), None).unwrap_err();
            assert!(error.to_string().contains(part) && !error.to_string().contains('\n'), "{error}");
        }
        assert!(select(&last(Strategy::Prune), &so400m(), None).is_ok());
        let fixed = Shape { vit_can_merge: false, ..so400m() };
        let half = Some(Half { layers: vec![2], amounts: vec![Amount::Count(9)] });
        let choice = Choice { llm: half, strategy: Some(Strategy::Prumerge), ..Choice::default() };
        assert!(select(&choice, &fixed, None).is_err());
    }

    #[test]
    fn sizes_count_where_they_are_kept() {
        let balanced = Choice { merge: Some(MergeFlag::Preset(Preset::Balanced)), ..Choice::default() };
        let sizes = |choice: &Choice| {
            let schedule = select(choice, &so400m(), None).unwrap();
            (schedule.strategy, schedule.vit_sizes, schedule.label())
        };
        assert_eq!(sizes(&balanced), (Strategy::Bipartite, true, "balanced".into()));
        let off = Choice { vit_sizes: Some(false), ..balanced.clone() };
        assert_eq!(sizes(&off), (Strategy::Bipartite, false, "balanced, sizes off".into()));
        let merge = Choice { strategy: Some(Strategy::Merge), ..balanced.clone() };
        assert_eq!(sizes(&merge), (Strategy::Merge, false, "balanced/merge".into()));
        assert_eq!(sizes(&paper(Strategy::Assign)), (Strategy::Assign, true, "paper/assign".into()));
        assert!(!sizes(&paper(Strategy::Prumerge)).1);
        for strategy in [Strategy::Merge, Strategy::Prune, Strategy::Random(0), Strategy::Prumerge] {
            let choice = Choice { vit_sizes: Some(true), ..paper(strategy) };
            let error = select(&choice, &so400m(), None).unwrap_err().to_string();
            assert!(error.contains("keeps no sizes; choose one that does: bipartite, kmeans"), "{error}");
        }
    }

    #[test]
    fn the_class_token_ranks_where_there_is_one() {
        let class = |strategy| Choice { vit_score: TowerScore::Class, ..paper(strategy) };
        let clip = Shape { class_token: true, ..so400m() };
        for strategy in [Strategy::Merge, Strategy::Prune, Strategy::Assign, Strategy::Prumerge] {
            assert!(select(&class(strategy), &clip, None).is_ok(), "{strategy:?}");
            let error = select(&class(strategy), &so400m(), None).unwrap_err();
            assert!(error.to_string().contains("no class token"), "{error}");
            assert_eq!(error.kind(), Kind::Model);
        }
        let error = select(&class(Strategy::Bipartite), &clip, None).unwrap_err().to_string();
        assert!(error.contains("looks at no attention"), "{error}");
    }

    #[test]
    fn scores_of_both_halves() {
        use TowerScore::{Class, Received};
        for (text, expected) in [
            ("image", (Received, Score::Image)),
            ("last-token", (Received, Score::LastToken)),
            ("class", (Class, Score::Image)),
            ("class,last-token", (Class, Score::LastToken)),
            ("image, class", (Class, Score::Image)),
        ] {
            assert_eq!(parse_scores(text).unwrap(), expected, "{text}");
        }
        for text in ["", "best", "class,class", "image,last-token", "class,"] {
            assert!(parse_scores(text).unwrap_err().to_string().contains("merge.score"), "{text}");
        }
    }

    #[test]
    fn the_encoder_gives_less_where_the_text_model_dominates() {
        let removed = |widths| {
            let shape = Shape { widths, ..so400m() };
            let choice = Choice { merge: Some(MergeFlag::Preset(Preset::Balanced)), ..Choice::default() };
            let plan =
                super::super::Plan::new(&select(&choice, &shape, None).unwrap(), &shape, &[729]).unwrap();
            (plan.tokens, plan.segments.last().unwrap().tokens)
        };
        assert_eq!(removed((1152, 896)), (361, 181));
        assert_eq!(removed((1152, 3584)), (545, 273));
    }
}
