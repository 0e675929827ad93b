//! Flags of videos and of the frames taken from them.

use std::ffi::OsString;

use clap::Args;

#[derive(Debug, Clone, Args)]
pub struct VideoFlags {
    /// Video to show: a file (read by ffmpeg), a folder of frames, or a comma list of frames; repeat it for several
    #[arg(long, value_name = "FILE", help_heading = "Prompt")]
    pub video: Vec<OsString>,
    #[command(flatten)]
    pub frames: FrameFlags,
}

#[derive(Debug, Clone, Args)]
pub struct FrameFlags {
    /// Frames taken from each second of a video; without it, what the model's authors take
    #[arg(long, value_name = "FPS", help_heading = "Prompt")]
    pub video_fps: Option<f64>,
    /// Frames taken from a video, at even distances; with --video-fps, at the most
    #[arg(long, value_name = "N", help_heading = "Prompt")]
    pub video_frames: Option<u32>,
}
