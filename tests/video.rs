//! Videos to frames, with ffmpeg's own test sources. Without ffmpeg most of these cannot run, and say so.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use illava::error::{Error, Kind, Result};
use illava::media::policy::VideoLimits;
use illava::media::video::{Programs, Sampling, Source, Video};

/// Whether the programs are here; says on stderr if not, and fails in ./test, which installs them.
fn ffmpeg_is_here() -> bool {
    let here = ["ffmpeg", "ffprobe"].iter().all(|program| {
        Command::new(program)
            .arg("-version")
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    });
    if !here {
        assert!(std::env::var_os("ILLAVA_NEEDS_FFMPEG").is_none(), "ffmpeg is not installed");
        eprintln!("skipped: ffmpeg is not installed; ./test installs it");
    }
    here
}

/// Runs ffmpeg with `args` and the output `name` in `folder`; false where it cannot.
fn try_ffmpeg(folder: &Path, args: &str, name: &str) -> bool {
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(args.split_whitespace())
        .arg(folder.join(name))
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

fn ffmpeg(folder: &Path, args: &str, name: &str) -> PathBuf {
    assert!(try_ffmpeg(folder, args, name), "ffmpeg {args} {name}");
    folder.join(name)
}

/// A source of `frames` pictures at `rate`, each of which has its number in twelve black or white columns.
fn numbered(frames: u32, rate: u32) -> String {
    let columns = "geq=lum='255*mod(floor(N/pow(2,floor(X/8))),2)':cb=128:cr=128";
    format!("-f lavfi -i color=size=96x16:rate={rate},format=yuv420p,{columns} -frames:v {frames}")
}

/// The number in a picture of [`numbered`].
fn number(frame: &illava::media::video::Frame) -> u32 {
    let pixels = &frame.pixels;
    (0..12)
        .map(|bit| {
            let at = (8 * pixels.width as usize + bit * 8 + 4) * 3;
            u32::from(pixels.rgb[at] > 127) << bit
        })
        .sum()
}

fn read_with(path: &Path, sampling: Sampling, limits: VideoLimits) -> Result<Video> {
    Source::open(path.as_os_str(), limits)?.read(&sampling)
}

fn read(path: &Path, sampling: Sampling) -> Result<Video> {
    read_with(path, sampling, VideoLimits::default())
}

fn uniform(frames: u32) -> Sampling {
    Sampling::Uniform { frames, multiple: 1 }
}

fn numbers(video: &Video) -> Vec<u32> {
    video.frames.iter().map(number).collect()
}

#[track_caller]
fn refused(result: Result<Video>, part: &str) -> Error {
    let error = result.unwrap_err();
    let line = error.to_string();
    assert!(line.contains(part) && !line.contains('\n') && line.len() < 600, "`{part}` is not in: {line}");
    error
}

#[test]
fn the_frames_that_the_authors_take() {
    if !ffmpeg_is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Frames out of order (B), in order, and a format that has no frame rate of its own.
    for (name, codec) in [
        ("a.mkv", "-c:v ffv1"),
        ("a.mp4", "-c:v mpeg4 -q:v 2 -bf 2"),
        ("a.avi", "-c:v mpeg4 -q:v 2 -bf 2"),
        ("a.ts", "-c:v mpeg2video -q:v 2 -bf 2"),
        ("a.gif", ""),
    ] {
        let path = ffmpeg(folder.path(), &format!("{} {codec}", numbered(50, 25)), name);
        let video = read(&path, uniform(8)).unwrap();
        assert_eq!(numbers(&video), [0, 7, 14, 21, 28, 35, 42, 49], "{name}");
        assert_eq!((video.frames[0].pixels.width, video.frames[0].pixels.height), (96, 16));
        for (frame, n) in video.frames.iter().zip([0u32, 7, 14, 21, 28, 35, 42, 49]) {
            assert!((frame.seconds - f64::from(n) / 25.0).abs() < 0.002, "{name} {n}: {}", frame.seconds);
        }
        let video = read(&path, Sampling::QWEN2VL).unwrap();
        assert_eq!(numbers(&video), [0, 16, 33, 49], "{name}");
        assert!((video.fps - 2.0).abs() < 0.05, "{name}: {}", video.fps);
    }
}

#[test]
fn long_videos_are_sought_through() {
    if !ffmpeg_is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, codec) in [("a.mkv", "-c:v ffv1 -g 50"), ("a.mp4", "-c:v mpeg4 -q:v 2 -bf 2 -g 50")] {
        let path = ffmpeg(folder.path(), &format!("{} {codec}", numbered(1500, 30)), name);
        let video = read(&path, uniform(5)).unwrap();
        assert_eq!(numbers(&video), [0, 374, 749, 1124, 1499], "{name}");
        assert_eq!(video.remark, None);
    }
}

