//! Schedules that are compared.

use super::{Choice, MergeFlag, Preset, Schedule, Strategy};
use crate::error::Result;

/// Schedule with its name in tables.
#[derive(Debug, Clone)]
pub struct Subject {
    pub name: String,
    pub schedule: Schedule,
}

impl Subject {
    #[must_use]
    pub fn new(schedule: Schedule) -> Self {
        Self { name: schedule.label(), schedule }
    }
}

impl Choice {
    /// Returns the same choice with another schedule by name, without the fields of the one before.
    #[must_use]
    pub fn by_name(&self, flag: MergeFlag) -> Choice {
        let (keep_min, keep_max) = match flag {
            MergeFlag::Auto => (self.keep_min, self.keep_max),
            _ => (None, None),
        };
        Choice { merge: Some(flag), keep: None, keep_min, keep_max, vit: None, llm: None, ..self.clone() }
    }

    /// Reads a schedule of `--against`: a preset, a share as in `--keep`, a strategy, or one of the first two
    /// with a strategy, `paper/random`.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::Kind::Usage) with the names there are.
    pub fn against(&self, text: &str) -> Result<Choice> {
        let seed = self.strategy_seed;
        if Strategy::ALL.iter().any(|strategy| strategy.name() == text) {
            return Ok(Choice { strategy: Some(Strategy::parse(text, seed)?), ..self.clone() });
        }
        let (what, strategy) = match text.split_once('/') {
            Some((what, name)) => (what, Some(Strategy::parse(name, seed)?)),
            None => (text, None),
        };
        Ok(match what.parse::<f64>() {
            // Shares are spread over a preset; that of auto is balanced.
            Ok(keep) if self.merge == Some(MergeFlag::Auto) => {
                let balanced = self.by_name(MergeFlag::Preset(Preset::Balanced));
                Choice { keep: Some(keep), strategy, ..balanced }
            }
            Ok(keep) => Choice { keep: Some(keep), strategy, ..self.clone() },
            Err(_) => Choice { merge: Some(MergeFlag::parse(what)?), strategy, ..Choice::default() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::strategy::tests::paper;
    use super::*;

    #[test]
    fn what_stands_beside() {
        let base = Choice { keep: Some(0.5), strategy_seed: 3, ..paper(Strategy::Merge) };
        let cases = [
            ("image", Choice { merge: Some(MergeFlag::Preset(Preset::Image)), ..Choice::default() }),
            ("0.25", Choice { keep: Some(0.25), strategy: None, ..base.clone() }),
            ("prune", Choice { strategy: Some(Strategy::Prune), ..base.clone() }),
            ("paper/random", paper(Strategy::Random(3))),
            ("0.25/kmeans", Choice { keep: Some(0.25), strategy: Some(Strategy::Kmeans), ..base.clone() }),
        ];
        for (text, expected) in cases {
            assert_eq!(base.against(text).unwrap(), expected, "{text}");
        }
        for (text, part) in [("best", "merge.preset best"), ("paper/best", "merge.strategy best")] {
            assert!(base.against(text).unwrap_err().to_string().contains(part), "{text}");
        }
    }
}
