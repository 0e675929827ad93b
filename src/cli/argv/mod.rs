//! Command lines as users of llama.cpp type them, made into what clap reads.
//!
//! clap takes a short flag of several letters for one letter and its value, and does not know the flags that only
//! llama.cpp has. [`read`] writes the former out and gives each of the latter its [`Meaning`]. The word behind a flag
//! that takes a value is that value, whatever it looks like: `-p "-fa"` is a prompt.

mod commands;
mod llama_cpp;

use std::collections::HashMap;
use std::ffi::OsString;

use clap::CommandFactory;

use super::flags::Cli;
use crate::error::{Error, Result};
use llama_cpp::{Meaning, Values, meaning};

/// Command line that clap can read.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Read {
    pub args: Vec<OsString>,
    /// Notes, one line for each flag that was passed over and could be missed.
    pub notes: Vec<String>,
}

/// Rewrites the words of a command line, which begins with the program's name.
///
/// # Errors
/// [`crate::error::Kind::Usage`] for a flag that would change the answer and has no counterpart here, and for a short
/// flag that does not exist.
pub(super) fn read(args: impl IntoIterator<Item = OsString>) -> Result<Read> {
    let mut words = args.into_iter().peekable();
    let mut read = Read::default();
    // The first word is the program's name, the second the command's.
    read.args.extend(words.next());
    if let Some(command) = words.peek().and_then(|word| word.to_str()) {
        commands::check(command)?;
    }
    let known = Known::of(words.peek().and_then(|word| word.to_str()));
    while let Some(word) = words.next() {
        let Some(text) = word.to_str().filter(|text| is_flag(text)) else {
            read.args.push(word);
            continue;
        };
        if text == "--" {
            read.args.push(word);
            read.args.extend(words);
            break;
        }
        let (name, attached) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let name =
            if known.contains(name) { Meaning::Is(name) } else { meaning(name).unwrap_or(Meaning::Is(name)) };
        match name {
            Meaning::Is(long) => {
                known.check(long)?;
                read.args.push(attached.map_or(long.to_owned(), |value| format!("{long}={value}")).into());
                if attached.is_none() && known.takes_value(long) {
                    read.args.extend(words.next());
                }
            }
            Meaning::Switch(long) => {
                let value = attached.map(str::to_owned).or_else(|| value(&mut words));
                read.args.push(format!("{long}={}", value.as_deref().unwrap_or("on")).into());
            }
            Meaning::Words(ours) => read.args.extend(ours.iter().map(OsString::from)),
            Meaning::Nothing(values) => skip(values, attached, &mut words),
            Meaning::Noted(values, why) => {
                skip(values, attached, &mut words);
                read.notes.push(format!("{text}: {why}"));
            }
            Meaning::Refused(why) => return Err(Error::usage(format!("{text}: {why}"))),
        }
    }
    Ok(read)
}

/// Whether `text` looks like a flag; a lone hyphen and a negative number do not.
fn is_flag(text: &str) -> bool {
    text.len() > 1 && text.starts_with('-') && text.parse::<f64>().is_err()
}

/// The next word, if it is no flag.
fn value(words: &mut std::iter::Peekable<impl Iterator<Item = OsString>>) -> Option<String> {
    words.next_if(|word| word.to_str().is_some_and(|text| !is_flag(text)))?.into_string().ok()
}

/// The next word, if it is a switch's value.
fn switched(words: &mut std::iter::Peekable<impl Iterator<Item = OsString>>) -> Option<String> {
    let is_value = |word: &OsString| ["on", "off", "auto", "0", "1", "-1"].iter().any(|value| word == value);
    words.next_if(is_value)?.into_string().ok()
}

fn skip(
    values: Values,
    attached: Option<&str>,
    words: &mut std::iter::Peekable<impl Iterator<Item = OsString>>,
) {
    match values {
        _ if attached.is_some() => {}
        Values::None => {}
        Values::One => drop(words.next()),
        Values::Switch => drop(switched(words)),
    }
}

/// The flags of one command and whether each takes a value.
struct Known(HashMap<String, bool>);

impl Known {
    fn of(command: Option<&str>) -> Self {
        let cli = Cli::command();
        let command = command.and_then(|name| cli.find_subcommand(name)).unwrap_or(&cli);
        let mut names = HashMap::new();
        for arg in command.get_arguments() {
            let long = arg.get_long_and_visible_aliases().unwrap_or_default();
            let short = arg.get_short_and_visible_aliases().unwrap_or_default();
            let long = long.into_iter().map(|name| format!("--{name}"));
            let short = short.into_iter().map(|name| format!("-{name}"));
            names.extend(long.chain(short).map(|name| (name, arg.get_action().takes_values())));
        }
        Self(names)
    }

    fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn takes_value(&self, name: &str) -> bool {
        self.0.get(name).copied().unwrap_or(false)
    }

    /// # Errors
    /// A short flag of several letters is refused: clap would read its first letter as a flag and the rest as
    /// that flag's value. A repeated letter (`-vv`) and a letter with a number (`-n128`) keep their usual
    /// meaning.
    fn check(&self, name: &str) -> Result<()> {
        let mut letters = name.chars();
        letters.next();
        let first = letters.next().unwrap_or('-');
        let rest = letters.as_str();
        let plain = first == '-' || rest.is_empty() || rest.chars().all(|letter| letter == first);
        if plain || rest.starts_with(|letter: char| letter.is_ascii_digit() || letter == '-') {
            return Ok(());
        }
        let near = llama_cpp::short_names().map(|other| (strsim::jaro_winkler(other, name), other));
        let near = near.filter(|(likeness, _)| *likeness > 0.9).max_by(|a, b| a.0.total_cmp(&b.0));
        Err(Error::usage(match near {
            Some((_, other)) => {
                format!("{name}: there is no such flag; did you mean {other}? --help lists them")
            }
            None => format!("{name}: there is no such flag; --help lists them"),
        }))
    }
}

#[cfg(test)]
mod tests;
