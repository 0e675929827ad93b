//! The format of a file by its first bytes, also of formats that are not read here.

use super::Outcome;

/// The formats that are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Jpeg,
    Png,
    WebP,
    Gif,
    Bmp,
    Tiff,
    Pnm,
    Ico,
}

/// The formats that are decoded, for messages.
pub(super) const READ: &str = "JPEG, PNG, WebP, GIF, BMP, TIFF, PNM or ICO";

/// The format that `bytes` begin as.
///
/// # Errors
/// A reason that names the format if it is known, and the command that converts it.
pub(super) fn tell(bytes: &[u8]) -> Outcome<Format> {
    match look(bytes) {
        Told::Read(format) => Ok(format),
        Told::Unread(reason) | Told::NoPicture(reason) => Err(reason),
    }
}

/// Whether `bytes` begin as a picture, also as one that is not read here.
pub(super) fn is_picture(bytes: &[u8]) -> bool {
    !matches!(look(bytes), Told::NoPicture(_))
}

/// Kind of a file.
enum Told {
    Read(Format),
    /// A picture or a drawing, and the reason why it is not read.
    Unread(String),
    /// Another kind of file, and its name.
    NoPicture(String),
}

fn look(bytes: &[u8]) -> Told {
    let starts: [(&[u8], Format); 10] = [
        (b"\xff\xd8", Format::Jpeg),
        (b"\x89PNG\r\n\x1a\n", Format::Png),
        (b"GIF87a", Format::Gif),
        (b"GIF89a", Format::Gif),
        (b"BM", Format::Bmp),
        (b"II*\0", Format::Tiff),
        (b"MM\0*", Format::Tiff),
        (b"II+\0", Format::Tiff),
        (b"MM\0+", Format::Tiff),
        (b"\0\0\x01\0", Format::Ico),
    ];
    if is_camera_raw(bytes) {
        return Told::Unread(RAW.to_owned());
    }
    if let Some((_, format)) = starts.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Told::Read(*format);
    }
    match bytes {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Told::Read(Format::WebP),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', b' ', ..] => video(),
        [b'P', b'1'..=b'7', space, ..] if space.is_ascii_whitespace() || *space == b'#' => {
            Told::Read(Format::Pnm)
        }
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => boxes(bytes),
        _ => other(bytes),
    }
}

