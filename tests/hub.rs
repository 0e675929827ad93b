//! Downloads against a stand-in for the hub. A file under its final name is whole, with any fault of line and
//! server. One line tells of a file that is not.

mod binary;
mod standin;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use illava::error::{Kind, Result};
use illava::hub::{self, Found, Patience, Repo, Request, Settings, Step, Token};
use standin::{COMMIT, Fault, Hub, sha256};

const TEXT: &str = "model-Q4_K_M.gguf";
const MMPROJ: &str = "mmproj-model-f16.gguf";

fn content(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .collect()
}

fn hub() -> Hub {
    Hub::start(&[("README.md", b"hello"), (TEXT, &content(1, 300_000)), (MMPROJ, &content(2, 70_000))])
}

/// No time is short, so that a busy machine is not taken for a broken line.
const STUCK: Duration = Duration::from_secs(600);

fn settings(hub: &Hub, cache: &Path) -> Settings {
    let variable = |name: &str| match name {
        "HF_ENDPOINT" => Some(hub.endpoint()),
        "HF_HUB_CACHE" => Some(cache.display().to_string()),
        _ => None,
    };
    let patience = Patience { connect: STUCK, silence: STUCK, attempts: 3, pause: Duration::from_millis(1) };
    Settings { patience, ..Settings::from_variables(&variable).unwrap() }
}

fn request() -> Request {
    Request { repo: Repo::parse("user/repo").unwrap(), file: None, mmproj: true }
}

fn fetch(settings: &Settings) -> Result<Found> {
    hub::fetch(&request(), settings, &mut |_| ())
}

fn folder(cache: &Path) -> PathBuf {
    cache.join("models--user--repo")
}

/// The blobs, those under construction too.
fn blobs(cache: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder(cache).join("blobs")) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[track_caller]
fn is_whole(found: &Found) {
    assert_eq!(fs::read(&found.text).unwrap(), content(1, 300_000));
    assert_eq!(fs::read(found.mmproj.as_ref().unwrap()).unwrap(), content(2, 70_000));
}

#[test]
fn the_layout_is_that_of_the_hub_packages() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    let found = fetch(&settings(&hub, cache.path())).unwrap();
    is_whole(&found);
    let home = folder(cache.path());
    assert_eq!(found.text, home.join("snapshots").join(COMMIT).join(TEXT));
    assert_eq!(fs::read_to_string(home.join("refs/main")).unwrap(), COMMIT);
    assert!(fs::symlink_metadata(&found.text).unwrap().is_symlink());
    let mut expected = vec![sha256(&content(1, 300_000)), sha256(&content(2, 70_000))];
    expected.sort();
    assert_eq!(blobs(cache.path()), expected, "no README, nothing half");
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    let settings = settings(&hub, cache.path());
    let first = fetch(&settings).unwrap();
    assert_eq!(fetch(&settings).unwrap(), first);
    assert_eq!(hub.ranges(TEXT), [None]);
    // A new version of one file: only that one.
    hub.replace(MMPROJ, b"new");
    assert_eq!(fs::read(fetch(&settings).unwrap().mmproj.unwrap()).unwrap(), b"new");
    assert_eq!((hub.ranges(TEXT).len(), hub.ranges(MMPROJ).len()), (1, 2));
}

#[test]
fn a_broken_line_is_taken_up_where_it_broke() {
    for fault in [Fault::Cut(100_000), Fault::Silence(100_000)] {
        let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
        hub.fail(&[fault]);
        let mut settings = settings(&hub, cache.path());
        if let Fault::Silence(_) = fault {
            // A busy machine may be as silent: then it is asked once more.
            settings.patience.silence = Duration::from_secs(2);
            settings.patience.attempts = 100;
        }
        is_whole(&fetch(&settings).unwrap());
        let ranges = hub.ranges(TEXT);
        let from: usize =
            ranges[1].as_ref().unwrap()["bytes=".len()..].trim_end_matches('-').parse().unwrap();
        assert!(
            (ranges.len() == 2 || matches!(fault, Fault::Silence(_)))
                && ranges[0].is_none()
                && (1..=100_000).contains(&from),
            "{fault:?} {ranges:?}"
        );
    }
}

#[test]
fn a_later_run_goes_on() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    let settings = settings(&hub, cache.path());
    hub.fail(&[Fault::Cut(90_000), Fault::Status(503), Fault::Status(503), Fault::Status(503)]);
    let error = fetch(&settings).unwrap_err();
    assert_eq!(error.kind(), Kind::File);
    let line = error.to_string();
    assert!(
        line.contains("503") && line.contains("of 300000 bytes") && line.contains("run it again"),
        "{line}"
    );
    let partial = blobs(cache.path());
    assert!(partial.len() == 1 && partial[0].ends_with(".incomplete"), "{partial:?}");
    let before = hub.ranges(TEXT).len();
    is_whole(&fetch(&settings).unwrap());
    assert!(hub.ranges(TEXT)[before].is_some(), "the rest only");
}