#[test]
fn times_are_those_of_the_file() {
    if !ffmpeg_is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let args = "-f lavfi -i testsrc=size=64x48:rate=10 -frames:v 6 -vf settb=1/1000,setpts=100*N*N -c:v ffv1";
    let path = ffmpeg(folder.path(), args, "a.mkv");
    let video = read(&path, uniform(6)).unwrap();
    let seconds: Vec<f64> = video.frames.iter().map(|frame| (frame.seconds * 10.0).round()).collect();
    assert_eq!(seconds, [0.0, 1.0, 4.0, 9.0, 16.0, 25.0]);
}

#[test]
fn rotation_is_honoured() {
    if !ffmpeg_is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Red above blue; how a rotation is written depends on ffmpeg's age.
    let source = "-f lavfi -i color=red:size=64x32:rate=5:duration=1,drawbox=y=16:h=16:color=blue:t=fill -c:v mpeg4 -q:v 2";
    let plain = ffmpeg(folder.path(), source, "plain.mp4").display().to_string();
    let done = try_ffmpeg(folder.path(), &format!("-display_rotation 90 -i {plain} -c copy"), "turned.mp4")
        || try_ffmpeg(folder.path(), &format!("-i {plain} -c copy -metadata:s:v rotate=270"), "turned.mp4");
    assert!(done, "no way to write a rotation");
    let video = read(&folder.path().join("turned.mp4"), uniform(2)).unwrap();
    let pixels = &video.frames[0].pixels;
    assert_eq!((pixels.width, pixels.height), (32, 64));
    let red = |x: usize| pixels.rgb[(32 * 32 + x) * 3] > 128;
    assert_ne!(red(4), red(28), "the halves stand side by side");
}

#[test]
fn names_that_look_like_something_else() {
    if !ffmpeg_is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = ffmpeg(folder.path(), &format!("{} -c:v ffv1", numbered(4, 5)), "a.mkv");
    for name in [
        "-i.mkv",
        "concat:a.mkv",
        "http:a.mkv",
        "%03d.mkv",
        "a,b.mkv",
        "pipe:0",
        "with space.mkv",
        "no-extension",
    ] {
        let other = folder.path().join(name);
        fs::copy(&path, &other).unwrap();
        assert_eq!(numbers(&read(&other, uniform(4)).unwrap()), [0, 1, 2, 3], "{name}");
    }
}

#[test]
fn small_and_short_ones() {
    if !ffmpeg_is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc=size=1x1:rate=5 -frames:v 1 -pix_fmt bgr24 -c:v rawvideo",
        "one.avi",
    );
    let video = read(&path, Sampling::QWEN2VL).unwrap();
    let sizes: Vec<_> = video.frames.iter().map(|frame| (frame.pixels.width, frame.pixels.height)).collect();
    assert_eq!(sizes, [(1, 1), (1, 1)], "a pair of the only frame");
    let video = read(&path, Sampling::ONEVISION).unwrap();
    assert_eq!(video.frames.len(), 1);
}

#[test]
fn many_pixels_are_made_fewer() {
    if !ffmpeg_is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = ffmpeg(folder.path(), "-f lavfi -i testsrc=size=64x48:rate=5 -frames:v 4 -c:v ffv1", "a.mkv");
    let limits = VideoLimits { max_rgb_bytes: 4 * 16 * 12 * 3, ..VideoLimits::default() };
    let video = read_with(&path, uniform(4), limits).unwrap();
    assert_eq!((video.frames[0].pixels.width, video.frames[0].pixels.height), (16, 12));
    assert!(video.remark.unwrap().contains("4 frames of 64x48 were made 16x12"));
}

