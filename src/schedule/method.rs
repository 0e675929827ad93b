//! Published methods by their names: layers, amounts and scores of their authors, scaled to this model's depth.
//! docs/strategies.md has the source of each.

use super::half::{cannot_merge, of_preset};
use super::preset::PresetHalf;
use super::{Amount, Choice, HalfSchedule, MergeFlag, Schedule, Score, Shape, Strategy};
use crate::error::{Error, Field, Result};

/// Method that brings a schedule of its own.
#[derive(Clone, Copy)]
pub(super) struct Method {
    strategy: Strategy,
    acts: Acts,
}

/// Place where a method takes tokens away, with the number that its authors take.
#[derive(Clone, Copy)]
enum Acts {
    /// At these layers of a text model of [`DEPTH`], with an amount each.
    Decoder { layers: &'static [u32], amounts: &'static [Amount], score: Score, mass: Option<f64> },
    /// Behind the encoder, where this share stays.
    Behind { keep: f64 },
    /// Before the decoder, with amounts that no share of tokens gives.
    Frames,
}

/// Layers of the text model that the authors worked with.
const DEPTH: u32 = 32;

impl Strategy {
    /// Whether it is a published method, which brings its own layers and amounts.
    #[must_use]
    pub fn is_method(self) -> bool {
        self.method().is_some()
    }

    /// The method of this name; `None` for a rule that takes any schedule.
    pub(super) fn method(self) -> Option<Method> {
        let decoder = |layers, amounts, score| Acts::Decoder { layers, amounts, score, mass: None };
        let acts = match self {
            Strategy::FastV => decoder(&[2], &[Amount::Keep(0.5)], Score::LastToken),
            Strategy::PyramidDrop => decoder(&[8, 16, 24], &[Amount::Keep(0.5); 3], Score::LastToken),
            // 576 -> 300 -> 200 -> 110, by the authors' list for 192 tokens on average.
            Strategy::SparseVlm => decoder(
                &[2, 6, 15],
                &[
                    Amount::Scaled { r: 276, of: 576 },
                    Amount::Scaled { r: 100, of: 576 },
                    Amount::Scaled { r: 90, of: 576 },
                ],
                Score::Raters,
            ),
            // A tenth by attention, and a tenth that is the latest. Between the layers one set of cells serves all.
            Strategy::LookM(_) => decoder(
                &[8, 16, 24],
                &[Amount::Keep(0.2), Amount::Keep(1.0), Amount::Keep(1.0)],
                Score::Prompt,
            ),
            // Half of the tokens at most, as a bound for the cache. The authors have none.
            Strategy::ZipVl => Acts::Decoder {
                layers: &[2, 8, 16],
                amounts: &[Amount::Keep(0.8); 3],
                score: Score::Question,
                mass: Some(0.9),
            },
            // 191 dominant tokens and 30 contextual ones.
            Strategy::VisionZip => Acts::Behind { keep: 221.0 / 576.0 },
            Strategy::Hired => Acts::Behind { keep: 0.2 },
            Strategy::FreeVideo => Acts::Frames,
            _ => return None,
        };
        Some(Method { strategy: self, acts })
    }
}

impl Method {
    /// Share of the scores that stays, if the number of tokens follows from it.
    pub(super) fn mass(self) -> Option<f64> {
        if let Acts::Decoder { mass, .. } = self.acts { mass } else { None }
    }

    /// Whether its authors number what stays anew, as the encoder of a LLaVA hands it over.
    pub(super) fn closes_positions(self) -> bool {
        matches!(self.acts, Acts::Behind { .. } | Acts::Frames)
    }

    /// Puts the method in the place of `schedule`, which `choice` names by its preset: the method then keeps
    /// the share that the preset leaves in the deepest layers. Layers by hand take the place of its own.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] for settings that the method has no use for,
    /// [`crate::error::Kind::Schedule`] if its layers do not fit.
    pub(super) fn apply(self, schedule: Schedule, choice: &Choice, shape: &Shape) -> Result<Schedule> {
        let by_hand = choice.vit.is_some() || choice.llm.is_some();
        if by_hand && choice.merge.is_some() {
            let at = if choice.llm.is_some() { Field::LlmLayers } else { Field::VitLayers };
            return self.refuse(format!("{} and {at} each say how much goes; give one", Field::Merge));
        }
        let own = choice.merge.is_none() && !by_hand;
        let named = match own {
            true => Schedule {
                name: self.strategy.name().to_owned(),
                usual: self.strategy,
                remark: None,
                ..schedule
            },
            false => schedule,
        };
        match self.acts {
            Acts::Decoder { .. } => self.in_decoder(named, choice, shape, own),
            Acts::Behind { keep } if own => {
                if !shape.vit_can_merge {
                    return Err(cannot_merge("encoder", Field::Strategy));
                }
                Ok(Schedule { encoder: share_of_all(keep, shape), ..named })
            }
            Acts::Frames => match choice.keep.filter(|_| own) {
                Some(keep) => Ok(Schedule { encoder: share_of_all(keep, shape), ..named }),
                None => Ok(named),
            },
            Acts::Behind { .. } => Ok(named),
        }
    }

