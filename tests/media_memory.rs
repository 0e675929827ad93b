//! Memory that decoding takes, counted by the allocator: a picture's pixels bound it, not the claims of its
//! file.

use std::io::Cursor;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use illava::media::decode;
use illava::media::policy::Limits;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const MIB: usize = 1 << 20;
/// For a file of a few thousand pixels: tables and windows of the decoders.
const SMALL: usize = 24 * MIB;

/// The size or the error, and the bytes that decoding held at its most.
fn cost(bytes: &[u8], limits: &Limits) -> (Result<(u32, u32), String>, usize) {
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let seen = decode(bytes, "x", limits);
    let most = HEAP.peak_usage().saturating_sub(before);
    (seen.map(|pixels| (pixels.width, pixels.height)).map_err(|error| error.to_string()), most)
}

/// A file of tools/make_picture_fixtures.py.
fn fixture(name: &str) -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pictures.json");
    let all: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let files = all["files"].as_array().unwrap();
    let file = files.iter().find(|file| file["name"] == name).unwrap();
    BASE64_STANDARD.decode(file["file"].as_str().unwrap()).unwrap()
}

fn crc(bytes: &[u8]) -> u32 {
    let bit = |sum: u32, _| if sum & 1 == 1 { 0xedb8_8320 ^ (sum >> 1) } else { sum >> 1 };
    !bytes.iter().fold(!0u32, |sum, &byte| (0..8).fold(sum ^ u32::from(byte), bit))
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [kind, data].concat();
    [&u32::try_from(data.len()).unwrap().to_be_bytes()[..], &body, &crc(&body).to_be_bytes()].concat()
}

/// PNG files of one pixel whose metadata inflate to `size` bytes.
fn png_bombs(size: usize) -> Vec<(&'static str, Vec<u8>)> {
    let mut plain = Cursor::new(Vec::new());
    PngEncoder::new(&mut plain).write_image(&[7; 3], 1, 1, ExtendedColorType::Rgb8).unwrap();
    let plain = plain.into_inner();
    let mut bytes = Cursor::new(Vec::new());
    let mut encoder = PngEncoder::new(&mut bytes);
    encoder.set_icc_profile(vec![0; size]).unwrap();
    encoder.write_image(&[7; 3], 1, 1, ExtendedColorType::Rgb8).unwrap();
    let profile = bytes.into_inner();
    let at = profile.windows(4).position(|kind| kind == b"iCCP").unwrap();
    let length = u32::from_be_bytes(profile[at - 4..at].try_into().unwrap()) as usize;
    let data = &profile[at + 4..at + 4 + length];
    let zlib = &data[data.iter().position(|&byte| byte == 0).unwrap() + 2..];
    let after = 8 + 25;
    let with = |chunk: Vec<u8>| [&plain[..after], &chunk, &plain[after..]].concat();
    let icon = |png: &[u8]| {
        let entry = [1u8, 1, 0, 0, 1, 0, 32, 0];
        let place = [u32::try_from(png.len()).unwrap().to_le_bytes(), 22u32.to_le_bytes()].concat();
        [&[0, 0, 1, 0, 1, 0][..], &entry, &place, png].concat()
    };
    vec![
        ("an icon's profile", icon(&profile)),
        ("a profile", profile.clone()),
        ("a text", with(chunk(b"zTXt", &[b"Comment\0\0", zlib].concat()))),
        ("a text in Unicode", with(chunk(b"iTXt", &[b"Comment\0\x01\0\0\0", zlib].concat()))),
    ]
}

