//! Counters for Prometheus: llama.cpp's under its own names, ours under `illava_`.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{
    Counter, Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

use super::admission::Admission;
use crate::error::{Error, Kind, Result};
use crate::request::Picture;
use crate::worker::protocol::{Done, Started, Status};

/// Buckets in seconds, from a tenth of a second to five minutes: from a small model on a GPU to a large one
/// on a CPU.
const SECONDS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0, 300.0];

pub struct Metrics {
    registry: Registry,
    started: u64,

    prompt_tokens: IntCounter,
    prompt_seconds: Counter,
    predicted_tokens: IntCounter,
    predicted_seconds: Counter,
    decodes: IntCounter,
    decoded_tokens: IntCounter,
    busy_slots: Gauge,
    most_tokens: IntGauge,
    prompt_rate: Gauge,
    predicted_rate: Gauge,
    processing: Gauge,
    deferred: Gauge,

    answers: IntCounterVec,
    pictures: IntCounter,
    videos: IntCounter,
    image_tokens: IntCounter,
    image_tokens_encoded: IntCounter,
    kept_tokens: IntCounter,
    cached_tokens: IntCounter,
    /// The same under llama.cpp's name.
    cached: IntCounter,
    restarts: Gauge,
    first_update: Histogram,
    first_token: Histogram,
    cache_bytes: Gauge,
    cache_hits: IntCounter,
    cache_misses: IntCounter,
    worker_bytes: Gauge,
    counted: Mutex<Counted>,
}

/// Last counts of the present worker. Workers count from 0, and the totals continue.
#[derive(Default)]
struct Counted {
    worker: u64,
    batches: u64,
    tokens: u64,
    hits: u64,
    misses: u64,
}

impl Metrics {
    /// # Errors
    /// [`Kind::Native`] for two metrics of one name.
    pub fn new() -> Result<Self> {
        let registry = Registry::new();
        let r = &registry;
        let histogram = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        let make = || -> prometheus::Result<Self> {
            Ok(Self {
                started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
                prompt_tokens: own(
                    r,
                    IntCounter::new("llamacpp:prompt_tokens_total", "Number of prompt tokens processed.")?,
                )?,
                prompt_seconds: own(
                    r,
                    Counter::new("llamacpp:prompt_seconds_total", "Prompt process time, pictures included.")?,
                )?,
                predicted_tokens: own(
                    r,
                    IntCounter::new(
                        "llamacpp:tokens_predicted_total",
                        "Number of generation tokens processed.",
                    )?,
                )?,
                predicted_seconds: own(
                    r,
                    Counter::new("llamacpp:tokens_predicted_seconds_total", "Predict process time.")?,
                )?,
                decodes: own(
                    r,
                    IntCounter::new(
                        "llamacpp:n_decode_total",
                        "Batches that carried generated tokens, over all workers.",
                    )?,
                )?,
                decoded_tokens: IntCounter::new("tokens", "Tokens in these batches.")?,
                busy_slots: own(
                    r,
                    Gauge::new(
                        "llamacpp:n_busy_slots_per_decode",
                        "Average number of busy slots per such batch.",
                    )?,
                )?,
                most_tokens: own(
                    r,
                    IntGauge::new("llamacpp:n_tokens_max", "Largest number of tokens of one request.")?,
                )?,
                prompt_rate: own(
                    r,
                    Gauge::new("llamacpp:prompt_tokens_seconds", "Average prompt throughput in tokens/s.")?,
                )?,
                predicted_rate: own(
                    r,
                    Gauge::new(
                        "llamacpp:predicted_tokens_seconds",
                        "Average generation throughput in tokens/s.",
                    )?,
                )?,
                processing: own(
                    r,
                    Gauge::new("llamacpp:requests_processing", "Number of requests processing.")?,
                )?,
                deferred: own(
                    r,
                    Gauge::new("llamacpp:requests_deferred", "Number of requests waiting for a slot.")?,
                )?,
                answers: own(
                    r,
                    IntCounterVec::new(
                        Opts::new("illava_responses_total", "Responses by HTTP status."),
                        &["status"],
                    )?,
                )?,
                pictures: own(r, IntCounter::new("illava_pictures_total", "Pictures decoded.")?)?,
                videos: own(
                    r,
                    IntCounter::new("illava_videos_total", "Videos decoded that are one span each.")?,
                )?,
                image_tokens: own(
                    r,
                    IntCounter::new(
                        "illava_image_tokens_total",
                        "Visual tokens that the encoder would have given without merging.",
                    )?,
                )?,
                image_tokens_encoded: own(
                    r,
                    IntCounter::new(
                        "illava_image_tokens_encoded_total",
                        "Visual tokens that the encoder gave.",
                    )?,
                )?,
                kept_tokens: own(
                    r,
                    IntCounter::new(
                        "illava_prompt_tokens_kept_total",
                        "Prompt tokens in the uppermost layers of the KV cache.",
                    )?,
                )?,
                cached_tokens: own(
                    r,
                    IntCounter::new(
                        "illava_prompt_tokens_cached_total",
                        "Prompt tokens found in a slot's cache.",
                    )?,
                )?,
                cached: own(
                    r,
                    IntCounter::new(
                        "llamacpp:prompt_tokens_cached_total",
                        "Number of prompt tokens reused from the cache.",
                    )?,
                )?,
                restarts: own(r, Gauge::new("illava_worker_restarts", "Workers started after the first.")?)?,
                first_update: own(
                    r,
                    Histogram::with_opts(histogram(
                        "illava_first_news_seconds",
                        "From a request to the start of its prompt: waiting, decoding and encoding pictures.",
                    ))?,
                )?,
                first_token: own(
                    r,
                    Histogram::with_opts(histogram(
                        "illava_first_token_seconds",
                        "From the worker's taking a request to its first token.",
                    ))?,
                )?,
                cache_bytes: own(
                    r,
                    Gauge::new("illava_picture_cache_bytes", "Encoded pictures in memory.")?,
                )?,
                cache_hits: own(
                    r,
                    IntCounter::new(
                        "illava_picture_cache_hits_total",
                        "Pictures and videos found encoded, over all workers.",
                    )?,
                )?,
                cache_misses: own(
                    r,
                    IntCounter::new(
                        "illava_picture_cache_misses_total",
                        "Pictures and videos that had to be encoded, over all workers.",
                    )?,
                )?,
                worker_bytes: own(
                    r,
                    Gauge::new("illava_worker_resident_bytes", "Resident memory of the worker.")?,
                )?,
                counted: Mutex::default(),
                registry: registry.clone(),
            })
        };
        make().map_err(|error| Error::new(Kind::Native, format!("metrics: {error}")))
    }

