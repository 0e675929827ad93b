//! Judge: a model at an OpenAI-compatible endpoint that marks answers no rule can mark.

mod client;
mod rule;

use serde::{Deserialize, Serialize};

use super::{Item, Metric};
use crate::error::{Error, Kind, Result};

pub use client::Client;

/// Judge's opinion on one answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Mark for each aspect that was asked about, 0 to 1.
    pub aspects: Vec<(String, f64)>,
    /// Mark of the set's reference answer, if the judge rates both, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<f64>,
    /// Replies as they came, one for each aspect.
    pub replies: Vec<String>,
}

impl Verdict {
    /// Returns the mean of the aspects, 0 to 1.
    #[must_use]
    pub fn mark(&self) -> f64 {
        let sum: f64 = self.aspects.iter().map(|(_, mark)| mark).sum();
        sum / self.aspects.len().max(1) as f64
    }
}

/// Asks the judge about `answer`, and about the answer to the other wording if the item has one.
///
/// # Errors
/// As [`Client::ask`]; [`Kind::Model`] for a reply without the number or word that was asked for.
pub fn judge(
    client: &Client,
    metric: Metric,
    item: &Item,
    answer: &str,
    again: Option<&str>,
) -> Result<Verdict> {
    let mut verdict = Verdict { aspects: Vec::new(), reference: None, replies: Vec::new() };
    for question in rule::questions(metric, item, answer, again) {
        let reply = client.ask(&question.system, &question.text)?;
        let Some((mark, reference)) = rule::marks(metric, &reply) else {
            let said = crate::error::printable(&reply, 120);
            return Err(Error::new(
                Kind::Model,
                format!("judge {}: gave no mark but \"{said}\"; try another model", client.name()),
            ));
        };
        verdict.aspects.push((question.aspect.to_owned(), mark));
        verdict.reference = reference;
        verdict.replies.push(reply);
    }
    Ok(verdict)
}
