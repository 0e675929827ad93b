//! One line of output, ours or OpenAI's.

use serde::Serialize;
use serde_json::{Value, json};

use super::record::shown;
use crate::cli::words;
use crate::completion::{self, Heading, finish_reason};
use crate::error::{Error, Kind};
use crate::prompt::{Said, ThoughtForm, ThoughtParser};
use crate::report::{Fate, Report, Trace, fates};
use crate::request::{Reasoning, Reply};
use crate::worker::protocol::{Delta, Done, Finish, Started};

/// A line of output.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Outcome {
    Answer(Box<AnswerLine>),
    Failure {
        id: Value,
        error: Failure,
        digest: String,
    },
    /// A line of OpenAI's output files.
    OpenAi {
        id: String,
        custom_id: Value,
        response: Option<Value>,
        error: Option<Value>,
        digest: String,
    },
}

#[derive(Debug, Serialize)]
pub(super) struct AnswerLine {
    id: Value,
    text: String,
    /// Thought ahead of the text.
    #[serde(skip_serializing_if = "String::is_empty")]
    thought: String,
    finish: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<Trace>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<Vec<Fate>>,
    /// Digest of everything that decides an answer. A resumed run compares it with the digest in the file.
    digest: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Failure {
    kind: Kind,
    message: String,
}

/// Request under way, with the answer as far as it has come.
#[derive(Debug)]
pub(super) struct Waiting {
    pub id: Value,
    pub reply: Reply,
    pub openai: bool,
    pub digest: String,
    /// Whether the answer goes on from an assistant's message.
    pub continues: bool,
    /// Form of the model's thoughts.
    pub thoughts: Option<ThoughtForm>,
    pub answer: completion::Answer,
    /// Takes the answer apart, if its thought is told.
    pub parser: Option<ThoughtParser>,
}

impl Waiting {
    pub(super) fn start(&mut self, started: Started) {
        let told = self.thoughts.filter(|_| self.reply.reasoning != Reasoning::InText);
        self.parser = told.map(|form| ThoughtParser::new(form, started.in_thought));
        self.answer.started = Some(started);
    }

    pub(super) fn push(&mut self, delta: Delta) {
        self.answer.tokens.extend(delta.tokens);
        if let Some(parser) = &mut self.parser {
            self.answer.thought_tokens += parser.thought_tokens(&delta.ids);
            let said = parser.push(&delta.text);
            self.say(said);
        }
    }

    /// Ends the answer, of which `done` has the whole text.
    pub(super) fn end(&mut self, done: &Done) {
        let rest = self.parser.as_mut().map(ThoughtParser::finish);
        self.say(rest.unwrap_or_default());
        if self.parser.is_none() || self.reply.reasoning == Reasoning::Both {
            self.answer.text.clone_from(&done.report.text);
        }
    }

    fn say(&mut self, said: Vec<Said>) {
        for said in said {
            match said {
                Said::Thought(more) => self.answer.thought.push_str(&more),
                Said::Text(more) => self.answer.text.push_str(&more),
            }
        }
    }

    /// The answer's text. Many vocabularies begin a word with its space, which is no part of an answer, unless that
    /// goes on from a text.
    pub(super) fn text(&self) -> &str {
        let text = self.answer.text.as_str();
        if self.continues { text } else { text.trim_start() }
    }

    /// The line of an answer that has ended.
    pub(super) fn line(self, number: u64, done: Box<Done>, heading: &Heading, with_report: bool) -> Outcome {
        if self.openai {
            let heading = Heading { id: format!("chatcmpl-{number}"), ..heading.clone() };
            let answer = completion::Answer { done: Some(done), ..self.answer };
            let body = completion::completion(&heading, self.reply, &[answer]);
            let response = json!({ "status_code": 200, "request_id": heading.id, "body": body });
            return openai(number, self.id, Some(response), None, self.digest);
        }
        let (text, thought) = (self.text().to_owned(), self.answer.thought);
        let logprobs = self.reply.logprobs.then(|| completion::logprobs(&self.answer.tokens));
        Outcome::Answer(Box::new(AnswerLine {
            id: self.id,
            text,
            thought,
            finish: finish_reason(&done.finish),
            stop: if let Finish::StopString(text) = done.finish { Some(text) } else { None },
            logprobs,
            kept: done.trace.as_ref().filter(|_| self.reply.kept).and_then(|trace| fates(trace).ok()),
            report: with_report.then_some(done.report),
            trace: done.trace.filter(|_| self.reply.trace),
            digest: self.digest,
        }))
    }
}

impl Outcome {
    /// The columns of a spreadsheet: id, text, finish, error and digest.
    pub(super) fn row(&self) -> [String; 5] {
        let (none, id) = (String::new, |id: &Value| shown(id));
        match self {
            Self::Answer(line) => {
                [id(&line.id), line.text.clone(), line.finish.to_owned(), none(), line.digest.clone()]
            }
            Self::Failure { id: name, error, digest } => {
                [id(name), none(), none(), error.message.clone(), digest.clone()]
            }
            Self::OpenAi { custom_id, response, error, digest, .. } => {
                let text =
                    |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
                let choice = response.as_ref().and_then(|response| response.pointer("/body/choices/0"));
                [
                    id(custom_id),
                    text(choice.and_then(|choice| choice.pointer("/message/content"))),
                    text(choice.and_then(|choice| choice.get("finish_reason"))),
                    text(error.as_ref().and_then(|error| error.get("message"))),
                    digest.clone(),
                ]
            }
        }
    }

    /// An answer without a report, for tests of where it goes.
    #[cfg(test)]
    pub(super) fn stub(id: &str, digest: &str) -> Self {
        Self::Answer(Box::new(AnswerLine {
            id: id.into(),
            text: "a boat".to_owned(),
            thought: String::new(),
            finish: "stop",
            stop: None,
            logprobs: None,
            report: None,
            trace: None,
            kept: None,
            digest: digest.to_owned(),
        }))
    }

    pub(super) fn failure(number: u64, id: Value, is_openai: bool, digest: String, error: &Error) -> Self {
        let message = error.worded(words::line);
        if is_openai {
            let error = json!({ "code": format!("{:?}", error.kind()).to_lowercase(), "message": message });
            return openai(number, id, None, Some(error), digest);
        }
        Outcome::Failure { id, error: Failure { kind: error.kind(), message }, digest }
    }
}

fn openai(
    number: u64,
    custom_id: Value,
    response: Option<Value>,
    error: Option<Value>,
    digest: String,
) -> Outcome {
    Outcome::OpenAi { id: format!("batch_req_{number}"), custom_id, response, error, digest }
}
