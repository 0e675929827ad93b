//! Decoding with limits: JPEG, PNG, WebP, GIF (first frame), BMP, TIFF, PNM and icons.

mod animation;
mod format;
mod huffman;
mod ico;
mod jpeg;
mod png;
mod rgb;
#[cfg(test)]
mod tests;
mod tiff;

use std::borrow::Cow;
use std::io::{Cursor, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};

use serde::{Deserialize, Serialize};

use super::policy::Limits;
use crate::error::{Error, Kind, Result};
use crate::file;
use format::Format;

/// An upright 8-bit RGB picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    pub width: u32,
    pub height: u32,
    /// Interleaved, [height, width, 3].
    pub rgb: Vec<u8>,
    /// Remark on parts of the file that the pixels lack (transparency, bits below the eighth, more frames): one line or none.
    pub remark: Option<String>,
    /// The moment that a frame of a video shows; none for a picture.
    pub moment: Option<Moment>,
}

/// The place of a frame in its video.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Seconds since the first frame of the file.
    pub seconds: f64,
    /// Frames a second that were taken of the video, not those it has.
    pub fps: f64,
}

/// A value, or the reason why there is none.
type Outcome<T> = std::result::Result<T, String>;

/// A decoded picture as it is stored, not yet upright.
struct Raster {
    picture: RgbImage,
    orientation: Orientation,
    notes: Vec<&'static str>,
}

const ANIMATED: &str = "only the first of its frames is shown";

/// Reads and decodes the picture at `path`.
///
/// # Errors
/// [`Kind::File`] if it cannot be read, [`Kind::Media`] if it is no picture or over a limit.
pub fn open(path: &Path, limits: &Limits) -> Result<Pixels> {
    let name = path.display().to_string();
    let unreadable = |error: std::io::Error| Error::new(Kind::File, format!("{name}: {error}"));
    let file = file::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(limits.max_bytes + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    decode(&bytes, &name, limits)
}

/// Whether the file at `path` is meant as a picture, of whatever format: its first bytes or its name say so.
#[must_use]
pub fn is_picture(path: &Path) -> bool {
    const NAMES: [&str; 13] =
        ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff", "heic", "heif", "avif"];
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    if ending.is_some_and(|ending| NAMES.contains(&ending.as_str())) {
        return true;
    }
    let mut head = Vec::new();
    // A pipe has no first bytes to spare.
    file::regular(path).and_then(|file| file.take(4096).read_to_end(&mut head)).is_ok()
        && format::is_picture(&head)
}

/// Decodes `bytes`; `name` stands for them in messages.
///
/// The content tells the format, never the name. Transparent parts are composited on white, 16-bit samples keep their
/// high byte, grey is repeated, EXIF orientation is applied. Lossless formats give the same bytes as any other
/// decoder; a JPEG may differ by a few levels, since decoders round its transform and spread its colours differently.
/// A picture whose data end early is refused.
///
/// # Errors
/// [`Kind::Media`] naming the limit or the fault of the data.
pub fn decode(bytes: &[u8], name: &str, limits: &Limits) -> Result<Pixels> {
    // Decoders of hostile data are the one place where a panic of another crate is one picture's fault.
    let raster = std::panic::catch_unwind(|| raster(bytes, limits))
        .unwrap_or_else(|_| Err(damaged("its decoder gave up")))
        .map_err(|reason| Error::new(Kind::Media, format!("{name}: {reason}")))?;
    let Raster { picture, orientation, notes } = raster;
    let mut picture = DynamicImage::ImageRgb8(picture);
    picture.apply_orientation(orientation);
    let remark = (!notes.is_empty()).then(|| format!("{name}: {}", notes.join("; ")));
    Ok(Pixels {
        width: picture.width(),
        height: picture.height(),
        rgb: picture.into_bytes(),
        remark,
        moment: None,
    })
}

fn raster(bytes: &[u8], limits: &Limits) -> Outcome<Raster> {
    if bytes.is_empty() {
        return Err(format!("empty file; give a {} picture", format::READ));
    }
    if bytes.len() as u64 > limits.max_bytes {
        return Err(format!("more than {} bytes; make it smaller", limits.max_bytes));
    }
    match format::tell(bytes)? {
        Format::Jpeg => jpeg_file(bytes, limits),
        Format::Png => png_file(bytes, limits),
        Format::Tiff => tiff::decode(bytes, limits),
        Format::Ico => ico::decode(bytes, limits),
        Format::Bmp => library(bytes, ImageFormat::Bmp, 0, limits),
        // Samples are read in one piece before they are given out.
        Format::Pnm => library(bytes, ImageFormat::Pnm, 1, limits),
        Format::Gif => {
            let animated = animation::gif(bytes)?;
            let mut raster = library(bytes, ImageFormat::Gif, 1, limits)?;
            raster.notes.extend(animated.then_some(ANIMATED));
            Ok(raster)
        }
        Format::WebP => {
            let (exif, animated) = animation::webp(bytes)?;
            let mut raster = library(bytes, ImageFormat::WebP, 2, limits)?;
            raster.orientation = turned(exif);
            raster.notes.extend(animated.then_some(ANIMATED));
            Ok(raster)
        }
    }
}

fn jpeg_file(bytes: &[u8], limits: &Limits) -> Outcome<Raster> {
    let (frame, exif) = jpeg::header(bytes)?;
    let orientation = turned(exif);
    let pixel = if frame.is_grey() { 1 } else { 3 };
    afford(limits, (frame.width, frame.height), pixel, frame.coefficient_bytes(), orientation)?;
    let bytes = match jpeg::check(&[], bytes)? {
        true => Cow::Borrowed(bytes),
        // Decoders differ in what they do without an end marker.
        false => Cow::Owned([bytes, &[0xff, 0xd9]].concat()),
    };
    let raster = library(&bytes, ImageFormat::Jpeg, 0, limits)?;
    Ok(Raster { orientation, ..raster })
}

fn png_file(bytes: &[u8], limits: &Limits) -> Outcome<Raster> {
    let png = png::essential(bytes)?;
    let orientation = turned(png.exif.as_deref());
    afford(limits, (png.width, png.height), png.pixel, 0, orientation)?;
    let mut raster = library(&png.bytes, ImageFormat::Png, 0, limits)?;
    raster.orientation = orientation;
    raster.notes.extend(png.animated.then_some(ANIMATED));
    Ok(raster)
}

/// The orientation that an EXIF block names; a damaged block does not make the picture unreadable.
fn turned(exif: Option<&[u8]>) -> Orientation {
    exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms)
}

