//! Videos of requests, on a scripted worker. Without ffmpeg most of these cannot run, and say so.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use illava::media::video::Programs;
use illava::prompt::Part;
use illava::request;
use illava::server::Settings;
use illava::server::settings::{Bounds, MediaAccess};
use serde_json::{Value, json};

use super::clip::clip;
use super::http::{about, png};
use super::inprocess::{Running, serve, settings};
use super::peer::Peer;

/// Two seconds; false without ffmpeg.
fn video(folder: &Path) -> bool {
    clip(&folder.join("clip.mp4"), "32x16", 20)
}

fn in_folder(folder: &Path) -> Settings {
    let media = MediaAccess { folder: Some(folder.to_owned()), ..MediaAccess::default() };
    Settings { media, ..settings() }
}

/// A conversation that shows these and then asks for their sizes.
fn sizes(parts: Value) -> Value {
    json!({ "messages": [{ "role": "user", "content": parts }, { "role": "user", "content": "pixels" }] })
}

fn url(url: &str) -> Value {
    json!({ "type": "video_url", "video_url": { "url": url } })
}

fn inline(folder: &Path) -> String {
    BASE64_STANDARD.encode(std::fs::read(folder.join("clip.mp4")).unwrap())
}

/// Files of this process that ffmpeg was to read.
fn left_over() -> usize {
    let own = format!("illava-video-{}-", std::process::id());
    let files = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    files.filter(|file| file.file_name().to_string_lossy().starts_with(&own)).count()
}

#[track_caller]
fn leaves_nothing(server: &Running) {
    // Other tests of this process have theirs at times.
    server.wait("an empty temporary folder", || left_over() == 0);
}

#[test]
fn every_way_in_and_one_span_each() {
    let folder = tempfile::tempdir().unwrap();
    if !video(folder.path()) {
        return;
    }
    let server = serve(in_folder(folder.path()), Peer::default());
    let bytes = inline(folder.path());
    let parts = json!([
        { "type": "text", "text": "first" },
        url(&format!("data:video/mp4;base64,{bytes}")),
        { "type": "image_url", "image_url": { "url": png(3, 2) } },
        { "type": "input_video", "input_video": { "data": bytes, "format": "mp4" } },
        { "type": "input_video", "input_video": { "url": "file://clip.mp4" } },
    ]);
    assert_eq!(server.chat(&sizes(parts)).text(), "4 of 32x16 3x2 4 of 32x16 4 of 32x16 ");
    let requests = server.peer.seen.requests.lock().unwrap();
    let request = requests.last().unwrap();
    let spans = [0, 1, 2, 3].map(Part::Image);
    assert_eq!(request.messages[0].parts[1..], spans);
    let keys: Vec<_> = request.media.iter().map(|picture| picture.key).collect();
    assert!(keys[0] == keys[2] && keys[0] == keys[3] && keys[0] != keys[1], "the same frames, one key");
    let rgb: Vec<_> = request.media[0].rgb.chunks(32 * 16 * 3).collect();
    assert!(rgb.len() == 4 && rgb.windows(2).all(|pair| pair[0] != pair[1]), "four frames that differ");
    assert!(request.media[0].decode_ms > 0.0);
    drop(requests);
    leaves_nothing(&server);
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("illava_videos_total 3") && metrics.contains("illava_pictures_total 1"));
    assert_eq!(server.get("/props").json()["modalities"]["video"], true);
}

#[test]
fn a_model_without_videos_gets_pictures() {
    let folder = tempfile::tempdir().unwrap();
    if !video(folder.path()) {
        return;
    }
    let server = serve(in_folder(folder.path()), Peer { no_videos: true, ..Peer::default() });
    let parts = json!([
        { "type": "image_url", "image_url": { "url": png(3, 2) } },
        url("file://clip.mp4"),
        { "type": "text", "text": "between" },
        { "type": "image_url", "image_url": { "url": png(1, 1) } },
    ]);
    assert_eq!(server.chat(&sizes(parts)).text(), "3x2 32x16 32x16 32x16 32x16 1x1 ");
    let requests = server.peer.seen.requests.lock().unwrap();
    let between = Part::Text("between".into());
    let expected = [0, 1, 2, 3, 4].map(Part::Image).into_iter().chain([between, Part::Image(5)]);
    assert_eq!(requests.last().unwrap().messages[0].parts, expected.collect::<Vec<_>>());
}

