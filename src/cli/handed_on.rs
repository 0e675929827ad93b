//! `serve` takes the worker's flags, and hands on those that were typed.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, Command};

use super::flags::WorkerFlags;

/// Command line with the worker's flags among those of `serve`. The worker reads the same environment and has
/// the same defaults.
pub(super) fn handed_on(matches: &ArgMatches) -> Vec<OsString> {
    let worker = WorkerFlags::augment_args(Command::new("worker"));
    let mut args = Vec::new();
    for arg in worker.get_arguments() {
        let (id, Some(long)) = (arg.get_id().as_str(), arg.get_long()) else { continue };
        if matches.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        match arg.get_action() {
            ArgAction::Count => {
                args.extend((0..matches.get_count(id)).map(|_| OsString::from(format!("--{long}"))));
            }
            ArgAction::SetTrue | ArgAction::SetFalse => args.push(format!("--{long}").into()),
            _ => {
                for value in matches.get_raw(id).into_iter().flatten() {
                    let mut flag = OsString::from(format!("--{long}="));
                    flag.push(value);
                    args.push(flag);
                }
            }
        }
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_typed_is_handed_on() {
        let serve = WorkerFlags::augment_args(Command::new("serve")).arg(clap::arg!(--port <N>));
        let typed = [
            "serve",
            "--port",
            "1",
            "-m",
            "t.gguf",
            "--mmproj",
            "p.gguf",
            "-vv",
            "-c",
            "512",
            "--no-mmproj-offload",
            "--keep",
            "0.5",
        ];
        let handed = handed_on(&serve.try_get_matches_from(typed).unwrap());
        let mut expected = [
            "--model=t.gguf",
            "--mmproj=p.gguf",
            "--verbose",
            "--verbose",
            "--ctx-size=512",
            "--no-mmproj-offload",
            "--keep=0.5",
        ]
        .map(OsString::from)
        .to_vec();
        let mut sorted = handed.clone();
        sorted.sort();
        expected.sort();
        assert_eq!(sorted, expected);
        // A worker understands these flags.
        let again = WorkerFlags::augment_args(Command::new("worker"));
        let args = std::iter::once(OsString::from("worker")).chain(handed);
        assert_eq!(again.try_get_matches_from(args).unwrap().get_count("verbose"), 2);
    }
}
