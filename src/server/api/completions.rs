//! OpenAI's older completions: a prompt without a template.

use serde_json::{Value, json};

use super::answer::{self, Heading};
use super::{Answer, Dialect, Frame, Opened, Update, Wire, Writer, add_measurements, shape};
use crate::error::{Error, Result};
use crate::request::{Defaults, Fields, Reply, raw};
use crate::server::error::ApiError;

pub const DIALECT: Dialect = Dialect {
    prefix: "cmpl-",
    open,
    wire: Wire::Events,
    failed: shape::openai,
    strict_thoughts: true,
    name: |_| None,
};

fn open(mut fields: Fields, defaults: &Defaults, heading: Heading) -> Result<Opened> {
    // `logprobs` is a number of alternatives here, not a switch; 0 asks for the drawn tokens alone.
    let alternatives = match fields.value("logprobs") {
        None | Some(Value::Bool(false)) => None,
        Some(Value::Bool(true)) => Some(json!(1)),
        Some(number) if number.as_f64().is_some() => Some(number),
        Some(other) => return Err(Error::usage(format!("logprobs {other}: give a number of alternatives"))),
    };
    if let Some(number) = alternatives {
        fields.put("logprobs", json!(true), "logprobs".into())?;
        fields.put("top_logprobs", number, "logprobs".into())?;
    }
    let (requests, reply) = raw::read(fields, defaults)?;
    let writer = Completions { heading, reply };
    Ok(Opened { requests, reply, tools: None, writer: Box::new(writer) })
}

/// Kind of a whole answer, and of each piece of one.
const OBJECT: &str = "text_completion";

struct Completions {
    heading: Heading,
    reply: Reply,
}

/// Writes the older form of `logprobs`: lists side by side.
fn logprobs(answer: &[crate::worker::protocol::Token], mut offset: usize) -> Value {
    let (mut tokens, mut values, mut tops, mut offsets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for token in answer {
        let text = String::from_utf8_lossy(&token.bytes).into_owned();
        offsets.push(offset);
        offset += text.chars().count();
        tokens.push(text);
        values.push(answer::finite(token.logprob));
        let top = token.top.iter().map(|other| {
            (String::from_utf8_lossy(&other.bytes).into_owned(), Value::from(answer::finite(other.logprob)))
        });
        tops.push(Value::Object(top.collect()));
    }
    let content = answer::logprobs(answer)["content"].take();
    json!({ "tokens": tokens, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets,
            "content": content })
}

impl Writer for Completions {
    fn update(&mut self, index: u32, update: Update<'_>, out: &mut Vec<Frame>) {
        let mut chunk = self.heading.object(OBJECT);
        let choice = |text: &str, logprobs: Option<Value>, finish: Option<&str>| json!([{ "text": text, "index": index, "logprobs": logprobs, "finish_reason": finish }]);
        let choices = match update {
            Update::Text { text, tokens, timings } => {
                if let Some(timings) = timings {
                    chunk.insert("timings".into(), timings);
                }
                choice(text, self.reply.logprobs.then(|| logprobs(&tokens.tokens, 0)), None)
            }
            Update::Progress(progress) => {
                chunk.insert("prompt_progress".into(), progress);
                choice("", None, None)
            }
            Update::Done(answer) => choice("", None, Some(answer::reason(answer))),
            Update::Started(_) | Update::Thought { .. } | Update::Call(_) => return,
        };
        chunk.insert("choices".into(), choices);
        out.push(Frame::data(chunk));
    }

    fn end(&mut self, answers: &[Answer], out: &mut Vec<Frame>) {
        shape::end(&self.heading, OBJECT, self.reply, answers, out);
        out.push(Frame { name: None, data: "[DONE]".into() });
    }

    fn whole(&mut self, answers: &[Answer]) -> Value {
        let mut whole = self.heading.object(OBJECT);
        let choices = answers.iter().enumerate().map(|(index, answer)| {
            json!({ "text": answer.text, "index": index,
                    "logprobs": self.reply.logprobs.then(|| logprobs(&answer.tokens, 0)),
                    "finish_reason": answer::reason(answer) })
        });
        whole.insert("choices".into(), choices.collect());
        whole.insert("usage".into(), answer::usage(answers));
        add_measurements(&mut whole, self.reply, answers);
        whole.into()
    }

    fn failed(&mut self, error: &ApiError, out: &mut Vec<Frame>) {
        out.push(shape::openai(error));
    }
}
