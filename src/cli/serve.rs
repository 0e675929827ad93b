//! `illava serve`: flags to settings, and a worker process of this same program.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use serde_json::{Map, Value};

use super::flags::{Cli, Command, LimitFlags, ServeFlags, ThoughtFlags};
use super::{argv, handed_on, models_file, settings as cli_settings};
use crate::error::{Error, Kind, Result};
use crate::file;
use crate::request::{self, Reasoning, Thinking};
use crate::server::client::{Patience, Program};
use crate::server::settings::{Access, Bounds, MediaAccess};
use crate::server::{self, Member, Residence, Settings};

/// Pixels of one request at most, in millions: one message to the worker holds no more.
const MOST_REQUEST_PIXELS: u32 = 350;

pub(super) fn serve(flags: &ServeFlags) -> Result<()> {
    if let Some(file) = &flags.models {
        return several(flags, file);
    }
    let (settings, program) = member(flags, std::env::args_os())?;
    server::serve(settings, program)
}

/// Serves the models of a file.
fn several(flags: &ServeFlags, file: &Path) -> Result<()> {
    if flags.alias.is_some() {
        return Err(Error::usage("--alias: the file of --models names the models; leave it out"));
    }
    let models_file::Models { loaded, idle, models } = models_file::read(file)?;
    let common = models_file::without_models(std::env::args_os());
    let members = models.into_iter().map(|(name, words)| {
        let typed = common.iter().cloned().chain(words);
        let typed: Vec<OsString> = typed.collect();
        let one = || {
            let cli = Cli::try_parse_from(argv::read(typed.clone())?.args)
                .map_err(|error| Error::usage(first_line(&error.to_string())))?;
            let Command::Serve(flags) = cli.command else { return Err(Error::usage("not a server")) };
            member(&flags, typed.clone())
        };
        let (settings, program) =
            one().map_err(|error| Error::new(error.kind(), format!("{name}: {}", error.message())))?;
        let settings = Settings { aliases: vec![name.clone()], alias: Some(name), ..settings };
        Ok(Member { settings, launch: Arc::new(program) })
    });
    server::serve_several(members.collect::<Result<_>>()?, Residence { loaded, idle })
}

/// Returns clap's reason without its help.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// Returns the settings of one model and the program of its worker, whose command line is `typed`.
fn member(flags: &ServeFlags, typed: impl IntoIterator<Item = OsString>) -> Result<(Settings, Program)> {
    // The worker reads the same flags. Checking them here shows a typing error at once.
    let load = super::worker::options(&flags.worker)?.load;
    let settings = Settings { model_path: load.text.clone(), ..settings(flags)? };
    for path in std::iter::once(&load.text).chain(&load.projector) {
        // This process says it at once, not one worker after another.
        if !path.is_file() {
            return Err(Error::new(Kind::File, format!("{}: no such file", path.display())));
        }
    }
    let path = std::env::current_exe()
        .map_err(|error| Error::new(Kind::Native, format!("cannot find this program: {error}")))?;
    Ok((settings, Program { path, args: worker_args(typed)? }))
}

/// Returns the worker's command line, made from the server's.
fn worker_args(typed: impl IntoIterator<Item = OsString>) -> Result<Vec<OsString>> {
    let matches = Cli::command()
        .try_get_matches_from(argv::read(typed)?.args)
        .map_err(|error| Error::usage(error.to_string()))?;
    let serve = matches.subcommand_matches("serve").ok_or_else(|| Error::usage("not a server"))?;
    let mut args = vec![OsString::from("worker")];
    args.extend(handed_on::handed_on(serve));
    Ok(args)
}

/// Returns the words of a comma list in the order of the alphabet, each once.
fn words(list: Option<&str>) -> Vec<String> {
    let words = list.unwrap_or_default().split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect()
}

fn settings(flags: &ServeFlags) -> Result<Settings> {
    let parallel = flags.worker.slots.sizes(None)?.slots;
    let limits = &flags.limits;
    let default = Patience::default();
    let aliases = words(flags.alias.as_deref());
    Ok(Settings {
        host: flags.host.clone(),
        port: flags.port,
        alias: aliases.first().cloned(),
        aliases,
        tags: words(flags.tags.as_deref()),
        api_keys: keys(&flags.api_key, flags.api_key_file.as_deref())?,
        parallel,
        queue: limits.queue,
        metrics: flags.metrics,
        slots: flags.slots || !flags.no_slots,
        saves_slots: flags.worker.slot_save_path.is_some(),
        share_cache: flags.share_cache,
        access: Access { hosts: flags.allowed_hosts.clone(), origins: flags.cors_origins.clone() },
        media: MediaAccess {
            folder: flags.media_path.clone(),
            hosts: flags.allow_remote_media.clone(),
            ..MediaAccess::default()
        },
        bounds: bounds(limits)?,
        sampling: flags.answers.draw.sampling(request::Sampling::default().temperature)?,
        thinking: thinking(&flags.answers.thoughts)?,
        reasoning: Reasoning::named(&flags.answers.thoughts.reasoning_format).unwrap_or_default(),
        variables: variables(flags.answers.thoughts.chat_template_kwargs.as_deref())?,
        max_tokens: cli_settings::answer_tokens(flags.answers.predict)?,
        patience: Patience { silence: seconds("--worker-timeout", limits.worker_timeout)?, ..default },
        drain: seconds("--drain-timeout", limits.drain_timeout)?,
        ..Settings::default()
    })
}

