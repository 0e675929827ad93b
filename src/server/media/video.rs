//! Videos of a request: the file behind a reference, and the frames that the model takes from it.
//!
//! ffmpeg reads from a file. Every video is first written to a file that only this user can open. The file
//! goes when the reading ends, however it ends.

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
                // One message to the worker carries all pixels of a request.
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
    /// Reads the frames of one video: one span, or a picture each.
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

    /// Writes the bytes behind `url` to a file of its own.
    fn kept(&self, url: &str, name: &str) -> ApiResult<NamedTempFile> {
        let failed = |error: std::io::Error| {
            ApiError::new(
                Type::Server,
                format!("{name}: the server cannot write to its temporary folder ({error})"),
            )
        };
        // The name tells which server left a file behind after a kill.
        let prefix = format!("illava-video-{}-", std::process::id());
        let file = tempfile::Builder::new().prefix(&prefix).tempfile().map_err(failed)?;
        let mut out = BufWriter::new(file.as_file());
        self.copy(url, name, self.videos.most, &mut out)?;
        out.flush().map_err(failed)?;
        drop(out);
        Ok(file)
    }
}
