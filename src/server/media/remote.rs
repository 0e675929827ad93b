//! Fetches a picture or a video for a client, without giving the client a way into this network.
//!
//! One parser reads the URL. Its host must be on the list. The name is looked up once, every address found
//! must be a public one, and the connection goes to exactly these addresses. A redirect is a new URL and
//! passes the same checks.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use url::Url;

use super::super::settings::Bounds;
use super::addresses::is_public;
use super::sink::Sink;

const MOST_REDIRECTS: usize = 3;

#[derive(Debug)]
pub(super) struct Remote {
    hosts: Vec<String>,
    time: Duration,
    may_reach: fn(IpAddr) -> bool,
}

/// Resolver that answers every name with addresses that were checked.
#[derive(Debug)]
struct Checked(Vec<SocketAddr>);

impl Resolver for Checked {
    fn resolve(
        &self,
        _: &Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut found = self.empty();
        for address in self.0.iter().take(8) {
            found.push(*address);
        }
        Ok(found)
    }
}

impl Remote {
    pub(super) fn new(hosts: &[String], bounds: &Bounds) -> Self {
        Self {
            hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            time: bounds.fetch_time,
            may_reach: is_public,
        }
    }

    /// Fetches from these addresses, too.
    #[cfg(test)]
    pub(super) fn reaching(self, may_reach: fn(IpAddr) -> bool) -> Self {
        Self { may_reach, ..self }
    }

    /// Fetches the body behind `url`, redirects followed.
    pub(super) fn fetch(&self, mut url: Url, sink: &mut Sink<'_>) -> Result<(), String> {
        let start = Instant::now();
        for _ in 0..=MOST_REDIRECTS {
            let addresses = self.check(&url)?;
            let left = self.time.checked_sub(start.elapsed()).ok_or_else(|| self.too_slow())?;
            match self.get(&url, addresses, left, sink)? {
                Reply::Body => return Ok(()),
                Reply::Elsewhere(target) => {
                    url =
                        url.join(&target).map_err(|_| "redirected to something that is no URL".to_owned())?;
                }
            }
        }
        Err(format!("redirected more than {MOST_REDIRECTS} times; give the last address"))
    }

    fn check(&self, url: &Url) -> Result<Vec<SocketAddr>, String> {
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        if self.hosts.is_empty() {
            return Err("fetching is off; the server allows it with --allow-remote-media HOSTS".into());
        }
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("redirected to {}:, which is not fetched", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a URL with a user's name is not fetched; leave the name out".into());
        }
        if !self.hosts.iter().any(|allowed| fits(allowed, &host)) {
            return Err(format!("the host {host} is not among those of --allow-remote-media"));
        }
        let port = url.port_or_known_default().unwrap_or(80);
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let found: Vec<SocketAddr> =
            (name, port).to_socket_addrs().map_err(|_| format!("the host {host} has no address"))?.collect();
        if found.is_empty() || !found.iter().all(|address| (self.may_reach)(address.ip())) {
            // The message omits the address: it would reveal names inside a network.
            return Err(format!("the host {host} has an address that is not on the public internet"));
        }
        Ok(found)
    }

    fn get(
        &self,
        url: &Url,
        addresses: Vec<SocketAddr>,
        left: Duration,
        sink: &mut Sink<'_>,
    ) -> Result<Reply, String> {
        let config = ureq::Agent::config_builder()
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_global(Some(left))
            .max_response_header_size(16 << 10)
            .user_agent("illava")
            .build();
        let agent = ureq::Agent::with_parts(config, DefaultConnector::default(), Checked(addresses));
        let failed = |error: &ureq::Error| match error {
            ureq::Error::Timeout(_) => self.too_slow(),
            _ => "could not be fetched".to_owned(),
        };
        let mut response = agent.get(url.as_str()).call().map_err(|error| failed(&error))?;
        let status = response.status();
        if status.is_redirection() {
            let target = response.headers().get("location").and_then(|value| value.to_str().ok());
            return target
                .map(|target| Reply::Elsewhere(target.to_owned()))
                .ok_or_else(|| "redirected to nowhere".to_owned());
        }
        if !status.is_success() {
            return Err(format!("its server answered {}", status.as_u16()));
        }
        let body = response.body_mut().with_config().limit(u64::MAX).reader();
        sink.take(body, |error| failed(&ureq::Error::from(error)))?;
        Ok(Reply::Body)
    }

