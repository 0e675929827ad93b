//! The schedules that `bench` and `eval` compare.

use crate::answer::{Engine, LlamaEngine};
use crate::error::Result;
use crate::schedule::{Choice, MergeFlag, Subject};

/// Lists the schedules: off first, then the one that the flags mean, then the others asked for, each once.
/// [`Choice::against`] tells how they are named.
///
/// # Errors
/// A name that no preset has, a schedule that this model cannot take.
pub(super) fn subjects(engine: &LlamaEngine, choice: &Choice, others: &[String]) -> Result<Vec<Subject>> {
    let mut choices = vec![Choice { merge: Some(MergeFlag::Off), ..Choice::default() }, choice.clone()];
    for other in others {
        choices.push(choice.against(other)?);
    }
    let mut subjects: Vec<Subject> = Vec::new();
    for choice in choices {
        let subject = Subject::new(engine.facts().schedule(&choice)?);
        if subjects.iter().all(|known| known.name != subject.name) {
            subjects.push(subject);
        }
    }
    Ok(subjects)
}
