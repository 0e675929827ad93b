//! References of a request to pictures and videos: data URIs, files below one folder, fetched URLs.

mod addresses;
mod files;
mod remote;
mod sink;
mod video;

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use data_url::DataUrl;
use data_url::forgiving_base64::DecodeError;
use tokio::sync::Semaphore;
use url::Url;

use super::error::{ApiError, ApiResult, Type};
use super::settings::{Bounds, MediaAccess};
use crate::media::{self, policy};
use crate::report::milliseconds;
use crate::request::{Picture, Reference, VideoPlan};
use remote::Remote;
use sink::{Most, Sink};
use video::{Kept, Videos};

/// Videos of a request that were fetched, by the number of their reference.
pub type FetchedVideos = HashMap<usize, Kept>;

/// Media of a request that were fetched.
#[derive(Default)]
pub struct Fetched {
    /// Bytes of the pictures, which stand in the request.
    pub bytes: usize,
    pub videos: FetchedVideos,
}

/// Reader of references, with its limits.
pub struct Media {
    files: Option<files::Folder>,
    remote: Remote,
    limits: policy::Limits,
    request_pixels: u64,
    /// Decoders at work at once: they allocate at most this many pictures.
    decoders: Arc<Semaphore>,
    /// Fetches at once.
    fetchers: Arc<Semaphore>,
    videos: Videos,
}

