//! Decoding with limits: JPEG, PNG, WebP, GIF (first frame), BMP and TIFF.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader};

use super::policy::Limits;
use crate::error::{Error, Kind, Result};

/// An upright 8-bit RGB picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    pub width: u32,
    pub height: u32,
    /// Interleaved, [height, width, 3].
    pub rgb: Vec<u8>,
    /// What was dropped on the way (an alpha channel, bits below the eighth): one line or none.
    pub remark: Option<String>,
}

/// Reads and decodes the picture at `path`.
///
/// # Errors
/// [`Kind::File`] if it cannot be read, [`Kind::Media`] if it is no picture or over a limit.
pub fn open(path: &Path, limits: &Limits) -> Result<Pixels> {
    let name = path.display().to_string();
    let unreadable = |error: std::io::Error| Error::new(Kind::File, format!("{name}: {}", reason(&error)));
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(Error::new(Kind::File, format!("{name}: is a folder; give a picture file")));
    }
    let mut bytes = Vec::new();
    file.take(limits.max_bytes + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    decode(&bytes, &name, limits)
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// Decodes `bytes`; `name` stands for them in messages.
///
/// The format is told by the content, never by the name. Three 8-bit channels come out as
/// llama.cpp's own loader would take them: an alpha channel is dropped (not blended), 16-bit
/// samples keep their high byte, grey is repeated. Lossless formats give the same bytes; a JPEG may
/// differ by a few levels, since decoders round its transform and spread its colours differently.
/// EXIF orientation is applied, which llama.cpp does not do.
///
/// # Errors
/// [`Kind::Media`] naming the limit or what is wrong with the data.
pub fn decode(bytes: &[u8], name: &str, limits: &Limits) -> Result<Pixels> {
    let media = |text: String| Error::new(Kind::Media, format!("{name}: {text}"));
    if bytes.is_empty() {
        return Err(media("empty file; give a JPEG, PNG, WebP, GIF, BMP or TIFF picture".into()));
    }
    if bytes.len() as u64 > limits.max_bytes {
        return Err(media(format!("more than {} bytes; make it smaller", limits.max_bytes)));
    }
    let mut reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| media(e.to_string()))?;
    if reader.format().is_none() {
        return Err(media("not a picture this program reads (JPEG, PNG, WebP, GIF, BMP or TIFF)".into()));
    }
    let mut bounds = image::Limits::default();
    bounds.max_image_width = Some(limits.max_side);
    bounds.max_image_height = Some(limits.max_side);
    // 16-bit RGBA is the widest format the `image` crate hands out for these files, and a
    // decoder holds a second copy for a moment.
    bounds.max_alloc = Some(limits.max_pixels.saturating_mul(16));
    reader.limits(bounds);
    let damaged = |error: image::ImageError| match error {
        image::ImageError::Limits(_) => media(format!(
            "larger than {} pixels a side or than memory for {} pixels; make it smaller",
            limits.max_side, limits.max_pixels
        )),
        other => media(format!("damaged or unusual picture ({other})")),
    };
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(media(format!("{width}x{height} pixels: nothing to see")));
    }
    let pixels = u64::from(width) * u64::from(height);
    if pixels > limits.max_pixels {
        return Err(media(format!(
            "{width}x{height} is {pixels} pixels, the limit is {}; make it smaller",
            limits.max_pixels
        )));
    }
    // A damaged EXIF block does not make the picture unreadable.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    picture.apply_orientation(orientation);
    let remark = remark(&picture).map(|what| format!("{name}: {what}"));
    let rgb = to_rgb(&picture);
    Ok(Pixels { width: picture.width(), height: picture.height(), rgb, remark })
}

fn remark(picture: &DynamicImage) -> Option<&'static str> {
    let color = picture.color();
    match (color.has_alpha() && has_transparency(picture), color.bytes_per_pixel() > color.channel_count()) {
        (true, _) => Some("the alpha channel is ignored"),
        (false, true) => Some("only the upper 8 bits of each sample are used"),
        (false, false) => None,
    }
}

fn has_transparency(picture: &DynamicImage) -> bool {
    match picture {
        DynamicImage::ImageRgba8(p) => p.pixels().any(|p| p.0[3] != u8::MAX),
        DynamicImage::ImageLumaA8(p) => p.pixels().any(|p| p.0[1] != u8::MAX),
        _ => true,
    }
}