#[test]
fn limits() {
    let folder = tempfile::tempdir().unwrap();
    if !video(folder.path()) {
        return;
    }
    let ask = |bounds: Bounds, parts: Value| {
        let server = serve(Settings { bounds, ..in_folder(folder.path()) }, Peer::default());
        let reply = server.chat(&sizes(parts));
        leaves_nothing(&server);
        reply
    };
    let clip = || json!([url("file://clip.mp4")]);
    let own = || settings().bounds;
    ask(Bounds { video_bytes: 100, ..own() }, clip()).fails(400, "more than 100 bytes (--max-video-bytes)");
    let inline = json!([url(&format!("data:;base64,{}", inline(folder.path())))]);
    ask(Bounds { video_bytes: 100, ..own() }, inline).fails(400, "--max-video-bytes");
    let one = request::Bounds { videos: 1, ..own().request };
    ask(Bounds { request: one, ..own() }, json!([url("data:,"), url("data:,")])).fails(400, "--max-videos");
    assert_eq!(ask(Bounds { video_frames: 2, ..own() }, clip()).text(), "2 of 32x16 ");
    // A quarter of the pixels of four frames.
    assert_eq!(ask(Bounds { video_pixels: 32 * 16, ..own() }, clip()).text(), "4 of 16x8 ");
    let twice = json!([url("file://clip.mp4"), url("file://clip.mp4")]);
    ask(Bounds { request_pixels: 32 * 16 * 6, ..own() }, twice).fails(400, "--max-request-pixels");
    ask(Bounds { image_pixels: 100, ..own() }, clip()).fails(400, "video 1: ");
    let slow = Bounds { video_time: Duration::from_nanos(1), ..own() };
    ask(slow, clip()).fails(400, "video 1: not read within");
}

#[test]
fn what_is_no_video() {
    let folder = tempfile::tempdir().unwrap();
    if !video(folder.path()) {
        return;
    }
    let server = serve(in_folder(folder.path()), Peer::default());
    let whole = std::fs::read(folder.path().join("clip.mp4")).unwrap();
    std::fs::write(folder.path().join("half.mp4"), &whole[..whole.len() / 3]).unwrap();
    let secret = folder.path().join("clip.mp4");
    let playlist = format!("#EXTM3U\n#EXTINF:1,\n{}\n", secret.display());
    let concat = format!("ffconcat version 1.0\nfile '{}'\n", secret.display());
    for (name, bytes) in [("list.m3u8", &playlist), ("list.txt", &concat)] {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    for bad in [
        "data:video/mp4;base64,aGVsbG8gd29ybGQ=".to_owned(),
        "data:video/mp4,".to_owned(),
        "file://half.mp4".to_owned(),
        "file://list.m3u8".to_owned(),
        "file://list.txt".to_owned(),
    ] {
        let reply = server.chat(&sizes(json!([url(&bad)])));
        reply.fails(400, "video 1: ");
        let told = [folder.path().to_string_lossy().into_owned(), "illava-video-".to_owned()];
        assert!(!told.iter().any(|path| reply.body.contains(path)), "a path is told: {}", reply.body);
    }
    leaves_nothing(&server);
    assert_eq!(server.chat(&sizes(json!([url("file://clip.mp4")]))).text(), "4 of 32x16 ");
}

#[test]
fn without_ffmpeg_the_error_says_what_to_do() {
    let nowhere = Programs { ffmpeg: "/nowhere/ffmpeg".into(), ffprobe: "/nowhere/ffprobe".into() };
    let media = MediaAccess { programs: nowhere, ..MediaAccess::default() };
    let server = serve(Settings { media, ..settings() }, Peer::default());
    let reply = server.chat(&sizes(json!([url("data:video/mp4;base64,aGVsbG8=")])));
    reply.fails(501, "video 1: ffmpeg is not installed on this server");
    assert_eq!(reply.json()["error"]["type"], "not_supported_error");
    assert!(reply.body.contains("apt install ffmpeg") && reply.body.contains("image_url"), "{}", reply.body);
    leaves_nothing(&server);
    assert_eq!(server.get("/props").json()["modalities"]["video"], false);
    // Pictures need no other program.
    assert_eq!(server.chat(&about(&[&png(2, 2)], "what")).status, 200);
}