impl Media {
    /// # Errors
    /// A path that is no folder.
    pub fn new(access: &MediaAccess, bounds: &Bounds) -> crate::error::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let limits = policy::Limits::of(bounds.image_bytes, bounds.image_pixels);
        Ok(Self {
            files: access.folder.as_deref().map(files::Folder::open).transpose()?,
            remote: Remote::new(&access.hosts, bounds),
            limits,
            request_pixels: bounds.request_pixels,
            decoders: Arc::new(Semaphore::new(cores)),
            fetchers: Arc::new(Semaphore::new(8)),
            videos: Videos::new(access, bounds, limits),
        })
    }

    /// Whether videos could be read when the server started.
    #[must_use]
    pub fn reads_videos(&self) -> bool {
        self.videos.readable
    }

    /// Fetches what `references` name by URL. Data URIs take the places of pictures, files those of videos. A slow host
    /// then holds up nobody but its own request, which has no place among the answers yet.
    ///
    /// # Errors
    /// 400 that names the picture or video by its place in the request; 429 if fetched videos take too much of the disk.
    pub async fn fetch(self: &Arc<Self>, references: &mut [Reference]) -> ApiResult<Fetched> {
        let (mut images, mut videos, mut fetched) = (0, 0, Fetched::default());
        for (index, reference) in references.iter_mut().enumerate() {
            match reference {
                Reference::Image(url) => {
                    images += 1;
                    if is_remote(url) {
                        let bytes = self.bytes(url.clone(), format!("image {images}")).await?;
                        *url = format!("data:;base64,{}", BASE64_STANDARD.encode(bytes));
                        fetched.bytes += url.len();
                    }
                }
                Reference::Video(url) => {
                    videos += 1;
                    if is_remote(url) {
                        let name = format!("video {videos}");
                        let file = self.keep(url.clone(), name.clone()).await?;
                        fetched.videos.insert(index, self.videos.with_room(file, &name)?);
                    }
                }
            }
        }
        Ok(fetched)
    }

    /// Decodes the media of one request, in order; `fetched` are its videos that are here already. Each reference gives
    /// one picture or video. If the model takes no videos, the pictures that stand for a video come instead.
    ///
    /// # Errors
    /// 400 that names the picture or video by its place in the request; 501 for a video without ffmpeg.
    pub async fn read(
        self: &Arc<Self>,
        references: Vec<Reference>,
        mut fetched: FetchedVideos,
        plan: VideoPlan,
    ) -> ApiResult<Vec<Vec<Picture>>> {
        let mut all = Vec::with_capacity(references.len());
        let (mut images, mut videos, mut pixels) = (0, 0, 0);
        for (index, reference) in references.into_iter().enumerate() {
            let shown = match reference {
                Reference::Image(url) => {
                    images += 1;
                    vec![self.picture(url, format!("image {images}")).await?]
                }
                Reference::Video(url) => {
                    videos += 1;
                    self.video(url, fetched.remove(&index), format!("video {videos}"), plan).await?
                }
            };
            pixels += shown.iter().map(Picture::pixels).sum::<u64>();
            if pixels > self.request_pixels {
                return Err(ApiError::invalid(format!(
                    "the pictures together have more than {} pixels (--max-request-pixels); make them smaller",
                    self.request_pixels
                )));
            }
            all.push(shown);
        }
        Ok(all)
    }

    async fn picture(self: &Arc<Self>, url: String, name: String) -> ApiResult<Picture> {
        let start = Instant::now();
        let bytes = self.bytes(url, name.clone()).await?;
        let permit = Arc::clone(&self.decoders).acquire_owned().await;
        let limits = self.limits;
        blocking(move || {
            let _permit = permit;
            let pixels = media::decode(&bytes, &name, &limits)?;
            Ok(Picture::new(pixels, milliseconds(start)))
        })
        .await
    }

    /// Returns the file of a picture.
    async fn bytes(self: &Arc<Self>, url: String, name: String) -> ApiResult<Vec<u8>> {
        let gate = if is_remote(&url) { &self.fetchers } else { &self.decoders };
        let permit = Arc::clone(gate).acquire_owned().await;
        let media = Arc::clone(self);
        let most = Most { bytes: self.limits.max_bytes, flag: "--max-image-bytes" };
        blocking(move || {
            let _permit = permit;
            let mut bytes = Vec::new();
            media.copy(&url, &name, most, &mut bytes).map(|()| bytes)
        })
        .await
    }

    /// Writes the bytes behind `url` to `out`.
    fn copy(&self, url: &str, name: &str, most: Most, out: &mut dyn Write) -> ApiResult<()> {
        let mut sink = Sink::new(out, most);
        let copied = match scheme(url).as_deref() {
            Some("data") => inline(url, &mut sink),
            Some("file") => match &self.files {
                Some(folder) => folder.read(url, &mut sink),
                None => Err("file:// is off; the server allows it with --media-path FOLDER".to_owned()),
            },
            Some("http" | "https") => Url::parse(url)
                .map_err(|error| format!("no usable URL ({error})"))
                .and_then(|url| self.remote.fetch(url, &mut sink)),
            Some(other) => Err(format!(
                "{}: is no scheme known here; use data:, http(s): or file:",
                other.chars().take(20).collect::<String>()
            )),
            // llama.cpp's clients send plain base64 too.
            None => inline(&format!("data:;base64,{}", url.trim()), &mut sink).map_err(|reason| {
                if reason.starts_with(NO_BASE64) {
                    "neither a URL (data:, http(s):, file:) nor base64".to_owned()
                } else {
                    reason
                }
            }),
        };
        copied.map_err(|reason| {
            let line = format!("{name}: {reason}");
            if sink.failed.is_some() { ApiError::new(Type::Server, line) } else { ApiError::invalid(line) }
        })
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> ApiResult<T> + Send + 'static) -> ApiResult<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(ApiError::new(Type::Server, format!("decoding a picture failed: {error}")))
    })
}

/// Returns the part before the colon, in lower case, if it looks like a scheme.
fn scheme(url: &str) -> Option<String> {
    let (scheme, _) = url.trim_start().split_once(':')?;
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    (scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.len() <= 32 && scheme.chars().all(word))
        .then(|| scheme.to_ascii_lowercase())
}

fn is_remote(url: &str) -> bool {
    matches!(scheme(url).as_deref(), Some("http" | "https"))
}

const NO_BASE64: &str = "bad base64";

fn inline(url: &str, sink: &mut Sink<'_>) -> Result<(), String> {
    let url = plain_alphabet(url.trim());
    let parsed = DataUrl::process(&url).map_err(|_| "the data URI has no comma".to_owned())?;
    parsed.decode(|bytes| sink.write(bytes)).map(drop).map_err(|error| match error {
        DecodeError::InvalidBase64(error) => format!("{NO_BASE64} ({error:?})"),
        DecodeError::WriteError(reason) => reason,
    })
}

