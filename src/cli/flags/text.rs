//! Flags with a text or the name of a file that has it.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;

use super::names;

use crate::error::{Error, Kind, Result};
use crate::request::Grammar;

/// Largest prompt, template, grammar or schema in bytes, if it comes from a file or a pipe.
const MOST: u64 = 16 << 20;

#[derive(Debug, Args)]
pub struct PromptFlags {
    /// Question or instruction; - reads it from stdin, as a run does that has neither this nor a terminal
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true, help_heading = "Prompt")]
    pub prompt: Option<String>,
    /// File with the question
    #[arg(short, long, value_name = "FILE", conflicts_with = "prompt", help_heading = "Prompt")]
    pub file: Option<PathBuf>,
    /// Read \n, \t, \", \\ in -p and -sys as escapes
    #[arg(short, long, help_heading = "Prompt")]
    pub escape: bool,
    /// System prompt, for chat templates that take one (short: -sys)
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, help_heading = "Prompt")]
    pub system_prompt: Option<String>,
    /// File with the system prompt (short: -sysf)
    #[arg(long, value_name = "FILE", conflicts_with = "system_prompt", help_heading = "Prompt")]
    pub system_prompt_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct TemplateFlags {
    /// Jinja chat template, or vicuna, mistral or chatml, instead of the model's own
    #[arg(
        long,
        value_name = "TEMPLATE",
        env = "LLAMA_ARG_CHAT_TEMPLATE",
        hide_env_values = true,
        value_parser = names::TEMPLATES, hide_possible_values = true, help_heading = "Prompt"
    )]
    pub chat_template: Option<String>,
    /// File with the Jinja chat template
    #[arg(long, value_name = "FILE", overrides_with = "chat_template", help_heading = "Prompt")]
    pub chat_template_file: Option<PathBuf>,
}

/// Flags of the answer's form.
#[derive(Debug, Args)]
pub struct FormFlags {
    /// GBNF grammar the answer obeys
    #[arg(long, value_name = "GBNF", group = "form", help_heading = "Sampling")]
    pub grammar: Option<String>,
    /// File with the GBNF grammar
    #[arg(long, value_name = "FILE", group = "form", help_heading = "Sampling")]
    pub grammar_file: Option<PathBuf>,
    /// JSON schema the answer obeys
    #[arg(short, long, value_name = "SCHEMA", group = "form", help_heading = "Sampling")]
    pub json_schema: Option<String>,
    /// File with the JSON schema (short: -jf)
    #[arg(long, value_name = "FILE", group = "form", help_heading = "Sampling")]
    pub json_schema_file: Option<PathBuf>,
}

