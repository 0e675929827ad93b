//! Answers in the form of OpenAI's clients, over HTTP and in a batch's lines, with llama.cpp's `timings`.

use serde_json::{Map, Value, json};

use crate::request::Reply;
use crate::worker::protocol::{Alternative, Done, Finish, Started, Token};

/// Program that answers name as their source.
pub const BUILD: &str = concat!("illava-", env!("CARGO_PKG_VERSION"));

/// Call of a tool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    pub id: String,
    pub name: String,
    /// Arguments as JSON.
    pub arguments: String,
}

/// One choice as far as it has come.
#[derive(Debug, Default)]
pub struct Answer {
    pub text: String,
    /// Thought ahead of it, if thoughts are told apart, and its tokens.
    pub thought: String,
    pub thought_tokens: u32,
    pub tokens: Vec<Token>,
    pub ids: Vec<i32>,
    pub calls: Vec<Call>,
    pub started: Option<Started>,
    pub done: Option<Box<Done>>,
}

/// Fields that all objects of one answer have in common.
#[derive(Debug, Clone)]
pub struct Heading {
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    pub model: String,
}

impl Heading {
    /// Makes an object of `kind` with these.
    #[must_use]
    pub fn object(&self, kind: &str) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("id".into(), self.id.clone().into());
        object.insert("object".into(), kind.into());
        object.insert("created".into(), self.created.into());
        object.insert("model".into(), self.model.clone().into());
        object.insert("system_fingerprint".into(), BUILD.into());
        object
    }
}

/// OpenAI knows three reasons that occur here. A full context and a used-up grammar take the nearest.
#[must_use]
pub fn finish_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopString(_) | Finish::Grammar => "stop",
        Finish::Length | Finish::ContextFull | Finish::Cancelled => "length",
    }
}

/// Returns the reason of an answer, which may have ended with calls of tools.
#[must_use]
pub fn reason(answer: &Answer) -> &'static str {
    match answer.done.as_deref().map_or("length", |done| finish_reason(&done.finish)) {
        "stop" if !answer.calls.is_empty() => "tool_calls",
        reason => reason,
    }
}

/// Returns OpenAI's `logprobs` object; `None` if there are no tokens.
#[must_use]
pub fn logprobs(tokens: &[Token]) -> Value {
    let top = |alternative: &Alternative| {
        let bytes = &alternative.bytes;
        json!({ "token": String::from_utf8_lossy(bytes), "bytes": bytes, "id": alternative.id,
                "logprob": finite(alternative.logprob) })
    };
    let content: Vec<Value> = tokens
        .iter()
        .map(|token| {
            json!({
                "token": String::from_utf8_lossy(&token.bytes),
                "bytes": token.bytes,
                "id": token.id,
                "logprob": finite(token.logprob),
                "top_logprobs": token.top.iter().map(top).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "content": content })
}

/// Returns whole answers as OpenAI's object, without measurements of our own.
#[must_use]
pub fn completion(heading: &Heading, reply: Reply, answers: &[Answer]) -> Map<String, Value> {
    let mut whole = heading.object("chat.completion");
    let choices = answers.iter().enumerate().map(|(index, answer)| {
        let mut message = json!({ "role": "assistant", "content": answer.text });
        if !answer.thought.is_empty() {
            message["reasoning_content"] = answer.thought.as_str().into();
        }
        if !answer.calls.is_empty() {
            let calls = answer.calls.iter().map(|call| {
                json!({ "id": call.id, "type": "function",
                        "function": { "name": call.name, "arguments": call.arguments } })
            });
            message["tool_calls"] = calls.collect();
            if answer.text.is_empty() {
                message["content"] = Value::Null;
            }
        }
        let logprobs = reply.logprobs.then(|| logprobs(&answer.tokens));
        json!({ "index": index, "message": message, "logprobs": logprobs, "finish_reason": reason(answer) })
    });
    whole.insert("choices".into(), choices.collect());
    whole.insert("usage".into(), usage(answers));
    whole
}

/// JSON has no infinity; OpenAI's stand-in for it is -9999.
#[must_use]
pub fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { -9999.0 }
}

/// Returns `usage` over all choices. Choices of one prompt share it, so that it counts once.
///
/// `prompt_tokens` counts the tokens that enter the decoder. `prompt_tokens_after_merge` counts those that
/// its upper layers kept.
#[must_use]
pub fn usage(answers: &[Answer]) -> Value {
    let first = answers.first();
    let done = first.and_then(|answer| answer.done.as_deref());
    let prompt = done.map_or(0, |done| done.prompt_tokens);
    let generated = answers.iter().filter_map(|answer| Some(answer.done.as_ref()?.generated_tokens));
    let completion: u32 = generated.sum();
    let kept = first.and_then(|answer| answer.started.as_ref()?.kv_tokens.last().copied()).unwrap_or(prompt);
    let visual = done.map(|done| &done.report.tokens);
    let thought: u32 = answers.iter().map(|answer| answer.thought_tokens).sum();
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_after_merge": kept,
        "prompt_tokens_details": {
            "cached_tokens": done.map_or(0, |done| done.cached_tokens),
            "image_tokens": visual.map_or(0, |tokens| tokens.visual_after_encoder),
            "image_tokens_unmerged": visual.map_or(0, |tokens| tokens.visual),
        },
        "completion_tokens_details": { "reasoning_tokens": thought },
    })
}

