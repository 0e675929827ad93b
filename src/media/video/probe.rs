//! Facts of a video file, by ffprobe: size, rate, and the time of every frame.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Instant;

use serde::Deserialize;

use super::Programs;
use super::child::{self, Running};
use crate::error::{Error, Kind, Result};
use crate::media::policy::VideoLimits;

/// Containers that hold the video themselves. Playlists (HLS, DASH, concat, SDP) would have ffmpeg open other
/// files or addresses at the word of this one.
const CONTAINERS: &str = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,gif,apng,\
    h264,hevc,av1,obu,ivf,m4v,mxf,yuv4mpegpipe,rm,dv,nut,wtv";

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Probe {
    /// As stored, before rotation.
    pub(super) width: u32,
    pub(super) height: u32,
    /// On average.
    pub(super) fps: f64,
    /// Begin of the file's clock; seeking counts from it.
    pub(super) start: f64,
    /// Times of the frames on the file's clock, ascending.
    pub(super) seconds: Vec<f64>,
}

#[derive(Deserialize)]
struct ProbeOutput {
    #[serde(default)]
    streams: Vec<Stream>,
    #[serde(default)]
    format: Format,
}

#[derive(Deserialize)]
struct Stream {
    width: Option<u32>,
    height: Option<u32>,
    avg_frame_rate: Option<String>,
}

#[derive(Default, Deserialize)]
struct Format {
    start_time: Option<String>,
}

/// Arguments that bound every call of either program, up to the file's name.
pub(super) fn bounds(path: &Path, limits: &VideoLimits) -> Vec<OsString> {
    // A plane of the widest pixel format.
    let block = limits.frame.max_pixels.saturating_mul(8);
    let mut args: Vec<OsString> = ["-v", "error", "-max_alloc", &block.to_string()].map(Into::into).into();
    args.extend(["-protocol_whitelist", "file", "-format_whitelist", CONTAINERS].map(Into::into));
    args.extend(["-max_pixels", &limits.frame.max_pixels.to_string(), "-i"].map(Into::into));
    // With its protocol, so that no name is taken for an address or a flag.
    let mut file = OsString::from("file:");
    file.push(path);
    args.push(file);
    args
}

/// # Errors
/// [`Kind::Media`] saying what is wrong with the file, which limit it passes, or how ffmpeg is installed.
pub(super) fn probe(path: &Path, name: &str, limits: &VideoLimits, programs: &Programs) -> Result<Probe> {
    let deadline = Instant::now() + limits.time;
    let ask = |rest: &[&str]| -> Result<Running> {
        let mut args = bounds(path, limits);
        // The first stream of video that is no cover picture.
        args.extend(["-select_streams", "V:0"].map(Into::into));
        args.extend(rest.iter().map(Into::into));
        child::start(&programs.ffprobe, &args, deadline)
    };
    let media = |text: String| Error::new(Kind::Media, format!("{name}: {text}"));
    let mut running =
        ask(&["-show_entries", "stream=width,height,avg_frame_rate:format=start_time", "-of", "json"])?;
    let mut json = Vec::new();
    let read = running.by_ref().take(1 << 20).read_to_end(&mut json);
    let (content, complaint) = running.finish();
    read.map_err(|error| media(stopped(&error, limits)))?;
    if !content {
        return Err(media(refused(&complaint)));
    }
    let answer: ProbeOutput = serde_json::from_slice(&json)
        .map_err(|error| media(format!("ffprobe gave an answer that cannot be read ({error})")))?;
    let Some(Stream { width: Some(width), height: Some(height), avg_frame_rate }) =
        answer.streams.into_iter().next()
    else {
        let line = if complaint.is_empty() {
            "no video in it, or not a whole file".to_owned()
        } else {
            refused(&complaint)
        };
        return Err(media(line));
    };
    if width == 0 || height == 0 {
        return Err(media(format!("{width}x{height} pixels: nothing to see")));
    }
    let pixels = u64::from(width) * u64::from(height);
    if width.max(height) > limits.frame.max_side || pixels > limits.frame.max_pixels {
        return Err(media(format!(
            "{width}x{height} is over the limit of {} pixels a side and {} in all; make it smaller",
            limits.frame.max_side, limits.frame.max_pixels
        )));
    }
    let packets = ask(&["-show_entries", "packet=pts_time,dts_time,flags", "-of", "csv=p=0"])?;
    let named = avg_frame_rate.as_deref().and_then(rate);
    let seconds = times(packets, named.unwrap_or(25.0), limits).map_err(media)?;
    let fps = named.or_else(|| average(&seconds)).unwrap_or(25.0);
    let start = answer.format.start_time.and_then(|text| number(&text)).unwrap_or(0.0);
    Ok(Probe { width, height, fps, start, seconds })
}

