//! The body of `/v1/chat/completions`.

use serde::Deserialize;
use serde_json::Value;

use super::super::error::{ApiError, ApiResult};
use super::super::settings::Settings;
use super::messages::{self, Conversation};
use super::{format, merge, sampling};
use crate::request::{Grammar, Limits, Sampling};
use crate::schedule::Choice;

/// As it arrives. Fields that are not here are ignored; `null` is the same as leaving one out.
#[derive(Debug, Default, Deserialize)]
pub struct Body {
    messages: Option<Vec<messages::Message>>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    n: Option<i64>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    n_predict: Option<i64>,
    cache_prompt: Option<bool>,
    logprobs: Option<bool>,
    top_logprobs: Option<i64>,
    merge: Option<Value>,
    report: Option<bool>,
    trace: Option<bool>,
    kept: Option<bool>,

    pub(super) temperature: Option<f64>,
    pub(super) top_k: Option<i64>,
    pub(super) top_p: Option<f64>,
    pub(super) min_p: Option<f64>,
    pub(super) seed: Option<i64>,
    pub(super) repeat_penalty: Option<f64>,
    pub(super) repeat_last_n: Option<i64>,
    pub(super) frequency_penalty: Option<f64>,
    pub(super) presence_penalty: Option<f64>,
    pub(super) logit_bias: Option<Value>,
    pub(super) stop: Option<Value>,
    pub(super) ignore_eos: Option<bool>,

    pub(super) response_format: Option<Value>,
    pub(super) json_schema: Option<Value>,
    pub(super) grammar: Option<String>,

