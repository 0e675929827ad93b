//! TIFF files of every colour and sample format, written tag by tag.

use super::*;

const SHORT: u16 = 3;
const LONG: u16 = 4;
const FLOAT: u16 = 11;

/// A little-endian file with one directory before its strips, so that its end is the last strip's.
fn tiff(size: (u32, u32), tags: &[(u16, u16, &[u32])], strips: &[&[u8]]) -> Vec<u8> {
    let mut all: Vec<(u16, u16, Vec<u32>)> = vec![
        (256, LONG, vec![size.0]),
        (257, LONG, vec![size.1]),
        (273, LONG, vec![0; strips.len()]),
        (278, LONG, vec![size.1]),
        (279, LONG, strips.iter().map(|strip| u32::try_from(strip.len()).unwrap()).collect()),
    ];
    all.extend(tags.iter().map(|(tag, kind, values)| (*tag, *kind, values.to_vec())));
    all.sort_by_key(|entry| entry.0);
    let width = |kind: u16| if kind == SHORT { 2 } else { 4 };
    let start = 8 + 2 + all.len() * 12 + 4;
    let outside: usize = all.iter().map(|(_, k, v)| v.len() * width(*k)).filter(|bytes| *bytes > 4).sum();
    let mut data = start + outside;
    for entry in all.iter_mut().filter(|entry| entry.0 == 273) {
        for (offset, strip) in entry.2.iter_mut().zip(strips) {
            *offset = u32::try_from(data).unwrap();
            data += strip.len();
        }
    }
    let mut file = [b"II*\0".as_slice(), &8u32.to_le_bytes()].concat();
    file.extend(u16::try_from(all.len()).unwrap().to_le_bytes());
    let mut far = Vec::new();
    for (tag, kind, values) in &all {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()[..width(*kind)].to_vec()).collect();
        file.extend(tag.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend(u32::try_from(values.len()).unwrap().to_le_bytes());
        if bytes.len() > 4 {
            file.extend(u32::try_from(start + far.len()).unwrap().to_le_bytes());
            far.extend(bytes);
        } else {
            file.extend([&bytes[..], &[0; 4][bytes.len()..]].concat());
        }
    }
    file.extend([0; 4]);
    file.extend(far);
    strips.iter().for_each(|strip| file.extend_from_slice(strip));
    file
}

/// Tags of `samples` samples of `bits` bits with the photometric interpretation `meaning`.
fn kind(samples: u32, bits: u32, meaning: u32) -> Vec<(u16, u16, Vec<u32>)> {
    vec![(258, SHORT, vec![bits; samples as usize]), (262, SHORT, vec![meaning]), (277, SHORT, vec![samples])]
}

