//! Encoded pictures that are kept: by scope, pixels and the encoder's part of the schedule, the
//! least recently used going first.

use std::sync::Arc;

use lru::LruCache;

use serde::{Deserialize, Serialize};

use super::EncodedImage;
use crate::schedule::Schedule;

/// 32 bytes that stand for what they were made of.
pub type Key = [u8; 32];

/// What an encoded picture depends on; `several`: it is shown as one of several. Two schedules that differ only in the
/// decoder share it.
pub fn encoded_key(content: &Key, several: bool, schedule: &Schedule) -> Key {
    // A budget is spread over both halves, so that each depends on the other.
    let decoder = schedule.keep.map(|keep| (keep, &schedule.decoder));
    let by = (&schedule.strategy, &schedule.budget);
    let schedule = format!("{:?}", (&schedule.encoder, schedule.grid, decoder, by));
    if several {
        digest(&[content, schedule.as_bytes(), b"several"])
    } else {
        digest(&[content, schedule.as_bytes()])
    }
}

/// What a picture leaves in the decoder's cache depends on.
pub fn decoded_key(encoded: &Key, schedule: &Schedule) -> Key {
    let decoder = (&schedule.decoder, schedule.keep, schedule.score);
    let places = (schedule.positions, schedule.counts_sizes);
    digest(&[encoded, format!("{:?}", (decoder, places)).as_bytes()])
}

/// Of what `scope` may see.
pub fn scoped_key(scope: &[u8], encoded: &Key) -> Key {
    digest(&[scope, encoded])
}

fn digest(parts: &[&[u8]]) -> Key {
    let mut hash = blake3::Hasher::new();
    for part in parts {
        // Lengths, so that no two lists of parts read alike.
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    *hash.finalize().as_bytes()
}

/// Encoded pictures in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PictureCacheView {
    pub entries: u64,
    pub bytes: u64,
    pub limit: u64,
    pub hits: u64,
    pub misses: u64,
    /// Of the hits, those read from disk.
    pub disk_hits: u64,
}

/// Bounded by the bytes of what it holds.
pub struct PictureCache {
    entries: LruCache<Key, (Arc<EncodedImage>, u64)>,
    view: PictureCacheView,
}

impl PictureCache {
    pub fn new(limit: u64) -> Self {
        Self { entries: LruCache::unbounded(), view: PictureCacheView { limit, ..Default::default() } }
    }

    pub fn view(&self) -> PictureCacheView {
        PictureCacheView { entries: self.entries.len() as u64, ..self.view }
    }

    pub fn get(&mut self, key: &Key) -> Option<Arc<EncodedImage>> {
        let found = self.entries.get(key).map(|(image, _)| Arc::clone(image));
        if found.is_some() {
            self.view.hits += 1;
        }
        found
    }

    pub fn has(&self, key: &Key) -> bool {
        self.entries.contains(key)
    }

    /// Counts a picture that had to be encoded, or was read from disk.
    pub fn missed(&mut self, on_disk: bool) {
        if on_disk {
            self.view.hits += 1;
            self.view.disk_hits += 1;
        } else {
            self.view.misses += 1;
        }
    }

    /// Keeps `image`, dropping others until it fits; one that alone is too large is not kept.
    pub fn put(&mut self, key: Key, image: Arc<EncodedImage>) {
        let bytes = image.bytes();
        if bytes > self.view.limit {
            return;
        }
        if let Some((_, old)) = self.entries.put(key, (image, bytes)) {
            self.view.bytes -= old;
        }
        self.view.bytes += bytes;
        while self.view.bytes > self.view.limit {
            let Some((_, (_, old))) = self.entries.pop_lru() else { break };
            self.view.bytes -= old;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::picture;
    use super::*;
    use crate::schedule::{Amount, Grid, HalfSchedule, Score, Strategy};

    #[test]
    fn the_least_recently_used_goes_first() {
        let image = Arc::new(picture(4, 2));
        let mut cache = PictureCache::new(image.bytes() * 2);
        let key = |n: u8| [n; 32];
        cache.put(key(1), Arc::clone(&image));
        cache.put(key(2), Arc::clone(&image));
        assert!(cache.get(&key(1)).is_some());
        cache.put(key(3), Arc::clone(&image));
        assert!(cache.get(&key(2)).is_none());
        assert!(cache.get(&key(1)).is_some() && cache.get(&key(3)).is_some());
        cache.put(key(3), Arc::clone(&image));
        cache.put(key(4), Arc::new(picture(4000, 2)));
        let view = cache.view();
        assert_eq!((view.entries, view.bytes, view.hits), (2, image.bytes() * 2, 3));
        let mut none = PictureCache::new(0);
        none.put(key(1), image);
        assert_eq!(none.view().entries, 0);
    }

    #[test]
    fn keys_hold_what_matters() {
        let half = |r| HalfSchedule { steps: vec![(2, Amount::Count(r))] };
        let base = Schedule { encoder: half(1), decoder: half(2), ..Schedule::default() };
        let encoded = |schedule: &Schedule| encoded_key(&[1; 32], false, schedule);
        let decoded = |schedule: &Schedule| decoded_key(&encoded(schedule), schedule);
        let other_decoder = Schedule { decoder: half(3), ..base.clone() };
        assert_eq!(encoded(&base), encoded(&other_decoder));
        assert_ne!(decoded(&base), decoded(&other_decoder));
        for other in [
            Schedule { encoder: half(3), ..base.clone() },
            Schedule { grid: Grid::Reference, ..base.clone() },
            Schedule { keep: Some(0.5), ..base.clone() },
            Schedule { strategy: Strategy::Random(1), ..base.clone() },
            Schedule { strategy: Strategy::Random(2), ..base.clone() },
            Schedule { budget: Some(Box::default()), ..base.clone() },
        ] {
            assert_ne!(encoded(&base), encoded(&other));
        }
        let budget = |decoder| Schedule { keep: Some(0.5), decoder, ..base.clone() };
        assert_ne!(encoded(&budget(half(2))), encoded(&budget(half(3))));
        assert_ne!(decoded(&base), decoded(&Schedule { score: Score::LastToken, ..base.clone() }));
        assert_ne!(encoded(&base), encoded_key(&[2; 32], false, &base));
        assert_ne!(encoded(&base), encoded_key(&[1; 32], true, &base));
        // A name changes nothing.
        assert_eq!(encoded(&base), encoded(&Schedule { name: "x".into(), ..base.clone() }));
        assert_ne!(scoped_key(b"a", &[1; 32]), scoped_key(b"b", &[1; 32]));
    }
}
