//! `illava serve` with the demo pair, on a port of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Site {
    pub address: String,
    process: Child,
}

impl Site {
    pub async fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_illava"))
            .args(["serve", "-m", "models/demo/text.gguf", "--mmproj", "models/demo/mmproj.gguf"])
            .args(["--port", "0", "--temp", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("the server says where it listens").unwrap();
            if let Some(address) = line.split("listening on ").nth(1) {
                break address.trim().to_owned();
            }
        };
        // A full pipe would stop the program that writes into it.
        std::thread::spawn(move || lines.for_each(drop));
        let site = Self { address, process };
        site.ready().await;
        site
    }

    async fn ready(&self) {
        let start = Instant::now();
        let host = self.address.trim_start_matches("http://").to_owned();
        loop {
            let health = std::net::TcpStream::connect(&host).ok().and_then(|mut stream| {
                use std::io::{Read, Write};
                write!(stream, "GET /health HTTP/1.0\r\nHost: {host}\r\n\r\n").ok()?;
                let mut text = String::new();
                stream.read_to_string(&mut text).ok()?;
                Some(text)
            });
            if health.is_some_and(|text| text.contains("\"ok\"")) {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(600), "the server does not become ready");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
