//! A small dialect to talk to a server.
// Each test program uses its own part of it.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The longest wait for what is bound to happen. It ends a test that is stuck, never one on a busy machine.
pub const STUCK: Duration = Duration::from_secs(600);

/// A client of the server at an address.
#[derive(Debug, Clone, Copy)]
pub struct Caller(pub SocketAddr);

impl Caller {
    pub fn wait_ready(&self) {
        self.wait("the server to be ready", || self.get("/health").status == 200);
    }

    /// Waits for something that is bound to happen.
    pub fn wait(&self, what: &str, mut happened: impl FnMut() -> bool) {
        let start = Instant::now();
        while !happened() {
            assert!(start.elapsed() < STUCK, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &[], body.to_string().as_bytes())
    }

    pub fn chat(&self, body: &Value) -> Reply {
        self.post("/v1/chat/completions", body)
    }

    /// Asks one question.
    pub fn ask(&self, text: &str) -> Reply {
        self.chat(&question(text))
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += "host: localhost\r\n";
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || method == "POST" {
            head += &format!("content-length: {}\r\n", body.len());
        }
        self.raw(&[head.as_bytes(), b"\r\n", body].concat())
    }

    /// Sends bytes as they are and reads what comes back until the server closes.
    pub fn raw(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(bytes);
        Reply::read(stream)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.0).unwrap();
        stream.set_read_timeout(Some(STUCK)).unwrap();
        stream
    }

    /// Opens a stream; the client goes when the value does.
    pub fn stream(&self, body: &Value) -> Stream {
        let mut body = body.clone();
        body["stream"] = true.into();
        let body = body.to_string();
        let mut stream = self.connect();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        Stream(BufReader::new(stream))
    }
}

pub struct Stream(BufReader<TcpStream>);

impl Stream {
    /// The next `data:` line; `None` at the end. Comments keep the connection alive, so the wait has its own bound.
    pub fn next(&mut self) -> Option<String> {
        let mut line = String::new();
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < STUCK, "a stream of comments brings no data");
            line.clear();
            if self.0.read_line(&mut line).unwrap_or(0) == 0 {
                return None;
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(data.trim_end().to_owned());
            }
        }
    }

    /// All objects up to `[DONE]` or an error.
    pub fn rest(&mut self) -> Vec<Value> {
        let mut objects: Vec<Value> = Vec::new();
        while let Some(data) = self.next() {
            if data == "[DONE]" {
                break;
            }
            objects.push(serde_json::from_str(&data).unwrap());
            if objects.last().is_some_and(|object| object.get("error").is_some()) {
                break;
            }
        }
        objects
    }
}

#[derive(Debug)]
pub struct Reply {
    /// 0 where the server closed without an answer.
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    fn read(mut stream: impl Read) -> Self {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The text of the first choice of a whole answer.
    #[track_caller]
    pub fn text(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    }

    /// An error in OpenAI's form, with this status and this in its message.
    #[track_caller]
    pub fn fails(&self, status: u16, part: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let error = &self.json()["error"];
        assert_eq!(error["code"], status, "{self:?}");
        assert!(error["type"].as_str().is_some_and(|kind| kind.ends_with("_error")), "{self:?}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(part) && !message.contains('\n'), "`{part}` is not in: {message}");
    }
}

pub fn question(text: &str) -> Value {
    json!({ "messages": [{ "role": "user", "content": text }] })
}

/// A question about pictures.
pub fn about(urls: &[&str], text: &str) -> Value {
    let images = urls.iter().map(|url| json!({ "type": "image_url", "image_url": { "url": url } }));
    let content: Vec<Value> = images.chain([json!({ "type": "text", "text": text })]).collect();
    json!({ "messages": [{ "role": "user", "content": "first" }, { "role": "assistant", "content": "yes" },
            { "role": "user", "content": content }] })
}

/// A PNG of one colour as a data URI.
pub fn png(width: u32, height: u32) -> String {
    png_of(&image::RgbImage::new(width, height))
}

/// A PNG as a data URI, its bytes escaped.
pub fn png_of(picture: &image::RgbImage) -> String {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    let escaped: String = bytes.into_inner().iter().map(|byte| format!("%{byte:02x}")).collect();
    format!("data:image/png,{escaped}")
}