/// Decodes with the `image` crate, which holds `copies` more copies of the pixels meanwhile. The orientation is left
/// to the caller: asking the decoder for it reads metadata of any size.
fn library(bytes: &[u8], format: ImageFormat, copies: u64, limits: &Limits) -> Outcome<Raster> {
    let failed = |error| trouble(error, limits);
    let mut bounds = image::Limits::default();
    bounds.max_image_width = Some(limits.max_side);
    bounds.max_image_height = Some(limits.max_side);
    bounds.max_alloc = Some(limits.max_memory);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(bounds);
    let decoder = reader.into_decoder().map_err(failed)?;
    let size = decoder.dimensions();
    let pixel = u64::from(decoder.color_type().bytes_per_pixel());
    let work = copies * pixel * u64::from(size.0) * u64::from(size.1);
    afford(limits, size, pixel, work, Orientation::NoTransforms)?;
    let (picture, notes) = rgb::flatten(DynamicImage::from_decoder(decoder).map_err(failed)?);
    Ok(Raster { picture, orientation: Orientation::NoTransforms, notes })
}

/// Refuses a picture of `size` before anything of its size is allocated: one over a limit, or one whose decoding takes
/// more memory than is allowed. `pixel` counts the bytes of a decoded pixel, `work` all that is held beside.
fn afford(limits: &Limits, size: (u32, u32), pixel: u64, work: u64, orientation: Orientation) -> Outcome<()> {
    let (width, height) = size;
    if width == 0 || height == 0 {
        return Err(format!("{width}x{height} pixels: nothing to see"));
    }
    if width.max(height) > limits.max_side {
        return Err(format!(
            "{width}x{height} pixels, the limit is {} a side; make it smaller",
            limits.max_side
        ));
    }
    let pixels = u64::from(width) * u64::from(height);
    if pixels > limits.max_pixels {
        return Err(format!(
            "{width}x{height} is {pixels} pixels, the limit is {}; make it smaller",
            limits.max_pixels
        ));
    }
    let decoded = pixels.saturating_mul(pixel);
    let upright = matches!(
        orientation,
        Orientation::NoTransforms
            | Orientation::Rotate180
            | Orientation::FlipHorizontal
            | Orientation::FlipVertical
    );
    let most = decoded
        .saturating_add(work)
        .max(if pixel == 3 { 0 } else { decoded + 3 * pixels })
        .max(if upright { 0 } else { 6 * pixels });
    if most > limits.max_memory {
        let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
        return Err(format!(
            "{width}x{height} pixels of its kind take {} MB to decode, the limit is {} MB; make it smaller, or save it as a plain JPEG",
            megabytes(most),
            megabytes(limits.max_memory)
        ));
    }
    Ok(())
}

fn too_much_memory(limits: &Limits) -> String {
    format!(
        "decoding it takes more than {} MB; make it smaller, or save it as a plain JPEG",
        limits.max_memory.div_ceil(1_000_000)
    )
}

fn damaged(why: &str) -> String {
    format!("damaged picture ({why}); get the file again")
}

fn trouble(error: image::ImageError, limits: &Limits) -> String {
    use image::ImageError;
    match error {
        ImageError::Limits(error) => match error.kind() {
            image::error::LimitErrorKind::DimensionError => {
                format!("larger than {} pixels a side; make it smaller", limits.max_side)
            }
            _ => too_much_memory(limits),
        },
        ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            huffman::CUT.to_owned()
        }
        ImageError::Unsupported(what) => {
            format!(
                "a kind of picture that is not read here ({what}); convert it first, for instance with `magick in out.png`"
            )
        }
        other => damaged(&other.to_string()),
    }
}