impl PromptFlags {
    /// Returns the prompt of the flags, or stdin's if they say so; `None` if they give none.
    ///
    /// # Errors
    /// [`Kind::File`] if the file cannot be read, [`Kind::Usage`] if stdin has no text.
    pub fn prompt(&self) -> Result<Option<String>> {
        match (&self.prompt, &self.file) {
            (Some(text), _) if text == "-" => piped().map(Some),
            (Some(text), _) => Ok(Some(self.escaped(text))),
            (None, Some(path)) => of_file("-f", path).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// # Errors
    /// [`Kind::File`] if the file cannot be read.
    pub fn system(&self) -> Result<Option<String>> {
        match (&self.system_prompt, &self.system_prompt_file) {
            (Some(text), _) => Ok(Some(self.escaped(text))),
            (None, Some(path)) => of_file("-sysf", path).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn escaped(&self, text: &str) -> String {
        if self.escape { unescaped(text) } else { text.to_owned() }
    }
}

impl TemplateFlags {
    /// # Errors
    /// [`Kind::File`] if the file cannot be read.
    pub fn template(&self) -> Result<Option<String>> {
        match (&self.chat_template, &self.chat_template_file) {
            (_, Some(path)) => of_file("--chat-template-file", path).map(Some),
            (given, None) => Ok(given.clone()),
        }
    }
}

impl FormFlags {
    /// Returns the grammar or schema, checked.
    ///
    /// # Errors
    /// [`Kind::File`] if the file cannot be read, and the errors of [`Grammar::checked`].
    pub fn form(&self) -> Result<Option<Grammar>> {
        let form = match self {
            Self { grammar: Some(text), .. } => Grammar::Gbnf(text.clone()),
            Self { grammar_file: Some(path), .. } => Grammar::Gbnf(of_file("--grammar-file", path)?),
            Self { json_schema: Some(text), .. } => Grammar::JsonSchema(text.clone()),
            Self { json_schema_file: Some(path), .. } => Grammar::JsonSchema(of_file("-jf", path)?),
            _ => return Ok(None),
        };
        form.checked().map(Some)
    }
}

/// Reads the file that `flag` names, without its last line break.
///
/// # Errors
/// [`Kind::File`] if the file cannot be read, is not UTF-8 or is larger than 16 MiB.
pub(in crate::cli) fn of_file(flag: &str, path: &Path) -> Result<String> {
    let bad = |why: String| Error::new(Kind::File, format!("{flag} {}: {why}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| bad(error.to_string()))?;
    read(file).map_err(bad)
}

/// Reads the prompt that another program writes to stdin.
///
/// # Errors
/// [`Kind::File`] if stdin cannot be read, [`Kind::Usage`] if there is no text.
pub(in crate::cli) fn piped() -> Result<String> {
    written(std::io::stdin().lock())
}

fn written(stdin: impl Read) -> Result<String> {
    let text = read(stdin).map_err(|why| Error::new(Kind::File, format!("stdin: {why}")))?;
    if text.trim().is_empty() {
        return Err(Error::usage(
            "no prompt: stdin is empty; give one with -p or -f, or run on a terminal to chat",
        ));
    }
    Ok(text)
}

fn read(source: impl Read) -> std::result::Result<String, String> {
    let mut bytes = Vec::new();
    source.take(MOST + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MOST {
        return Err(format!("longer than {} MiB; give less text", MOST >> 20));
    }
    let text = String::from_utf8(bytes).map_err(|_| "not UTF-8; save it as UTF-8 text".to_owned())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// Replaces escapes as llama.cpp does on its command line.
pub(in crate::cli) fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, letters.clone().next()) {
            ('\\', Some(next @ ('n' | 'r' | 't' | '\\' | '"' | '\''))) => {
                letters.next();
                out.push(match next {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    next => next,
                });
            }
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        for (text, expected) in [("a\\nb", "a\nb"), ("\\\\n", "\\n"), ("\\x", "\\x"), ("end\\", "end\\")] {
            assert_eq!(unescaped(text), expected);
        }
    }

    #[test]
    fn a_text_of_a_pipe() {
        assert_eq!(written("\u{feff}What?\r\n".as_bytes()).unwrap(), "What?");
        assert_eq!(written("two\nlines\n\n".as_bytes()).unwrap(), "two\nlines\n");
        for (bytes, part) in [
            (&b" \n"[..], "no prompt: stdin is empty"),
            (b"", "no prompt: stdin is empty"),
            (b"\xff\xfe", "stdin: not UTF-8"),
        ] {
            let error = written(bytes).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let error = written(std::io::repeat(b'x')).unwrap_err().to_string();
        assert!(error.contains("longer than 16 MiB"), "{error}");
    }

    #[test]
    fn a_text_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("question.txt");
        std::fs::write(&path, "What?\n").unwrap();
        let flags = |file| PromptFlags {
            prompt: None,
            file,
            escape: true,
            system_prompt: Some("a\\nb".into()),
            system_prompt_file: None,
        };
        assert_eq!(flags(Some(path)).prompt().unwrap().as_deref(), Some("What?"));
        assert_eq!(flags(None).system().unwrap().as_deref(), Some("a\nb"));
        let error = flags(Some(folder.path().join("none"))).prompt().unwrap_err().to_string();
        assert!(error.starts_with("-f ") && error.contains("none"), "{error}");
    }
}
