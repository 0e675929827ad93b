//! Requests that workers may have died of.
//!
//! A death makes suspects of all requests that were under way. A suspect that comes again runs with no other
//! suspect beside it. If the worker dies again, this request was the cause, and it alone is refused from then
//! on. A suspect that gets its answer is cleared.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Death;
use crate::request::Request;

/// Time that a death is remembered.
const MEMORY: Duration = Duration::from_secs(3600);
/// Requests remembered at most. The oldest are forgotten first.
const MOST: usize = 4096;

/// Hash of a request without its id and its time: two requests with the same hash are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(super) fn of(request: &Request) -> Self {
        let mut hash = blake3::Hasher::new();
        let keys: Vec<&[u8; 32]> = request.media.iter().map(|picture| &picture.key).collect();
        let asked = (&request.messages, keys, &request.merge, &request.limits, &request.sampling);
        // Writing into a hash cannot fail, and MessagePack can write all of these types.
        let _ = rmp_serde::encode::write(&mut hash, &asked);
        let _ = rmp_serde::encode::write(&mut hash, &(&request.grammar, request.logprobs));
        let _ = rmp_serde::encode::write(
            &mut hash,
            &(&request.raw, &request.tools, &request.variables, request.thinking),
        );
        Self(*hash.finalize().as_bytes())
    }
}

#[derive(Debug)]
pub(super) enum Verdict {
    Clean,
    Suspect,
    Deadly(Death),
}

#[derive(Debug, Default)]
pub(super) struct Suspects(HashMap<Fingerprint, Record>);

#[derive(Debug)]
struct Record {
    deaths: u32,
    last: Death,
    at: Instant,
}

impl Suspects {
    pub(super) fn verdict(&mut self, fingerprint: &Fingerprint, now: Instant) -> Verdict {
        self.0.retain(|_, record| now.duration_since(record.at) < MEMORY);
        match self.0.get(fingerprint) {
            None => Verdict::Clean,
            Some(record) if record.deaths < 2 => Verdict::Suspect,
            Some(record) => Verdict::Deadly(record.last.clone()),
        }
    }

    /// Notes that a worker died while these were under way. True marks those that ran as suspects.
    pub(super) fn blame(&mut self, running: &[(Fingerprint, bool)], death: &Death, now: Instant) {
        let known = running.iter().any(|(_, suspect)| *suspect);
        for (fingerprint, _) in running.iter().filter(|(_, suspect)| *suspect || !known) {
            let record =
                self.0.entry(*fingerprint).or_insert(Record { deaths: 0, last: death.clone(), at: now });
            *record = Record { deaths: record.deaths + 1, last: death.clone(), at: now };
        }
        while self.0.len() > MOST {
            let oldest = self.0.iter().min_by_key(|(_, record)| record.at).map(|(key, _)| *key);
            let Some(oldest) = oldest else { break };
            self.0.remove(&oldest);
        }
    }

    pub(super) fn clear(&mut self, fingerprint: &Fingerprint) {
        self.0.remove(fingerprint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death() -> Death {
        Death { cause: "signal 9 (SIGKILL)".into(), stderr: Vec::new() }
    }

    #[test]
    fn only_the_one_that_was_there_twice_is_refused() {
        let (a, b, c) = (Fingerprint([1; 32]), Fingerprint([2; 32]), Fingerprint([3; 32]));
        let mut suspects = Suspects::default();
        let now = Instant::now();
        suspects.blame(&[(a, false), (b, false)], &death(), now);
        assert!(matches!(suspects.verdict(&a, now), Verdict::Suspect));
        assert!(matches!(suspects.verdict(&b, now), Verdict::Suspect));
        // b got its answer; a ran again, beside a new request.
        suspects.clear(&b);
        suspects.blame(&[(a, true), (c, false)], &death(), now);
        assert!(matches!(suspects.verdict(&a, now), Verdict::Deadly(_)));
        assert!(matches!(suspects.verdict(&b, now), Verdict::Clean));
        assert!(matches!(suspects.verdict(&c, now), Verdict::Clean));
    }

    #[test]
    fn a_death_is_not_held_against_a_request_for_ever() {
        let a = Fingerprint([1; 32]);
        let mut suspects = Suspects::default();
        let now = Instant::now();
        suspects.blame(&[(a, false)], &death(), now);
        suspects.blame(&[(a, true)], &death(), now);
        assert!(matches!(suspects.verdict(&a, now), Verdict::Deadly(_)));
        assert!(matches!(suspects.verdict(&a, now + MEMORY), Verdict::Clean));
    }

    #[test]
    fn memory_is_bounded() {
        let mut suspects = Suspects::default();
        let now = Instant::now();
        for i in 0..MOST as u64 + 5 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&i.to_le_bytes());
            suspects.blame(&[(Fingerprint(key), false)], &death(), now + Duration::from_micros(i));
        }
        assert_eq!(suspects.0.len(), MOST);
    }
}