fn thinking(flags: &ThoughtFlags) -> Result<Thinking> {
    let asked = match flags.reasoning.as_str() {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    };
    let most = match flags.reasoning_budget {
        -1 => None,
        n => Some(u32::try_from(n).map_err(|_| {
            Error::usage(format!("--reasoning-budget {n}: give a number of tokens, or -1 for no limit"))
        })?),
    };
    Ok(Thinking { asked, most })
}

fn variables(json: Option<&str>) -> Result<Map<String, Value>> {
    let Some(json) = json else { return Ok(Map::new()) };
    let wrong = || Error::usage(format!("--chat-template-kwargs {json}: give a JSON object"));
    serde_json::from_str(json).map_err(|_| wrong())
}

fn bounds(flags: &LimitFlags) -> Result<Bounds> {
    let at_least_one = |flag: &str, n: u32| {
        if n > 0 { Ok(n) } else { Err(Error::usage(format!("{flag} 0: give a number above 0"))) }
    };
    if flags.max_body == 0 || flags.max_body > 1 << 20 {
        return Err(Error::usage(format!(
            "--max-body {}: give a number from 1 to {}",
            flags.max_body,
            1 << 20
        )));
    }
    if flags.max_request_pixels > MOST_REQUEST_PIXELS {
        return Err(Error::usage(format!(
            "--max-request-pixels {}: give a number up to {MOST_REQUEST_PIXELS}",
            flags.max_request_pixels
        )));
    }
    Ok(Bounds {
        body_bytes: (flags.max_body as usize) << 20,
        request: request::Bounds {
            // serde_json itself stops at 128.
            json_depth: flags.max_json_depth.clamp(1, 127) as usize,
            prompt_bytes: flags.max_prompt_bytes as usize,
            images: flags.max_images as usize,
            videos: flags.max_videos as usize,
            grammar_bytes: flags.max_grammar_bytes as usize,
            choices: at_least_one("--max-choices", flags.max_choices)?,
            ..request::Bounds::default()
        },
        image_bytes: u64::from(flags.max_image_bytes) << 20,
        image_pixels: u64::from(flags.max_image_pixels) * 1_000_000,
        request_pixels: u64::from(flags.max_request_pixels) * 1_000_000,
        video_bytes: u64::from(flags.max_video_bytes) << 20,
        video_frames: at_least_one("--max-video-frames", flags.max_video_frames)?,
        video_pixels: u64::from(at_least_one("--max-video-pixels", flags.max_video_pixels)?) * 1_000_000,
        video_time: seconds("--video-timeout", flags.video_timeout)?,
        grammar_time: seconds("--grammar-timeout", flags.grammar_timeout)?,
        connections: at_least_one("--max-connections", flags.max_connections)? as usize,
        read_time: seconds("--head-timeout", flags.head_timeout)?,
        body_time: seconds("--body-timeout", flags.body_timeout)?,
        fetch_time: seconds("--fetch-timeout", flags.fetch_timeout)?,
        ..Bounds::default()
    })
}

fn seconds(flag: &str, value: f32) -> Result<Duration> {
    if value > 0.0 && value <= 86_400.0 {
        Ok(Duration::from_secs_f32(value))
    } else {
        Err(Error::usage(format!("{flag} {value}: give seconds above 0 and up to 86400")))
    }
}

