//! Commands that people know from other programs, and what does the same here.

use crate::error::{Error, Result};

const OTHERS: [(&str, &str); 9] = [
    ("chat", "illava run without -p chats"),
    ("ask answer generate cli mtmd-cli llava-cli", "illava run answers a question"),
    ("caption captions", "illava batch FOLDER -p \"...\" --captions writes photo.txt beside photo.jpg"),
    ("server start", "illava serve answers over HTTP"),
    ("download fetch get", "illava pull user/repo downloads a model"),
    ("ls models", "illava list lists the models that were downloaded"),
    ("show info", "illava inspect says what a pair of files is"),
    (
        "rm remove delete",
        "illava list shows what was downloaded; a model is removed with its folder in that cache",
    ),
    ("ps stop", "there is no service in the background; illava serve runs until Ctrl-C"),
];

/// Checks the first word behind the program's name.
///
/// # Errors
/// [`crate::error::Kind::Usage`] with our command for one of another program, and for a flag that stands where a
/// command is expected.
pub(super) fn check(word: &str) -> Result<()> {
    let listed = OTHERS.iter().find(|(names, _)| names.split(' ').any(|name| name == word));
    if let Some((_, ours)) = listed {
        return Err(Error::usage(format!("{word}: no such command; {ours}")));
    }
    let is_own = ["-h", "--help", "-V", "--version"].contains(&word);
    if word.starts_with('-') && !is_own {
        return Err(Error::usage(format!(
            "{word}: a command comes first, such as illava run {word}; illava --help lists them"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::flags::Cli;

    #[test]
    fn commands_of_others() {
        for (word, part) in [
            ("chat", "illava run without -p"),
            ("ls", "illava list"),
            ("-m", "illava run -m"),
            ("--image", "illava run --image"),
        ] {
            let error = check(word).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        for command in Cli::command().get_subcommands() {
            assert!(check(command.get_name()).is_ok(), "{}", command.get_name());
        }
        assert!(check("--help").is_ok() && check("nonsense").is_ok());
    }
}
