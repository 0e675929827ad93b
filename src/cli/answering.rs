//! Answers on the terminal: for one question, and for each turn of a chat.

use serde::Serialize;

use super::progress::Progress;
use super::{output, settings};
use crate::answer::{Answer, Engine, Finish, Session, Token};
use crate::error::Result;
use crate::prompt::Message;
use crate::report::{self, Report};

/// Answers on stdout as the text comes, with a spinner until it does.
pub(super) fn stream<E: Engine>(
    session: &mut Session<E>,
    settings: &settings::Run,
    messages: &[Message],
) -> Result<Answer> {
    let progress = Progress::new();
    progress.say("reading the prompt".into());
    let mut failed = None;
    let stop = settings.load.stop;
    let mut begun = false;
    let answer = session.answer(messages, &settings.how, &mut |text| {
        // Many vocabularies begin a word with its space. A line on the terminal does not begin with one.
        let text = if begun { text } else { text.trim_start() };
        if text.is_empty() {
            return;
        }
        begun = true;
        progress.clear();
        if let Err(error) = output::say(text) {
            failed.get_or_insert(error);
            stop.ask();
        }
    });
    progress.clear();
    if let Some(error) = failed {
        return Err(error);
    }
    let answer = answer?;
    for line in &answer.report.remarks {
        eprintln!("\nnote: {line}");
    }
    for line in report::summary(&answer.report) {
        tracing::info!("{line}");
    }
    match answer.finish {
        Finish::ContextFull => eprintln!("\nnote: the context is full; give a larger one with -c"),
        Finish::Length => {
            tracing::info!("the answer ended at {} tokens (-n)", answer.report.tokens.generated)
        }
        Finish::Grammar => eprintln!("\nnote: the grammar allows no further token"),
        Finish::Stop | Finish::StopString(_) | Finish::Cancelled => {}
    }
    Ok(answer)
}

/// Report as the file has it: with log-probabilities, if they were asked for.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "<[Token]>::is_empty")]
    logprobs: &'a [Token],
}

/// Writes the report and the trace to the files that were asked for.
pub(super) fn write(settings: &settings::Run, answer: &Answer) -> Result<()> {
    if let Some(path) = &settings.report {
        output::write_json(path, &Written { report: &answer.report, logprobs: &answer.tokens })?;
    }
    if let Some(path) = &settings.trace {
        output::write_json(path, &answer.trace)?;
    }
    Ok(())
}
