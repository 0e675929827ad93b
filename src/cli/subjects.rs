//! The schedules that `bench` and `eval` compare.

use super::run;
use crate::engine::Real;
use crate::error::Result;
use crate::schedule::{Choice, MergeFlag, Subject};

/// Off first, then the schedule the flags mean, then the others asked for, each once. A number among those is a share
/// to keep of the flags' schedule; anything else is a preset by itself.
///
/// # Errors
/// A name there is no preset of, a schedule this model cannot take.
pub(super) fn subjects(engine: &Real, choice: &Choice, others: &[String]) -> Result<Vec<Subject>> {
    let named = |name: &str| Ok(Choice { merge: Some(MergeFlag::parse(name)?), ..Choice::default() });
    let mut choices = vec![named("off")?, choice.clone()];
    for other in others {
        choices.push(match other.parse::<f64>() {
            Ok(keep) => Choice { keep: Some(keep), ..choice.clone() },
            Err(_) => named(other)?,
        });
    }
    let mut subjects: Vec<Subject> = Vec::new();
    for choice in choices {
        let subject = Subject::new(run::choose(engine, &choice)?);
        if subjects.iter().all(|known| known.name != subject.name) {
            subjects.push(subject);
        }
    }
    Ok(subjects)
}