/// The times of the frames, from one line a packet: `pts,dts,flags`.
fn times(packets: Running, fps: f64, limits: &VideoLimits) -> std::result::Result<Vec<f64>, String> {
    let mut seconds = Vec::new();
    let mut lines = BufReader::new(packets);
    let mut line = Vec::new();
    loop {
        line.clear();
        let n = lines
            .by_ref()
            .take(1 << 16)
            .read_until(b'\n', &mut line)
            .map_err(|error| stopped(&error, limits))?;
        if n == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        let mut fields = text.trim().split(',');
        let (pts, dts, flags) = (fields.next(), fields.next(), fields.next().unwrap_or_default());
        // Those that an edit list leaves out are decoded, but never shown.
        if pts.is_none_or(str::is_empty) || flags.contains('D') {
            continue;
        }
        if seconds.len() == limits.max_file_frames {
            return Err(format!(
                "more than {} frames; cut out the part that matters",
                limits.max_file_frames
            ));
        }
        // Raw streams have no clock.
        #[allow(clippy::cast_precision_loss)]
        let counted = seconds.len() as f64 / fps;
        seconds.push(pts.and_then(number).or_else(|| dts.and_then(number)).unwrap_or(counted));
    }
    let (_, complaint) = lines.into_inner().finish();
    if seconds.is_empty() {
        return Err(if complaint.is_empty() { "no frames in it".to_owned() } else { refused(&complaint) });
    }
    // Packets come in the order of decoding.
    seconds.sort_by(f64::total_cmp);
    Ok(seconds)
}

/// The line for a program that was not content.
pub(super) fn refused(complaint: &str) -> String {
    if complaint.contains("not on whitelist") || complaint.contains("whitelist") {
        "a playlist, or a kind of file that is not read here; give MP4, MOV, MKV, WebM, AVI, MPEG, FLV, Ogg or GIF".into()
    } else if complaint.is_empty() {
        "ffmpeg cannot read it; is it a whole video?".into()
    } else {
        format!("ffmpeg cannot read it ({complaint}); is it a whole video?")
    }
}

/// The line for a program whose output ended badly.
pub(super) fn stopped(error: &std::io::Error, limits: &VideoLimits) -> String {
    match error.kind() {
        std::io::ErrorKind::TimedOut => {
            format!("not read within {} s; cut out the part that matters", limits.time.as_secs())
        }
        _ => format!("ffmpeg's output cannot be read ({error})"),
    }
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|value: &f64| value.is_finite())
}

/// `30000/1001`.
fn rate(text: &str) -> Option<f64> {
    let (above, below) = text.split_once('/')?;
    let value = number(above)? / number(below)?;
    (value.is_finite() && value > 0.0).then_some(value)
}

fn average(seconds: &[f64]) -> Option<f64> {
    let span = seconds.last()? - seconds.first()?;
    #[allow(clippy::cast_precision_loss)]
    let value = (seconds.len() - 1) as f64 / span;
    (value.is_finite() && value > 0.0).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        for (text, expected) in [
            ("25/1", Some(25.0)),
            ("30000/1001", Some(30000.0 / 1001.0)),
            ("0/0", None),
            ("x", None),
            ("-1/1", None),
        ] {
            assert_eq!(rate(text), expected, "{text}");
        }
        assert_eq!(average(&[0.0, 0.5, 1.0]), Some(2.0));
        assert_eq!(average(&[1.0]), None);
    }
}
