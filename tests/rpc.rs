//! Layers on other machines, which are processes here: the same tokens and answers, less on the wire by merging, and
//! a clear end if one leaves.

mod binary;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

/// A server, and a relay in front of it that counts what passes.
struct Machine {
    process: Child,
    address: String,
    bytes: Arc<AtomicU64>,
    /// Bytes after which the machine vanishes.
    until: Arc<AtomicU64>,
    /// Bytes after which it reads nothing for [`BUSY`], once.
    busy: Arc<AtomicU64>,
}

impl Machine {
    fn start() -> Self {
        let args = ["rpc", "--port", "0", "-t", "1"].map(str::to_owned);
        let mut process = binary::spawn(&args);
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let listening = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| Some(line.strip_prefix("listening on ")?.split(';').next()?.to_owned()))
            .expect("the server says where it listens");
        // Nobody may block on a full pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("rpc: {line}")));
        let mut output = process.stdout.take().unwrap();
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));

        let relay = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = relay.local_addr().unwrap().to_string();
        let never = || Arc::new(AtomicU64::new(u64::MAX));
        let (bytes, until, busy) = (Arc::new(AtomicU64::new(0)), never(), never());
        let (counted, bound, pause) = (bytes.clone(), until.clone(), busy.clone());
        std::thread::spawn(move || {
            for client in relay.incoming() {
                let client = client.unwrap();
                let server = connect(&listening);
                for (from, to) in [(client.try_clone(), server.try_clone()), (Ok(server), Ok(client))] {
                    let (from, to) = (from.unwrap(), to.unwrap());
                    let (counted, bound, pause) = (counted.clone(), bound.clone(), pause.clone());
                    std::thread::spawn(move || pass(from, to, &counted, &bound, &pause));
                }
            }
        });
        Self { process, address, bytes, until, busy }
    }

    fn passed(&self) -> u64 {
        self.bytes.swap(0, Ordering::SeqCst)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The server says its address a moment before it listens.
fn connect(address: &str) -> TcpStream {
    for _ in 0..6000 {
        if let Ok(stream) = TcpStream::connect(address) {
            return stream;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{address}: nobody listens");
}

/// Longer than an unanswered machine is waited for.
const BUSY: std::time::Duration = std::time::Duration::from_secs(35);

fn pass(mut from: TcpStream, mut to: TcpStream, counted: &AtomicU64, until: &AtomicU64, busy: &AtomicU64) {
    let mut piece = vec![0; 1 << 16];
    while let Ok(n @ 1..) = from.read(&mut piece) {
        let passed = counted.fetch_add(n as u64, Ordering::SeqCst);
        let pause = busy.load(Ordering::SeqCst);
        if passed > pause
            && busy.compare_exchange(pause, u64::MAX, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        {
            std::thread::sleep(BUSY);
        }
        if passed > until.load(Ordering::SeqCst) || to.write_all(&piece[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

const MERGED: [&str; 6] = ["--vit-layers", "1", "--vit-r", "8", "--llm-layers", "1"];

/// The report of an answer, and what merging kept.
fn ask(pair: &str, extra: &[&str]) -> (Value, Value) {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let read = |name: &str| serde_json::from_slice::<Value>(&std::fs::read(file(name)).unwrap()).unwrap();
    let files = [file("report"), file("trace")];
    binary::ask(pair, &[extra, &["--report", &files[0], "--trace", &files[1]]].concat()).exits(0, "");
    let mut trace = read("trace");
    // Servers have another number of threads, and so another order of sums.
    for step in trace["steps"].as_array_mut().unwrap() {
        step.as_object_mut().unwrap().remove("scores");
    }
    (read("report"), trace)
}

#[test]
fn answers_are_those_of_one_process() {
    let (first, second) = (Machine::start(), Machine::start());
    let both = format!("{},{}", first.address, second.address);
    for pair in ["siglip-qwen2-f32", "clip-llama-f16", "qwen2vl-f32"] {
        let merged = [&MERGED[..], &["--llm-keep", "0.5"]].concat();
        for schedule in [&["--merge", "off"][..], &merged] {
            let (alone, kept) = ask(pair, schedule);
            assert!(alone["text"].as_str().is_some_and(|text| !text.is_empty()), "{alone}");
            assert!(kept["prompt"].as_array().is_some_and(|parts| parts.len() > 1), "{kept}");
            for servers in [first.address.as_str(), &both] {
                first.passed();
                second.passed();
                let split = ask(pair, &[schedule, &["--rpc", servers]].concat());
                assert_eq!(split.0["text"], alone["text"], "{pair} {schedule:?} {servers}");
                assert_eq!(split.0["tokens"], alone["tokens"], "{pair} {schedule:?} {servers}");
                assert!(split.1 == kept, "{pair} {schedule:?} {servers}: other tokens are kept");
                let bytes = (first.passed(), second.passed());
                assert!(bytes.0 > 100_000 && (bytes.1 > 100_000) == (servers == both), "{bytes:?}");
            }
        }
    }
}

#[test]
fn merging_sends_less() {
    let machine = Machine::start();
    // Generated tokens cost the same: the picture's rows make the difference.
    let bytes = |schedule: &[&str]| {
        machine.passed();
        ask("siglip-qwen2-f32", &[schedule, &["--rpc", &machine.address]].concat());
        machine.passed()
    };
    let (off, merged) = (bytes(&["--merge", "off"]), bytes(&["--vit-layers", "1", "--vit-r", "12"]));
    assert!(merged < off, "{merged} of {off} bytes");
}

#[test]
fn who_is_not_there_is_told() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    binary::ask("siglip-qwen2-f32", &["--rpc", &gone]).fails(2, &format!("rpc {gone}: "));
    binary::ask("siglip-qwen2-f32", &["--rpc", "no-port"]).fails(2, "--rpc no-port: ");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().port().to_string();
    let args = ["rpc", "--port", &taken].map(str::to_owned);
    binary::illava(&args).fails(2, "cannot listen there");
    let args = ["rpc", "--device", "CUDA9"].map(str::to_owned);
    binary::illava(&args).fails(2, "device CUDA9");
}

/// A machine under load computes for long and reads nothing meanwhile: what is sent to it waits in the system's buffers.
#[test]
fn a_machine_that_is_busy_is_waited_for() {
    let machine = Machine::start();
    machine.busy.store(60_000, Ordering::SeqCst);
    ask("siglip-qwen2-f32", &["--rpc", &machine.address]);
    assert_eq!(machine.busy.load(Ordering::SeqCst), u64::MAX, "it paused");
    assert!(machine.passed() > 1_000_000, "behind the pause came more than buffers take");
}

#[test]
fn a_machine_that_leaves_ends_the_run() {
    let machine = Machine::start();
    // Behind the weights and before the answer.
    ask("siglip-qwen2-f32", &["--rpc", &machine.address]);
    machine.until.store(machine.passed() * 9 / 10, Ordering::SeqCst);
    binary::ask("siglip-qwen2-f32", &["--rpc", &machine.address]).fails(1, "an RPC server has gone");
    // And during the load.
    machine.passed();
    machine.until.store(2_000, Ordering::SeqCst);
    let outcome = binary::ask("siglip-qwen2-f32", &["--rpc", &machine.address]);
    assert!(matches!(outcome.code, 1 | 2), "{}", outcome.stderr);
    // A server outlives its clients.
    machine.until.store(u64::MAX, Ordering::SeqCst);
    ask("siglip-qwen2-f32", &["--rpc", &machine.address]);
}