/// A raw file of a camera. Most are TIFF files whose first picture is a small preview.
fn is_camera_raw(bytes: &[u8]) -> bool {
    let starts: [&[u8]; 5] = [b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0"];
    starts.iter().any(|magic| bytes.starts_with(magic))
        || bytes.get(4..11) == Some(b"ftypcrx")
        || (bytes.starts_with(b"II*\0") && bytes.get(8..10) == Some(b"CR"))
}

/// The reason for raw files, also for TIFF files that hold one.
pub(super) const RAW: &str = "a camera's raw file, which is not read here; convert it first, for instance with `darktable-cli in.raw out.jpg`";

fn convert(what: &str, with: &str) -> Told {
    Told::Unread(format!("{what}, which is not read here; convert it first, for instance with `{with}`"))
}

fn video() -> Told {
    Told::NoPicture("a video, not a picture; give it as a video".to_owned())
}

/// A file of boxes (ISO 14496-12): a picture by its brands, or else a video.
fn boxes(bytes: &[u8]) -> Told {
    let length = bytes.first_chunk::<4>().map_or(0, |length| u32::from_be_bytes(*length) as usize);
    let brands = bytes.get(8..length.clamp(12, bytes.len().max(12))).unwrap_or_default();
    let has = |names: &[&[u8; 4]]| brands.as_chunks().0.iter().any(|brand| names.contains(&brand));
    if has(&[b"avif", b"avis"]) {
        return convert("an AVIF picture", "avifdec in.avif out.png");
    }
    if has(&[b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"]) {
        return convert("a HEIC picture", "heif-convert in.heic out.jpg");
    }
    video()
}

fn other(bytes: &[u8]) -> Told {
    let pictures: [(&[u8], &str, &str); 13] = [
        (b"\0\0\0\x0cJXL ", "a JPEG XL picture", "djxl in.jxl out.png"),
        (b"\xff\x0a", "a JPEG XL picture", "djxl in.jxl out.png"),
        (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture", "magick in.jp2 out.png"),
        (b"\xff\x4f\xff\x51", "a JPEG 2000 picture", "magick in.j2k out.png"),
        (b"%PDF-", "a PDF document", "pdftoppm -png -r 150 in.pdf page"),
        (b"%!PS", "a PostScript document", "magick in.eps out.png"),
        (b"8BPS", "a Photoshop file", "magick in.psd[0] out.png"),
        (b"gimp xcf", "a GIMP file", "magick in.xcf -flatten out.png"),
        (b"\x76\x2f\x31\x01", "an OpenEXR picture", "magick in.exr out.png"),
        (b"#?RADIANCE", "a Radiance picture", "magick in.hdr out.png"),
        (b"DDS ", "a DDS texture", "magick in.dds out.png"),
        (b"qoif", "a QOI picture", "magick in.qoi out.png"),
        (b"farbfeld", "a farbfeld picture", "magick in.ff out.png"),
    ];
    if let Some((_, what, with)) = pictures.iter().find(|(magic, ..)| bytes.starts_with(magic)) {
        return convert(what, with);
    }
    let videos: [&[u8]; 5] = [b"\x1a\x45\xdf\xa3", b"FLV\x01", b"OggS", b"\0\0\x01\xba", b"\0\0\x01\xb3"];
    if videos.iter().any(|magic| bytes.starts_with(magic)) {
        return video();
    }
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]).to_ascii_lowercase();
    let head = head.trim_start_matches('\u{feff}').trim_start();
    if head.starts_with("<svg") || (head.starts_with("<?xml") && head.contains("<svg")) {
        return convert("an SVG drawing", "rsvg-convert -w 1024 in.svg -o out.png");
    }
    Told::NoPicture(if head.starts_with("<!doctype html") || head.starts_with("<html") {
        "a web page (HTML), not a picture; get the picture itself".to_owned()
    } else if bytes.starts_with(b"PK\x03\x04") {
        "an archive (ZIP), not a picture; take the pictures out of it first".to_owned()
    } else {
        format!("not a picture this program reads ({READ})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_that_are_read() {
        for (bytes, format) in [
            (&b"\xff\xd8\xff\xe0"[..], Format::Jpeg),
            (b"\x89PNG\r\n\x1a\n", Format::Png),
            (b"RIFF\x04\0\0\0WEBPVP8 ", Format::WebP),
            (b"GIF89a", Format::Gif),
            (b"BM", Format::Bmp),
            (b"II*\0\x08\0\0\0", Format::Tiff),
            (b"MM\0*", Format::Tiff),
            (b"II+\0", Format::Tiff),
            (b"P6 1 1 255\n", Format::Pnm),
            (b"P3\n", Format::Pnm),
            (b"\0\0\x01\0\x01\0", Format::Ico),
        ] {
            assert_eq!(tell(bytes), Ok(format), "{bytes:?}");
        }
    }

    #[test]
    fn other_formats_are_named_with_their_converter() {
        for (bytes, what, with) in [
            (&b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"[..], "HEIC", "heif-convert"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC", "heif-convert"),
            (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "AVIF", "avifdec"),
            (b"\0\0\0\x1cftypmif1\0\0\0\0avifmif1miaf", "AVIF", "avifdec"),
            (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "a video", "as a video"),
            (b"\0\0\0\x18ftypisom\0\0\0\0mp42isom", "a video", "as a video"),
            (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", "raw file", "darktable-cli"),
            (b"II*\0\x10\0\0\0CR\x02\0", "raw file", "darktable-cli"),
            (b"FUJIFILMCCD-RAW 0201", "raw file", "darktable-cli"),
            (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", "djxl"),
            (b"\xff\x0a\xfa", "JPEG XL", "djxl"),
            (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000", "magick"),
            (b"%PDF-1.7", "PDF", "pdftoppm"),
            (b"<svg xmlns='x'/>", "SVG", "rsvg-convert"),
            (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- c -->\n<svg/>", "SVG", "rsvg-convert"),
            (b"8BPS\0\x01", "Photoshop", "magick"),
            (b"RIFF\0\0\0\0AVI LIST", "a video", "as a video"),
            (b"\x1a\x45\xdf\xa3", "a video", "as a video"),
            (b"<!DOCTYPE html><html>", "web page", "the picture itself"),
            (b"PK\x03\x04", "archive", "take the pictures out"),
            (b"Dear reader", "not a picture", "JPEG, PNG"),
            (b"RIFF\0\0\0\0WAVE", "not a picture", "JPEG, PNG"),
            (b"P", "not a picture", "JPEG, PNG"),
        ] {
            let reason = tell(bytes).unwrap_err();
            assert!(reason.contains(what) && reason.contains(with), "{what}: {reason}");
        }
    }

    #[test]
    fn pictures_and_other_files() {
        for (bytes, expected) in [
            (&b"\xff\xd8\xff"[..], true),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", true),
            (b"%PDF-1.7", true),
            (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", false),
            (b"<html>", false),
            (b"{\"prompt\": \"hi\"}", false),
            (b"", false),
        ] {
            assert_eq!(is_picture(bytes), expected, "{bytes:?}");
        }
    }
}