/// A JPEG of one colour, `width` and `height` multiples of 32: every unit is the same 14 bits.
fn flat_jpeg(width: u16, height: u16, orientation: u8) -> Vec<u8> {
    let small = fixture("baseline.jpg");
    let scan = small.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
    let data = scan + 2 + usize::from(small[scan + 3]);
    let frame = small.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    let mut head = small[2..data].to_vec();
    head[frame + 3..frame + 7].copy_from_slice(&[height.to_be_bytes(), width.to_be_bytes()].concat());
    let exif = [
        b"\xff\xe1\0\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".as_slice(),
        &[orientation, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    // The standard tables: luma 00 and 1010, colours 00 and 00 each; four units are seven bytes.
    let four = (0..4).fold(0u64, |bits, _| bits << 14 | 0b00_1010_0000_0000).to_be_bytes();
    let units = usize::from(width / 8) * usize::from(height / 8);
    [&[0xff, 0xd8], &exif[..], &head, &four[1..].repeat(units / 4), &[0xff, 0xd9]].concat()
}

/// A little-endian TIFF directory of `(tag, type, count, value)`.
fn tiff(entries: &[(u16, u16, u32, u32)]) -> Vec<u8> {
    let mut file = b"II*\0\x08\0\0\0".to_vec();
    file.extend(u16::try_from(entries.len()).unwrap().to_le_bytes());
    for (tag, kind, count, value) in entries {
        file.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        file.extend([count.to_le_bytes(), value.to_le_bytes()].concat());
    }
    file.extend([0; 4096]);
    file
}

fn patched(name: &str, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = fixture(name);
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn memory_is_bounded_by_the_pixels() {
    let limits = Limits::default();
    for (what, file) in png_bombs(200 * MIB) {
        assert!(file.len() < MIB, "{what}: the file itself is small");
        let (seen, most) = cost(&file, &limits);
        assert_eq!(seen, Ok((1, 1)), "{what}");
        assert!(most < SMALL, "{what}: {} MiB", most / MIB);
    }
    let grey = [(256, 4, 1, 1), (257, 4, 1, 1), (258, 3, 1, 8), (262, 3, 1, 1)];
    let lying = |entry| tiff(&[&grey[..], &[entry]].concat());
    let webp = fixture("lossless.webp");
    let mut exif = [&webp[..], b"EXIF", &3_000_000_000u32.to_le_bytes(), &[0; 64]].concat();
    let riff = u32::try_from(exif.len() - 8).unwrap();
    exif[4..8].copy_from_slice(&riff.to_le_bytes());
    let jpeg = fixture("baseline.jpg");
    let sizes = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap() + 5;
    let icc = [&[0xff, 0xe2, 0xff, 0xff][..], &[0x41; 0xfffd]].concat().repeat(40);
    for (what, file) in [
        ("a tag of 4 G values", lying((34_675, 7, 0xffff_fff0, 8))),
        ("2 G strips", lying((273, 4, 0x7fff_ffff, 8))),
        ("4 G bits a sample", lying((258, 3, 0xffff_ffff, 8))),
        ("an EXIF chunk of 3 GB", exif),
        ("a RIFF file of 4 GB", patched("lossless.webp", 4, &[0xf0, 0xff, 0xff, 0xff])),
        ("a canvas of 65,535 squared", patched("palette.gif", 6, &[0xff; 4])),
        ("a palette of 2 G colours", patched("palette.bmp", 46, &[0xff, 0xff, 0xff, 0x7f])),
        ("a bitmap of 2 G rows", patched("rgb.bmp", 18, &[0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f])),
        ("a JPEG of 65,535 squared", patched("baseline.jpg", sizes, &[0xff; 4])),
        ("a PNG of 2 G rows", patched("colour.png", 16, &[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff])),
        ("a PNM of 4 G columns", b"P6 4000000000 4000000000 255\n".to_vec()),
        ("profiles of a JPEG", [&jpeg[..2], &icc, &jpeg[2..]].concat()),
    ] {
        let (seen, most) = cost(&file, &limits);
        assert!(most < SMALL, "{what}: {} MiB, {seen:?}", most / MIB);
        assert!(seen.is_err() || seen == Ok((24, 20)), "{what}: {seen:?}");
    }

    // 108 megapixels, what telephones write, upright and turned; also within what a server allows.
    for (orientation, size, copies) in [(1, (12_000, 9_000), 1), (6, (9_000, 12_000), 2)] {
        let file = flat_jpeg(12_000, 9_000, orientation);
        for limits in [limits, Limits::of(32 << 20, 120_000_000)] {
            let (seen, most) = cost(&file, &limits);
            assert_eq!(seen, Ok(size));
            assert!(most <= copies * 12_000 * 9_000 * 3 + 2 * file.len() + SMALL, "{} MiB", most / MIB);
            assert!(most as u64 <= limits.max_memory);
        }
    }
    // All coefficients of a progressive picture are held at once.
    let progressive = fixture("progressive.jpg");
    let small = Limits { max_memory: 4_000, ..limits };
    let (seen, most) = cost(&progressive, &small);
    assert!(seen.unwrap_err().contains("to decode, the limit is"));
    assert!(most < 64 << 10, "{most} bytes");
}