    fn too_slow(&self) -> String {
        format!("could not be fetched in {} s", self.time.as_secs_f32())
    }
}

enum Reply {
    Body,
    Elsewhere(String),
}

/// Matches hosts: `example.com` is that host, `*.example.com` those below it, `*` any.
fn fits(allowed: &str, host: &str) -> bool {
    match allowed.strip_prefix('*') {
        Some("") => true,
        Some(end) => end.starts_with('.') && host.len() > end.len() && host.ends_with(end),
        None => allowed == host,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::super::sink::Most;
    use super::*;

    fn remote(hosts: &[&str], may_reach: fn(IpAddr) -> bool) -> Remote {
        let bounds = Bounds { fetch_time: Duration::from_millis(700), ..Bounds::default() };
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        Remote { may_reach, ..Remote::new(&hosts, &bounds) }
    }

    /// Answers one connection after another with the given replies.
    fn server(replies: Vec<String>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for reply in replies {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0; 2048];
                let _ = stream.read(&mut head);
                let _ = stream.write_all(reply.as_bytes());
                if reply.is_empty() {
                    std::thread::sleep(Duration::from_secs(2));
                }
            }
        });
        port
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    }

    fn moved(to: &str) -> String {
        format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    }

    fn fetch(remote: &Remote, url: &str) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let most = Most { bytes: 1000, flag: "--max-image-bytes" };
        remote.fetch(Url::parse(url).unwrap(), &mut Sink::new(&mut bytes, most)).map(|()| bytes)
    }

    #[test]
    fn hosts() {
        for (allowed, host, fit) in [
            ("example.com", "example.com", true),
            ("example.com", "www.example.com", false),
            ("*.example.com", "www.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "evilexample.com", false),
            ("*", "anything", true),
            ("*com", "example.com", false),
        ] {
            assert_eq!(fits(allowed, host), fit, "{allowed} {host}");
        }
    }

    #[test]
    fn a_private_address_is_refused_however_it_is_written() {
        let remote = remote(&["*"], is_public);
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://0x7f.1/",
            "http://2130706433/",
            "http://017700000001/",
            "http://localhost/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://169.254.169.254/latest/meta-data/",
            "http://0/",
            "http://10.0.0.1:8080/x.png",
        ] {
            let error = fetch(&remote, url).unwrap_err();
            assert!(error.contains("public internet"), "{url}: {error}");
        }
        assert!(fetch(&remote, "http://me:secret@127.0.0.1/").unwrap_err().contains("user's name"));
    }

    #[test]
    fn fetched_within_limits() {
        let here = remote(&["127.0.0.1", "localhost"], |_| true);
        let port = server(vec![ok("picture"), moved("/b"), ok("second"), ok(&"x".repeat(2000))]);
        let url = format!("http://127.0.0.1:{port}/a");
        assert_eq!(fetch(&here, &url).unwrap(), b"picture");
        assert_eq!(fetch(&here, &url).unwrap(), b"second");
        assert!(fetch(&here, &url).unwrap_err().contains("--max-image-bytes"));
    }

    #[test]
    fn redirects_are_checked_and_counted() {
        let here = remote(&["127.0.0.1"], |_| true);
        for (to, part) in [
            ("http://localhost/x", "--allow-remote-media"),
            ("file:///etc/passwd", "not fetched"),
            ("ftp://127.0.0.1/", "not fetched"),
        ] {
            let port = server(vec![moved(to)]);
            let error = fetch(&here, &format!("http://127.0.0.1:{port}/")).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        let port = server(vec![moved("/"); 5]);
        assert!(fetch(&here, &format!("http://127.0.0.1:{port}/")).unwrap_err().contains("more than 3"));
    }

    #[test]
    fn failures_are_one_line() {
        let here = remote(&["127.0.0.1"], |_| true);
        let gone = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned();
        let port = server(vec![gone, "nonsense\r\n\r\n".into(), String::new()]);
        for part in ["404", "could not be fetched", "could not be fetched in"] {
            let error = fetch(&here, &format!("http://127.0.0.1:{port}/")).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
