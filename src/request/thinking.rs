//! Thoughts ahead of an answer: whether there are any, how long they may be, and where they are told.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fields::{Fields, wrong};
use super::policy;
use crate::error::{Error, Result};

/// Thought ahead of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Thinking {
    /// Whether there is one; `None` is the chat template's own choice.
    pub asked: Option<bool>,
    /// Tokens of it at most.
    pub most: Option<u32>,
}

/// Place where a thought is told, by llama-server's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reasoning {
    /// In the text, as the model writes it (`none`).
    InText,
    /// Apart from the text (`deepseek`, and `auto`).
    #[default]
    Apart,
    /// In both (`deepseek-legacy`).
    Both,
}

impl Reasoning {
    /// Names that [`Reasoning::named`] knows.
    pub const NAMES: [&str; 4] = ["auto", "none", "deepseek", "deepseek-legacy"];

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "none" => Self::InText,
            "auto" | "deepseek" => Self::Apart,
            "deepseek-legacy" => Self::Both,
            _ => return None,
        })
    }
}

/// llama-server's `reasoning_format`, and SGLang's `separate_reasoning`.
///
/// # Errors
/// Kind `Usage` for another name.
pub(super) fn place(body: &mut Fields, own: Reasoning) -> Result<Reasoning> {
    let apart = body.flag("separate_reasoning")?;
    let Some(name) = body.text("reasoning_format")? else {
        return Ok(if apart == Some(false) { Reasoning::InText } else { own });
    };
    Reasoning::named(&name).ok_or_else(|| {
        let name: String = name.chars().take(40).collect();
        Error::usage(format!("reasoning_format: `{name}` is none; use {}", Reasoning::NAMES.join(", ")))
    })
}

/// Words for the effort of a thought: OpenAI's, and Ollama's three.
const EFFORTS: [&str; 6] = ["none", "minimal", "low", "medium", "high", "xhigh"];

/// Ollama's `think`, OpenAI's `reasoning_effort` and `reasoning`, and the limits of llama-server and vLLM. An effort becomes a variable
/// of the chat template, too.
///
/// # Errors
/// Kind `Usage` that names the field.
pub(super) fn read(body: &mut Fields, own: Thinking, variables: &mut Map<String, Value>) -> Result<Thinking> {
    let mut thinking = own;
    for name in ["thinking_budget_tokens", "reasoning_budget_tokens", "thinking_token_budget"] {
        match body.whole(name)? {
            None => {}
            Some(-1) => thinking.most = None,
            Some(n) => {
                let most = u32::try_from(n).map_err(|_| {
                    Error::usage(format!("{name} {n}: give a number of tokens, or -1 for no limit"))
                })?;
                thinking.most = Some(most);
            }
        }
    }
    let mut given = vec![(body.path("think"), body.value("think"))];
    given.push((body.path("reasoning_effort"), body.value("reasoning_effort")));
    if let Some(mut reasoning) = body.object("reasoning")? {
        given.push((reasoning.path("effort"), reasoning.value("effort")));
        thinking.asked = reasoning.flag("enabled")?.or(thinking.asked);
        // Nothing is summed up: the thought is there as a whole.
        reasoning.close(&policy::REASONING)?;
    }
    for (at, value) in given {
        match value {
            None => {}
            Some(Value::Bool(asked)) if at == "think" || at == "thinking.type" => {
                thinking.asked = Some(asked)
            }
            Some(Value::String(effort)) if EFFORTS.contains(&effort.as_str()) => {
                thinking.asked = Some(effort != "none");
                variables.entry("reasoning_effort").or_insert(effort.into());
            }
            Some(other) if at == "think" => {
                return Err(wrong(&at, &other, "true, false, low, medium or high"));
            }
            Some(other) => return Err(wrong(&at, &other, &EFFORTS.join(", "))),
        }
    }
    Ok(thinking)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        let Value::Object(map) = value else { panic!("no object") };
        Fields::new(map, "")
    }

    #[test]
    fn words_of_every_dialect() {
        let own = Thinking { asked: Some(true), most: Some(9) };
        for (body, asked, most, effort) in [
            (json!({}), Some(true), Some(9), None),
            (json!({ "think": false }), Some(false), Some(9), None),
            (json!({ "think": "high" }), Some(true), Some(9), Some("high")),
            (json!({ "reasoning_effort": "none" }), Some(false), Some(9), Some("none")),
            (
                json!({ "reasoning_effort": "low", "thinking_budget_tokens": -1 }),
                Some(true),
                None,
                Some("low"),
            ),
            (
                json!({ "reasoning": { "effort": "high", "summary": "auto" } }),
                Some(true),
                Some(9),
                Some("high"),
            ),
            (json!({ "reasoning": { "enabled": false } }), Some(false), Some(9), None),
            (json!({ "thinking_token_budget": 0 }), Some(true), Some(0), None),
        ] {
            let mut variables = Map::new();
            let read = read(&mut fields(body.clone()), own, &mut variables).unwrap();
            assert_eq!((read.asked, read.most), (asked, most), "{body}");
            assert_eq!(variables.get("reasoning_effort").and_then(Value::as_str), effort, "{body}");
        }
        for (body, part) in [
            (json!({ "think": 5 }), "think 5: give true, false"),
            (json!({ "reasoning_effort": true }), "reasoning_effort true: give none"),
            (json!({ "reasoning": { "effort": "most" } }), "reasoning.effort \"most\": give none"),
            (json!({ "reasoning": { "effrt": "low" } }), "did you mean reasoning.effort?"),
            (json!({ "reasoning_budget_tokens": -5 }), "reasoning_budget_tokens -5"),
        ] {
            let error = read(&mut fields(body), own, &mut Map::new()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn places() {
        for (body, place) in [
            (json!({}), Reasoning::Apart),
            (json!({ "separate_reasoning": false }), Reasoning::InText),
            (json!({ "reasoning_format": "deepseek-legacy" }), Reasoning::Both),
            (json!({ "reasoning_format": "none" }), Reasoning::InText),
        ] {
            assert_eq!(super::place(&mut fields(body), Reasoning::Apart).unwrap(), place);
        }
        let error = super::place(&mut fields(json!({ "reasoning_format": "x" })), Reasoning::Apart);
        assert!(error.unwrap_err().to_string().contains("`x` is none; use auto"));
    }
}
