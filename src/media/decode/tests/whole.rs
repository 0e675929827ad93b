//! Files that end early or contradict themselves: the whole picture, or an error.

use super::*;

/// Returns the offset at which the data of the first scan begin.
fn scan_data(jpeg: &[u8]) -> usize {
    let start = jpeg.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
    start + 2 + usize::from(jpeg[start + 2]) * 256 + usize::from(jpeg[start + 3])
}

#[test]
fn no_part_of_a_file_is_another_picture() {
    for fixture in fixtures() {
        let (name, bytes) = (&fixture.name, fixture.bytes());
        let whole = seen(&bytes).unwrap();
        let mut enough = bytes.len();
        for length in (0..bytes.len()).rev() {
            match seen(&bytes[..length]) {
                Ok(pixels) => {
                    assert_eq!(pixels.rgb, whole.rgb, "{name}: {length} of {} bytes", bytes.len());
                    enough = length;
                }
                Err(error) => assert!(error.starts_with("x: "), "{name}: {error}"),
            }
        }
        // These may be missing: end markers, second frames, later pages, other sizes of an icon.
        let spare = bytes.len() - enough;
        let bound = if name.starts_with("two.") || name.ends_with(".ico") { bytes.len() } else { 300 };
        assert!(spare <= bound, "{name}: {spare} bytes may be missing");
    }
}

#[test]
fn a_jpeg_that_was_cut_and_ended_again_is_refused() {
    for fixture in fixtures().iter().filter(|fixture| fixture.name.ends_with(".jpg")) {
        let (name, bytes) = (&fixture.name, fixture.bytes());
        let whole = seen(&bytes).unwrap();
        let data = scan_data(&bytes);
        let last = bytes.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap();
        for length in data..bytes.len() - 2 {
            let ended = [&bytes[..length], &[0xff, 0xd9]].concat();
            match seen(&ended) {
                // Without its last scans a progressive picture is a lawful one of less quality.
                Ok(pixels) if length > last + 1 => assert_eq!(pixels.rgb, whole.rgb, "{name}: {length}"),
                Ok(_) => assert!(name.contains("progressive"), "{name}: {length}"),
                Err(error) => assert!(error.contains("cut short") || error.contains("damaged"), "{error}"),
            }
        }
    }
}

#[test]
fn what_a_jpeg_may_lack_and_carry() {
    for fixture in fixtures().iter().filter(|fixture| fixture.name.ends_with(".jpg")) {
        let (name, bytes) = (&fixture.name, fixture.bytes());
        let whole = seen(&bytes).unwrap().rgb;
        let end = bytes.len() - 2;
        assert_eq!(bytes[end..], [0xff, 0xd9], "{name}");
        assert_eq!(seen(&bytes[..end]).unwrap().rgb, whole, "{name} without its end marker");
        let more = [&bytes[..], b"a second picture, as phones append", &bytes].concat();
        assert_eq!(seen(&more).unwrap().rgb, whole, "{name} with something behind it");
        let comment = [&bytes[..2], &[0xff, 0xfe, 0, 6], b"text", &[0xff, 0xff], &bytes[2..]].concat();
        assert_eq!(seen(&comment).unwrap().rgb, whole, "{name} with a comment and a fill byte");
    }
}

#[test]
fn damaged_jpegs() {
    let restarts = fixture("restarts.jpg");
    let marker = |number: u8| restarts.windows(2).position(|pair| pair == [0xff, 0xd0 + number]).unwrap();
    let mut swapped = restarts.clone();
    (swapped[marker(0) + 1], swapped[marker(1) + 1]) = (0xd1, 0xd0);
    let missing = [&restarts[..marker(0)], &restarts[marker(0) + 2..]].concat();
    let progressive = fixture("progressive.jpg");
    let second = scan_data(&progressive);
    let second = second + progressive[second..].windows(2).position(|pair| pair == [0xff, 0xc4]).unwrap();
    let headless = &progressive[..second];
    let arithmetic = [&[0xff, 0xd8, 0xff, 0xc9, 0, 8], &[8, 0, 1, 0, 1, 1][..]].concat();
    let twelve = {
        let mut bytes = fixture("baseline.jpg");
        let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        bytes[frame + 4] = 12;
        bytes
    };
    for (bytes, part) in [
        (&swapped[..], "damaged"),
        (&missing, ""),
        (headless, "scans are missing"),
        (&arithmetic, "arithmetic-coded"),
        (&twelve, "12-bit"),
    ] {
        let error = seen(bytes).unwrap_err();
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_png_may_lack_its_end_but_not_its_data() {
    let png = fixture("rgba.png");
    let whole = seen(&png).unwrap().rgb;
    let end = png.len() - 12;
    assert_eq!(png[end + 4..end + 8], *b"IEND");
    for length in end..png.len() {
        assert_eq!(seen(&png[..length]).unwrap().rgb, whole, "{length} of {}", png.len());
    }
    // The data in two chunks, of which the second is missing.
    let data = png.windows(4).position(|kind| kind == b"IDAT").unwrap();
    let length = u32::from_be_bytes(png[data - 4..data].try_into().unwrap()) as usize;
    let chunk = |data: &[u8]| {
        let body = [b"IDAT", data].concat();
        [&u32::try_from(data.len()).unwrap().to_be_bytes()[..], &body, &crc(&body).to_be_bytes()].concat()
    };
    let bytes = &png[data + 4..data + 4 + length];
    let (first, second) = (chunk(&bytes[..length / 2]), chunk(&bytes[length / 2..]));
    let half = [&png[..data - 4], &first].concat();
    assert!(seen(&half).is_err());
    let both = [&half[..], &second].concat();
    assert_eq!(seen(&both).unwrap().rgb, whole);
}

/// CRC-32 as PNG has it, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    let bit = |sum: u32, _| if sum & 1 == 1 { 0xedb8_8320 ^ (sum >> 1) } else { sum >> 1 };
    !bytes.iter().fold(!0u32, |sum, &byte| (0..8).fold(sum ^ u32::from(byte), bit))
}

#[test]
fn any_byte_may_be_wrong() {
    // Neither a panic nor an abort; that the pixels differ then, no format without checksums can tell.
    for fixture in fixtures() {
        let bytes = fixture.bytes();
        for at in 0..bytes.len().min(700) {
            let mut wrong = bytes.clone();
            wrong[at] ^= 0xff;
            if let Err(error) = seen(&wrong) {
                assert!(!error.contains("gave up"), "{}: a panic at byte {at}: {error}", fixture.name);
            }
        }
    }
}
