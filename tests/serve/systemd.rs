//! Messages to systemd, on a socket that stands in for its own.

use std::os::unix::net::UnixDatagram;

use super::http::{STUCK, question};
use super::served::Served;
use super::{long, signal};

struct Manager(UnixDatagram);

impl Manager {
    /// Everything said up to the message that has this line.
    #[track_caller]
    fn hears(&self, wanted: &str) -> Vec<String> {
        let mut heard = Vec::new();
        let mut message = [0; 4096];
        loop {
            let n =
                self.0.recv(&mut message).unwrap_or_else(|_| panic!("{wanted} never came after {heard:?}"));
            let text = String::from_utf8(message[..n].to_vec()).unwrap();
            heard.extend(text.lines().map(str::to_owned));
            if heard.iter().any(|line| line == wanted) {
                return heard;
            }
        }
    }
}

#[test]
fn ready_after_loading_alive_and_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    manager.0.set_read_timeout(Some(STUCK)).unwrap();
    let mut served = Served::launch(
        "siglip-qwen2-f32",
        &[],
        &[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "400000")],
    );
    let heard = manager.hears("READY=1");
    assert_eq!(served.caller.get("/health").status, 200, "ready means that it answers");
    // How much of the loading is heard depends on how long it takes.
    let before = |line: &&String| line.starts_with("STATUS=loading the model") || *line == "WATCHDOG=1";
    assert_eq!(heard.iter().filter(|line| !before(line)).collect::<Vec<_>>(), ["READY=1"]);
    manager.hears("STATUS=ready");
    manager.hears("WATCHDOG=1");

    // A worker that is replaced is told, and does not make the service ready twice.
    signal("-KILL", &served.worker());
    served.caller.wait("an answer", || served.caller.chat(&super::short(question("again"))).status == 200);
    let heard = manager.hears("STATUS=ready");
    assert!(heard.iter().any(|line| line.starts_with("STATUS=restarting the worker")), "{heard:?}");
    assert!(!heard.iter().any(|line| line == "READY=1"), "{heard:?}");

    // The answer under way keeps the process until it is whole: stopping is said before that.
    let mut body = long("staying");
    body["max_tokens"] = 200.into();
    let mut staying = served.caller.stream(&body);
    staying.next().unwrap();
    signal("-TERM", &served.process.id().to_string());
    manager.hears("STOPPING=1");
    let objects = staying.rest();
    assert_eq!(objects.last().unwrap()["choices"][0]["finish_reason"], "length", "{objects:?}");
    assert_eq!(served.process.wait().unwrap().code(), Some(0));
}
