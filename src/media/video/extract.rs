//! The wanted frames of a video file, by ffmpeg, through a pipe: nothing is written to the disk.

use std::ffi::OsString;
use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Instant;

use image::codecs::pnm::PnmDecoder;
use image::{ColorType, ImageDecoder};

use super::child::{self, Running};
use super::probe::{self, Probe};
use super::{Frame, Programs};
use crate::error::{Error, Kind, Result};
use crate::media::Pixels;
use crate::media::policy::VideoLimits;

/// Frames apart from which on it is cheaper to seek to each than to decode what lies between. A key frame comes
/// every 250 frames or sooner with the usual encoders.
const SEEK_GAP: usize = 300;

/// A file, what it is called, and what reads it within which limits.
pub(super) struct Call<'a> {
    pub(super) path: &'a Path,
    pub(super) name: &'a str,
    pub(super) programs: &'a Programs,
    pub(super) limits: &'a VideoLimits,
}

/// Reads the frames at the positions `wanted` (ascending), with a remark if fewer could be read or they were
/// made smaller.
///
/// # Errors
/// [`Kind::Media`] if no frame can be decoded, or the time is over.
pub(super) fn extract(
    call: &Call<'_>,
    probe: &Probe,
    wanted: &[usize],
) -> Result<(Vec<Frame>, Option<String>)> {
    let (name, limits) = (call.name, call.limits);
    let most = limits.max_frames as usize;
    if wanted.len() > most {
        return Err(Error::new(
            Kind::Media,
            format!("{name}: {} frames are asked for, the limit is {most}; ask for fewer", wanted.len()),
        ));
    }
    let scale = shrink(probe, wanted.len(), limits.max_rgb_bytes);
    let pass = Pass { call, scale, deadline: Instant::now() + limits.time };
    let gap = match wanted {
        [first, .., last] => (last - first) / (wanted.len() - 1),
        _ => wanted.first().copied().unwrap_or(0),
    };
    let frames =
        if gap > SEEK_GAP { pass.by_seeking(probe, wanted)? } else { pass.in_one_pass(probe, wanted)? };
    let mut remarks = Vec::new();
    if frames.len() < wanted.len() {
        remarks.push(format!("only {} of {} frames could be read", frames.len(), wanted.len()));
    }
    if scale.is_some()
        && let Some(frame) = frames.first()
    {
        let (width, height) = (frame.pixels.width, frame.pixels.height);
        remarks.push(format!(
            "{} frames of {}x{} were made {width}x{height}",
            wanted.len(),
            probe.width,
            probe.height
        ));
    }
    Ok((frames, (!remarks.is_empty()).then(|| format!("{name}: {}", remarks.join("; ")))))
}

/// Returns the factor that makes `n` frames fit into `bytes`, if they do not fit.
#[allow(clippy::cast_precision_loss)]
fn shrink(probe: &Probe, n: usize, bytes: u64) -> Option<f64> {
    let all = probe.width as f64 * probe.height as f64 * 3.0 * n as f64;
    (all > bytes as f64).then(|| (bytes as f64 / all).sqrt())
}

/// One reading of a file.
struct Pass<'a> {
    call: &'a Call<'a>,
    scale: Option<f64>,
    deadline: Instant,
}