#[test]
fn a_server_without_ranges_starts_over() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    hub.fail(&[Fault::Cut(90_000), Fault::NoRanges]);
    is_whole(&fetch(&settings(&hub, cache.path())).unwrap());
}

#[test]
fn damaged_content_never_gets_its_name() {
    for (fault, part) in [(Fault::WrongBytes, "another checksum"), (Fault::WrongLength, "has 299999 bytes")] {
        let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
        let settings = settings(&hub, cache.path());
        hub.fail(&[fault]);
        let line = fetch(&settings).unwrap_err().to_string();
        assert!(line.contains(part) && line.contains(TEXT), "{line}");
        assert!(!blobs(cache.path()).contains(&sha256(&content(1, 300_000))));
        assert!(!folder(cache.path()).join("snapshots").join(COMMIT).join(TEXT).exists());
        is_whole(&fetch(&settings).unwrap());
    }
}

#[test]
fn damaged_remains_are_thrown_away() {
    let whole = content(1, 300_000);
    for remains in [vec![b'x'; 1000], vec![b'x'; 300_000], vec![b'x'; 300_001]] {
        let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
        fs::create_dir_all(folder(cache.path()).join("blobs")).unwrap();
        let partial = folder(cache.path()).join("blobs").join(format!("{}.incomplete", sha256(&whole)));
        fs::write(&partial, remains).unwrap();
        is_whole(&fetch(&settings(&hub, cache.path())).unwrap());
        assert!(!partial.exists());
    }
}

#[test]
fn the_token_stays_with_the_hub() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    hub.redirect_to("localhost");
    hub.fail(&[Fault::Cut(100_000)]);
    let settings = Settings { token: Some(Token::new("secret")), ..settings(&hub, cache.path()) };
    is_whole(&fetch(&settings).unwrap());
    let seen = hub.seen();
    let elsewhere: Vec<_> = seen.iter().filter(|seen| seen.host.starts_with("localhost")).collect();
    assert!(
        elsewhere.len() >= 3 && elsewhere.iter().all(|seen| seen.authorization.is_none()),
        "{elsewhere:?}"
    );
    assert!(elsewhere.iter().any(|seen| seen.range.is_some()), "the range travels");
    for seen in seen.iter().filter(|seen| !seen.host.starts_with("localhost")) {
        assert_eq!(seen.authorization.as_deref(), Some("Bearer secret"), "{seen:?}");
    }
}

#[test]
fn refusals_say_what_to_do() {
    let token = || Some(Token::new("secret"));
    for (status, code, token, part) in [
        (401, "RepoNotFound", None, "set HF_TOKEN"),
        (401, "", token(), "HF_TOKEN may not read it"),
        (403, "GatedRepo", token(), "accept its conditions on http://127.0.0.1"),
        (404, "RepoNotFound", None, "no such repository"),
        (429, "", None, "wait a while"),
        (500, "", None, "try again later"),
    ] {
        let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
        hub.refuse_listing(status, code);
        let error = fetch(&Settings { token, ..settings(&hub, cache.path()) }).unwrap_err();
        let line = error.to_string();
        assert!(line.contains("user/repo") && line.contains(part), "{status}: {line}");
        assert!(!line.contains("secret"));
    }
    for status in [401, 404] {
        let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
        hub.fail(&[Fault::Always(status)]);
        let line = fetch(&settings(&hub, cache.path())).unwrap_err().to_string();
        assert!(line.contains("user/repo") && line.contains(TEXT), "{line}");
        assert_eq!(hub.ranges(TEXT).len(), 1, "asking again would not help");
    }
}

#[test]
fn without_a_network_the_cache_does() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    let online = settings(&hub, cache.path());
    let offline = Settings { offline: true, ..online.clone() };
    let line = fetch(&offline).unwrap_err().to_string();
    assert!(line.contains("user/repo") && line.contains("run once online"), "{line}");
    assert!(hub.seen().is_empty());
    let found = fetch(&online).unwrap();
    assert_eq!(fetch(&offline).unwrap(), found);
    drop(hub);
    // Nobody listens there any more.
    let again = fetch(&online).unwrap();
    assert_eq!((&again.text, &again.mmproj), (&found.text, &found.mmproj));
    assert!(again.remark.unwrap().contains("using the files in the cache"));
    let other = Request { repo: Repo::parse("user/other").unwrap(), ..request() };
    let line = hub::fetch(&other, &online, &mut |_| ()).unwrap_err().to_string();
    assert!(line.contains("user/other") && line.contains("cannot be reached"), "{line}");
    let quant = Request { repo: Repo::parse("user/repo:Q8_0").unwrap(), ..request() };
    let line = hub::fetch(&quant, &offline, &mut |_| ()).unwrap_err().to_string();
    assert!(line.contains("the cache has no Q8_0 model; it has model-Q4_K_M.gguf"), "{line}");
}