    /// Sets the server's start, in seconds since 1970.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.started
    }

    /// Counts decoded pictures and videos.
    pub fn shown(&self, pictures: &[Picture]) {
        for picture in pictures {
            let counter = if picture.frames.is_some() { &self.videos } else { &self.pictures };
            counter.inc();
        }
    }

    pub fn first_update(&self, after: Duration) {
        self.first_update.observe(after.as_secs_f64());
    }

    pub fn answered(&self, status: u16) {
        self.answers.with_label_values(&[status.to_string()]).inc();
    }

    /// Counts a complete answer.
    pub fn done(&self, done: &Done, started: Option<&Started>) {
        let (ms, tokens) = (&done.report.ms, &done.report.tokens);
        self.prompt_tokens.inc_by(u64::from(done.computed_tokens));
        self.prompt_seconds.inc_by((ms.encoder + ms.projector + ms.prefill).max(0.0) / 1000.0);
        self.predicted_tokens.inc_by(u64::from(done.generated_tokens));
        self.predicted_seconds.inc_by(ms.generate.max(0.0) / 1000.0);
        let all = i64::from(done.prompt_tokens) + i64::from(done.generated_tokens);
        self.most_tokens.set(self.most_tokens.get().max(all));
        self.image_tokens.inc_by(u64::from(tokens.visual));
        self.image_tokens_encoded.inc_by(u64::from(tokens.visual_after_encoder));
        let kept =
            started.and_then(|started| started.kv_tokens.last().copied()).unwrap_or(done.prompt_tokens);
        self.kept_tokens.inc_by(u64::from(kept));
        self.cached_tokens.inc_by(u64::from(done.cached_tokens));
        self.cached.inc_by(u64::from(done.cached_tokens));
        self.first_token.observe(ms.first_token.max(0.0) / 1000.0);
    }

    /// Adds the counts of worker number `worker` since the last call.
    fn count(&self, worker: u64, status: &Status) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.worker != worker {
            *counted = Counted { worker, ..Counted::default() };
        }
        let Counted { batches, tokens, hits, misses, .. } = &mut *counted;
        for (counter, seen, now) in [
            (&self.decodes, batches, status.decode_batches),
            (&self.decoded_tokens, tokens, status.decode_tokens),
            (&self.cache_hits, hits, status.pictures.hits),
            (&self.cache_misses, misses, status.pictures.misses),
        ] {
            counter.inc_by(now.saturating_sub(*seen));
            *seen = now.max(*seen);
        }
    }

    /// Returns the text for Prometheus. `status` is that of the worker after `restarts` others.
    #[must_use]
    pub fn text(&self, admission: &Admission, restarts: u64, status: Option<&Status>) -> Vec<u8> {
        self.prompt_rate.set(rate(self.prompt_tokens.get(), self.prompt_seconds.get()));
        self.predicted_rate.set(rate(self.predicted_tokens.get(), self.predicted_seconds.get()));
        self.processing.set(number(admission.processing()));
        self.deferred.set(number(admission.waiting()));
        self.restarts.set(number(restarts));
        if let Some(status) = status {
            self.count(restarts, status);
            self.busy_slots.set(rate(self.decoded_tokens.get(), number(self.decodes.get())));
            self.cache_bytes.set(number(status.pictures.bytes));
            self.worker_bytes.set(number(status.rss.unwrap_or(0)));
        }
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!("metrics: {error}");
        }
        text
    }
}