fn keys(given: &[String], file: Option<&Path>) -> Result<Vec<String>> {
    let mut keys: Vec<String> = given.iter().map(|key| key.trim().to_owned()).collect();
    if keys.iter().any(String::is_empty) {
        // The secret of a container may be missing. The server must not be open to all then.
        return Err(Error::usage(
            "--api-key (LLAMA_API_KEY): an empty key would let everybody in; leave the flag out and unset the variable for that",
        ));
    }
    if let Some(path) = file {
        let text = file::text(path)
            .map_err(|error| Error::new(Kind::File, format!("{}: {error}", path.display())))?;
        let before = keys.len();
        keys.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
        if keys.len() == before {
            return Err(Error::new(
                Kind::File,
                format!("{}: no key in it; write one a line", path.display()),
            ));
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(args: &[&str]) -> Vec<OsString> {
        ["illava", "serve", "-m", "t.gguf", "-mm", "p.gguf"].iter().chain(args).map(OsString::from).collect()
    }

    fn read(args: &[&str]) -> Result<Settings> {
        let cli = Cli::try_parse_from(argv::read(typed(args))?.args)
            .map_err(|error| Error::usage(error.to_string()))?;
        let Command::Serve(flags) = cli.command else { panic!("not serve") };
        settings(&flags)
    }

    #[test]
    fn flags_and_defaults() {
        let plain = read(&[]).unwrap();
        assert_eq!(
            (plain.host.as_str(), plain.port, plain.queue, plain.slots),
            ("127.0.0.1", 8080, 64, true)
        );
        assert!(plain.api_keys.is_empty() && plain.media.hosts.is_empty() && plain.media.folder.is_none());
        let own = Bounds::default();
        assert_eq!(
            (plain.bounds.body_bytes, plain.bounds.request.images, plain.bounds.image_pixels),
            (own.body_bytes, own.request.images, own.image_pixels)
        );
        let videos = |bounds: &Bounds| {
            (
                bounds.request.videos,
                bounds.video_bytes,
                bounds.video_frames,
                bounds.video_pixels,
                bounds.video_time,
            )
        };
        assert_eq!(videos(&plain.bounds), videos(&own));
        let told = read(&[
            "--host",
            "0.0.0.0",
            "--port",
            "9",
            "-np",
            "8",
            "--api-key",
            "a,b",
            "--api-key",
            "c",
            "--no-slots",
            "--metrics",
            "--allow-remote-media",
            "x.example,*.y.example",
            "--max-body",
            "1",
            "-n",
            "7",
            "-a",
            "small, large,small",
            "--tags",
            "b,a",
        ])
        .unwrap();
        assert_eq!((told.alias.as_deref(), told.aliases.join(" ").as_str()), (Some("large"), "large small"));
        assert_eq!(told.tags, ["a", "b"]);
        assert_eq!((told.port, told.parallel, told.slots, told.metrics), (9, 8, false, true));
        assert_eq!(told.api_keys, ["a", "b", "c"]);
        assert_eq!((told.media.hosts.len(), told.bounds.body_bytes, told.max_tokens), (2, 1 << 20, Some(7)));
    }

    #[test]
    fn a_worker_gets_its_share_of_the_flags() {
        let args = worker_args(typed(&["-np", "2", "--port", "9", "-ctk", "q8_0", "--api-key", "secret"]));
        let args: Vec<String> = args.unwrap().iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
        assert_eq!(args[0], "worker");
        for wanted in ["--model=t.gguf", "--mmproj=p.gguf", "--parallel=2", "--cache-type-k=q8_0"] {
            assert!(args.iter().any(|arg| arg == wanted), "{wanted} is not in {args:?}");
        }
        assert!(!args.iter().any(|arg| arg.contains("secret") || arg.contains("port")), "{args:?}");
    }

    #[test]
    fn wrong_values_name_the_flag() {
        for (args, part) in [
            (vec!["-np", "0"], "-np 0"),
            (vec!["--max-body", "0"], "--max-body 0"),
            (vec!["--max-request-pixels", "999"], "--max-request-pixels 999"),
            (vec!["--body-timeout", "0"], "--body-timeout 0"),
            (vec!["--drain-timeout", "NaN"], "--drain-timeout"),
            (vec!["--temp", "200"], "--temp 200"),
            (vec!["--top-p", "2"], "--top-p 2"),
            (vec!["--seed", "-2"], "--seed -2"),
            (vec!["-n", "-3"], "-n -3"),
            (vec!["--api-key", ""], "--api-key"),
            (vec!["--max-choices", "0"], "--max-choices 0"),
            (vec!["--max-video-frames", "0"], "--max-video-frames 0"),
            (vec!["--max-video-pixels", "0"], "--max-video-pixels 0"),
            (vec!["--video-timeout", "0"], "--video-timeout 0"),
        ] {
            let error = read(&args).unwrap_err();
            let said = error.worded(super::super::words::flag);
            assert!(said.contains(part), "{args:?}: {said}");
        }
    }

    #[test]
    fn a_file_of_keys() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        std::fs::write(&file, "one\n\n two \n").unwrap();
        assert_eq!(keys(&["zero".into()], Some(&file)).unwrap(), ["zero", "one", "two"]);
        std::fs::write(&file, "\n").unwrap();
        assert!(keys(&[], Some(&file)).unwrap_err().to_string().contains("no key"));
        assert!(keys(&[], Some(&folder.path().join("none"))).is_err());
    }
}
