//! Sampling and the end of an answer, with the bounds that every face holds them to.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Field, Result};

/// Alternatives of one token at most, as in OpenAI's API.
const MOST_LOGPROBS: u32 = 20;
const MOST_STOP_TEXTS: usize = 16;
/// Bytes of one stop text at most.
const STOP_BYTES: usize = 256;
const MOST_BIASES: usize = 1024;

/// Limits of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Tokens of the answer at most; `None` until the context is full.
    pub max_tokens: Option<u32>,
    /// The answer ends before any of these; none of them is shown.
    pub stop: Vec<String>,
    /// Goes on after the model's own end.
    pub ignore_eos: bool,
}

impl Limits {
    /// Checks the stop texts and drops empty ones, which would end every answer before it begins.
    ///
    /// # Errors
    /// Kind `Usage` for too many or too long stop texts.
    pub fn checked(mut self) -> Result<Self> {
        let stop = Field::Stop;
        if self.stop.len() > MOST_STOP_TEXTS {
            let n = self.stop.len();
            return Err(Error::usage(format!(
                "{stop}: {n} texts, the limit is {MOST_STOP_TEXTS}; give fewer"
            )));
        }
        if let Some(long) = self.stop.iter().find(|text| text.len() > STOP_BYTES) {
            let n = long.len();
            return Err(Error::usage(format!(
                "{stop}: a text of {n} bytes, the limit is {STOP_BYTES}; shorten it"
            )));
        }
        self.stop.retain(|text| !text.is_empty());
        Ok(self)
    }
}

/// How the next token is drawn: llama.cpp's names with this program's values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 takes the most likely token.
    pub temperature: f32,
    /// 0 or below keeps all.
    pub top_k: i32,
    pub top_p: f32,
    pub min_p: f32,
    /// `None` draws a seed; the report has it.
    pub seed: Option<u32>,
    /// Tokens that the penalties look back on; 0 looks at none, below 0 at the whole context.
    pub repeat_last_n: i32,
    /// 1 is none.
    pub repeat_penalty: f32,
    /// 0 is none.
    pub frequency_penalty: f32,
    /// 0 is none.
    pub presence_penalty: f32,
    /// Token and what is added to its logit; minus infinity forbids it.
    pub logit_bias: Vec<(i32, f32)>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.2,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            seed: None,
            repeat_last_n: 64,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
        }
    }
}

impl Sampling {
    /// # Errors
    /// Kind `Usage` that names the first number out of its range, and the range.
    pub fn checked(self) -> Result<Self> {
        let ranges = [
            (Field::Temperature, self.temperature, 0.0, 100.0),
            (Field::TopP, self.top_p, 0.0, 1.0),
            (Field::MinP, self.min_p, 0.0, 1.0),
            (Field::RepeatPenalty, self.repeat_penalty, 0.01, 100.0),
            (Field::FrequencyPenalty, self.frequency_penalty, -100.0, 100.0),
            (Field::PresencePenalty, self.presence_penalty, -100.0, 100.0),
        ];
        for (field, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(Error::usage(format!("{field} {value}: give a number from {least} to {most}")));
            }
        }
        let (bias, n) = (Field::LogitBias, self.logit_bias.len());
        if n > MOST_BIASES {
            return Err(Error::usage(format!("{bias}: {n} tokens, the limit is {MOST_BIASES}; give fewer")));
        }
        if let Some((id, value)) = self.logit_bias.iter().find(|(id, value)| *id < 0 || value.is_nan()) {
            return Err(Error::usage(format!("{bias}: {value} for token {id} is none; give id and number")));
        }
        Ok(self)
    }
}

/// Checks the texts whose tokens are biased.
///
/// # Errors
/// Kind `Usage` for too many, empty or too long ones.
pub(super) fn check_texts(texts: &[(String, f32)]) -> Result<()> {
    let bias = Field::LogitBias;
    if texts.len() > MOST_BIASES {
        return Err(Error::usage(format!(
            "{bias}: {} texts, the limit is {MOST_BIASES}; give fewer",
            texts.len()
        )));
    }
    match texts.iter().map(|(text, _)| text.len()).find(|n| !(1..=STOP_BYTES).contains(n)) {
        Some(n) => {
            Err(Error::usage(format!("{bias}: a text of {n} bytes, the limits are 1 and {STOP_BYTES}")))
        }
        None => Ok(()),
    }
}

/// Checks the number of alternatives that log-probabilities come with.
///
/// # Errors
/// Kind `Usage` above 20.
pub fn check_logprobs(alternatives: u32) -> Result<u32> {
    if alternatives <= MOST_LOGPROBS {
        return Ok(alternatives);
    }
    let field = Field::TopLogprobs;
    Err(Error::usage(format!("{field} {alternatives}: give a number from 0 to {MOST_LOGPROBS}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_are_named() {
        let plain = Sampling::default;
        assert_eq!(plain().checked(), Ok(plain()));
        for (wrong, part) in [
            (Sampling { temperature: -1.0, ..plain() }, "temperature -1: give a number from 0 to 100"),
            (Sampling { temperature: f32::NAN, ..plain() }, "temperature NaN"),
            (Sampling { top_p: 1.5, ..plain() }, "top_p 1.5"),
            (Sampling { min_p: -0.5, ..plain() }, "min_p -0.5"),
            (Sampling { repeat_penalty: 0.0, ..plain() }, "repeat_penalty 0: give a number from 0.01"),
            (Sampling { frequency_penalty: 1e9, ..plain() }, "frequency_penalty"),
            (Sampling { presence_penalty: f32::INFINITY, ..plain() }, "presence_penalty inf"),
            (Sampling { logit_bias: vec![(-1, 1.0)], ..plain() }, "logit_bias"),
            (Sampling { logit_bias: vec![(1, f32::NAN)], ..plain() }, "logit_bias"),
            (Sampling { logit_bias: vec![(1, 0.0); 1025], ..plain() }, "1025 tokens"),
        ] {
            let error = wrong.checked().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn ends() {
        let limits = |stop: Vec<String>| Limits { stop, ..Limits::default() }.checked();
        assert_eq!(limits(vec!["a".into(), String::new()]).unwrap().stop, ["a"]);
        assert!(limits(vec!["a".into(); 17]).unwrap_err().to_string().contains("stop: 17 texts"));
        assert!(limits(vec!["a".repeat(257)]).unwrap_err().to_string().contains("257 bytes"));
        assert!(check_logprobs(20).is_ok() && check_logprobs(21).is_err());
    }
}
