//! Answers as OpenAI's clients read them, whole and in chunks, with llama.cpp's `timings`.

use serde_json::{Map, Value, json};

use crate::worker::protocol::{Alternative, Done, Finish, Started, Token};

/// What all objects of one answer have in common.
#[derive(Debug, Clone)]
pub struct Heading {
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    pub model: String,
}

impl Heading {
    fn object(&self, kind: &str) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("id".into(), self.id.clone().into());
        object.insert("object".into(), kind.into());
        object.insert("created".into(), self.created.into());
        object.insert("model".into(), self.model.clone().into());
        object.insert("system_fingerprint".into(), super::super::BUILD.into());
        object
    }

    /// One chunk with one choice.
    #[must_use]
    pub fn chunk(
        &self,
        index: u32,
        delta: Value,
        logprobs: Option<Value>,
        finish: Option<&str>,
    ) -> Map<String, Value> {
        let mut chunk = self.object("chat.completion.chunk");
        let mut choice = json!({ "index": index, "delta": delta, "finish_reason": finish });
        if let Some(logprobs) = logprobs {
            choice["logprobs"] = logprobs;
        }
        chunk.insert("choices".into(), json!([choice]));
        chunk
    }

    /// The chunk without choices that `include_usage` asks for.
    #[must_use]
    pub fn last_chunk(&self) -> Map<String, Value> {
        let mut chunk = self.object("chat.completion.chunk");
        chunk.insert("choices".into(), json!([]));
        chunk
    }

    /// The whole answer.
    #[must_use]
    pub fn completion(&self, choices: Vec<Value>) -> Map<String, Value> {
        let mut whole = self.object("chat.completion");
        whole.insert("choices".into(), choices.into());
        whole
    }
}

/// One choice of a whole answer.
#[must_use]
pub fn choice(index: u32, text: &str, logprobs: Option<Value>, finish: &Finish) -> Value {
    json!({
        "index": index,
        "message": { "role": "assistant", "content": text },
        "logprobs": logprobs,
        "finish_reason": finish_reason(finish),
    })
}

/// OpenAI knows two reasons that occur here; a full context and a used-up grammar are the nearest.
#[must_use]
pub fn finish_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopString(_) | Finish::Grammar => "stop",
        Finish::Length | Finish::ContextFull | Finish::Cancelled => "length",
    }
}

/// OpenAI's `logprobs` object; `None` where there are no tokens.
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

/// JSON has no infinity; OpenAI's stand-in for it is -9999.
fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { -9999.0 }
}

/// What one choice cost.
#[derive(Debug)]
pub struct Cost {
    pub started: Option<Started>,
    pub done: Box<Done>,
}

/// `usage` over all choices: the prompt counts once, since all share it.
///
/// `prompt_tokens` is what the model was given before the decoder merged;
/// `prompt_tokens_after_merge` is what of it the decoder's upper layers kept.
#[must_use]
pub fn usage(costs: &[Cost]) -> Value {
    let first = costs.first();
    let prompt = first.map_or(0, |cost| cost.done.prompt_tokens);
    let completion: u32 = costs.iter().map(|cost| cost.done.generated_tokens).sum();
    let kept = first.and_then(|cost| cost.started.as_ref()?.kv_tokens.last().copied()).unwrap_or(prompt);
    let visual = first.map(|cost| &cost.done.report.tokens);
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_after_merge": kept,
        "prompt_tokens_details": {
            "cached_tokens": first.map_or(0, |cost| cost.done.cached_tokens),
            "image_tokens": visual.map_or(0, |tokens| tokens.visual_after_encoder),
            "image_tokens_unmerged": visual.map_or(0, |tokens| tokens.visual),
        },
    })
}

/// llama.cpp's `timings`. Pictures count as part of the prompt there, so they do here.
#[must_use]
pub fn timings(done: &Done) -> Value {
    let ms = &done.report.ms;
    let prompt_ms = ms.encoder + ms.projector + ms.prefill;
    let (prompt, predicted) = (f64::from(done.computed_tokens), f64::from(done.generated_tokens));
    json!({
        "cache_n": done.cached_tokens,
        "prompt_n": done.computed_tokens,
        "prompt_ms": prompt_ms,
        "prompt_per_token_ms": ratio(prompt_ms, prompt),
        "prompt_per_second": ratio(prompt * 1000.0, prompt_ms),
        "predicted_n": done.generated_tokens,
        "predicted_ms": ms.generate,
        "predicted_per_token_ms": ratio(ms.generate, predicted),
        "predicted_per_second": ratio(predicted * 1000.0, ms.generate),
        "queued_ms": done.queued_ms,
    })
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
        let started =
            Started { id: 1, slot: 0, prompt_tokens: 40, cached_tokens: 10, kv_tokens: vec![40, 25] };
        let usage =
            usage(&[Cost { started: Some(started), done: done() }, Cost { started: None, done: done() }]);
        assert_eq!((&usage["prompt_tokens"], &usage["prompt_tokens_after_merge"]), (&json!(40), &json!(25)));
        assert_eq!((&usage["completion_tokens"], &usage["total_tokens"]), (&json!(16), &json!(56)));
        assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 10);
        assert_eq!(usage["prompt_tokens_details"]["image_tokens"], 361);
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