/// `/dev/full` takes no byte, as a full disk.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_one_line() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    let blobs = folder(cache.path()).join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let partial = blobs.join(format!("{}.incomplete", sha256(&content(1, 300_000))));
    std::os::unix::fs::symlink("/dev/full", &partial).unwrap();
    let settings = settings(&hub, cache.path());
    let line = fetch(&settings).unwrap_err().to_string();
    assert!(line.contains("the disk is full") && line.contains("HF_HUB_CACHE"), "{line}");
    fs::remove_file(&partial).unwrap();
    is_whole(&fetch(&settings).unwrap());
}

#[test]
fn two_at_once_download_a_file_once() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    hub.slow_down(Duration::from_millis(10));
    let settings = settings(&hub, cache.path());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| is_whole(&fetch(&settings).unwrap()));
        }
    });
    assert_eq!((hub.ranges(TEXT).len(), hub.ranges(MMPROJ).len()), (1, 1));
}

#[test]
fn a_download_waits_for_another_of_the_same_file() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    let settings = settings(&hub, cache.path());
    let locks = cache.path().join(".locks/models--user--repo");
    fs::create_dir_all(&locks).unwrap();
    let held = fs::File::create(locks.join(format!("{}.lock", sha256(&content(1, 300_000))))).unwrap();
    held.lock().unwrap();
    let (sender, waiting) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let fetching = scope.spawn(|| {
            hub::fetch(&request(), &settings, &mut |step| {
                if let Step::Waiting { file } = step {
                    sender.send(file.to_owned()).unwrap();
                }
            })
        });
        assert_eq!(waiting.recv().unwrap(), TEXT);
        assert!(hub.ranges(TEXT).is_empty());
        held.unlock().unwrap();
        is_whole(&fetching.join().unwrap().unwrap());
    });
}

#[test]
fn progress_is_told() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    hub.fail(&[Fault::Cut(100_000)]);
    let (mut started, mut last, mut again, mut done) = (Vec::new(), 0, 0, 0);
    hub::fetch(&request(), &settings(&hub, cache.path()), &mut |step| match step {
        Step::Start { file, size } => started.push((file.to_owned(), size)),
        Step::At(bytes) => last = bytes,
        Step::Again(bytes) => again = bytes,
        Step::Done => done += 1,
        Step::Waiting { .. } => {}
    })
    .unwrap();
    assert_eq!(started, [(TEXT.to_owned(), 300_000), (MMPROJ.to_owned(), 70_000)]);
    assert!(again > 0 && again <= 100_000);
    assert_eq!((last, done), (70_000, 2));
}

/// The program itself, twice at once, with a real pair.
#[test]
fn two_processes_inspect_one_repository() {
    let read = |file| fs::read(binary::model("siglip-qwen2-f32", file)).unwrap();
    let hub =
        Hub::start(&[("tiny-F32.gguf", &read("text.gguf")), ("mmproj-tiny-F32.gguf", &read("mmproj.gguf"))]);
    hub.fail(&[Fault::Cut(50_000)]);
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().display().to_string();
    let run = |extra: &[&str]| {
        let args: Vec<String> =
            [&["inspect", "-hf", "user/repo"], extra].concat().into_iter().map(str::to_owned).collect();
        binary::illava_with(
            &args,
            &[("HF_ENDPOINT", &hub.endpoint()), ("HF_HUB_CACHE", &folder), ("HF_TOKEN", "x")],
        )
    };
    let outcomes = std::thread::scope(|scope| {
        [0, 1].map(|_| scope.spawn(|| run(&[]))).map(|thread| thread.join().unwrap())
    });
    for outcome in &outcomes {
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        assert!(outcome.stdout.contains("tiny-F32.gguf"), "{}", outcome.stdout);
    }
    assert_eq!((hub.ranges("tiny-F32.gguf").len(), hub.ranges("mmproj-tiny-F32.gguf").len()), (2, 1));
    let list = binary::illava_with(&["list".to_owned()], &[("HF_HUB_CACHE", &folder)]);
    let listed: Vec<&str> = list.stdout.lines().filter(|line| line.starts_with("user/repo ")).collect();
    assert!(listed.len() == 2 && listed[0].contains("mmproj-tiny-F32.gguf"), "{}", list.stdout);
    let variables = [("HF_ENDPOINT", hub.endpoint()), ("HF_HUB_CACHE", folder.clone())];
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let pulled = binary::illava_with(&["pull", "user/repo"].map(str::to_owned), &variables);
    let paths: Vec<&Path> = pulled.stdout.lines().map(Path::new).collect();
    assert!(paths.len() == 2 && paths.iter().all(|path| path.is_file()), "{}", pulled.stderr);
    let offline = run(&["--offline"]);
    assert_eq!(offline.code, 0, "{}", offline.stderr);
    run(&["-hff", "nothing.gguf"]).fails(1, "has no file nothing.gguf; it has");
    run(&["-hf", "nonsense"]).fails(2, "-hf nonsense: give user/repo");
    hub.refuse_listing(404, "RepoNotFound");
    run(&[]).fails(1, "no such repository");
}
