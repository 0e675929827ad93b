//! TIFF files: all sample formats and colours that have one meaning on a screen.

use std::io::Cursor;

use image::RgbImage;
use image::metadata::Orientation;
use tiff::decoder::ifd::Value;
use tiff::decoder::{BufferLayoutPreference, Decoder, DecodingResult, Limits as TiffLimits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError};

use super::format::RAW;
use super::huffman::CUT;
use super::rgb::{ON_WHITE, SHORTENED, over_white};
use super::{Outcome, Raster, afford, damaged, jpeg, too_much_memory};
use crate::media::policy::Limits;

const DNG_VERSION: Tag = Tag::Unknown(50_706);
const SUB_IFDS: Tag = Tag::Unknown(330);
const REFERENCE_BLACK_WHITE: Tag = Tag::Unknown(532);
/// Bytes of one tag's values: the offsets of two million strips.
const TAG_BYTES: usize = 16 << 20;

type Reader<'a> = Decoder<Cursor<&'a [u8]>>;

/// Decodes the first picture.
///
/// # Errors
/// A reason.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Outcome<Raster> {
    let failed = |error| reason(error, limits);
    let mut bounds = TiffLimits::default();
    bounds.ifd_value_size = TAG_BYTES;
    bounds.intermediate_buffer_size = usize::try_from(limits.max_bytes).unwrap_or(usize::MAX);
    bounds.decoding_buffer_size = usize::try_from(limits.max_memory).unwrap_or(usize::MAX);
    let mut reader = Decoder::new(Cursor::new(bytes)).map_err(failed)?.with_limits(bounds);
    if is_raw(&mut reader) {
        return Err(RAW.into());
    }
    let size = reader.dimensions().map_err(failed)?;
    let number = |reader: &mut Reader<'_>, tag| reader.find_tag_unsigned::<u16>(tag).ok().flatten();
    let orientation = number(&mut reader, Tag::Orientation)
        .and_then(|n| Orientation::from_exif(u8::try_from(n).unwrap_or(0)))
        .unwrap_or(Orientation::NoTransforms);
    let samples = u64::from(number(&mut reader, Tag::SamplesPerPixel).unwrap_or(1));
    let colour = reader.colortype().map_err(failed)?;
    let wide = u64::from(colour.bit_depth().div_ceil(8));
    let pixels = u64::from(size.0) * u64::from(size.1);
    let shortened = if wide > 1 { samples * pixels } else { 0 };
    afford(limits, size, samples * wide, shortened, orientation)?;
    let extra = reader.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).ok().flatten().unwrap_or_default();
    whole(&mut reader, bytes, size, samples * u64::from(colour.bit_depth()))?;
    let mut result = DecodingResult::U8(Vec::new());
    let layout = reader.read_image_to_buffer(&mut result).map_err(failed)?;
    if result.as_buffer(0).byte_len() < layout.complete_len {
        return Err(too_much_memory(limits));
    }
    let range = range(&mut reader);
    let levels = levels(result, colour.bit_depth(), size.0 as usize, range)?;
    let reference = reader.find_tag(REFERENCE_BLACK_WHITE).ok().flatten().map(numbers).unwrap_or_default();
    if matches!(colour, ColorType::YCbCr(_)) && !full_range(&reference) {
        return Err(unread("YCbCr with a range of its own"));
    }
    let mut notes = Vec::new();
    let (rgb, transparent) = colours(&levels, colour, &layout, &extra, pixels)?;
    if transparent {
        notes.push(ON_WHITE);
    }
    if wide > 1 {
        notes.push(SHORTENED);
    }
    if has_pages(&mut reader) {
        notes.push("only the first of its pages is shown");
    }
    let picture = RgbImage::from_raw(size.0, size.1, rgb).ok_or_else(|| damaged("pixels are missing"))?;
    Ok(Raster { picture, orientation, notes })
}

/// A raw file of a camera, whose first picture is a preview.
fn is_raw(reader: &mut Reader<'_>) -> bool {
    let mut has = |tag| reader.find_tag(tag).is_ok_and(|value| value.is_some());
    let (dng, others) = (has(DNG_VERSION), has(SUB_IFDS));
    let reduced = reader.find_tag_unsigned::<u32>(Tag::NewSubfileType).ok().flatten().unwrap_or(0) & 1 == 1;
    dng || (others && reduced)
}

/// Whether another picture of full size follows.
fn has_pages(reader: &mut Reader<'_>) -> bool {
    while reader.more_images() && reader.next_image().is_ok() {
        let kind = reader.find_tag_unsigned::<u32>(Tag::NewSubfileType).ok().flatten().unwrap_or(0);
        if kind & !2 == 0 {
            return true;
        }
    }
    false
}

