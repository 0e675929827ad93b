//! A conversation on the terminal.

mod editor;
mod line;
mod transcript;

use std::path::Path;

use super::progress::Progress;
use super::{answering, images, output, settings, video, words};
use crate::answer::{Engine, Finish, LlamaEngine, Session};
use crate::error::{Error, Kind, Result};
use crate::prompt::{Message, Part, Role};
use crate::schedule::{Choice, MergeFlag};
use editor::{Typed, Typing};
use line::{HELP, Line, exists};

/// Runs the chat until the person leaves. `parts` are the pictures given on the command line.
pub(super) fn chat(
    mut session: Session<LlamaEngine>,
    settings: &settings::Run,
    parts: Vec<Part>,
) -> Result<()> {
    let mut typing = Typing::new()?;
    let mut conversation = Conversation::new(settings, parts);
    conversation.names = settings.images.iter().map(|name| images::shown(name)).collect();
    eprintln!("/help lists the commands");
    loop {
        let line = match typing.next()? {
            Typed::Message(line) => line,
            Typed::Nothing => {
                eprintln!("/quit or Ctrl-D leaves");
                continue;
            }
            Typed::End => return Ok(()),
        };
        // An interruption between two answers has nothing left to stop.
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
    /// Pictures of the session by number, under the names they were given.
    names: Vec<String>,
}

impl Conversation {
    fn new(settings: &settings::Run, waiting: Vec<Part>) -> Self {
        let system = settings.system.iter().map(|text| Message::text(Role::System, text));
        Self { messages: system.collect(), waiting, names: Vec::new() }
    }

    /// Carries out a line. Returns false to leave.
    fn take(
        &mut self,
        session: &mut Session<LlamaEngine>,
        settings: &settings::Run,
        line: &str,
    ) -> Result<bool> {
        match line::read(line, exists) {
            Line::Say(text) => self.say(session, settings, text)?,
            Line::Images(names) => {
                for name in &names {
                    self.show(session, name)?;
                }
            }
            Line::Video(name) => {
                let source = video::open(name.as_ref())?;
                let parts = video::add(session, &source, settings, &mut |_| ())?;
                for part in &parts {
                    self.attached(session, part, &name);
                }
                self.waiting.extend(parts);
            }
            Line::Drop => {
                let count = self.waiting.len();
                self.waiting.clear();
                eprintln!("{}", if count == 0 { "no picture waits for a message" } else { "left out" });
            }
            Line::Merge(preset) => merge(session, settings, preset)?,
            Line::Again => self.again(session, settings)?,
            Line::Save(name) => {
                transcript::save(Path::new(&name), &self.messages, &self.names)?;
                eprintln!("written to {name}");
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

    /// Encodes a picture that goes with the next message.
    fn show(&mut self, session: &mut Session<LlamaEngine>, name: &str) -> Result<()> {
        let (pixels, decode_ms) = images::open(name.as_ref())?;
        let remark = pixels.remark.clone();
        let progress = Progress::new();
        progress.say("encoding the picture".into());
        let part = Part::Image(session.add_image(pixels, decode_ms)?);
        progress.clear();
        if let Some(line) = remark {
            eprintln!("note: {line}");
        }
        self.attached(session, &part, name);
        self.waiting.push(part);
        Ok(())
    }

    /// Prints the size and the visual tokens of an attachment, layer by layer.
    fn attached(&mut self, session: &Session<LlamaEngine>, part: &Part, name: &str) {
        let Part::Image(number) = part else { return };
        self.names.resize(*number, String::new());
        self.names.push(name.to_owned());
        let Some(image) = session.image(*number) else { return };
        let mut tokens = vec![image.plan.tokens_unmerged];
        tokens.extend(image.tokens_by_segment());
        tokens.dedup();
        let tokens: Vec<String> = tokens.iter().map(u32::to_string).collect();
        let (width, height) = image.size;
        eprintln!("attached {name}: {width}x{height} pixels, {} tokens", tokens.join(" > "));
    }

    fn say<E: Engine>(
        &mut self,
        session: &mut Session<E>,
        settings: &settings::Run,
        text: &str,
    ) -> Result<()> {
        let mut parts = self.waiting.clone();
        parts.push(Part::Text(text.to_owned()));
        self.messages.push(Message { role: Role::User, parts });
        let answered = self.answer(session, settings);
        let Err(error) = answered else {
            self.waiting.clear();
            return Ok(());
        };
        // The message can be sent again with its pictures, unless they are too large for the context.
        self.messages.pop();
        if error.kind() == Kind::Context && !self.waiting.is_empty() {
            self.waiting.clear();
            let error = error.worded(words::flag);
            return Err(Error::new(
                Kind::Context,
                format!(
                    "{error}; the picture was dropped: ask without it, or forget the conversation with /clear and show it again"
                ),
            ));
        }
        Err(error)
    }

    /// Answers the last message anew.
    fn again(&mut self, session: &mut Session<LlamaEngine>, settings: &settings::Run) -> Result<()> {
        match self.messages.last() {
            Some(Message { role: Role::Assistant, .. }) => {
                let before = self.messages.pop();
                // If no new answer comes, the old one stays.
                self.answer(session, settings).inspect_err(|_| self.messages.extend(before))
            }
            _ => Err(Error::usage("/regen: there is no answer yet")),
        }
    }

    /// Answers the conversation as it stands and adds the answer to it.
    fn answer<E: Engine>(&mut self, session: &mut Session<E>, settings: &settings::Run) -> Result<()> {
        let answer = answering::stream(session, settings, &self.messages)?;
        output::say("\n")?;
        if answer.finish == Finish::Cancelled {
            settings.load.stop.clear();
        }
        // The answer keeps its leading space: the cache then holds it already.
        self.messages.push(Message::text(Role::Assistant, answer.report.text.clone()));
        answering::write(settings, &answer)
    }
}

/// Switches to another schedule, by its preset or by the share it keeps.
fn merge(session: &mut Session<LlamaEngine>, settings: &settings::Run, preset: &str) -> Result<()> {
    let choice = match settings::share(preset) {
        Some(keep) => Choice {
            merge: None,
            keep: Some(keep),
            keep_min: None,
            keep_max: None,
            vit: None,
            llm: None,
            ..settings.choice.clone()
        },
        None => settings.choice.by_name(MergeFlag::parse(preset)?),
    };
    let schedule = session.engine().facts().schedule(&choice)?;
    if let Some(line) = &schedule.remark {
        eprintln!("note: {line}");
    }
    let progress = Progress::new();
    progress.say("encoding the pictures again".into());
    session.set_schedule(schedule)
}