/// Returns llama.cpp's `timings`. Pictures count as part of the prompt, as they do there.
#[must_use]
pub fn timings(done: &Done) -> Value {
    let ms = &done.report.ms;
    let prompt_ms = ms.encoder + ms.projector + ms.prefill;
    let prompt = (done.computed_tokens, prompt_ms);
    let mut timings = rates(done.cached_tokens, prompt, (done.generated_tokens, ms.generate));
    timings["queued_ms"] = microseconds(done.queued_ms).into();
    timings
}

/// Returns llama.cpp's `timings` of `(tokens, milliseconds)` of the prompt and of the answer. Times are whole
/// microseconds, as llama-server measures them.
#[must_use]
pub fn rates(cached: u32, prompt: (u32, f64), predicted: (u32, f64)) -> Value {
    let of = |(tokens, ms): (u32, f64)| (ratio(ms, f64::from(tokens)), ratio(f64::from(tokens) * 1000.0, ms));
    let [prompt, predicted] = [prompt, predicted].map(|(tokens, ms)| (tokens, microseconds(ms)));
    let ((prompt_each, prompt_rate), (each, rate)) = (of(prompt), of(predicted));
    json!({
        "cache_n": cached,
        "prompt_n": prompt.0,
        "prompt_ms": prompt.1,
        "prompt_per_token_ms": prompt_each,
        "prompt_per_second": prompt_rate,
        "predicted_n": predicted.0,
        "predicted_ms": predicted.1,
        "predicted_per_token_ms": each,
        "predicted_per_second": rate,
    })
}

/// Rounds milliseconds to whole microseconds.
fn microseconds(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}

fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report;

    fn done() -> Box<Done> {
        Box::new(Done {
            id: 1,
            finish: Finish::Stop,
            prompt_tokens: 40,
            cached_tokens: 10,
            computed_tokens: 30,
            generated_tokens: 8,
            cached_pictures: 0,
            queued_ms: 1.0,
            report: report::tests::example(),
            trace: None,
        })
    }

    #[test]
    fn both_counts_of_the_prompt() {
        let started = Started {
            id: 1,
            slot: 0,
            prompt_tokens: 40,
            cached_tokens: 10,
            kv_tokens: vec![40, 25],
            logit_bias: Vec::new(),
            in_thought: false,
        };
        let answer = |started| Answer { started, done: Some(done()), ..Answer::default() };
        let usage = usage(&[answer(Some(started)), answer(None)]);
        assert_eq!((&usage["prompt_tokens"], &usage["prompt_tokens_after_merge"]), (&json!(40), &json!(25)));
        assert_eq!((&usage["completion_tokens"], &usage["total_tokens"]), (&json!(16), &json!(56)));
        assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 10);
        assert_eq!(usage["prompt_tokens_details"]["image_tokens"], 361);
    }

    #[test]
    fn times_have_three_digits() {
        let timings = rates(1, (4, 12.345_678_9), (8, 100.000_499));
        assert_eq!(
            timings,
            json!({
                "cache_n": 1, "prompt_n": 4, "prompt_ms": 12.346, "prompt_per_token_ms": 12.346 / 4.0,
                "prompt_per_second": 4000.0 / 12.346, "predicted_n": 8, "predicted_ms": 100.0,
                "predicted_per_token_ms": 12.5, "predicted_per_second": 80.0,
            })
        );
    }

    #[test]
    fn rates_of_nothing_are_zero() {
        let mut done = done();
        done.report.ms = report::Milliseconds::default();
        let timings = timings(&done);
        assert_eq!((&timings["prompt_per_second"], &timings["prompt_n"]), (&json!(0.0), &json!(30)));
    }

    #[test]
    fn impossible_tokens_stay_numbers() {
        let token = Token {
            id: 3,
            bytes: vec![0xc3],
            logprob: f32::NEG_INFINITY,
            top: vec![Alternative { id: 4, bytes: b"a".to_vec(), logprob: -0.5 }],
        };
        let value = logprobs(&[token]);
        let content = &value["content"][0];
        assert_eq!((&content["logprob"], &content["bytes"]), (&json!(-9999.0), &json!([0xc3])));
        assert_eq!(
            (&content["token"], &content["top_logprobs"][0]["token"]),
            (&json!("\u{fffd}"), &json!("a"))
        );
    }
}