    fn in_decoder(self, schedule: Schedule, choice: &Choice, shape: &Shape, own: bool) -> Result<Schedule> {
        let Acts::Decoder { layers, amounts, score, mass } = self.acts else { return Ok(schedule) };
        if !shape.llm_can_merge {
            return Err(cannot_merge("text model", Field::Strategy));
        }
        if choice.vit.is_some() {
            return self
                .refuse(format!("it acts in the text model alone, so leave out {}", Field::VitLayers));
        }
        if choice.score != Score::default() && choice.score != score {
            return self.refuse(format!(
                "it ranks by its own score, so leave out {} {}",
                Field::Score,
                choice.score.name()
            ));
        }
        let schedule = Schedule { score, mass: choice.llm_mass.or(mass), ..schedule };
        let preset_share = match choice.merge {
            None if !own => return Ok(schedule),
            None => None,
            Some(MergeFlag::Auto) => {
                return self.refuse(format!(
                    "it has layers of its own, and {} auto has others; give the share with {}",
                    Field::Merge,
                    Field::Keep
                ));
            }
            Some(_) if schedule.is_off() => return Ok(Schedule { mass: None, ..schedule }),
            Some(_) => choice.keep.is_none().then(|| schedule.share()),
        };
        // Every step is given its amount below.
        let half = PresetHalf { layers, depth: DEPTH, amount: Amount::Keep(1.0) };
        let lowest = (shape.llm_first, shape.llm_first);
        let asked = format!("{} {}", Field::Strategy, self.strategy.name());
        let mut decoder = of_preset(&asked, &half, shape.llm_layers, lowest, shape.llm_layers, "text model")?;
        for (step, &amount) in decoder.steps.iter_mut().zip(amounts) {
            step.1 = amount;
        }
        Ok(Schedule { encoder: HalfSchedule::default(), decoder, preset_share, remark: None, ..schedule })
    }

    fn refuse<T>(self, reason: String) -> Result<T> {
        Err(Error::usage(format!("{} {}: {reason}", Field::Strategy, self.strategy.name())))
    }
}

/// For a method that acts once this only says how much.
fn share_of_all(keep: f64, shape: &Shape) -> HalfSchedule {
    HalfSchedule { steps: vec![(shape.vit_first, Amount::Keep(keep))] }
}

#[cfg(test)]
mod tests {
    use super::super::choice::tests::so400m;
    use super::super::{Half, Plan, Positions, Preset, TowerScore, select};
    use super::*;

    const PAPER: Option<MergeFlag> = Some(MergeFlag::Preset(Preset::Paper));

    fn of(strategy: Strategy) -> Choice {
        Choice { strategy: Some(strategy), ..Choice::default() }
    }

    #[test]
    fn each_has_its_own_layers_and_amounts() {
        let deep = Shape { llm_layers: 32, ..so400m() };
        // (choice, model, name, layers, score, tokens behind each layer)
        let (fastv, drop) = (of(Strategy::FastV), of(Strategy::PyramidDrop));
        let quarter = |choice: &Choice| Choice { keep: Some(0.25), ..choice.clone() };
        let paper = |choice: &Choice| Choice { merge: PAPER, ..choice.clone() };
        let last = Score::LastToken;
        let cases: [(Choice, &Shape, &str, &[u32], Score, &[u32]); 6] = [
            (fastv.clone(), &deep, "fastv", &[2], last, &[365]),
            (drop.clone(), &deep, "pyramiddrop", &[8, 16, 24], last, &[365, 183, 91]),
            (drop.clone(), &so400m(), "pyramiddrop", &[7, 14, 21], last, &[365, 183, 91]),
            (quarter(&fastv), &deep, "fastv keep 0.25", &[2], last, &[182]),
            (paper(&fastv), &deep, "paper/fastv", &[2], last, &[253]),
            (paper(&drop), &deep, "paper/pyramiddrop", &[8, 16, 24], last, &[512, 360, 253]),
        ];
        for (choice, shape, label, layers, score, left) in cases {
            let schedule = select(&choice, shape, None).unwrap();
            assert!(schedule.label().starts_with(label), "{}", schedule.label());
            assert_eq!((schedule.merge_layers(), schedule.score), (layers.to_vec(), score), "{label}");
            let plan = Plan::new(&schedule, shape, &[729]).unwrap();
            let behind: Vec<u32> = plan.decoder.iter().map(|step| step.n_out).collect();
            assert_eq!((plan.tokens, behind), (729, left.to_vec()), "{label}");
        }
        let half = Some(Half { layers: vec![3], amounts: vec![Amount::Count(9)] });
        let schedule = select(&Choice { llm: half, ..fastv }, &deep, None).unwrap();
        assert_eq!((schedule.merge_layers(), schedule.score), (vec![3], last), "layers by hand");
        assert_eq!(schedule.name, "custom");
    }

