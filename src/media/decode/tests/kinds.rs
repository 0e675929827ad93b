//! Formats, channels, limits and files.

use image::{GrayImage, ImageBuffer, Rgb, Rgba, RgbaImage};

use super::super::*;

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
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP, ImageFormat::Gif]
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
fn channels() {
    let cases = [
        (DynamicImage::ImageRgba8(RgbaImage::from_pixel(1, 1, Rgba([9, 8, 7, 255]))), [9, 8, 7], None),
        (
            DynamicImage::ImageRgba8(RgbaImage::from_pixel(1, 1, Rgba([9, 8, 7, 0]))),
            [255; 3],
            Some("on white"),
        ),
        (DynamicImage::ImageLuma8(GrayImage::from_pixel(1, 1, image::Luma([77]))), [77; 3], None),
        (
            DynamicImage::ImageRgb16(ImageBuffer::from_pixel(1, 1, Rgb([0x12ff, 0xff00, 0x00ff]))),
            [0x12, 0xff, 0],
            Some("upper 8 bits"),
        ),
        (
            DynamicImage::ImageRgba16(ImageBuffer::from_pixel(1, 1, Rgba([0, 0, 0, 0x80ff]))),
            [127; 3],
            Some("on white; only the upper 8 bits"),
        ),
        (
            DynamicImage::ImageLumaA16(ImageBuffer::from_pixel(1, 1, image::LumaA([0, 0]))),
            [255; 3],
            Some("on white; only the upper 8 bits"),
        ),
    ];
    for (picture, rgb, remark) in cases {
        let pixels = decode(&encode(&picture, ImageFormat::Png), "x.png", &Limits::default()).unwrap();
        assert_eq!(pixels.rgb, rgb, "{:?}", picture.color());
        match remark {
            Some(part) => assert!(pixels.remark.unwrap().contains(part), "{part}"),
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
    let small = Limits { max_side: 4, ..Limits::of(1 << 20, 12) };
    let cases = [
        (Vec::new(), Limits::default(), "empty"),
        (b"hello, this is text".to_vec(), Limits::default(), "not a picture"),
        (png[..png.len() / 2].to_vec(), Limits::default(), "cut short"),
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
