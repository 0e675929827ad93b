//! The file of `serve --models`: several models, each with the flags that `illava serve` would get for it alone.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use clap::{Args, Command};
use serde::Deserialize;
use toml::{Table, Value};

use super::flags::{AnswerFlags, WorkerFlags};
use crate::error::{Error, Kind, Result};
use crate::file;

/// Seconds until a model that nobody asks is unloaded.
const IDLE: f64 = 600.0;

/// Models of a file, in its order, each with words of a command line.
#[derive(Debug, PartialEq)]
pub(super) struct Models {
    /// Models in memory at once.
    pub loaded: usize,
    pub idle: Option<Duration>,
    pub models: Vec<(String, Vec<OsString>)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    loaded: Option<i64>,
    idle: Option<Value>,
    #[serde(default)]
    models: Table,
}

/// # Errors
/// [`Kind::File`] for a file that cannot be read, [`Kind::Usage`] for one that says something else than models.
pub(super) fn read(path: &Path) -> Result<Models> {
    let text =
        file::text(path).map_err(|error| Error::new(Kind::File, format!("{}: {error}", path.display())))?;
    parse(&text).map_err(|error| Error::new(error.kind(), format!("{}: {}", path.display(), error.message())))
}

fn parse(text: &str) -> Result<Models> {
    let file: File = toml::from_str(text).map_err(|error| {
        let line =
            error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        Error::usage(format!("line {line}: {}", error.message()))
    })?;
    let loaded = usize::try_from(file.loaded.unwrap_or(1)).ok().filter(|loaded| *loaded > 0);
    let loaded =
        loaded.ok_or_else(|| Error::usage("loaded: give the number of models in memory at once, from 1"))?;
    let idle = match file.idle {
        None => Some(IDLE),
        Some(Value::Integer(seconds)) => u32::try_from(seconds).ok().map(f64::from),
        Some(Value::Float(seconds)) => Some(seconds),
        Some(_) => None,
    };
    let idle = idle.filter(|idle| (0.0..=1e9).contains(idle));
    let idle = idle.ok_or_else(|| {
        Error::usage("idle: give the seconds until a model that nobody asks is unloaded; 0 never does")
    })?;
    if file.models.is_empty() {
        return Err(Error::usage("no models: write a table [models.NAME] for each, with model = \"FILE\""));
    }
    let models = file.models.into_iter().map(|(name, table)| {
        let words =
            words(&table).map_err(|error| Error::usage(format!("models.{name}{}", error.message())))?;
        Ok((name, words))
    });
    Ok(Models {
        loaded,
        idle: (idle > 0.0).then(|| Duration::from_secs_f64(idle)),
        models: models.collect::<Result<_>>()?,
    })
}

/// Flags of one model: its keys are their long names. Errors begin behind the model's name.
fn words(table: &Value) -> Result<Vec<OsString>> {
    let Value::Table(table) = table else {
        return Err(Error::usage(": write a table [models.NAME] with the flags of the model"));
    };
    let known = AnswerFlags::augment_args(WorkerFlags::augment_args(Command::new("model")));
    let is_known = |key: &str| {
        known.get_arguments().any(|arg| {
            arg.get_long() == Some(key) || arg.get_all_aliases().is_some_and(|names| names.contains(&key))
        })
    };
    let mut words = Vec::new();
    for (key, value) in table {
        if !is_known(key) {
            return Err(Error::usage(format!(
                ".{key}: no flag of a model; flags of the server stand on the command line (illava serve --help)"
            )));
        }
        let mut add = |value: &Value| {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Integer(number) => number.to_string(),
                Value::Float(number) => number.to_string(),
                Value::Boolean(on) => {
                    words.extend(on.then(|| format!("--{key}").into()));
                    return Ok(());
                }
                _ => {
                    return Err(Error::usage(format!(
                        ".{key}: give a text, a number, true or a list of these"
                    )));
                }
            };
            words.push(format!("--{key}={text}").into());
            Ok(())
        };
        match value {
            Value::Array(values) => values.iter().try_for_each(&mut add)?,
            one => add(one)?,
        }
    }
    Ok(words)
}

/// Returns a command line without its `--models`.
pub(super) fn without_models(typed: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut typed = typed.into_iter();
    let mut kept = Vec::new();
    while let Some(word) = typed.next() {
        if word == OsStr::new("--models") {
            typed.next();
        } else if !word.to_string_lossy().starts_with("--models=") {
            kept.push(word);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_in_the_order_of_the_file() {
        let read = parse(
            "idle = 2.5\n[models.small]\nmodel = 's.gguf'\nno-mmproj = true\nctx-size = 512\n\
             [models.'a b']\nmodel = 't.gguf'\nmmproj = 'p.gguf'\ntemp = 0.5\nlogit-bias = ['1:2', '3:4']\n",
        );
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let small = words(&["--model=s.gguf", "--no-mmproj", "--ctx-size=512"]);
        let other = words(&[
            "--model=t.gguf",
            "--mmproj=p.gguf",
            "--temp=0.5",
            "--logit-bias=1:2",
            "--logit-bias=3:4",
        ]);
        let models = vec![("small".to_owned(), small), ("a b".to_owned(), other)];
        assert_eq!(read.unwrap(), Models { loaded: 1, idle: Some(Duration::from_secs_f64(2.5)), models });
        let plain = parse("loaded = 2\nidle = 0\n[models.x]\nmodel = 'm'\n").unwrap();
        assert_eq!((plain.loaded, plain.idle), (2, None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("", "no models"),
            ("x = 1", "unknown field `x`"),
            ("loaded = 0\n[models.x]\nmodel = 'm'", "loaded: "),
            ("idle = -1\n[models.x]\nmodel = 'm'", "idle: "),
            ("idle = 'x'\n[models.x]\nmodel = 'm'", "idle: "),
            ("[models]\nx = 'm'", "models.x: write a table"),
            ("[models.x]\nport = 8080", "models.x.port: no flag of a model"),
            ("[models.x]\nmodel = { a = 1 }", "models.x.model: give a text"),
            ("[models.x]\n[models.x]", "line 2"),
            ("[models.x\n", "line 1"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn the_rest_of_the_command_line_counts_for_all() {
        let typed = ["illava", "serve", "--models", "m.toml", "--port", "1", "--models=m.toml"];
        assert_eq!(without_models(typed.iter().map(OsString::from)), ["illava", "serve", "--port", "1"]);
    }
}
