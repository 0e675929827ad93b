//! Caches that are thinned once a prompt is computed: every layer computes all tokens of a picture, and answers are
//! generated from fewer.

use serde::{Deserialize, Serialize};

use super::plan::{segments, step};
use super::{Plan, Step, Strategy};

/// Way in which keys and values that leave the cache merge into those that stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Thinning {
    /// The mean of the row that stays and of its midpoint with each row that goes.
    #[default]
    Pivotal,
    /// The mean of the row that stays and of those that go.
    Averaged,
    /// The same, each row that goes times the cosine of both keys.
    Weighted,
}

impl Strategy {
    /// Way in which the cache is thinned; `None` for a strategy that acts before the prompt is computed.
    #[must_use]
    pub fn thinning(self) -> Option<Thinning> {
        if let Strategy::LookM(thinning) = self { Some(thinning) } else { None }
    }
}

impl Plan {
    /// Puts the tokens that went in place of those that were planned, `removed` at a layer. Segments have fewer then.
    pub fn settle(&mut self, removed: impl Fn(u32) -> u32) {
        let n_layers = self.segments.last().map_or(0, |segment| segment.layers.1);
        let mut n_in = self.tokens;
        for at in &mut self.decoder {
            let mass = at.mass;
            *at = Step { mass, ..step(at.layer, removed(at.layer).min(n_in), n_in) };
            n_in = at.n_out;
        }
        self.segments = segments(&self.decoder, self.tokens, n_layers, self.thins);
    }

    /// Returns the tokens that go at each decoder merge layer while the prompt is computed.
    #[must_use]
    pub fn removed_on_the_way(&self) -> Vec<u32> {
        if self.thins { vec![0; self.decoder.len()] } else { self.decoder_r() }
    }

    /// Returns the tokens that leave each segment's cache after the prompt; empty if it is not thinned.
    #[must_use]
    pub fn thinned(&self) -> Vec<u32> {
        let gone = self.segments.iter().map(|segment| self.tokens - segment.tokens);
        if self.thins { gone.collect() } else { Vec::new() }
    }

    /// Returns the tokens that each segment's cache holds while the prompt is computed.
    #[must_use]
    pub fn computed(&self) -> Vec<u32> {
        self.segments.iter().map(|segment| if self.thins { self.tokens } else { segment.tokens }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::choice::tests::so400m;
    use super::super::{Amount, Choice, Half, Score, select};
    use super::*;

    fn of(strategy: Strategy) -> Choice {
        Choice { strategy: Some(strategy), ..Choice::default() }
    }

    fn look_m() -> Choice {
        of(Strategy::LookM(Thinning::Pivotal))
    }

    fn tokens(plan: &Plan) -> Vec<u32> {
        plan.segments.iter().map(|segment| segment.tokens).collect()
    }

    #[test]
    fn all_layers_compute_all_tokens_and_hold_fewer() {
        let schedule = select(&look_m(), &so400m(), None).unwrap();
        assert_eq!((schedule.merge_layers(), schedule.score), (vec![7, 14, 21], Score::Prompt));
        assert_eq!((schedule.label().as_str(), schedule.vit_sizes), ("look-m", false));
        let plan = Plan::new(&schedule, &so400m(), &[729]).unwrap();
        assert_eq!(tokens(&plan), [146; 4], "those before the first border too");
        assert_eq!((plan.computed(), plan.thinned()), (vec![729; 4], vec![583; 4]));
        assert_eq!((plan.removed_on_the_way(), plan.decoder_r()), (vec![0; 3], vec![583, 0, 0]));
        let cut = plan.cut_at(&[2, 7, 13, 14, 21], 28).unwrap();
        assert_eq!((tokens(&cut), cut.computed()), (vec![146; 6], vec![729; 6]));

        let quarter = Choice { keep: Some(0.25), ..look_m() };
        let plan = Plan::new(&select(&quarter, &so400m(), None).unwrap(), &so400m(), &[729]).unwrap();
        assert_eq!(tokens(&plan), [182; 4]);
    }

    #[test]
    fn layers_by_hand_may_hold_different_numbers() {
        let half = Half { layers: vec![4, 9], amounts: vec![Amount::Keep(0.5), Amount::Count(100)] };
        let schedule = select(&Choice { llm: Some(half), ..look_m() }, &so400m(), None).unwrap();
        let plan = Plan::new(&schedule, &so400m(), &[729]).unwrap();
        assert_eq!((tokens(&plan), plan.thinned()), (vec![365, 365, 265], vec![364, 364, 464]));
    }

    #[test]
    fn others_act_on_the_way() {
        let schedule = select(&of(Strategy::FastV), &so400m(), None).unwrap();
        let plan = Plan::new(&schedule, &so400m(), &[729]).unwrap();
        assert_eq!((plan.thinned(), plan.computed()), (vec![], vec![729, 365]));
        assert_eq!(plan.removed_on_the_way(), plan.decoder_r());
        let mass = Choice { llm_mass: Some(0.9), ..look_m() };
        let error = select(&mass, &so400m(), None).unwrap_err().to_string();
        assert!(error.contains("look-m takes the schedule's number"), "{error}");
    }
}
