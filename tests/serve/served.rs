//! `illava serve` as a process of its own, with its worker.
// Each test program uses its own part of it.
#![allow(dead_code)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command};

use super::binary;
use super::http::Caller;

pub struct Served {
    pub process: Child,
    pub caller: Caller,
}

impl Served {
    /// Ready to answer.
    pub fn start(name: &str, extra: &[&str]) -> Self {
        let served = Self::launch(name, extra, &[]);
        served.caller.wait_ready();
        served
    }

    /// Listening, ready or not.
    pub fn launch(name: &str, extra: &[&str], environment: &[(&str, &str)]) -> Self {
        let own = ["-np", "8", "-c", "8192", "-t", "2"].iter().chain(extra).map(|a| (*a).to_owned());
        Self::run(binary::pair(name).into_iter().chain(own), environment)
    }

    /// `serve` with these arguments, listening.
    pub fn run(arguments: impl IntoIterator<Item = String>, environment: &[(&str, &str)]) -> Self {
        let mut args: Vec<String> = ["serve", "--port", "0"].map(str::to_owned).into();
        args.extend(arguments);
        let mut process = binary::spawn_with(&args, environment);
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening on http://")?.parse().ok())
            .expect("the server says where it listens");
        // Nobody may block on a full pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("server: {line}")));
        Self { process, caller: Caller(address) }
    }

    pub fn worker(&self) -> String {
        let found = Command::new("pgrep").args(["-P", &self.process.id().to_string()]).output().unwrap();
        String::from_utf8(found.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
