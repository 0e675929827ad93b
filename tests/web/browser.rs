//! A headless Chromium under WebDriver.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::elements::Element;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// Time in which the browser starts.
const START: Duration = Duration::from_secs(120);
/// Time without any change of the page after which nothing more is waited for, and time for one wait in all.
const STILL: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(240);

pub struct Browser {
    client: Client,
    name: String,
    // Dropped last: the profile's folder outlives what writes into it.
    driver: Driver,
    _profile: TempDir,
}

struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn installed() -> bool {
    Command::new("chromedriver").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Browser {
    /// `None`, with a line that says so, where no browser is installed.
    pub async fn start(name: &str) -> Option<Self> {
        if !installed() {
            assert!(std::env::var_os("ILLAVA_NEEDS_BROWSER").is_none(), "chromedriver is not installed");
            eprintln!(
                "skipped: chromedriver is not installed (Debian: chromium-driver), so no page was opened"
            );
            return None;
        }
        let port = free_port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let driver = Driver(driver);
        let profile = TempDir::new().unwrap();
        let data = format!("--user-data-dir={}", profile.path().display());
        let mut capabilities = Map::new();
        capabilities.insert(
            "goog:chromeOptions".into(),
            json!({ "args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--window-size=1200,900", data,
            ] }),
        );
        capabilities.insert("goog:loggingPrefs".into(), json!({ "browser": "ALL" }));
        let start = Instant::now();
        let client = loop {
            let mut builder = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
            match builder
                .capabilities(capabilities.clone())
                .connect(&format!("http://127.0.0.1:{port}"))
                .await
            {
                Ok(client) => break client,
                Err(error) => assert!(start.elapsed() < START, "no browser: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        Some(Self { client, name: name.to_owned(), driver, _profile: profile })
    }

    pub async fn close(self) {
        self.client.close().await.unwrap();
        drop(self.driver);
    }

    pub async fn goto(&self, address: &str) {
        self.client.goto(address).await.unwrap();
    }

    pub async fn reload(&self) {
        self.client.refresh().await.unwrap();
    }

    pub async fn resize(&self, width: u32, height: u32) {
        self.client.set_window_size(width, height).await.unwrap();
    }

    pub async fn title(&self) -> String {
        self.client.title().await.unwrap()
    }

    pub async fn find(&self, locator: Locator<'_>) -> Element {
        self.client.find(locator).await.unwrap()
    }

    pub async fn run(&self, script: &str, args: Vec<Value>) -> Value {
        self.client.execute(script, args).await.unwrap()
    }

    /// Until the expression is true. Fails if the page stands still, and names what was waited for.
    #[track_caller]
    pub fn wait(&self, expression: &str) -> impl Future<Output = ()> {
        let script = format!("return [Boolean({expression}), document.body.innerText]");
        let (expression, at) = (expression.to_owned(), std::panic::Location::caller());
        async move {
            let start = Instant::now();
            let (mut page, mut changed) = (Value::Null, start);
            loop {
                let mut found = self.run(&script, vec![]).await;
                if found[0] == true {
                    return;
                }
                if found[1] != page {
                    (page, changed) = (found[1].take(), Instant::now());
                }
                if changed.elapsed() > STILL || start.elapsed() > LONGEST {
                    self.screenshot("waiting").await;
                    let (still, all) = (changed.elapsed().as_secs(), start.elapsed().as_secs());
                    panic!(
                        "{at}: waited {all} s for {expression}; the page, the same for {still} s, says {page}"
                    );
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    pub async fn text(&self, css: &str) -> String {
        let script = "return document.querySelector(arguments[0])?.textContent ?? ''";
        self.run(script, vec![json!(css)]).await.as_str().unwrap_or_default().to_owned()
    }

    pub async fn count(&self, css: &str) -> u64 {
        let script = "return document.querySelectorAll(arguments[0]).length";
        self.run(script, vec![json!(css)]).await.as_u64().unwrap()
    }

    pub async fn click(&self, css: &str) {
        self.find(Locator::Css(css)).await.click().await.unwrap();
    }

    pub async fn fill(&self, css: &str, text: &str) {
        self.find(Locator::Css(css)).await.send_keys(text).await.unwrap();
    }

    pub async fn press(&self, css: &str, key: &str) {
        self.find(Locator::Css(css)).await.send_keys(key).await.unwrap();
    }

    pub async fn choose_file(&self, css: &str, path: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        self.find(Locator::Css(css)).await.send_keys(path.to_str().unwrap()).await.unwrap();
    }

    pub async fn set_range(&self, css: &str, value: u32) {
        let script = "const slider = document.querySelector(arguments[0]);
            slider.value = arguments[1];
            slider.dispatchEvent(new Event('input', { bubbles: true }));";
        self.run(script, vec![json!(css), json!(value)]).await;
    }

    /// Chooses one of a list.
    pub async fn select(&self, css: &str, value: &str) {
        let script = "const list = document.querySelector(arguments[0]);
            list.value = arguments[1];
            list.dispatchEvent(new Event('change', { bubbles: true }));
            return list.value === arguments[1]";
        assert_eq!(self.run(script, vec![json!(css), json!(value)]).await, json!(true), "{css} has {value}");
    }

    /// Presses the button `label` of message number `index`.
    pub async fn act(&self, index: u32, label: &str) {
        let script = "const item = document.querySelectorAll('#messages > li')[arguments[0]];
            const found = [...item.querySelectorAll('button')].find((button) => button.textContent === arguments[1]);
            found?.click();
            return Boolean(found)";
        assert_eq!(
            self.run(script, vec![json!(index), json!(label)]).await,
            json!(true),
            "{index} has {label}"
        );
    }

    /// Returns the errors of the page itself.
    pub async fn complaints(&self) -> Vec<String> {
        let script = "return performance.getEntriesByType('resource').filter((entry) => entry.responseStatus >= 400).map((entry) => entry.name)";
        serde_json::from_value(self.run(script, vec![]).await).unwrap()
    }

    /// Below target/, for a person to look at.
    pub async fn screenshot(&self, what: &str) {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("web");
        std::fs::create_dir_all(&folder).unwrap();
        let png = self.client.screenshot().await.unwrap();
        std::fs::write(folder.join(format!("{}-{what}.png", self.name)), png).unwrap();
    }
}
