//! Log lines on stderr, as many as -v asks for.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// Writes only our own warnings by default, and llama.cpp's lines one level later. The error line of a failed
/// call carries llama.cpp's errors anyway.
pub(super) fn start(verbose: u8) {
    let (ours, library) = match verbose {
        0 => (LevelFilter::WARN, LevelFilter::OFF),
        1 => (LevelFilter::INFO, LevelFilter::WARN),
        2 => (LevelFilter::DEBUG, LevelFilter::INFO),
        _ => (LevelFilter::TRACE, LevelFilter::DEBUG),
    };
    let filter = Targets::new().with_target("illava", ours).with_target("llama_cpp", library);
    let layer = fmt::layer().with_writer(std::io::stderr).without_time().with_filter(filter);
    // A second start in one process (tests) keeps the first.
    let _ = tracing_subscriber::registry().with(layer).try_init();
}