#[test]
fn hostile_files_give_one_line() {
    if !ffmpeg_is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let good = ffmpeg(folder.path(), &format!("{} -c:v mpeg4", numbered(20, 5)), "good.mp4");
    let secret = at("secret.mkv");
    fs::copy(&good, &secret).unwrap();
    let hls =
        |target: &str| format!("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n");
    for (name, text) in [
        ("file.m3u8", hls(&format!("file://{}", secret.display()))),
        ("relative.m3u8", hls("secret.mkv")),
        ("http.m3u8", hls("http://127.0.0.1:9/a.ts")),
        ("named.mp4", hls("http://127.0.0.1:9/a.ts")),
        ("list.txt", "ffconcat version 1.0\nfile secret.mkv\n".to_owned()),
        ("list.mp4", "ffconcat version 1.0\nfile secret.mkv\n".to_owned()),
        (
            "session.sdp",
            "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
                .to_owned(),
        ),
        ("manifest.mpd", "<?xml version=\"1.0\"?><MPD><Period></Period></MPD>".to_owned()),
        ("text.mp4", "hello, this is text".to_owned()),
        ("empty.mp4", String::new()),
    ] {
        fs::write(at(name), text).unwrap();
        let error = refused(read(&at(name), uniform(4)), name);
        assert_eq!(error.kind(), Kind::Media, "{error}");
    }
    let bytes = fs::read(&good).unwrap();
    fs::write(at("truncated.mp4"), &bytes[..bytes.len() / 2]).unwrap();
    refused(read(&at("truncated.mp4"), uniform(4)), "whole");
    // Damaged in the middle: what can be read is read, or it is refused, but nothing else.
    for seed in 1..20usize {
        let mut damaged = bytes.clone();
        for i in 0..40 {
            let place = (seed * 7919 + i * 104_729) % damaged.len();
            damaged[place] ^= 0xff;
        }
        fs::write(at("damaged.mp4"), damaged).unwrap();
        match read(&at("damaged.mp4"), uniform(4)) {
            Ok(video) => assert!(!video.frames.is_empty()),
            Err(error) => assert_eq!(error.kind(), Kind::Media, "{error}"),
        }
    }
    let sound = ffmpeg(folder.path(), "-f lavfi -i sine=duration=1 -c:a pcm_s16le", "sound.mkv");
    refused(read(&sound, uniform(4)), "no video in it");
    let none =
        ffmpeg(folder.path(), "-f lavfi -i testsrc=size=64x48:rate=5 -frames:v 0 -c:v ffv1", "none.mkv");
    refused(read(&none, uniform(4)), "none.mkv");
    // A header that promises more pixels than any frame may have.
    let small = ffmpeg(folder.path(), &format!("{} -c:v ffv1", numbered(2, 5)), "small.avi");
    let mut bytes = fs::read(small).unwrap();
    let header = [40u32, 96, 16].map(u32::to_le_bytes).concat();
    let place = bytes.windows(header.len()).position(|window| window == header).unwrap();
    bytes[place..place + 12].copy_from_slice(&[40u32, 32_767, 32_767].map(u32::to_le_bytes).concat());
    fs::write(at("huge.avi"), bytes).unwrap();
    refused(read(&at("huge.avi"), uniform(4)), "huge.avi");
    let small = VideoLimits { max_file_frames: 10, ..VideoLimits::default() };
    refused(read_with(&good, uniform(4), small), "more than 10 frames");
    let few = VideoLimits { max_frames: 3, ..VideoLimits::default() };
    refused(read_with(&good, uniform(4), few), "the limit is 3");
    refused(read(&at("missing.mp4"), uniform(4)), "no such file");
    refused(read(&at("missing-1.png,missing-2.png"), uniform(4)), "missing-1.png: no such file");
    #[cfg(unix)]
    refused(read(Path::new("/dev/zero"), uniform(4)), "not a file");
}

