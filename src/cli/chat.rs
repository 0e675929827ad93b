//! A conversation on the terminal.

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::progress::Progress;
use super::{answering, images, output, settings, video, words};
use crate::answer::{Engine, Finish, LlamaEngine, Session};
use crate::error::{Error, Kind, Result};
use crate::prompt::{Message, Part, Role};
use crate::schedule::{Choice, MergeFlag};

const HELP: &str = "\
/image PATH     show a picture with the next message
/video PATH     show a video, a folder of frames or a comma list of them
/merge PRESET   off, model, balanced, paper, image, video or qwen2vl; pictures are encoded again
/clear          forget the conversation and its pictures
/help           this list
/quit           leave (also Ctrl-D)
Ctrl-C ends an answer; a second one ends the program.
";

/// What one line of input asks for.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Say(&'a str),
    Image(&'a str),
    Video(&'a str),
    Merge(&'a str),
    Clear,
    Help,
    Quit,
    Nothing,
    Unknown(&'a str),
}

fn read(line: &str) -> Line<'_> {
    let line = line.trim();
    let Some(command) = line.strip_prefix('/') else {
        return if line.is_empty() { Line::Nothing } else { Line::Say(line) };
    };
    let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    match (name, rest.trim()) {
        ("image", path) if !path.is_empty() => Line::Image(path),
        ("video", path) if !path.is_empty() => Line::Video(path),
        ("merge", preset) if !preset.is_empty() => Line::Merge(preset),
        ("clear", "") => Line::Clear,
        ("help", "") => Line::Help,
        ("quit" | "exit", "") => Line::Quit,
        _ => Line::Unknown(name),
    }
}

/// Runs until the person leaves. `parts` are the pictures given on the command line.
pub(super) fn chat(
    mut session: Session<LlamaEngine>,
    settings: &settings::Run,
    parts: Vec<Part>,
) -> Result<()> {
    let terminal = |error: ReadlineError| Error::new(Kind::Native, format!("terminal: {error}"));
    let mut editor = DefaultEditor::new().map_err(terminal)?;
    let mut conversation = Conversation::new(settings, parts);
    eprintln!("/help lists the commands");
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(ReadlineError::Interrupted) => return Err(Error::interrupted()),
            Err(error) => return Err(terminal(error)),
        };
        let _ = editor.add_history_entry(&line);
        // What was asked between two answers is over.
        settings.load.stop.clear();
        match conversation.take(&mut session, settings, &line) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) if matches!(error.kind(), Kind::Native) => return Err(error),
            Err(error) => eprintln!("error: {}", error.worded(words::flag)),
        }
    }
}

/// The conversation so far.
struct Conversation {
    messages: Vec<Message>,
    /// Pictures that go with the next message.
    waiting: Vec<Part>,
}

impl Conversation {
    fn new(settings: &settings::Run, waiting: Vec<Part>) -> Self {
        let system = settings.system.iter().map(|text| Message::text(Role::System, text));
        Self { messages: system.collect(), waiting }
    }

    /// Does what a line asks for; false to leave.
    fn take(
        &mut self,
        session: &mut Session<LlamaEngine>,
        settings: &settings::Run,
        line: &str,
    ) -> Result<bool> {
        match read(line) {
            Line::Say(text) => self.say(session, settings, text)?,
            Line::Image(path) => {
                let (pixels, decode_ms) = images::open(path.as_ref())?;
                let progress = Progress::new();
                progress.say("encoding the picture".into());
                self.waiting.push(Part::Image(session.add_image(pixels, decode_ms)?));
            }
            Line::Video(path) => {
                let source = video::open(path.as_ref())?;
                self.waiting.extend(video::add(session, &source, settings, &mut |_| ())?);
            }
            Line::Merge(preset) => {
                let choice = Choice {
                    merge: Some(MergeFlag::parse(preset)?),
                    keep: None,
                    vit: None,
                    llm: None,
                    ..settings.choice.clone()
                };
                let schedule = session.engine().facts().schedule(&choice)?;
                if let Some(line) = &schedule.remark {
                    eprintln!("note: {line}");
                }
                let progress = Progress::new();
                progress.say("encoding the pictures again".into());
                session.set_schedule(schedule)?;
            }
            Line::Clear => {
                session.clear();
                *self = Self::new(settings, Vec::new());
            }
            Line::Help => eprint!("{HELP}"),
            Line::Quit => return Ok(false),
            Line::Nothing => {}
            Line::Unknown(name) => {
                eprintln!("error: /{name}: no such command, or its argument is missing; /help lists them")
            }
        }
        Ok(true)
    }

    fn say<E: Engine>(
        &mut self,
        session: &mut Session<E>,
        settings: &settings::Run,
        text: &str,
    ) -> Result<()> {
        let before = self.messages.len();
        let mut parts = self.waiting.clone();
        parts.push(Part::Text(text.to_owned()));
        self.messages.push(Message { role: Role::User, parts });
        let answer = match answering::stream(session, settings, &self.messages) {
            Ok(answer) => answer,
            Err(error) => {
                // The message can be sent again, with its pictures.
                self.messages.truncate(before);
                return Err(error);
            }
        };
        self.waiting.clear();
        output::say("\n")?;
        if answer.finish == Finish::Cancelled {
            settings.load.stop.clear();
        }
        // As it was, leading space included: so the cache holds it already.
        self.messages.push(Message::text(Role::Assistant, answer.report.text.clone()));
        answering::write(settings, &answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        for (line, expected) in [
            ("hello", Line::Say("hello")),
            ("  ", Line::Nothing),
            ("/image a b.png ", Line::Image("a b.png")),
            ("/image", Line::Unknown("image")),
            ("/video a b.mp4", Line::Video("a b.mp4")),
            ("/video", Line::Unknown("video")),
            ("/merge off", Line::Merge("off")),
            ("/clear", Line::Clear),
            ("/help", Line::Help),
            ("/quit", Line::Quit),
            ("/exit", Line::Quit),
            ("/dance", Line::Unknown("dance")),
        ] {
            assert_eq!(read(line), expected, "{line}");
        }
    }
}
