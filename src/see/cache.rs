//! Encoded pictures that are kept: by scope, pixels and the encoder's part of the schedule, the
//! least recently used going first.

use std::sync::Arc;

use lru::LruCache;

use serde::{Deserialize, Serialize};

use super::EncodedImage;
use crate::schedule::{Amount, HalfSchedule, Schedule, Strategy};

/// 32 bytes that stand for what they were made of.
pub type Key = [u8; 32];

/// Hash of what an encoded picture depends on. `several`: it is shown as one of several. Schedules that differ only in
/// the decoder share it.
pub fn encoded_key(content: &Key, several: bool, schedule: &Schedule) -> Key {
    let mut hash = Digest::new(b"encoded");
    hash.bytes(content);
    hash.number(several.into());
    hash.encoder(schedule);
    hash.finish()
}

/// Hash of what a picture leaves in the decoder's cache.
pub fn decoded_key(encoded: &Key, schedule: &Schedule) -> Key {
    let mut hash = Digest::new(b"decoded");
    hash.bytes(encoded);
    hash.decoder(schedule);
    hash.finish()
}

/// Hash of what `scope` alone may see.
pub fn scoped_key(scope: &[u8], encoded: &Key) -> Key {
    let mut hash = Digest::new(b"scoped");
    hash.bytes(scope);
    hash.bytes(encoded);
    hash.finish()
}

/// A hash over values that are written one way only: numbers in eight bytes, bytes behind their length.
struct Digest(blake3::Hasher);

impl Digest {
    fn new(kind: &[u8]) -> Self {
        let mut digest = Self(blake3::Hasher::new());
        digest.bytes(kind);
        digest
    }

    fn finish(&self) -> Key {
        *self.0.finalize().as_bytes()
    }

    fn number(&mut self, n: u64) {
        self.0.update(&n.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn share(&mut self, share: Option<f64>) {
        self.number(share.is_some().into());
        self.number(share.unwrap_or(0.0).to_bits());
    }

    fn half(&mut self, half: &HalfSchedule) {
        let HalfSchedule { steps } = half;
        self.number(steps.len() as u64);
        for &(layer, amount) in steps {
            let (kind, a, b) = match amount {
                Amount::Count(r) => (0, r.into(), 0),
                Amount::Scaled { r, of } => (1, r.into(), of.into()),
                Amount::Share(share) => (2, share.to_bits(), 0),
                Amount::Keep(keep) => (3, keep.to_bits(), 0),
            };
            [layer.into(), kind, a, b].into_iter().for_each(|n| self.number(n));
        }
    }

    fn strategy(&mut self, strategy: Strategy) {
        self.bytes(strategy.name().as_bytes());
        self.number(strategy.seed().into());
    }

    /// Every part of `schedule` that the encoder looks at. Fields stand here by name, so that a new one is thought of.
    fn encoder(&mut self, schedule: &Schedule) {
        let Schedule {
            encoder,
            decoder,
            keep,
            preset_share,
            mass: _,
            auto,
            grid,
            strategy,
            budget,
            vit_score,
            vit_sizes,
            question,
            name: _,
            usual: _,
            score: _,
            remark: _,
            positions: _,
            counts_sizes: _,
        } = schedule;
        self.half(encoder);
        self.bytes(grid.name().as_bytes());
        self.strategy(*strategy);
        self.bytes(vit_score.name().as_bytes());
        self.number((*vit_sizes).into());
        self.share(*keep);
        self.share(*preset_share);
        self.share(auto.map(|bounds| bounds.least));
        self.share(auto.map(|bounds| bounds.most));
        // A share to keep is spread over both halves, so that each depends on the other.
        if keep.or(*preset_share).is_some() {
            self.half(decoder);
        }
        self.number(question.is_some().into());
        self.bytes(question.as_deref().unwrap_or_default().as_bytes());
        self.number(budget.is_some().into());
        if let Some(budget) = budget {
            self.encoder(budget);
            self.decoder(budget);
        }
    }

    /// The same for the decoder, beside what the encoder looks at.
    fn decoder(&mut self, schedule: &Schedule) {
        let &Schedule {
            ref decoder,
            keep,
            preset_share,
            mass,
            auto,
            score,
            strategy,
            positions,
            counts_sizes,
            ..
        } = schedule;
        self.half(decoder);
        self.share(keep);
        self.share(preset_share);
        self.share(auto.map(|bounds| bounds.least));
        self.share(auto.map(|bounds| bounds.most));
        self.share(mass);
        self.bytes(score.name().as_bytes());
        self.bytes(positions.name().as_bytes());
        self.number(counts_sizes.into());
        self.strategy(strategy);
    }
}

/// Encoded pictures in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PictureCacheView {
    pub entries: u64,
    pub bytes: u64,
    pub limit: u64,
    pub hits: u64,
    pub misses: u64,
    /// Hits that were read from disk.
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
    use super::*;
    use crate::schedule::{Bounds, Grid, Score, TowerScore};
    use crate::see::picture;

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
            Schedule { auto: Some(Bounds::default()), ..base.clone() },
            Schedule { auto: Some(Bounds { least: 0.1, most: 1.0 }), ..base.clone() },
            Schedule { auto: Some(Bounds { least: 0.05, most: 0.9 }), ..base.clone() },
            Schedule { strategy: Strategy::Random(1), ..base.clone() },
            Schedule { strategy: Strategy::Random(2), ..base.clone() },
            Schedule { vit_score: TowerScore::Class, ..base.clone() },
            Schedule { vit_sizes: true, ..base.clone() },
            Schedule { budget: Some(Box::default()), ..base.clone() },
            Schedule { question: Some(String::new()), ..base.clone() },
            Schedule { question: Some("a red circle".into()), ..base.clone() },
        ] {
            assert_ne!(encoded(&base), encoded(&other));
        }
        // Amounts whose numbers are alike are still others.
        let one = |amount| Schedule { encoder: HalfSchedule { steps: vec![(1, amount)] }, ..base.clone() };
        assert_ne!(encoded(&one(Amount::Share(0.5))), encoded(&one(Amount::Keep(0.5))));
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