/// Returns a data URI in base64 with the plain alphabet's two digits in place of the URL-safe one's (RFC
/// 4648, section 5).
fn plain_alphabet(url: &str) -> Cow<'_, str> {
    match url.split_once(',') {
        Some((head, data)) if head.trim_end().ends_with(";base64") && data.contains(['-', '_']) => {
            Cow::Owned(format!("{head},{}", data.replace('-', "+").replace('_', "/")))
        }
        _ => Cow::Borrowed(url),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::media::video::Sampling;

    fn png() -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image::RgbImage::new(3, 2).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    fn media(access: &MediaAccess, bounds: &Bounds) -> Arc<Media> {
        Arc::new(Media::new(access, bounds).unwrap())
    }

    async fn read(media: &Arc<Media>, urls: &[&str]) -> Result<Vec<(u32, u32)>, String> {
        let plan = VideoPlan { one_span: true, frames: Sampling::Uniform { frames: 4, multiple: 1 } };
        media
            .read(urls.iter().map(|url| Reference::Image((*url).to_owned())).collect(), HashMap::new(), plan)
            .await
            .map(|shown| shown.iter().flatten().map(|picture| (picture.width, picture.height)).collect())
            .map_err(|error| error.body()["message"].as_str().unwrap().to_owned())
    }

    /// Alphabet of RFC 4648, as an account that does not use the decoder under test.
    fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let digit = |chunk: &[u8], i: usize| {
            let group = chunk.iter().chain([0, 0].iter()).take(3).fold(0, |n, b| n << 8 | u32::from(*b));
            if i <= chunk.len() { DIGITS[(group >> (18 - 6 * i)) as usize & 63] as char } else { '=' }
        };
        bytes.chunks(3).flat_map(|chunk| (0..4).map(move |i| digit(chunk, i))).collect()
    }

    #[tokio::test]
    async fn ways_in() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a b.png"), png()).unwrap();
        let access = MediaAccess { folder: Some(folder.path().to_owned()), ..MediaAccess::default() };
        let media = media(&access, &Bounds::default());
        let data = format!("data:image/png;base64,{}", base64(&png()));
        let wrong_type = format!("DATA:text/html;base64,{}", base64(&png()));
        let found = read(&media, &[&data, &wrong_type, &base64(&png()), "file://a%20b.png"]).await;
        assert_eq!(found.unwrap(), [(3, 2); 4]);
        // These pixels need both digits in which the alphabets differ.
        let mut colours = Cursor::new(Vec::new());
        let picture =
            image::RgbImage::from_fn(9, 7, |x, y| image::Rgb([(x * 31) as u8, (y * 57) as u8, 251]));
        picture.write_to(&mut colours, image::ImageFormat::Png).unwrap();
        let plain = base64(&colours.into_inner());
        assert!(plain.contains('+') && plain.contains('/'), "{plain}");
        let safe = plain.replace('+', "-").replace('/', "_");
        let safe = safe.trim_end_matches('=');
        let found = read(&media, &[safe, &format!("data:image/png;base64,{safe}")]).await;
        assert_eq!(found.unwrap(), [(9, 7); 2]);
    }

    /// Host with one file for each connection, and a reader that may fetch from it. Nobody listens after the last.
    fn host(files: Vec<Vec<u8>>, bounds: &Bounds) -> (String, Arc<Media>, std::thread::JoinHandle<()>) {
        use std::io::Read;
        let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", host.local_addr().unwrap());
        let serving = std::thread::spawn(move || {
            for file in files {
                let (mut stream, _) = host.accept().unwrap();
                let _ = stream.read(&mut [0; 1024]).unwrap();
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", file.len());
                stream.write_all(&[head.as_bytes(), &file].concat()).unwrap();
            }
        });
        let access = MediaAccess { hosts: vec!["127.0.0.1".into()], ..MediaAccess::default() };
        let mut media = Media::new(&access, bounds).unwrap();
        media.remote = media.remote.reaching(|_| true);
        (url, Arc::new(media), serving)
    }

    #[tokio::test]
    async fn remote_media_are_fetched_before_any_are_read() {
        let (url, media, serving) = host(vec![b"no video".to_vec(), png()], &Bounds::default());
        let (image, video) =
            (|url: &str| Reference::Image(url.into()), |url: &str| Reference::Video(url.into()));
        let mut references = [video(&url), video("data:,x"), image("untouched"), image(&url)];
        let fetched = media.fetch(&mut references).await.unwrap();
        serving.join().unwrap();
        assert_eq!(references[..3], [video(&url), video("data:,x"), image("untouched")]);
        let Reference::Image(data) = &references[3] else { panic!("a video") };
        assert_eq!(fetched.bytes, data.len());
        assert_eq!(read(&media, &[data]).await.unwrap(), [(3, 2)]);
        assert_eq!(fetched.videos.keys().copied().collect::<Vec<_>>(), [0]);
        assert_eq!(std::fs::read(fetched.videos[&0].file.path()).unwrap(), b"no video");
        // Nobody listens any more: the reader takes the file.
        let path = fetched.videos[&0].file.path().to_owned();
        let plan = VideoPlan { one_span: true, frames: Sampling::Uniform { frames: 4, multiple: 1 } };
        let error = media.read(vec![video(&url)], fetched.videos, plan).await.unwrap_err();
        let line = error.body()["message"].as_str().unwrap().to_owned();
        assert!(line.starts_with("video 1: ") && !line.contains("fetched"), "{line}");
        assert!(!path.exists(), "the file goes with its reading");
        // One that cannot be fetched is named by its place in the request.
        for (gone, name) in [(image(&url), "image 2: "), (video(&url), "video 1: ")] {
            let error = media.fetch(&mut [image("untouched"), gone]).await.err().unwrap();
            assert!(error.body()["message"].as_str().unwrap().starts_with(name), "{error:?}");
        }
    }

    /// Fetched videos wait on the disk for their request's place, and only so many of them.
    #[tokio::test]
    async fn fetched_videos_have_a_room() {
        let bounds = Bounds { video_bytes: 1 << 10, ..Bounds::default() };
        let (url, media, serving) = host(vec![vec![0; 1 << 10]; video::KEPT + 2], &bounds);
        let ask = async |count: usize| media.fetch(&mut vec![Reference::Video(url.clone()); count]).await;
        let kept = ask(video::KEPT).await.unwrap();
        let error = ask(1).await.err().unwrap();
        assert_eq!(
            (&error.body()["code"], error.body()["message"].as_str()),
            (
                &429.into(),
                Some(
                    "video 1: the videos that were fetched take all the room there is for them; try again later"
                )
            )
        );
        drop(kept);
        assert!(ask(1).await.is_ok());
        serving.join().unwrap();
    }

    #[tokio::test]
    async fn what_is_no_picture() {
        let media = media(&MediaAccess::default(), &Bounds::default());
        for (url, part) in [
            ("", "empty"),
            ("data:image/png;base64,", "empty"),
            ("data:image/png;base64", "comma"),
            ("data:image/png;base64,????", "base64"),
            ("data:image/png;base64,aGVsbG8=", "not a picture"),
            ("what is it?", "neither"),
            ("/etc/passwd", "not a picture"),
            ("file:///etc/passwd", "--media-path"),
            ("http://localhost/x.png", "--allow-remote-media"),
            ("https://127.0.0.1/x.png", "--allow-remote-media"),
            ("ftp://example.com/x.png", "no scheme known"),
            ("javascript:alert(1)", "no scheme known"),
            ("http://", "no usable URL"),
        ] {
            let error = read(&media, &[url]).await.unwrap_err();
            assert!(error.contains(part) && error.contains("image 1"), "{url}: {error}");
        }
    }

    #[tokio::test]
    async fn limits() {
        let data = format!("data:image/png;base64,{}", base64(&png()));
        let bounds = Bounds { request_pixels: 11, ..Bounds::default() };
        let error = read(&media(&MediaAccess::default(), &bounds), &[&data, &data]).await.unwrap_err();
        assert!(error.contains("--max-request-pixels"), "{error}");
        let bounds = Bounds { image_bytes: 20, ..Bounds::default() };
        let error = read(&media(&MediaAccess::default(), &bounds), &[&data]).await.unwrap_err();
        assert!(error.contains("20 bytes"), "{error}");
    }
}
