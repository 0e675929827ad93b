//! Counters for Prometheus: llama.cpp's under its own names, ours under `illava_`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{
    Counter, Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

use super::admission::Admission;
use crate::error::{Error, Kind, Result};
use crate::worker::protocol::{Done, Started, Status};

/// From a tenth of a second to five minutes: a small model on a GPU, a large one on a processor.
const SECONDS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0, 300.0];

pub struct Metrics {
    registry: Registry,
    started: u64,

    prompt_tokens: IntCounter,
    prompt_seconds: Counter,
    predicted_tokens: IntCounter,
    predicted_seconds: Counter,
    decodes: Gauge,
    busy_slots: Gauge,
    most_tokens: IntGauge,
    prompt_rate: Gauge,
    predicted_rate: Gauge,
    processing: Gauge,
    deferred: Gauge,

    answers: IntCounterVec,
    pictures: IntCounter,
    image_tokens: IntCounter,
    image_tokens_encoded: IntCounter,
    kept_tokens: IntCounter,
    cached_tokens: IntCounter,
    restarts: Gauge,
    first_news: Histogram,
    first_token: Histogram,
    cache_bytes: Gauge,
    cache_hits: Gauge,
    cache_misses: Gauge,
    worker_bytes: Gauge,
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
                    Gauge::new(
                        "llamacpp:n_decode_total",
                        "Batches that carried generated tokens, of the worker there is.",
                    )?,
                )?,
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
                restarts: own(r, Gauge::new("illava_worker_restarts", "Workers started after the first.")?)?,
                first_news: own(
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
                    Gauge::new(
                        "illava_picture_cache_hits",
                        "Pictures found encoded, by the worker there is.",
                    )?,
                )?,
                cache_misses: own(
                    r,
                    Gauge::new(
                        "illava_picture_cache_misses",
                        "Pictures that had to be encoded, by the worker there is.",
                    )?,
                )?,
                worker_bytes: own(
                    r,
                    Gauge::new("illava_worker_resident_bytes", "Resident memory of the worker.")?,
                )?,
                registry: registry.clone(),
            })
        };
        make().map_err(|error| Error::new(Kind::Native, format!("metrics: {error}")))
    }

    /// When the server started, seconds since 1970.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.started
    }

    pub fn pictures(&self, count: usize) {
        self.pictures.inc_by(count as u64);
    }

    pub fn first_news(&self, after: Duration) {
        self.first_news.observe(after.as_secs_f64());
    }

    pub fn answered(&self, status: u16) {
        self.answers.with_label_values(&[status.to_string()]).inc();
    }

    /// An answer is complete.
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
        self.first_token.observe(ms.first_token.max(0.0) / 1000.0);
    }

    /// The text Prometheus reads.
    #[must_use]
    pub fn text(&self, admission: &Admission, restarts: u64, status: Option<&Status>) -> Vec<u8> {
        self.prompt_rate.set(rate(self.prompt_tokens.get(), self.prompt_seconds.get()));
        self.predicted_rate.set(rate(self.predicted_tokens.get(), self.predicted_seconds.get()));
        self.processing.set(number(admission.processing()));
        self.deferred.set(number(admission.waiting()));
        self.restarts.set(number(restarts));
        if let Some(status) = status {
            self.decodes.set(number(status.decode_batches));
            self.busy_slots.set(rate(status.decode_tokens, number(status.decode_batches)));
            self.cache_bytes.set(number(status.pictures.bytes));
            self.cache_hits.set(number(status.pictures.hits));
            self.cache_misses.set(number(status.pictures.misses));
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
    use crate::worker::protocol::Finish;

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