fn own<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> prometheus::Result<C> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// Counts stay far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn number(n: u64) -> f64 {
    n as f64
}

fn rate(n: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { number(n) / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report;
    use crate::worker::protocol::{Finish, PictureCache};

    fn line(metrics: &Metrics, worker: u64, status: Option<&Status>, name: &str) -> String {
        let text = String::from_utf8(metrics.text(&Admission::new(1, 1), worker, status)).unwrap();
        text.lines().find(|line| line.starts_with(name)).unwrap().to_owned()
    }

    #[test]
    fn totals_go_on_when_a_worker_is_replaced() {
        let metrics = Metrics::new().unwrap();
        let status = |batches, tokens, hits| Status {
            id: 1,
            slots: Vec::new(),
            queued: 0,
            pictures: PictureCache { hits, misses: hits * 2, ..PictureCache::default() },
            rss: None,
            decode_batches: batches,
            decode_tokens: tokens,
        };
        for (worker, status, decodes, busy, hits, misses) in [
            (0, Some(status(10, 20, 3)), 10, "2", 3, 6),
            (0, Some(status(10, 20, 3)), 10, "2", 3, 6),
            (0, Some(status(12, 30, 4)), 12, "2.5", 4, 8),
            // Without a worker nothing changes.
            (1, None, 12, "2.5", 4, 8),
            (1, Some(status(3, 15, 1)), 15, "3", 5, 10),
            (1, Some(status(5, 35, 1)), 17, "3.823529411764706", 5, 10),
        ] {
            let line = |name| line(&metrics, worker, status.as_ref(), name);
            assert_eq!(line("llamacpp:n_decode_total"), format!("llamacpp:n_decode_total {decodes}"));
            let expected = format!("llamacpp:n_busy_slots_per_decode {busy}");
            assert_eq!(line("llamacpp:n_busy_slots_per_decode"), expected);
            let expected = format!("illava_picture_cache_hits_total {hits}");
            assert_eq!(line("illava_picture_cache_hits_total"), expected);
            let expected = format!("illava_picture_cache_misses_total {misses}");
            assert_eq!(line("illava_picture_cache_misses_total"), expected);
        }
        assert!(line(&metrics, 1, None, "# TYPE llamacpp:n_decode_total").ends_with("counter"));
    }

    #[test]
    fn names_that_dashboards_know() {
        let metrics = Metrics::new().unwrap();
        let mut report = report::tests::example();
        report.ms.prefill = 1800.0;
        metrics.done(
            &Done {
                id: 1,
                finish: Finish::Stop,
                prompt_tokens: 40,
                cached_tokens: 10,
                computed_tokens: 30,
                generated_tokens: 8,
                cached_pictures: 0,
                queued_ms: 1.0,
                report,
                trace: None,
            },
            None,
        );
        metrics.answered(200);
        let text = String::from_utf8(metrics.text(&Admission::new(1, 1), 3, None)).unwrap();
        for line in [
            "llamacpp:prompt_tokens_total 30",
            "llamacpp:prompt_seconds_total 2",
            "llamacpp:prompt_tokens_seconds 15",
            "llamacpp:tokens_predicted_total 8",
            "llamacpp:n_tokens_max 48",
            "llamacpp:prompt_tokens_cached_total 10",
            "llamacpp:requests_processing 0",
            "llamacpp:requests_deferred 0",
            "illava_image_tokens_total 729",
            "illava_image_tokens_encoded_total 361",
            "illava_worker_restarts 3",
            "illava_responses_total{status=\"200\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
