//! Published methods by their names: layers, amounts and scores of their authors, scaled to this model's depth.
//! docs/strategies.md has the source of each.

use super::choice::cannot_merge;
use super::half::of_preset;
use super::preset::PresetHalf;
use super::{Amount, Choice, HalfSchedule, MergeFlag, Schedule, Score, Shape, Strategy};
use crate::error::{Error, Field, Result};

/// Method that brings its own layers of the text model, its amounts and its score.
#[derive(Clone, Copy)]
pub(super) struct Method {
    strategy: Strategy,
    layers: &'static [u32],
    /// Amount of every step.
    amount: Amount,
    score: Score,
}

/// Layers of the text model that the authors worked with.
const DEPTH: u32 = 32;

impl Strategy {
    /// The method of this name; `None` for a rule that takes any schedule.
    pub(super) fn method(self) -> Option<Method> {
        let at = |layers, amount, score| Some(Method { strategy: self, layers, amount, score });
        match self {
            Strategy::FastV => at(&[2], Amount::Keep(0.5), Score::LastToken),
            Strategy::PyramidDrop => at(&[8, 16, 24], Amount::Keep(0.5), Score::LastToken),
            _ => None,
        }
    }
}

impl Method {
    /// Puts the method in the place of `schedule`, which `choice` names by its preset: the method then keeps
    /// the share that the preset leaves in the deepest layers. Layers by hand take the place of its own.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] for settings that the method has no use for,
    /// [`crate::error::Kind::Schedule`] if its layers do not fit.
    pub(super) fn apply(self, schedule: Schedule, choice: &Choice, shape: &Shape) -> Result<Schedule> {
        let name = self.strategy.name();
        let refuse = |reason: String| Err(Error::usage(format!("{} {name}: {reason}", Field::Strategy)));
        if !shape.llm_can_merge {
            return Err(cannot_merge("text model", Field::Strategy));
        }
        if choice.vit.is_some() {
            return refuse(format!("it acts in the text model alone, so leave out {}", Field::VitLayers));
        }
        if choice.score != Score::default() && choice.score != self.score {
            return refuse(format!(
                "it ranks by its own score, so leave out {} {}",
                Field::Score,
                choice.score.name()
            ));
        }
        if choice.llm.is_some() {
            if choice.merge.is_some() {
                return refuse(format!(
                    "{} and {} each say how much goes; give one",
                    Field::Merge,
                    Field::LlmLayers
                ));
            }
            return Ok(Schedule { score: self.score, ..schedule });
        }
        let preset_share = match choice.merge {
            None => None,
            Some(MergeFlag::Auto) => {
                return refuse(format!(
                    "it has layers of its own, and {} auto has others; give the share with {}",
                    Field::Merge,
                    Field::Keep
                ));
            }
            Some(_) if schedule.is_off() => return Ok(schedule),
            Some(_) => choice.keep.is_none().then(|| schedule.share()),
        };
        let half = PresetHalf { layers: self.layers, depth: DEPTH, amount: self.amount };
        let lowest = (shape.llm_first, shape.llm_first);
        let asked = format!("{} {name}", Field::Strategy);
        let decoder = of_preset(&asked, &half, shape.llm_layers, lowest, shape.llm_layers, "text model")?;
        let own = choice.merge.is_none();
        Ok(Schedule {
            name: if own { name.to_owned() } else { schedule.name },
            usual: if own { self.strategy } else { schedule.usual },
            encoder: HalfSchedule::default(),
            decoder,
            preset_share,
            score: self.score,
            remark: None,
            ..schedule
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::choice::tests::so400m;
    use super::super::{Half, Plan, Preset, select};
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
    }

    #[test]
    fn what_a_method_has_no_use_for_is_refused_in_one_line() {
        let half = Some(Half { layers: vec![3], amounts: vec![Amount::Count(9)] });
        let fastv = of(Strategy::FastV);
        let cases = [
            (Choice { vit: half.clone(), ..fastv.clone() }, "leave out merge.vit_layers"),
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
