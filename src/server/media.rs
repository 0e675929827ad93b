//! References of a request to pixels: data URIs, files below one folder, fetched URLs.

mod addresses;
mod files;
mod remote;

use std::sync::Arc;
use std::time::Instant;

use data_url::DataUrl;
use tokio::sync::Semaphore;
use url::Url;

use super::error::{ApiError, ApiResult};
use super::settings::{Bounds, MediaAccess};
use crate::media::{self, policy};
use crate::report::milliseconds;
use crate::worker::protocol::Picture;
use remote::Remote;

/// The way from references to pictures, with its limits.
pub struct Media {
    files: Option<files::Folder>,
    remote: Remote,
    limits: policy::Limits,
    request_pixels: u64,
    /// Decoders at work at once: what they allocate is bounded by this times one picture.
    decoders: Arc<Semaphore>,
    /// Fetches at once.
    fetchers: Arc<Semaphore>,
}

impl Media {
    /// # Errors
    /// A folder that is none.
    pub fn new(access: &MediaAccess, bounds: &Bounds) -> crate::error::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            files: access.folder.as_deref().map(files::Folder::open).transpose()?,
            remote: Remote::new(&access.hosts, bounds),
            limits: policy::Limits {
                max_bytes: bounds.image_bytes,
                max_pixels: bounds.image_pixels,
                ..policy::Limits::default()
            },
            request_pixels: bounds.request_pixels,
            decoders: Arc::new(Semaphore::new(cores)),
            fetchers: Arc::new(Semaphore::new(8)),
        })
    }

    /// Decodes the pictures of one request, in order.
    ///
    /// # Errors
    /// 400 that names the picture by its place among the request's pictures.
    pub async fn pictures(self: &Arc<Self>, urls: Vec<String>) -> ApiResult<Vec<Picture>> {
        let mut pictures = Vec::with_capacity(urls.len());
        let mut pixels = 0;
        for (i, url) in urls.into_iter().enumerate() {
            let picture = self.picture(url, format!("image {}", i + 1)).await?;
            pixels += u64::from(picture.width) * u64::from(picture.height);
            if pixels > self.request_pixels {
                return Err(ApiError::invalid(format!(
                    "the pictures together have more than {} pixels (--max-request-pixels); make them smaller",
                    self.request_pixels
                )));
            }
            pictures.push(picture);
        }
        Ok(pictures)
    }

    async fn picture(self: &Arc<Self>, url: String, name: String) -> ApiResult<Picture> {
        let start = Instant::now();
        let is_remote = matches!(scheme(&url).as_deref(), Some("http" | "https"));
        let gate = if is_remote { &self.fetchers } else { &self.decoders };
        let permit = Arc::clone(gate).acquire_owned().await;
        let media = Arc::clone(self);
        let (bytes, name) = blocking(move || {
            let _permit = permit;
            media.bytes(&url, &name).map(|bytes| (bytes, name))
        })
        .await?;
        let permit = Arc::clone(&self.decoders).acquire_owned().await;
        let limits = self.limits;
        blocking(move || {
            let _permit = permit;
            let pixels = media::decode(&bytes, &name, &limits)?;
            Ok(Picture::new(pixels, milliseconds(start)))
        })
        .await
    }

    fn bytes(&self, url: &str, name: &str) -> ApiResult<Vec<u8>> {
        let invalid = |reason: &str| ApiError::invalid(format!("{name}: {reason}"));
        match scheme(url).as_deref() {
            Some("data") => inline(url).map_err(|reason| invalid(&reason)),
            Some("file") => {
                let folder = self.files.as_ref().ok_or_else(|| {
                    invalid("file:// is off; the server allows it with --media-path FOLDER")
                })?;
                folder.read(url, self.limits.max_bytes).map_err(|reason| invalid(&reason))
            }
            Some("http" | "https") => {
                let url = Url::parse(url).map_err(|error| invalid(&format!("no usable URL ({error})")))?;
                self.remote.fetch(url).map_err(|reason| invalid(&reason))
            }
            Some(other) => Err(invalid(&format!(
                "{}: is no scheme known here; use data:, http(s): or file:",
                other.chars().take(20).collect::<String>()
            ))),
            // llama.cpp's clients send plain base64 too.
            None => {
                let text = url.trim();
                inline(&format!("data:;base64,{text}"))
                    .map_err(|_| invalid("neither a URL (data:, http(s):, file:) nor base64"))
            }
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> ApiResult<T> + Send + 'static) -> ApiResult<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(ApiError::new(super::error::Type::Server, format!("decoding a picture failed: {error}")))
    })
}

/// The part before the colon, lower case, if it looks like a scheme.
fn scheme(url: &str) -> Option<String> {
    let (scheme, _) = url.trim_start().split_once(':')?;
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    (scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.len() <= 32 && scheme.chars().all(word))
        .then(|| scheme.to_ascii_lowercase())
}

fn inline(url: &str) -> Result<Vec<u8>, String> {
    let parsed = DataUrl::process(url.trim()).map_err(|_| "the data URI has no comma".to_owned())?;
    let (bytes, _) = parsed.decode_to_vec().map_err(|error| format!("bad base64 ({error:?})"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn png() -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image::RgbImage::new(3, 2).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    fn media(access: &MediaAccess, bounds: &Bounds) -> Arc<Media> {
        Arc::new(Media::new(access, bounds).unwrap())
    }

    async fn read(media: &Arc<Media>, urls: &[&str]) -> Result<Vec<(u32, u32)>, String> {
        media
            .pictures(urls.iter().map(|url| (*url).to_owned()).collect())
            .await
            .map(|pictures| pictures.iter().map(|picture| (picture.width, picture.height)).collect())
            .map_err(|error| error.body()["message"].as_str().unwrap().to_owned())
    }

    /// The alphabet of RFC 4648, so that the test does not lean on the decoder it tests.
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
        let access = MediaAccess { folder: Some(folder.path().to_owned()), hosts: Vec::new() };
        let media = media(&access, &Bounds::default());
        let data = format!("data:image/png;base64,{}", base64(&png()));
        let wrong_type = format!("DATA:text/html;base64,{}", base64(&png()));
        let found = read(&media, &[&data, &wrong_type, &base64(&png()), "file://a%20b.png"]).await;
        assert_eq!(found.unwrap(), [(3, 2); 4]);
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
