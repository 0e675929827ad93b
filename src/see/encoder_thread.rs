//! Encoding beside decoding: one thread that takes pictures one after another.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Receiver;

use super::cache::Key;
use super::store::Store;
use super::{EncodedImage, Encoder, VisualInput};
use crate::error::Result;
use crate::schedule::Schedule;

/// A picture or a video to be encoded.
#[derive(Debug)]
pub struct EncodeJob {
    pub ticket: u64,
    pub source: Arc<VisualInput>,
    /// Shown among other pictures, to a model that then shows it otherwise.
    pub several: bool,
    pub schedule: Schedule,
    /// Key on disk, if it may be kept.
    pub key: Option<Key>,
    /// Becomes true when no request waits for it any more.
    pub cancelled: Arc<AtomicBool>,
}

/// Result of an [`EncodeJob`].
#[derive(Debug)]
pub struct Encoded {
    pub ticket: u64,
    pub image: Result<EncodedImage>,
    pub from_disk: bool,
    /// Bytes of the encoder's compute buffers as they stand.
    pub compute_bytes: u64,
}

/// Encoder with the folder of its results.
pub struct EncoderThread<E> {
    encoder: E,
    store: Option<Store>,
}

impl<E: Encoder> EncoderThread<E> {
    pub fn new(encoder: E, store: Option<Store>) -> Self {
        Self { encoder, store }
    }

    /// Encodes until all senders are gone.
    pub fn run(mut self, jobs: &Receiver<EncodeJob>, mut done: impl FnMut(Encoded)) {
        for job in jobs {
            done(self.encode(&job));
        }
    }

    pub(super) fn encode(&mut self, job: &EncodeJob) -> Encoded {
        let kept = self.store.as_mut().zip(job.key).and_then(|(store, key)| store.read(&key));
        let from_disk = kept.is_some();
        let image = match kept {
            Some(image) => Ok(image),
            None => self.encoder.encode_until(&job.source.visual(job.several), &job.schedule, &job.cancelled),
        };
        if let (Ok(image), Some(store), Some(key), false) = (&image, &mut self.store, &job.key, from_disk) {
            store.write(key, image);
        }
        Encoded { ticket: job.ticket, image, from_disk, compute_bytes: self.encoder.encoder_bytes() }
    }
}
