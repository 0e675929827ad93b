//! The command line beside its answers: completions, the manual, hints, pipes and places of results.

mod binary;

use std::process::Command;

use binary::{illava, scratch};

#[test]
fn completions_and_manual() {
    for shell in ["bash", "zsh", "fish"] {
        let outcome = illava(&["completions".into(), shell.into()]);
        assert_eq!(outcome.code, 0);
        for part in ["vit-layers", "bipartite", "balanced", "q8_0", "last-token"] {
            assert!(outcome.stdout.contains(part), "{shell}: {part}");
        }
    }
    let page = illava(&["man".into()]);
    assert!(page.code == 0 && page.stdout.contains(".TH"), "{}", page.stderr);
    let version = illava(&["--version".into()]);
    assert!(version.code == 0 && version.stdout.contains("llama.cpp"), "{}", version.stdout);
}

/// Commands of other programs, and a program that reads only the beginning.
#[test]
fn hints_and_pipes() {
    for (args, part) in [
        (&["chat"][..], "illava run without -p chats"),
        (&["-m", "x", "-p", "y"], "illava run -m"),
        (&["ls"], "illava list"),
    ] {
        illava(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>()).fails(2, part);
    }
    let empty = scratch("no-models");
    let list = binary::illava_with(&["list".to_owned()], &[("HF_HUB_CACHE", &empty)]);
    assert!(list.code == 0 && list.stderr.contains("illava pull"), "{}", list.stderr);
    // The pipe has no reader from the start, so that no order of the two processes matters.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_illava"));
    let closed = command.args(["completions", "bash"]).stdout(writer).output().expect("an end");
    let said = String::from_utf8_lossy(&closed.stderr);
    assert_eq!((closed.status.code(), said.as_ref()), (Some(141), ""));
    // The result's place is looked at before the work.
    let lost = ["bench", "-m", "none.gguf", "-mm", "none.gguf", "--json", "/nowhere/a.json"];
    illava(&lost.map(str::to_owned)).fails(1, "/nowhere/a.json: cannot be written");
    let lost = ["explain", "-m", "none.gguf", "-mm", "none.gguf", "--image", "a.png", "--out", "/proc/none"];
    illava(&lost.map(str::to_owned)).fails(1, "/proc/none");
}