fn two(base: Vec<(u16, u16, Vec<u32>)>, more: &[(u16, u16, &[u32])], strips: &[&[u8]]) -> Vec<u8> {
    let mut tags: Vec<(u16, u16, &[u32])> = base.iter().map(|(t, k, v)| (*t, *k, v.as_slice())).collect();
    tags.extend(more);
    tiff((2, 1), &tags, strips)
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

const PLANAR: (u16, u16, &[u32]) = (284, SHORT, &[2]);
const ASSOCIATED: (u16, u16, &[u32]) = (338, SHORT, &[1]);
const UNASSOCIATED: (u16, u16, &[u32]) = (338, SHORT, &[2]);
const UNEXPLAINED: (u16, u16, &[u32]) = (338, SHORT, &[0]);
const FLOATING: (u16, u16, &[u32]) = (339, SHORT, &[3, 3, 3]);
const ONE_FLOATING: (u16, u16, &[u32]) = (339, SHORT, &[3]);

#[test]
fn colours_and_samples() {
    let rgba = [10, 20, 30, 0, 40, 50, 60, 255];
    let half = [10, 20, 30, 100, 40, 50, 60, 255];
    let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 6, 1 | 6 << 3, 0, 0, 10, 20, 30, 40, 50, 60];
    let sixteen: Vec<u8> = [0x12ffu16, 0x34ff].iter().flat_map(|s| s.to_le_bytes()).collect();
    let thirty_two: Vec<u8> = [0x12ff_ffffu32, 0x34ff_ffff].iter().flat_map(|s| s.to_le_bytes()).collect();
    let doubles: Vec<u8> = [0f64, 1.0].iter().flat_map(|s| s.to_le_bytes()).collect();
    let ends = [(340, FLOAT, &[(-2f32).to_bits()][..]), (341, FLOAT, &[2f32.to_bits()][..])];
    for (what, file, expected, remark) in [
        ("RGB", two(kind(3, 8, 2), &[], &[&[10, 20, 30, 40, 50, 60]]), [10, 20, 30, 40, 50, 60], ""),
        (
            "RGB in planes",
            two(kind(3, 8, 2), &[PLANAR], &[&[10, 40], &[20, 50], &[30, 60]]),
            [10, 20, 30, 40, 50, 60],
            "",
        ),
        ("opacity", two(kind(4, 8, 2), &[UNASSOCIATED], &[&rgba]), [255, 255, 255, 40, 50, 60], "on white"),
        (
            "opacity in planes",
            two(kind(4, 8, 2), &[UNASSOCIATED, PLANAR], &[&[10, 40], &[20, 50], &[30, 60], &[0, 255]]),
            [255, 255, 255, 40, 50, 60],
            "on white",
        ),
        ("multiplied", two(kind(4, 8, 2), &[ASSOCIATED], &[&half]), [165, 175, 185, 40, 50, 60], "on white"),
        ("a fourth sample", two(kind(4, 8, 2), &[UNEXPLAINED], &[&rgba]), [10, 20, 30, 40, 50, 60], ""),
        ("grey", two(kind(1, 8, 1), &[], &[&[7, 200]]), [7, 7, 7, 200, 200, 200], ""),
        ("white is zero", two(kind(1, 8, 0), &[], &[&[0, 250]]), [255, 255, 255, 5, 5, 5], ""),
        (
            "grey with opacity",
            two(kind(2, 8, 1), &[UNASSOCIATED], &[&[7, 255, 9, 0]]),
            [7, 7, 7, 255, 255, 255],
            "on white",
        ),
        ("one bit", two(kind(1, 1, 1), &[], &[&[0x40]]), [0, 0, 0, 255, 255, 255], ""),
        ("two bits", two(kind(1, 2, 1), &[], &[&[0x60]]), [85, 85, 85, 170, 170, 170], ""),
        ("four bits", two(kind(1, 4, 1), &[], &[&[0x1f]]), [17, 17, 17, 255, 255, 255], ""),
        ("16 bits", two(kind(1, 16, 1), &[], &[&sixteen]), [0x12, 0x12, 0x12, 0x34, 0x34, 0x34], "8 bits"),
        ("32 bits", two(kind(1, 32, 1), &[], &[&thirty_two]), [0x12, 0x12, 0x12, 0x34, 0x34, 0x34], "8 bits"),
        ("CMYK", two(kind(4, 8, 5), &[], &[&[0, 0, 0, 0, 255, 0, 0, 55]]), [255, 255, 255, 0, 200, 200], ""),
        (
            "CMYK in planes",
            two(kind(4, 8, 5), &[PLANAR], &[&[0, 255], &[0, 0], &[0, 0], &[0, 55]]),
            [255, 255, 255, 0, 200, 200],
            "",
        ),
        (
            "floating point",
            two(kind(1, 32, 1), &[ONE_FLOATING], &[&floats(&[0.0, 0.5])]),
            [0, 0, 0, 128, 128, 128],
            "8 bits",
        ),
        (
            "floating-point RGB",
            two(kind(3, 32, 2), &[FLOATING], &[&floats(&[0.0, 0.5, 1.0, 1.0, 0.5, 0.0])]),
            [0, 128, 255, 255, 128, 0],
            "8 bits",
        ),
        ("doubles", two(kind(1, 64, 1), &[ONE_FLOATING], &[&doubles]), [0, 0, 0, 255, 255, 255], "8 bits"),
        (
            "floating point with its range",
            two(kind(1, 32, 1), &[ONE_FLOATING, ends[0], ends[1]], &[&floats(&[-2.0, 1.0])]),
            [0, 0, 0, 191, 191, 191],
            "8 bits",
        ),
        (
            "YCbCr",
            two(kind(3, 8, 6), &[(530, SHORT, &[1, 1])], &[&[90, 128, 128, 76, 85, 255]]),
            [90, 90, 90, 254, 0, 0],
            "",
        ),
        ("Zstandard", two(kind(3, 8, 2), &[(259, SHORT, &[50_000])], &[&zstd]), [10, 20, 30, 40, 50, 60], ""),
    ] {
        let pixels = seen(&file).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(pixels.rgb, expected, "{what}");
        let said = pixels.remark.unwrap_or_default();
        assert_eq!(remark.is_empty(), said.is_empty(), "{what}: {said}");
        assert!(said.contains(remark), "{what}: {said}");
        for length in 0..file.len() {
            assert!(seen(&file[..length]).is_err(), "{what}: {length} of {} bytes", file.len());
        }
    }
}

