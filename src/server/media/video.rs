//! Videos of a request: the file behind a reference, and the frames that the model takes from it.
//!
//! ffmpeg reads from a file. Every video is first written to a file that only this user can open. The file
//! goes when the reading ends, however it ends.

use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::time::Instant;

use tempfile::NamedTempFile;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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
/// Videos of the largest size for which the disk has room while their requests have no place.
pub(super) const KEPT: usize = 16;
/// Bytes of one permit.
const UNIT: u64 = 1 << 10;

pub(super) struct Videos {
    limits: VideoLimits,
    most: Most,
    programs: Programs,
    /// Whether the programs were there when the server started.
    pub(super) readable: bool,
    readers: Arc<Semaphore>,
    room: Arc<Semaphore>,
}

/// Video that was fetched, with its share of the room.
pub struct Kept {
    pub(super) file: NamedTempFile,
    room: OwnedSemaphorePermit,
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
            room: Arc::new(Semaphore::new(units(bounds.video_bytes) as usize * KEPT)),
        }
    }

    /// Takes a share of the room for a video that was fetched.
    ///
    /// # Errors
    /// 429 if there is not so much left.
    pub(super) fn with_room(&self, file: NamedTempFile, name: &str) -> ApiResult<Kept> {
        let bytes = file.as_file().metadata().map_err(|error| unwritable(name, &error))?.len();
        let room = Arc::clone(&self.room).try_acquire_many_owned(units(bytes)).map_err(|_| {
            let line = "the videos that were fetched take all the room there is for them; try again later";
            ApiError::new(Type::RateLimit, format!("{name}: {line}")).retry_after(2)
        })?;
        Ok(Kept { file, room })
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

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

fn unwritable(name: &str, error: &std::io::Error) -> ApiError {
    ApiError::new(Type::Server, format!("{name}: the server cannot write to its temporary folder ({error})"))
}

impl Media {
    /// Reads the frames of one video: one span, or a picture each. It may have been fetched already.
    pub(super) async fn video(
        self: &Arc<Self>,
        url: String,
        fetched: Option<Kept>,
        name: String,
        plan: VideoPlan,
    ) -> ApiResult<Vec<Picture>> {
        let start = Instant::now();
        let (file, room) = match fetched {
            Some(Kept { file, room }) => (file, Some(room)),
            None => (self.keep(url, name.clone()).await?, None),
        };
        let permit = Arc::clone(&self.videos.readers).acquire_owned().await;
        let media = Arc::clone(self);
        blocking(move || {
            let (_permit, _room) = (permit, room);
            media.videos.read(&file, &name, &plan, start)
        })
        .await
    }

    /// Brings the bytes behind `url` into a file of its own.
    pub(super) async fn keep(self: &Arc<Self>, url: String, name: String) -> ApiResult<NamedTempFile> {
        let gate = if is_remote(&url) { &self.fetchers } else { &self.decoders };
        let permit = Arc::clone(gate).acquire_owned().await;
        let media = Arc::clone(self);
        blocking(move || {
            let _permit = permit;
            media.write(&url, &name)
        })
        .await
    }

    fn write(&self, url: &str, name: &str) -> ApiResult<NamedTempFile> {
        let failed = |error: std::io::Error| unwritable(name, &error);
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