/// Programs that never end, stand in for a file that never ends.
#[cfg(unix)]
#[test]
fn endless_output_ends_at_a_limit() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let script = |name: &str, body: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let json = r#"{"streams":[{"width":2,"height":2,"avg_frame_rate":"25/1"}],"format":{}}"#;
    let probe = |packets: &str| {
        script("ffprobe", &format!("case \"$*\" in *json*) echo '{json}' ;; *) {packets} ;; esac"))
    };
    let path = folder.path().join("a.mp4");
    fs::write(&path, "any").unwrap();
    let open = |packets: &str, ffmpeg: &str, seconds: u64| {
        let programs = Programs { ffprobe: probe(packets), ffmpeg: script("ffmpeg", ffmpeg) };
        let limits = VideoLimits {
            time: Duration::from_secs(seconds),
            max_file_frames: 1000,
            ..VideoLimits::default()
        };
        Source::open_with(path.as_os_str(), limits, programs)?.read(&uniform(2))
    };
    refused(open("yes 0.0,0.0,K_", "true", 60), "more than 1000 frames");
    refused(open("yes ''", "true", 1), "not read within 1 s");
    refused(open("echo 0.0,0.0,K_", "exec sleep 1000", 1), "not read within 1 s");
    refused(open("echo 0.0,0.0,K_", "printf 'P6\\n65535 65535\\n255\\n'; yes", 60), "the limit is");
    refused(open("echo 0.0,0.0,K_", "yes", 60), "cannot be read");
    refused(open("echo 0.0,0.0,K_", "exit 1", 60), "is it a whole video?");
    // If one frame was asked for, the first is enough, with any bytes behind it.
    let video = open("echo 0.0,0.0,K_", "printf 'P6\\n1 1\\n255\\nabc'", 60).unwrap();
    assert_eq!(video.frames[0].pixels.rgb, *b"abc");
}

#[test]
fn without_ffmpeg_a_file_says_how_to_install_it_and_frames_still_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.mp4");
    fs::write(&file, "any").unwrap();
    let nowhere = || Programs { ffmpeg: "/nowhere/ffmpeg".into(), ffprobe: "/nowhere/ffprobe".into() };
    let error = Source::open_with(file.as_os_str(), VideoLimits::default(), nowhere()).unwrap_err();
    assert!(error.to_string().contains("apt install ffmpeg"), "{error}");
    let frames = folder.path().join("frames");
    fs::create_dir(&frames).unwrap();
    for n in [10u8, 9, 1, 100] {
        let picture = image::RgbImage::from_pixel(3, 2, image::Rgb([n, 0, 0]));
        picture.save(frames.join(format!("frame{n}.png"))).unwrap();
    }
    fs::write(frames.join("notes.txt"), "no frame").unwrap();
    let red = |video: &Video| video.frames.iter().map(|frame| frame.pixels.rgb[0]).collect::<Vec<_>>();
    let video = |what: &OsStr, sampling| {
        Source::open_with(what, VideoLimits::default(), nowhere()).and_then(|source| source.read(&sampling))
    };
    let all = video(frames.as_os_str(), Sampling::ONEVISION).unwrap();
    assert_eq!(red(&all), [1, 9, 10, 100], "in the order of their numbers");
    assert_eq!(red(&video(frames.as_os_str(), uniform(2)).unwrap()), [1, 100]);
    let list = ["frame9.png", "frame1.png", "frame10.png"]
        .map(|name| frames.join(name).display().to_string())
        .join(",");
    let pairs = video(OsStr::new(&list), Sampling::QWEN2VL).unwrap();
    assert_eq!(red(&pairs), [9, 1, 10, 10], "in the order given, the last one twice");
    assert_eq!(pairs.frames.iter().map(|frame| frame.seconds).collect::<Vec<_>>(), [0.0, 0.5, 1.0, 1.0]);
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    refused(video(empty.as_os_str(), uniform(2)), "no pictures in the folder");
    fs::write(frames.join("frame5.png"), "no picture").unwrap();
    refused(video(frames.as_os_str(), uniform(32)), "frame5.png");
}
