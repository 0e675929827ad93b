//! Schedules that depend on the question.

use super::{Choice, Schedule, Shape, Strategy};
use crate::error::{Error, Field, Kind, Result};

impl Strategy {
    /// Whether the question decides what the encoder sees.
    #[must_use]
    pub fn needs_question(self) -> bool {
        matches!(self, Strategy::Crop | Strategy::FreeVideo)
    }

    /// Whether it compares the frames of a video, or the pictures of a conversation, with each other.
    #[must_use]
    pub fn chooses_frames(self) -> bool {
        self == Strategy::FreeVideo
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

/// # Errors
/// [`Kind::Model`] for a strategy that pools the tokens of frames, on a model that cannot.
pub(super) fn check_frames(strategy: Strategy, shape: &Shape) -> Result<()> {
    if !strategy.chooses_frames() || shape.pools_frames {
        return Ok(());
    }
    Err(Error::new(
        Kind::Model,
        format!(
            "{} {}: it pools the tokens of each frame, and this model's have marks or places of their own; take a LLaVA pair, or another strategy",
            Field::Strategy,
            strategy.name()
        ),
    ))
}

/// Whether the strategy says how much goes, and `choice` does not.
pub(super) fn has_amounts(strategy: Strategy, choice: &Choice) -> bool {
    strategy.chooses_frames() && choice.merge.is_none() && choice.keep.is_none()
}

/// # Errors
/// [`Kind::Usage`] for a strategy that asks a text-image model, without one.
pub(super) fn check_scorer(strategy: Strategy, shape: &Shape) -> Result<()> {
    if !strategy.needs_question() || shape.finds_regions {
        return Ok(());
    }
    Err(Error::usage(format!(
        "{} {}: no text-image model is loaded that finds the region; give its file with {}",
        Field::Strategy,
        strategy.name(),
        Field::CropModel
    )))
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
        assert!(of(Strategy::FreeVideo).asked(" ").is_err());
        assert!(error.to_string().contains("merge.strategy crop: the prompt has no text"), "{error}");
    }
}