/// The strips or tiles hold what they must, as far as the decoder does not look itself.
fn whole(reader: &mut Reader<'_>, bytes: &[u8], size: (u32, u32), pixel_bits: u64) -> Outcome<()> {
    let mut list = |tags: [Tag; 2]| -> Vec<u64> {
        tags.into_iter()
            .find_map(|tag| reader.find_tag_unsigned_vec::<u64>(tag).ok().flatten())
            .unwrap_or_default()
    };
    let offsets = list([Tag::StripOffsets, Tag::TileOffsets]);
    let counts = list([Tag::StripByteCounts, Tag::TileByteCounts]);
    let compression = reader.find_tag_unsigned::<u16>(Tag::Compression).ok().flatten().unwrap_or(1);
    match compression {
        // The decoder reads on into what follows a short strip.
        1 => {
            let row = (u64::from(size.0) * pixel_bits).div_ceil(8);
            let held = counts.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
            if held < row.saturating_mul(u64::from(size.1)) { Err(CUT.into()) } else { Ok(()) }
        }
        // A JPEG picture each, whose decoder trusts its header and shows missing data grey.
        7 => {
            let tables = reader.get_tag_u8_vec(Tag::JPEGTables).unwrap_or_default();
            let chunk = reader.chunk_dimensions();
            for (offset, count) in offsets.iter().zip(&counts) {
                let range = usize::try_from(*offset).unwrap_or(usize::MAX)
                    ..usize::try_from(offset.saturating_add(*count)).unwrap_or(usize::MAX);
                let part = bytes.get(range).ok_or(CUT)?;
                let (frame, _) = jpeg::header(part)?;
                if frame.width > chunk.0 || frame.height > chunk.1.max(size.1) {
                    return Err(damaged("a tile is larger than the file says"));
                }
                jpeg::check(&tables, part)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Values of floating-point samples that are black and white, if the file says so.
fn range(reader: &mut Reader<'_>) -> Option<(f64, f64)> {
    let mut end = |tag| reader.find_tag(tag).ok()?.map(numbers)?.first().copied();
    let (black, white) = (end(Tag::SMinSampleValue)?, end(Tag::SMaxSampleValue)?);
    (white > black).then_some((black, white))
}

/// The numbers of a tag; none for texts.
fn numbers(value: Value) -> Vec<f64> {
    match value {
        Value::List(values) => values.into_iter().flat_map(numbers).collect(),
        Value::Byte(n) => vec![n.into()],
        Value::Short(n) => vec![n.into()],
        Value::Unsigned(n) => vec![n.into()],
        Value::Signed(n) => vec![n.into()],
        Value::Float(n) => vec![n.into()],
        Value::Double(n) => vec![n],
        Value::Rational(n, of) => vec![f64::from(n) / f64::from(of)],
        _ => Vec::new(),
    }
}

/// Samples as 8-bit levels, in the file's order.
fn levels(result: DecodingResult, bits: u8, width: usize, range: Option<(f64, f64)>) -> Outcome<Vec<u8>> {
    Ok(match result {
        DecodingResult::U8(samples) if bits == 8 => samples,
        DecodingResult::U8(samples) if matches!(bits, 1 | 2 | 4) => {
            let per = usize::from(8 / bits);
            let scale = 255 / ((1u16 << bits) - 1) as u8;
            let row = |row: &[u8]| -> Vec<u8> {
                let level = |x: usize| row[x / per] << (x % per * usize::from(bits)) >> (8 - bits);
                (0..width).map(|x| level(x) * scale).collect()
            };
            samples.chunks_exact(width.div_ceil(per)).flat_map(row).collect()
        }
        DecodingResult::U16(samples) if bits == 16 => samples.iter().map(|s| s.to_be_bytes()[0]).collect(),
        DecodingResult::U32(samples) if bits == 32 => samples.iter().map(|s| s.to_be_bytes()[0]).collect(),
        DecodingResult::U64(samples) => samples.iter().map(|s| s.to_be_bytes()[0]).collect(),
        DecodingResult::F16(samples) => scaled(samples.iter().map(|s| f64::from(s.to_f32())), range)?,
        DecodingResult::F32(samples) => scaled(samples.iter().map(|s| f64::from(*s)), range)?,
        DecodingResult::F64(samples) => scaled(samples.iter().copied(), range)?,
        DecodingResult::I8(_) | DecodingResult::I16(_) | DecodingResult::I32(_) | DecodingResult::I64(_) => {
            return Err(unread("signed numbers as samples"));
        }
        _ => return Err(unread(&format!("{bits} bits a sample"))),
    })
}

/// Floating-point samples from 0 to 1, or from and to what the file says.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn scaled(samples: impl Iterator<Item = f64> + Clone, range: Option<(f64, f64)>) -> Outcome<Vec<u8>> {
    let (low, high) =
        samples.clone().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), s| (low.min(s), high.max(s)));
    let (black, white) = range.unwrap_or((0.0, 1.0));
    if samples.clone().any(f64::is_nan) || low < black || high > white {
        return Err(format!(
            "a TIFF file with floating-point samples from {low} to {high}, and nothing says which are black and white; convert it first, for instance with `magick in.tif -auto-level -depth 8 out.png`"
        ));
    }
    Ok(samples.map(|s| ((s - black) / (white - black) * 255.0).round() as u8).collect())
}

fn full_range(reference: &[f64]) -> bool {
    reference.is_empty() || reference == [0.0, 255.0, 128.0, 255.0, 128.0, 255.0]
}

/// RGB of all pixels, and whether some are transparent.
fn colours(
    levels: &[u8],
    colour: ColorType,
    layout: &BufferLayoutPreference,
    extra: &[u16],
    pixels: u64,
) -> Outcome<(Vec<u8>, bool)> {
    let pixels = usize::try_from(pixels).unwrap_or(usize::MAX);
    let count = usize::from(colour.num_samples());
    if levels.len() < pixels.saturating_mul(count) {
        return Err(damaged("pixels are missing"));
    }
    let planar = layout.planes > 1;
    let plane = levels.len() / layout.planes.max(1);
    let sample = |pixel: usize, channel: usize| match planar {
        true => levels[channel * plane + pixel],
        false => levels[pixel * count + channel],
    };
    // ExtraSamples: 1 is opacity that the colours were multiplied by, 2 opacity alone. A fourth sample that the file
    // does not explain is opacity, as Pillow has it; one that it calls neither is none.
    let associated = extra.first() == Some(&1);
    let opacity = match (colour, extra.first()) {
        (ColorType::RGBA(_), None | Some(1 | 2)) => Some(3),
        (ColorType::Multiband { num_samples: 2.., .. }, Some(1 | 2)) => Some(1),
        (ColorType::CMYKA(_), Some(1 | 2)) => Some(4),
        _ => None,
    };
    let rgb = |pixel: usize| -> [u8; 3] {
        let at = |channel| sample(pixel, channel);
        match colour {
            ColorType::RGB(_) | ColorType::RGBA(_) => [at(0), at(1), at(2)],
            ColorType::CMYK(_) | ColorType::CMYKA(_) => {
                // The ink that is missing, under the black; as Pillow.
                let light = 255 - at(3);
                [0, 1, 2].map(|c| light - over_black(at(c), light))
            }
            ColorType::YCbCr(_) => ycbcr(at(0), at(1), at(2)),
            _ => [at(0); 3],
        }
    };
    let known = matches!(
        colour,
        ColorType::Gray(_)
            | ColorType::RGB(_)
            | ColorType::RGBA(_)
            | ColorType::CMYK(_)
            | ColorType::CMYKA(_)
            | ColorType::YCbCr(8)
    ) || matches!(colour, ColorType::Multiband { num_samples: 2, .. } if !extra.is_empty());
    if !known {
        return Err(unread(&format!("{colour:?} as its colours")));
    }
    let mut transparent = false;
    let mut out = Vec::with_capacity(pixels * 3);
    for pixel in 0..pixels {
        let shown = rgb(pixel);
        let alpha = opacity.map_or(255, |channel| sample(pixel, channel));
        transparent |= alpha != 255;
        out.extend(shown.map(|level| match associated {
            true => level.saturating_add(255 - alpha),
            false => over_white(level, alpha),
        }));
    }
    Ok((out, transparent))
}

/// The product of two levels that are shares of 255, rounded.
fn over_black(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    u8::try_from((product + (product >> 8)) >> 8).unwrap_or(u8::MAX)
}

/// ITU-R BT.601 with all 256 levels, as in JPEG files (JFIF 1.02), in fixed point with 16 bits.
fn ycbcr(luma: u8, blue: u8, red: u8) -> [u8; 3] {
    let (luma, blue, red) = (i32::from(luma) << 16, i32::from(blue) - 128, i32::from(red) - 128);
    let level = |value: i32| u8::try_from(((value + (1 << 15)) >> 16).clamp(0, 255)).unwrap_or(u8::MAX);
    [level(luma + 91_881 * red), level(luma - 22_554 * blue - 46_802 * red), level(luma + 116_130 * blue)]
}

fn unread(what: &str) -> String {
    format!(
        "a TIFF file with {what}, which is not read here; convert it first, for instance with `magick in.tif out.png`"
    )
}

fn reason(error: TiffError, limits: &Limits) -> String {
    match error {
        TiffError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => CUT.into(),
        TiffError::LimitsExceeded => too_much_memory(limits),
        TiffError::UnsupportedError(what) => unread(&format!("features of its own ({what})")),
        other => damaged(&other.to_string()),
    }
}
