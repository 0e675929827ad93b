//! llama.cpp's own `/completion`: a prompt without a template, and an answer with all its measurements.

use serde_json::{Map, Value, json};

use super::answer::{self, Heading};
use super::{Answer, Dialect, Frame, Opened, Update, Wire, Writer, add_measurements, shape};
use crate::error::Result;
use crate::request::{Defaults, Fields, Limits, Reply, Sampling, raw};
use crate::server::error::ApiError;
use crate::worker::protocol::{Finish, Started, Token};

pub const DIALECT: Dialect = Dialect {
    prefix: "cmpl-",
    open,
    wire: Wire::Events,
    failed: shape::openai,
    strict_thoughts: true,
    name: |_| None,
};

fn open(mut fields: Fields, defaults: &Defaults, heading: Heading) -> Result<Opened> {
    let return_tokens = fields.flag("return_tokens")?.unwrap_or(false);
    let response_fields = fields.texts("response_fields")?.unwrap_or_default();
    let prompts = raw::shown(&fields);
    let (requests, reply) = raw::read(fields, defaults)?;
    let first = &requests[0];
    let settings = (first.sampling.clone(), first.limits.clone());
    let writer =
        Completion { heading, reply, return_tokens, response_fields, prompts, settings, started: Vec::new() };
    Ok(Opened { requests, reply, tools: None, writer: Box::new(writer) })
}

struct Completion {
    heading: Heading,
    reply: Reply,
    return_tokens: bool,
    /// Paths of the fields to return; empty for all.
    response_fields: Vec<String>,
    prompts: Vec<String>,
    settings: (Sampling, Limits),
    started: Vec<(u32, Started, u32)>,
}

impl Completion {
    fn probabilities(&self, tokens: &[Token]) -> Value {
        let mut content = answer::logprobs(tokens)["content"].take();
        if self.reply.logprobs { content.take() } else { Value::Null }
    }

    fn settings(&self, seed: u32, started: Option<&Started>) -> Value {
        let (own, limits) = &self.settings;
        // Minus infinity is null in JSON, as llama.cpp writes it.
        let bias = started.map_or(&[][..], |started| &started.logit_bias);
        let bias = bias.iter().map(|(token, bias)| json!({ "token": token, "bias": bias }));
        let most = limits.max_tokens.map_or(-1, i64::from);
        json!({
            "n_predict": most, "max_tokens": most, "seed": seed, "temperature": own.temperature,
            "top_k": own.top_k, "top_p": own.top_p, "min_p": own.min_p, "repeat_last_n": own.repeat_last_n,
            "repeat_penalty": own.repeat_penalty, "presence_penalty": own.presence_penalty,
            "frequency_penalty": own.frequency_penalty, "stop": limits.stop, "ignore_eos": limits.ignore_eos,
            "logit_bias": bias.collect::<Vec<_>>(),
            "stream": self.reply.stream, "samplers": crate::request::json::SAMPLERS,
            // Settings that do not exist here are reported as switched off.
            "mirostat": 0, "typical_p": 1.0, "xtc_probability": 0.0, "dry_multiplier": 0.0, "dynatemp_range": 0.0,
            "top_n_sigma": -1.0, "adaptive_target": -1.0, "adaptive_decay": 0.9,
        })
    }

    fn object(&self, index: usize, answer: &Answer) -> Value {
        let Some(done) = answer.done.as_deref() else { return Value::Null };
        let (stop_type, word) = match &done.finish {
            Finish::Stop | Finish::Grammar => ("eos", ""),
            Finish::StopString(word) => ("word", word.as_str()),
            Finish::Length | Finish::ContextFull | Finish::Cancelled => ("limit", ""),
        };
        let streamed = self.reply.stream;
        let prompt = self.prompts.get(index / self.reply.choices.max(1) as usize);
        let mut object = Map::new();
        for (name, value) in [
            ("index", json!(index)),
            ("content", json!(if streamed { "" } else { &answer.text })),
            ("tokens", if self.return_tokens && !streamed { json!(answer.ids) } else { json!([]) }),
            ("id_slot", json!(answer.started.as_ref().map_or(0, |started| started.slot))),
            ("stop", json!(true)),
            ("model", json!(self.heading.model)),
            ("tokens_predicted", json!(done.generated_tokens)),
            ("tokens_evaluated", json!(done.prompt_tokens)),
            ("generation_settings", self.settings(done.report.seed, answer.started.as_ref())),
            ("prompt", json!(prompt)),
            ("has_new_line", json!(answer.text.contains('\n'))),
            ("truncated", json!(done.finish == Finish::ContextFull)),
            ("stop_type", json!(stop_type)),
            ("stopping_word", json!(word)),
            ("tokens_cached", json!(done.prompt_tokens + done.generated_tokens)),
        ] {
            object.insert(name.into(), value);
        }
        if self.reply.logprobs && !streamed {
            object.insert("completion_probabilities".into(), self.probabilities(&answer.tokens));
        }
        add_measurements(&mut object, self.reply, std::slice::from_ref(answer));
        if self.response_fields.is_empty() {
            return object.into();
        }
        let whole = Value::Object(object);
        let wanted = self.response_fields.iter().filter_map(|path| {
            let found = path.split('/').try_fold(&whole, |value, name| value.get(name))?;
            Some((path.rsplit('/').next()?.to_owned(), found.clone()))
        });
        Value::Object(wanted.collect())
    }
}

impl Writer for Completion {
    fn update(&mut self, index: u32, update: Update<'_>, out: &mut Vec<Frame>) {
        let known = self.started.iter_mut().find(|(known, ..)| *known == index);
        let mut chunk = json!({ "index": index, "content": "", "tokens": [], "stop": false });
        if let Some((_, started, predicted)) = known {
            if let Update::Text { tokens, .. } = &update {
                *predicted += u32::try_from(tokens.ids.len()).unwrap_or(0);
            }
            chunk["id_slot"] = started.slot.into();
            chunk["tokens_predicted"] = (*predicted).into();
            chunk["tokens_evaluated"] = started.prompt_tokens.into();
        }
        match update {
            Update::Started(started) => return self.started.push((index, started.clone(), 0)),
            Update::Progress(progress) => chunk["prompt_progress"] = progress,
            Update::Text { text, tokens, timings } => {
                chunk["content"] = text.into();
                chunk["tokens"] = json!(tokens.ids);
                if let Some(timings) = timings {
                    chunk["timings"] = timings;
                }
                if self.reply.logprobs {
                    chunk["completion_probabilities"] = self.probabilities(&tokens.tokens);
                }
            }
            Update::Done(answer) => chunk = self.object(index as usize, answer),
            Update::Thought { .. } | Update::Call(_) => return,
        }
        out.push(Frame::data(chunk));
    }

    fn end(&mut self, _: &[Answer], _: &mut Vec<Frame>) {}

    fn whole(&mut self, answers: &[Answer]) -> Value {
        let objects: Vec<Value> =
            answers.iter().enumerate().map(|(index, answer)| self.object(index, answer)).collect();
        if let [only] = objects.as_slice() { only.clone() } else { objects.into() }
    }

    fn failed(&mut self, error: &ApiError, out: &mut Vec<Frame>) {
        out.push(shape::openai(error));
    }
}