#[test]
fn the_true_reason() {
    let jpeg = fixture("baseline.jpg");
    let cut = [&jpeg[..jpeg.len() / 2], &[0xff, 0xd9]].concat();
    let jpeg_tags = |samples| {
        let mut tags = kind(samples, 8, 6);
        tags.push((259, SHORT, vec![7]));
        tags
    };
    let as_tags = |tags: &[(u16, u16, Vec<u32>)], size, strip: &[u8]| {
        let tags: Vec<(u16, u16, &[u32])> = tags.iter().map(|(t, k, v)| (*t, *k, v.as_slice())).collect();
        tiff(size, &tags, &[strip])
    };
    for (file, parts) in [
        (
            two(kind(1, 32, 1), &[ONE_FLOATING], &[&floats(&[-3.5, 1200.0])]),
            &["floating-point", "-3.5", "1200", "magick"][..],
        ),
        (two(kind(1, 32, 1), &[ONE_FLOATING], &[&floats(&[f32::NAN, 0.0])]), &["floating-point"]),
        (two(kind(1, 16, 1), &[(339, SHORT, &[2])], &[&[0; 4]]), &["signed", "magick"]),
        (two(kind(3, 8, 6), &[(530, SHORT, &[2, 2])], &[&[90, 90, 90, 90, 128, 128]]), &["hroma", "magick"]),
        (two(kind(1, 8, 3), &[(320, SHORT, &[0; 768])], &[&[0, 1]]), &["RGBPalette", "magick"]),
        (two(kind(3, 8, 8), &[], &[&[0; 6]]), &["CIELab", "magick"]),
        (two(kind(3, 8, 9), &[], &[&[0; 6]]), &["Lab", "magick"]),
        (two(kind(1, 8, 1), &[(259, SHORT, &[6])], &[&[0, 1]]), &["JPEG", "magick"]),
        (two(kind(3, 8, 2), &[(50_706, LONG, &[0x401])], &[&[0; 6]]), &["raw file", "darktable-cli"]),
        (
            two(kind(3, 8, 2), &[(254, LONG, &[1]), (330, LONG, &[8])], &[&[0; 6]]),
            &["raw file", "darktable-cli"],
        ),
        // A strip that is shorter than its rows, with other data behind it.
        ([&two(kind(3, 8, 2), &[], &[&[0; 5]])[..], &[1; 40]].concat(), &["cut short"]),
        (as_tags(&jpeg_tags(3), (24, 20), &cut), &["cut short"]),
        // A tile of another size than the file says, which would be decoded before anything is compared.
        (as_tags(&jpeg_tags(3), (8, 8), &jpeg), &["larger"]),
    ] {
        let error = seen(&file).unwrap_err();
        for part in parts {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
    let whole = seen(&as_tags(&jpeg_tags(3), (24, 20), &jpeg)).unwrap();
    let alone = seen(&jpeg).unwrap();
    let worst = whole.rgb.iter().zip(&alone.rgb).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(worst <= 3, "{worst} levels off");
}

#[test]
fn pages() {
    let mut bytes = Cursor::new(Vec::new());
    let mut encoder = ::tiff::encoder::TiffEncoder::new(&mut bytes).unwrap();
    for level in [9u8, 200] {
        encoder.write_image::<::tiff::encoder::colortype::Gray8>(1, 1, &[level]).unwrap();
    }
    let pixels = seen(bytes.get_ref()).unwrap();
    assert_eq!(pixels.rgb, [9; 3]);
    assert!(pixels.remark.unwrap().contains("first of its pages"));
}