fn to_rgb(picture: &DynamicImage) -> Vec<u8> {
    let high = |sample: u16| sample.to_be_bytes()[0];
    match picture {
        DynamicImage::ImageRgb16(p) => p.as_raw().iter().map(|&s| high(s)).collect(),
        DynamicImage::ImageRgba16(p) => {
            p.pixels().flat_map(|p| [high(p.0[0]), high(p.0[1]), high(p.0[2])]).collect()
        }
        DynamicImage::ImageLuma16(p) => p.pixels().flat_map(|p| [high(p.0[0]); 3]).collect(),
        DynamicImage::ImageLumaA16(p) => p.pixels().flat_map(|p| [high(p.0[0]); 3]).collect(),
        DynamicImage::ImageRgb8(p) => p.as_raw().clone(),
        other => other.to_rgb8().into_raw(),
    }
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, ImageBuffer, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};

    use super::*;

    fn encode(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn gradient() -> RgbImage {
        RgbImage::from_fn(5, 3, |x, y| Rgb([x as u8 * 50, y as u8 * 80, 7]))
    }

    #[test]
    fn lossless_formats_keep_every_pixel() {
        let picture = gradient();
        for format in
            [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP, ImageFormat::Gif]
        {
            let bytes = encode(&DynamicImage::ImageRgb8(picture.clone()), format);
            let pixels = decode(&bytes, "x", &Limits::default()).unwrap();
            assert_eq!((pixels.width, pixels.height), (5, 3), "{format:?}");
            assert_eq!(pixels.rgb, *picture.as_raw(), "{format:?}");
        }
    }

    #[test]
    fn jpeg_is_near() {
        let flat = RgbImage::from_pixel(16, 16, Rgb([200, 30, 90]));
        let bytes = encode(&DynamicImage::ImageRgb8(flat), ImageFormat::Jpeg);
        let pixels = decode(&bytes, "x", &Limits::default()).unwrap();
        for (got, want) in pixels.rgb.chunks(3).flat_map(|p| p.iter().zip([200u8, 30, 90])) {
            assert!(got.abs_diff(want) <= 4, "{got} {want}");
        }
    }

    #[test]
    fn channels_as_upstream_takes_them() {
        let cases = [
            (
                DynamicImage::ImageRgba8(RgbaImage::from_pixel(1, 1, Rgba([9, 8, 7, 0]))),
                [9, 8, 7],
                Some("alpha"),
            ),
            (DynamicImage::ImageRgba8(RgbaImage::from_pixel(1, 1, Rgba([9, 8, 7, 255]))), [9, 8, 7], None),
            (DynamicImage::ImageLuma8(GrayImage::from_pixel(1, 1, image::Luma([77]))), [77; 3], None),
            (
                DynamicImage::ImageRgb16(ImageBuffer::from_pixel(1, 1, Rgb([0x12ff, 0xff00, 0x00ff]))),
                [0x12, 0xff, 0],
                Some("upper 8 bits"),
            ),
        ];
        for (picture, rgb, remark) in cases {
            let pixels = decode(&encode(&picture, ImageFormat::Png), "x.png", &Limits::default()).unwrap();
            assert_eq!(pixels.rgb, rgb, "{:?}", picture.color());
            match remark {
                Some(part) => assert!(pixels.remark.unwrap().contains(part)),
                None => assert_eq!(pixels.remark, None),
            }
        }
    }

    #[test]
    fn exif_orientation_is_applied() {
        // A TIFF block with the one entry 0x0112 (orientation) = 6: rotate by 90 degrees clockwise.
        let exif = [
            b"Exif\0\0II*\0".as_slice(),
            &8u32.to_le_bytes(),
            &1u16.to_le_bytes(),
            &0x0112u16.to_le_bytes(),
            &3u16.to_le_bytes(),
            &1u32.to_le_bytes(),
            &6u32.to_le_bytes(),
            &0u32.to_le_bytes(),
        ]
        .concat();
        let jpeg = encode(&DynamicImage::ImageRgb8(RgbImage::new(8, 4)), ImageFormat::Jpeg);
        let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
        let bytes = [&jpeg[..2], &[0xff, 0xe1], &length, &exif, &jpeg[2..]].concat();
        let pixels = decode(&bytes, "x", &Limits::default()).unwrap();
        assert_eq!((pixels.width, pixels.height), (4, 8));
    }

    #[test]
    fn hostile_pictures_give_one_line() {
        let png = encode(&DynamicImage::ImageRgb8(gradient()), ImageFormat::Png);
        let mut huge = png.clone();
        // IHDR width and height; the checksum is then wrong too, either is refused.
        huge[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
        let bmp_bomb = {
            let mut bmp = encode(&DynamicImage::ImageRgb8(gradient()), ImageFormat::Bmp);
            bmp[18..26].copy_from_slice(&[0x00, 0x40, 0, 0, 0x00, 0x40, 0, 0]);
            bmp
        };
        let small = Limits { max_bytes: 1 << 20, max_side: 4, max_pixels: 12 };
        let cases = [
            (Vec::new(), Limits::default(), "empty"),
            (b"hello, this is text".to_vec(), Limits::default(), "not a picture"),
            (png[..png.len() / 2].to_vec(), Limits::default(), "damaged"),
            (huge, Limits::default(), "bad.png"),
            (bmp_bomb, Limits::default(), "bad.png"),
            (png.clone(), small, "make it smaller"),
            (png.clone(), Limits { max_bytes: 10, ..small }, "more than 10 bytes"),
        ];
        for (bytes, limits, part) in cases {
            let error = decode(&bytes, "bad.png", &limits).unwrap_err();
            assert_eq!(error.kind(), Kind::Media);
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn files() {
        let folder = tempfile::tempdir().unwrap();
        let missing = open(&folder.path().join("no.png"), &Limits::default()).unwrap_err();
        assert!(missing.to_string().contains("no such file"), "{missing}");
        assert!(open(folder.path(), &Limits::default()).is_err());
        let path = folder.path().join("a.jpg");
        std::fs::write(&path, encode(&DynamicImage::ImageRgb8(gradient()), ImageFormat::Png)).unwrap();
        assert_eq!(open(&path, &Limits::default()).unwrap().rgb, *gradient().as_raw());
    }
}
