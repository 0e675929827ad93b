//! Schedules that depend on the question.

use super::{Schedule, Strategy};
use crate::error::{Error, Field, Kind, Result};

impl Strategy {
    /// Whether the question decides what the encoder sees.
    #[must_use]
    pub fn needs_question(self) -> bool {
        self == Strategy::Crop
    }
}

impl Schedule {
    /// Returns the schedule for this question, which a strategy may look at.
    ///
    /// # Errors
    /// [`Kind::Prompt`] if it has to and the question has no text.
    pub fn asked(self, question: &str) -> Result<Self> {
        if !self.strategy.needs_question() {
            return Ok(self);
        }
        let question = question.trim();
        if question.is_empty() {
            return Err(Error::new(
                Kind::Prompt,
                format!(
                    "{} {}: the prompt has no text that says what to look for; add a question",
                    Field::Strategy,
                    self.strategy.name()
                ),
            ));
        }
        Ok(Self { question: Some(question.to_owned()), ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_some_look_at_the_question() {
        let of = |strategy| Schedule { strategy, ..Schedule::default() };
        let merge = of(Strategy::Merge);
        assert_eq!(merge.clone().asked("what?").unwrap(), merge);
        assert_eq!(of(Strategy::Crop).asked(" what? ").unwrap().question.as_deref(), Some("what?"));
        let error = of(Strategy::Crop).asked(" \n").unwrap_err();
        assert_eq!(error.kind(), Kind::Prompt);
        assert!(error.to_string().contains("merge.strategy crop: the prompt has no text"), "{error}");
    }
}