    pub(super) tools: Option<Value>,
    pub(super) tool_choice: Option<Value>,
    pub(super) functions: Option<Value>,
    pub(super) audio: Option<Value>,
    pub(super) modalities: Option<Vec<String>>,
    pub(super) chat_template_kwargs: Option<Value>,
    pub(super) add_generation_prompt: Option<bool>,
    pub(super) samplers: Option<Value>,
    pub(super) mirostat: Option<f64>,
    pub(super) typical_p: Option<f64>,
    pub(super) dynatemp_range: Option<f64>,
    pub(super) xtc_probability: Option<f64>,
    pub(super) dry_multiplier: Option<f64>,
    pub(super) top_n_sigma: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

/// A request that makes sense.
#[derive(Debug)]
pub struct Chat {
    pub conversation: Conversation,
    pub stream: bool,
    pub include_usage: bool,
    pub choices: u32,
    pub merge: Option<Choice>,
    pub limits: Limits,
    pub sampling: Sampling,
    pub grammar: Option<Grammar>,
    pub logprobs: Option<u32>,
    pub cache: bool,
    pub report: bool,
    pub trace: bool,
    /// The fate of every cell, made of the trace.
    pub kept: bool,
}

impl Body {
    /// # Errors
    /// 400 that names the field, the limit and what to do; 501 for what no answer can have.
    pub fn check(mut self, settings: &Settings) -> ApiResult<Chat> {
        refuse_unsupported(&self)?;
        let bounds = &settings.bounds;
        let messages = self.messages.take().ok_or_else(|| {
            ApiError::invalid("messages is missing: give a list of {\"role\": ..., \"content\": ...}")
        })?;
        let choices = self.n.unwrap_or(1);
        let choices =
            u32::try_from(choices).ok().filter(|n| (1..=bounds.choices).contains(n)).ok_or_else(|| {
                ApiError::invalid(format!("n {choices}: give a number from 1 to {}", bounds.choices))
            })?;
        let told = |asked: Option<bool>| asked.unwrap_or(false);
        let (report, trace, kept) = (told(self.report), told(self.trace), told(self.kept));
        if choices > 1 && (report || trace || kept) {
            return Err(ApiError::invalid("report, trace and kept tell of one answer: leave out n"));
        }
        let asked = self.max_completion_tokens.or(self.max_tokens).or(self.n_predict);
        Ok(Chat {
            conversation: messages::conversation(messages, bounds)?,
            stream: self.stream.unwrap_or(false),
            include_usage: self
                .stream_options
                .as_ref()
                .and_then(|options| options.include_usage)
                .unwrap_or(false),
            choices,
            merge: self.merge.as_ref().map(merge::choice).transpose()?.flatten(),
            limits: Limits {
                max_tokens: sampling::max_tokens(asked)?.unwrap_or(settings.max_tokens),
                stop: sampling::stop(self.stop.as_ref(), bounds)?,
                ignore_eos: self.ignore_eos.unwrap_or(false),
            },
            sampling: sampling::sampling(&self, &settings.sampling, bounds)?,
            grammar: format::grammar(&self, bounds)?,
            logprobs: sampling::logprobs(self.logprobs, self.top_logprobs)?,
            cache: self.cache_prompt.unwrap_or(true),
            report,
            trace,
            kept,
        })
    }
}

/// What changes an answer and is not done here is said, not passed over.
fn refuse_unsupported(body: &Body) -> ApiResult<()> {
    let filled = |value: &Option<Value>| match value {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
        Some(_) => true,
    };
    let differs = |value: Option<f64>, neutral: f64| value.is_some_and(|value| value != neutral);
    let tool_choice = match &body.tool_choice {
        None | Some(Value::Null) => false,
        Some(choice) => choice != "none" && choice != "auto",
    };
    let speaks = body.modalities.as_ref().is_some_and(|kinds| kinds.iter().any(|kind| kind != "text"));
    let found = [
        ("tools", filled(&body.tools) && body.tool_choice.as_ref().is_none_or(|choice| choice != "none")),
        ("tool_choice", tool_choice),
        ("functions", filled(&body.functions)),
        ("audio", filled(&body.audio)),
        ("modalities other than text", speaks),
        ("chat_template_kwargs", filled(&body.chat_template_kwargs)),
        ("add_generation_prompt false", body.add_generation_prompt == Some(false)),
        ("samplers", filled(&body.samplers)),
        ("mirostat", differs(body.mirostat, 0.0)),
        ("typical_p", differs(body.typical_p, 1.0)),
        ("dynatemp_range", differs(body.dynatemp_range, 0.0)),
        ("xtc_probability", differs(body.xtc_probability, 0.0)),
        ("dry_multiplier", differs(body.dry_multiplier, 0.0)),
        ("top_n_sigma", body.top_n_sigma.is_some_and(|sigma| sigma > 0.0)),
    ];
    match found.iter().find(|(_, found)| *found) {
        Some((name, _)) => {
            Err(ApiError::invalid(format!("{name}: not supported by this server; leave it out")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use serde_json::json;

    use super::*;

    fn check(body: &Value) -> Result<Chat, String> {
        let bytes = Bytes::from(body.to_string());
        super::super::super::body::parse::<Body>(&bytes, 64)
            .and_then(|body| body.check(&Settings::default()))
            .map_err(|error| error.body()["message"].as_str().unwrap().to_owned())
    }

    fn with(field: &str, value: Value) -> Value {
        let mut body = json!({ "messages": [{ "role": "user", "content": "hi" }] });
        body[field] = value;
        body
    }

    #[test]
    fn little_is_enough() {
        let chat = check(&with("model", json!("any"))).unwrap();
        assert!(!chat.stream && chat.cache && !chat.report);
        assert_eq!((chat.choices, chat.merge, chat.logprobs), (1, None, None));
        assert_eq!(chat.limits, Limits::default());
        assert_eq!(chat.sampling, Sampling::default());
    }

    #[test]
    fn fields_are_found_and_unknown_ones_ignored() {
        let chat = check(&json!({
            "messages": [{ "role": "user", "content": "hi", "x": {"y": 1} }],
            "stream": true, "stream_options": {"include_usage": true, "z": 1},
            "n": 2, "max_tokens": 7, "max_completion_tokens": 5, "seed": 3, "temperature": 0,
            "logprobs": true, "top_logprobs": 4, "cache_prompt": false, "user": "me",
            "tools": [], "tool_choice": "auto", "mirostat": 0, "metadata": {"a": [1]},
            "frequency_penalty": null,
        }))
        .unwrap();
        assert!(chat.stream && chat.include_usage && !chat.cache);
        assert_eq!((chat.choices, chat.limits.max_tokens, chat.logprobs), (2, Some(5), Some(4)));
        assert_eq!((chat.sampling.seed, chat.sampling.temperature), (Some(3), 0.0));
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        for (field, value) in [
            ("tools", json!([{ "type": "function" }])),
            ("tool_choice", json!("required")),
            ("functions", json!([{}])),
            ("audio", json!({ "voice": "x" })),
            ("modalities", json!(["text", "audio"])),
            ("mirostat", json!(2)),
            ("dry_multiplier", json!(0.8)),
            ("samplers", json!(["top_k"])),
            ("add_generation_prompt", json!(false)),
        ] {
            let error = check(&with(field, value)).unwrap_err();
            assert!(error.contains(field) && error.contains("not supported"), "{error}");
        }
    }

    #[test]
    fn wrong_values_name_the_field() {
        for (field, value) in [
            ("messages", json!("hi")),
            ("messages", json!([])),
            ("messages", json!(null)),
            ("messages", json!([1])),
            ("n", json!(0)),
            ("n", json!(9)),
            ("n", json!("x")),
            ("stream", json!("yes")),
            ("max_tokens", json!(-7)),
            ("max_tokens", json!(1.5)),
            ("temperature", json!("hot")),
            ("top_logprobs", json!(99)),
            ("stop", json!([1])),
            ("seed", json!("x")),
            ("merge", json!(7)),
            ("response_format", json!("json")),
            ("grammar", json!(1)),
            ("report", json!(1)),
        ] {
            let error = check(&with(field, value.clone())).unwrap_err();
            assert!(error.contains(field) || !value.is_array(), "{field} {value}: {error}");
        }
    }
}
