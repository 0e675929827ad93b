//! Videos of a request: the file behind a reference, and of it the frames that the model takes.
//!
//! ffmpeg reads from a file, so what was sent, fetched or found below the media folder is written to one that only this
//! user can open. It goes when the reading ends, however it ends.

use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::time::Instant;

use tempfile::NamedTempFile;
use tokio::sync::Semaphore;

use super::sink::Most;
use super::{Media, blocking, is_remote};
use crate::media::policy::{self, VideoLimits};
use crate::media::video::{Programs, Source};
use crate::report::milliseconds;
use crate::request::{Picture, VideoPlan};
use crate::server::error::{ApiError, ApiResult, Type};
use crate::server::settings::{Bounds, MediaAccess};

/// Videos read at once: ffmpeg alone uses all processors.
const AT_ONCE: usize = 2;

pub(super) struct Videos {
    limits: VideoLimits,
    most: Most,
    programs: Programs,
    /// Whether the programs were there when the server started.
    pub(super) readable: bool,
    readers: Arc<Semaphore>,
}

impl Videos {
    pub(super) fn new(access: &MediaAccess, bounds: &Bounds, frame: policy::Limits) -> Self {
        Self {
            limits: VideoLimits {
                frame,
                max_frames: bounds.video_frames,
                // All pixels of a request pass to the worker in one message.
                max_rgb_bytes: bounds.video_pixels.min(bounds.request_pixels) * 3,
                time: bounds.video_time,
                ..VideoLimits::default()
            },
            most: Most { bytes: bounds.video_bytes, flag: "--max-video-bytes" },
            readable: access.programs.are_here(),
            programs: access.programs.clone(),
            readers: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    fn read(
        &self,
        file: &NamedTempFile,
        name: &str,
        plan: &VideoPlan,
        since: Instant,
    ) -> ApiResult<Vec<Picture>> {
        let frames = plan.frames.at_most(self.limits.max_frames);
        let (limits, programs) = (self.limits, self.programs.clone());
        let video = Source::open_file(file.path(), name.to_owned(), limits, programs)
            .and_then(|source| source.read(&frames))
            .map_err(|error| if self.programs.are_here() { error.into() } else { not_here(name) })?;
        Ok(plan.pictures(video, milliseconds(since))?)
    }
}

fn not_here(name: &str) -> ApiError {
    ApiError::new(
        Type::NotSupported,
        format!(
            "{name}: ffmpeg is not installed on this server, and reads videos: install it there (apt install ffmpeg, dnf install ffmpeg-free, brew install ffmpeg), or send the frames as image_url parts"
        ),
    )
}

impl Media {
    /// The frames of one video: one span, or a picture each.
    pub(super) async fn video(
        self: &Arc<Self>,
        url: String,
        name: String,
        plan: VideoPlan,
    ) -> ApiResult<Vec<Picture>> {
        let start = Instant::now();
        let gate = if is_remote(&url) { &self.fetchers } else { &self.decoders };
        let permit = Arc::clone(gate).acquire_owned().await;
        let media = Arc::clone(self);
        let (file, name) = blocking(move || {
            let _permit = permit;
            media.kept(&url, &name).map(|file| (file, name))
        })
        .await?;
        let permit = Arc::clone(&self.videos.readers).acquire_owned().await;
        let media = Arc::clone(self);
        blocking(move || {
            let _permit = permit;
            media.videos.read(&file, &name, &plan, start)
        })
        .await
    }

    /// What is behind `url`, in a file of its own.
    fn kept(&self, url: &str, name: &str) -> ApiResult<NamedTempFile> {
        let failed = |error: std::io::Error| {
            ApiError::new(
                Type::Server,
                format!("{name}: the server cannot write to its temporary folder ({error})"),
            )
        };
        // Whose it was can be told where a killed server left one behind.
        let prefix = format!("illava-video-{}-", std::process::id());
        let file = tempfile::Builder::new().prefix(&prefix).tempfile().map_err(failed)?;
        let mut out = BufWriter::new(file.as_file());
        self.copy(url, name, self.videos.most, &mut out)?;
        out.flush().map_err(failed)?;
        drop(out);
        Ok(file)
    }
}
