//! Input line of the chat: history, completion, and messages of several lines.

use std::path::PathBuf;

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Context, Editor, Helper};

use super::line::COMMANDS;
use crate::error::{Error, Kind, Result};

const FENCE: &str = "\"\"\"";
const MERGE: [&str; 8] = ["off", "model", "balanced", "auto", "paper", "image", "video", "qwen2vl"];

/// Input of the person.
pub(super) enum Typed {
    Message(String),
    /// Ctrl-C discards the line.
    Nothing,
    /// Ctrl-D ends the chat.
    End,
}

pub(super) struct Typing {
    editor: Editor<Completion, FileHistory>,
    /// File with the messages of earlier chats; `None` without a home folder.
    history: Option<PathBuf>,
}

impl Typing {
    /// # Errors
    /// [`Kind::Native`] if the terminal cannot be used.
    pub fn new() -> Result<Self> {
        let mut editor = Editor::new().map_err(failed)?;
        editor.set_helper(Some(Completion::default()));
        let history = history_file();
        if let Some(path) = &history {
            // The file does not exist before the first chat.
            let _ = editor.load_history(path);
        }
        Ok(Self { editor, history })
    }

    /// Reads the next message or command: one line, or several that a trailing backslash or three quotes
    /// join.
    ///
    /// # Errors
    /// [`Kind::Native`] if the terminal is gone.
    pub fn next(&mut self) -> Result<Typed> {
        let mut message = Joined::default();
        loop {
            let mark = if message.is_empty() { "> " } else { ". " };
            match self.editor.readline(mark) {
                Ok(line) => {
                    if message.add(&line) {
                        break;
                    }
                }
                Err(ReadlineError::Interrupted) => return Ok(Typed::Nothing),
                Err(ReadlineError::Eof) if message.is_empty() => return Ok(Typed::End),
                Err(ReadlineError::Eof) => break,
                Err(error) => return Err(failed(error)),
            }
        }
        let message = message.text;
        // On a full or read-only disk the chat continues without its history.
        if self.editor.add_history_entry(&message).unwrap_or(false)
            && let Some(path) = &self.history
        {
            let _ = path.parent().map(std::fs::create_dir_all);
            let _ = self.editor.append_history(path);
        }
        Ok(Typed::Message(message))
    }
}

fn failed(error: ReadlineError) -> Error {
    Error::new(Kind::Native, format!("terminal: {error}"))
}

fn history_file() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")))?;
    Some(state.join("illava/history"))
}

/// Lines that become one message.
#[derive(Debug, Default)]
struct Joined {
    text: String,
    fenced: bool,
    begun: bool,
}

impl Joined {
    fn is_empty(&self) -> bool {
        !self.begun
    }

    /// Adds a line. Returns true if the message is whole.
    fn add(&mut self, line: &str) -> bool {
        let mut line = line;
        if !self.begun
            && let Some(rest) = line.trim_start().strip_prefix(FENCE)
        {
            (self.fenced, line) = (true, rest);
        }
        let first = !std::mem::replace(&mut self.begun, true);
        let (line, whole) = match self.fenced {
            true => (line.trim_end().strip_suffix(FENCE).unwrap_or(line), line.trim_end().ends_with(FENCE)),
            false => (line.strip_suffix('\\').unwrap_or(line), !line.ends_with('\\')),
        };
        // The line of a fence usually has nothing but the fence.
        let empty = line.is_empty() && self.fenced && (first || whole);
        if !empty {
            if !self.text.is_empty() {
                self.text.push('\n');
            }
            self.text.push_str(line);
        }
        whole
    }
}

/// Completes commands, presets and paths.
#[derive(Default)]
struct Completion {
    names: FilenameCompleter,
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = &line[..pos];
        let among = |words: &[&str], start: &str| -> Vec<Pair> {
            let found = words.iter().filter(|word| word.starts_with(start));
            found.map(|&word| Pair { display: word.to_owned(), replacement: format!("{word} ") }).collect()
        };
        match typed.split_once(char::is_whitespace) {
            Some(("/image" | "/video" | "/save", _)) => self.names.complete_path(line, pos),
            Some(("/merge", preset)) => Ok((pos - preset.len(), among(&MERGE, preset))),
            None if typed.starts_with('/') => Ok((0, among(&COMMANDS, typed))),
            _ => Ok((pos, Vec::new())),
        }
    }
}

impl Hinter for Completion {
    type Hint = String;
}
impl Highlighter for Completion {}
impl Validator for Completion {}
impl Helper for Completion {}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(lines: &[&str]) -> (String, bool) {
        let mut message = Joined::default();
        let whole = lines.iter().map(|line| message.add(line)).last();
        (message.text, whole.unwrap_or(false))
    }

    #[test]
    fn several_lines() {
        for (lines, text, whole) in [
            (&["one"][..], "one", true),
            (&["one\\", "two"], "one\ntwo", true),
            (&["one\\", "two\\"], "one\ntwo", false),
            (&["\"\"\"", "one", "", "two\\", "\"\"\""], "one\n\ntwo\\", true),
            (&["\"\"\"one", "two\"\"\""], "one\ntwo", true),
            (&["\"\"\"one\"\"\""], "one", true),
            (&["\"\"\"", "one"], "one", false),
            (&["say \"\"\" there"], "say \"\"\" there", true),
        ] {
            assert_eq!(joined(lines), (text.to_owned(), whole), "{lines:?}");
        }
    }

    #[test]
    fn completions() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("photo.png"), "").unwrap();
        let history = FileHistory::new();
        let found = |line: &str| {
            let (start, found) =
                Completion::default().complete(line, line.len(), &Context::new(&history)).unwrap();
            (start, found.into_iter().map(|pair| pair.replacement).collect::<Vec<_>>())
        };
        assert_eq!(found("/im"), (0, vec!["/image ".to_owned()]));
        assert_eq!(found("/merge b"), (7, vec!["balanced ".to_owned()]));
        let path = format!("{}/ph", folder.path().display());
        let (start, names) = found(&format!("/image {path}"));
        assert!(start >= 7 && names[0].ends_with("photo.png"), "{names:?}");
        assert!(found("what is").1.is_empty());
    }
}
