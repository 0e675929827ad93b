use super::super::super::Job;
use super::fake::{Bench, job, picture};
use crate::error::Kind;

fn asked(id: u64, prompt: &str, scope: &[u8]) -> Job {
    Job { scope: Some(scope.to_vec()), pictures: vec![picture(1, 8)], ..job(id, prompt, 3) }
}

#[test]
fn a_restored_slot_is_the_saved_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one");
    let mut bench = Bench::new(2);
    bench.slots.submit(asked(1, "aa\u{1}b", b"me"));
    bench.run();
    let i = (0..2).find(|&i| !bench.slots.decoder.held(i).is_empty()).unwrap();
    let held = bench.slots.decoder.held(i).to_vec();
    let saved = bench.slots.save(i, b"me", &path).unwrap();
    assert_eq!(saved.tokens, 3 + 8 + 1 + 3);
    assert_eq!(bench.slots.save(i, b"you", &path).unwrap_err().kind(), Kind::Usage);
    assert_eq!(bench.slots.save(2, b"me", &path).unwrap_err().kind(), Kind::Usage);

    // Another process knows only the file.
    let mut other = Bench::new(2);
    assert!(other.slots.restore(1, b"you", &path).unwrap_err().message().contains("another API key"));
    assert_eq!(other.slots.restore(1, b"me", &path).unwrap(), saved);
    assert_eq!(other.slots.decoder.held(1), held);
    other.slots.submit(asked(1, "aa\u{1}babcd", b"me"));
    other.run();
    let done = other.done(1);
    assert_eq!((done.cached_tokens, done.cached_pictures, other.encoded), (saved.tokens, 1, 0));
    // A request of another scope cannot use it.
    other.slots.submit(asked(2, "aa\u{1}babcd", b"you"));
    other.run();
    assert_eq!((other.done(2).cached_tokens, other.encoded), (0, 1));
}

#[test]
fn a_busy_slot_is_left_alone_and_a_failed_restore_leaves_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one");
    let mut bench = Bench::new(1);
    assert_eq!(bench.slots.save(0, b"me", &path).unwrap().tokens, 0, "an empty slot");
    bench.slots.submit(asked(1, "aa\u{1}b", b"me"));
    bench.turns(1);
    assert_eq!(bench.slots.save(0, b"me", &path).unwrap_err().kind(), Kind::Interrupted);
    assert_eq!(bench.slots.restore(0, b"me", &path).unwrap_err().kind(), Kind::Interrupted);
    bench.run();
    bench.slots.save(0, b"me", &path).unwrap();
    bench.slots.decoder.broken = true;
    assert_eq!(bench.slots.restore(0, b"me", &path).unwrap_err().kind(), Kind::Context);
    assert!(bench.slots.decoder.held(0).is_empty());
    assert_eq!(bench.slots.view()[0].kv_tokens, [0, 0]);
}
