//! One line of output, ours or OpenAI's.

use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::words;
use crate::completion::{self, Heading, finish_reason};
use crate::error::{Error, Kind};
use crate::report::{Fate, Report, Trace, fates};
use crate::request::Reply;
use crate::worker::protocol::{Done, Finish, Started, Token};

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
    finish: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Value>,
    report: Report,
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
    pub started: Option<Started>,
    pub tokens: Vec<Token>,
}

impl Waiting {
    pub(super) fn answer(self, number: u64, done: Done, heading: &Heading) -> Outcome {
        if self.openai {
            let heading = Heading { id: format!("chatcmpl-{number}"), ..heading.clone() };
            let answer = completion::Answer {
                text: done.report.text.clone(),
                tokens: self.tokens,
                started: self.started,
                done: Some(Box::new(done)),
                ..completion::Answer::default()
            };
            let body = completion::completion(&heading, self.reply, &[answer]);
            let response = json!({ "status_code": 200, "request_id": heading.id, "body": body });
            return openai(number, self.id, Some(response), None, self.digest);
        }
        let logprobs = self.reply.logprobs.then(|| completion::logprobs(&self.tokens));
        Outcome::Answer(Box::new(AnswerLine {
            id: self.id,
            text: done.report.text.clone(),
            finish: finish_reason(&done.finish),
            stop: if let Finish::StopString(text) = done.finish { Some(text) } else { None },
            logprobs,
            kept: done.trace.as_ref().filter(|_| self.reply.kept).and_then(|trace| fates(trace).ok()),
            report: done.report,
            trace: done.trace.filter(|_| self.reply.trace),
            digest: self.digest,
        }))
    }
}

impl Outcome {
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