impl Pass<'_> {
    fn in_one_pass(&self, probe: &Probe, wanted: &[usize]) -> Result<Vec<Frame>> {
        let mut select = String::from("select='");
        for (i, n) in wanted.iter().enumerate() {
            let _ = write!(select, "{}eq(n,{n})", if i == 0 { "" } else { "+" });
        }
        select.push_str("',");
        let running = self.start(None, &select, wanted.len())?;
        let (pictures, complaint) = self.pictures(running, wanted.len())?;
        self.timed(probe, wanted.iter().copied().zip(pictures).collect(), &complaint)
    }

    fn by_seeking(&self, probe: &Probe, wanted: &[usize]) -> Result<Vec<Frame>> {
        let mut found = Vec::new();
        let mut last = String::new();
        for &n in wanted {
            // Half way from the frame before, so that rounding cannot lose the one that is meant.
            let before = n.checked_sub(1).map(|before| (probe.seconds[before] + probe.seconds[n]) / 2.0);
            let running = self.start(before.map(|seconds| seconds - probe.start), "", 1)?;
            let (mut pictures, complaint) = self.pictures(running, 1)?;
            last = complaint;
            found.extend(pictures.pop().map(|pixels| (n, pixels)));
        }
        self.timed(probe, found, &last)
    }

    fn start(&self, from: Option<f64>, select: &str, frames: usize) -> Result<Running> {
        let mut args: Vec<OsString> = vec!["-nostdin".into()];
        if let Some(seconds) = from {
            args.extend(["-ss".into(), format!("{:.6}", seconds.max(0.0)).into()]);
        }
        args.extend(probe::bounds(self.call.path, self.call.limits));
        let scale = self.scale.map_or_else(String::new, |factor| {
            format!("scale=w='max(1,trunc(iw*{factor:.6}))':h='max(1,trunc(ih*{factor:.6}))':flags=bicubic,")
        });
        // Numbered anew at the output's own rate, so that no version of ffmpeg repeats or drops one to keep a rate.
        let filter = format!("{select}{scale}settb=1/25,setpts=N");
        args.extend(["-map", "0:V:0", "-an", "-sn", "-dn", "-vf", &filter, "-r", "25"].map(Into::into));
        args.extend(["-frames:v", &frames.to_string()].map(Into::into));
        // Each frame comes with its size, which is that after rotation.
        args.extend(["-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe", "pipe:1"].map(Into::into));
        child::start(&self.call.programs.ffmpeg, &args, self.deadline)
    }

    /// Returns the program's output, up to `most` pictures, and its complaints.
    fn pictures(&self, running: Running, most: usize) -> Result<(Vec<Pixels>, String)> {
        let failed = |text: String| Error::new(Kind::Media, format!("{}: {text}", self.call.name));
        let mut pipe = BufReader::new(running);
        let mut pictures = Vec::new();
        while pictures.len() < most {
            match pipe.fill_buf() {
                Ok([]) => break,
                Ok(_) => pictures.push(picture(&mut pipe, self.call.limits).map_err(failed)?),
                Err(error) => return Err(failed(probe::stopped(&error, self.call.limits))),
            }
        }
        let (_, complaint) = pipe.into_inner().finish();
        Ok((pictures, complaint))
    }

    fn timed(&self, probe: &Probe, found: Vec<(usize, Pixels)>, complaint: &str) -> Result<Vec<Frame>> {
        if found.is_empty() {
            let line = format!("{}: {}", self.call.name, probe::refused(complaint));
            return Err(Error::new(Kind::Media, line));
        }
        let seconds = |n: usize| probe.seconds[n] - probe.seconds[0];
        Ok(found.into_iter().map(|(n, pixels)| Frame { pixels, seconds: seconds(n) }).collect())
    }
}

/// One PPM picture from the pipe.
fn picture(pipe: &mut BufReader<Running>, limits: &VideoLimits) -> std::result::Result<Pixels, String> {
    let damaged = |error: image::ImageError| match error {
        image::ImageError::IoError(error) => probe::stopped(&error, limits),
        other => format!("ffmpeg gave a frame that cannot be read ({other})"),
    };
    let decoder = PnmDecoder::new(pipe).map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if decoder.color_type() != ColorType::Rgb8 {
        return Err(format!("ffmpeg gave a frame of {:?}, not RGB", decoder.color_type()));
    }
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > limits.frame.max_pixels {
        return Err(format!("a frame of {width}x{height}; the limit is {} pixels", limits.frame.max_pixels));
    }
    let bytes = usize::try_from(decoder.total_bytes()).map_err(|_| "a frame beyond memory".to_owned())?;
    let mut rgb = vec![0; bytes];
    decoder.read_image(&mut rgb).map_err(damaged)?;
    Ok(Pixels { width, height, rgb, remark: None, moment: None })
}