    #[test]
    fn those_of_the_encoder_act_behind_it() {
        let paper = |strategy| Choice { merge: PAPER, ..of(strategy) };
        let quarter = |strategy| Choice { keep: Some(0.25), ..of(strategy) };
        for (choice, label, left) in [
            (of(Strategy::VisionZip), "visionzip", 280),
            (of(Strategy::Hired), "hired", 146),
            (quarter(Strategy::Hired), "hired keep 0.25", 182),
            (paper(Strategy::VisionZip), "paper/visionzip", 253),
        ] {
            let schedule = select(&choice, &so400m(), None).unwrap();
            assert_eq!(schedule.label(), label);
            assert_eq!((schedule.merge_layers(), schedule.positions), (vec![], Positions::Closed), "{label}");
            let plan = Plan::new(&schedule, &so400m(), &[729]).unwrap();
            assert_eq!((plan.tokens, plan.tiles[0].steps[0].layer), (left, 26), "{label}");
        }
        let own = Choice { positions: Some(Positions::Own), ..of(Strategy::Hired) };
        assert_eq!(select(&own, &so400m(), None).unwrap().positions, Positions::Own);
        let axes = Shape { has_axes: true, ..so400m() };
        assert_eq!(select(&of(Strategy::Hired), &axes, None).unwrap().positions, Positions::Own);
        let clip = Shape { class_token: true, ..so400m() };
        assert_eq!(select(&of(Strategy::Hired), &clip, None).unwrap().vit_score, TowerScore::Class);
    }

    #[test]
    fn the_scores_may_say_how_many_stay() {
        let zipvl = select(&of(Strategy::ZipVl), &so400m(), None).unwrap();
        assert_eq!((zipvl.mass, zipvl.score, zipvl.label().as_str()), (Some(0.9), Score::Question, "zipvl"));
        let tight = Choice { llm_mass: Some(0.5), keep: Some(0.25), ..of(Strategy::ZipVl) };
        let schedule = select(&tight, &so400m(), None).unwrap();
        assert_eq!((schedule.mass, schedule.label().as_str()), (Some(0.5), "zipvl keep 0.25 mass 0.5"));
        let mut plan = Plan::new(&schedule, &so400m(), &[729]).unwrap();
        assert!(plan.decoder.iter().all(|step| step.mass == Some(0.5)));
        let planned = plan.clone();
        plan.settle(|layer| if layer == 2 { 600 } else { 0 });
        assert_eq!(plan.segments.iter().map(|s| s.tokens).collect::<Vec<_>>(), [729, 129, 129, 129]);
        assert_eq!(plan.tokens, planned.tokens);
        let cut = planned.cut_at(&[2, 5, 7, 14], 28).unwrap();
        let masses: Vec<Option<f64>> = cut.decoder.iter().map(|step| step.mass).collect();
        assert_eq!(masses, [Some(0.5), None, Some(0.5), Some(0.5)], "a cut of another schedule has none");

        let half = || Some(Half { layers: vec![2], amounts: vec![Amount::Keep(1.0)] });
        let merge = Choice { llm: half(), llm_mass: Some(0.9), ..Choice::default() };
        assert_eq!(select(&merge, &so400m(), None).unwrap().mass, Some(0.9));
        for (choice, part) in [
            (Choice { strategy: Some(Strategy::Kmeans), ..merge.clone() }, "kmeans ranks nothing"),
            (Choice { llm_mass: Some(1.5), ..merge.clone() }, "merge.llm_mass 1.5: give a share"),
            (Choice { llm: None, vit: half(), ..merge.clone() }, "name its layers with merge.llm_layers"),
            (Choice { llm_mass: Some(0.9), ..of(Strategy::Hired) }, "hired ranks nothing"),
            (Choice { merge: Some(MergeFlag::Off), llm: None, ..merge }, "nothing is merged"),
        ] {
            let error = select(&choice, &so400m(), None).unwrap_err().to_string();
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn what_a_method_has_no_use_for_is_refused_in_one_line() {
        let half = Some(Half { layers: vec![3], amounts: vec![Amount::Count(9)] });
        let fastv = of(Strategy::FastV);
        let cases = [
            (Choice { vit: half.clone(), ..fastv.clone() }, "leave out merge.vit_layers"),
            (Choice { score: Score::Raters, ..fastv.clone() }, "leave out merge.score raters"),
            (Choice { llm: half.clone(), ..of(Strategy::Hired) }, "acts before the decoder"),
            (Choice { score: Score::Raters, ..of(Strategy::Hired) }, "leave out merge.score raters"),
            (Choice { llm: half, merge: PAPER, ..fastv.clone() }, "each say how much goes"),
            (Choice { merge: Some(MergeFlag::Auto), ..fastv.clone() }, "give the share with merge.keep"),
            (Choice { merge: Some(MergeFlag::Off), ..fastv.clone() }, "nothing is to go"),
        ];
        for (choice, part) in cases {
            let error = select(&choice, &so400m(), None).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains('\n'), "{part}: {error}");
        }
        let fixed = Shape { llm_can_merge: false, ..so400m() };
        assert!(select(&fastv, &fixed, None).unwrap_err().to_string().contains("no merge points"));
    }
}
