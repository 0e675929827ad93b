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
    let known: [(&[u8], Format); 8] = [
        (b"\xff\xd8", Format::Jpeg),
        (b"\x89PNG\r\n\x1a\n", Format::Png),
        (b"GIF87a", Format::Gif),
        (b"GIF89a", Format::Gif),
        (b"BM", Format::Bmp),
        (b"II+\0", Format::Tiff),
        (b"MM\0+", Format::Tiff),
        (b"\0\0\x01\0", Format::Ico),
    ];
    if let Some(reason) = camera_raw(bytes) {
        return Err(reason);
    }
    match bytes {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => return Ok(Format::WebP),
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => return Ok(Format::Tiff),
        [b'P', b'1'..=b'7', space, ..] if space.is_ascii_whitespace() || *space == b'#' => {
            return Ok(Format::Pnm);
        }
        _ => {}
    }
    if let Some((_, format)) = known.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Ok(*format);
    }
    Err(other(bytes).unwrap_or_else(|| format!("not a picture this program reads ({READ})")))
}

/// A raw file of a camera. Most are TIFF files whose first picture is a small preview.
fn camera_raw(bytes: &[u8]) -> Option<String> {
    let raw = bytes.starts_with(b"FUJIFILMCCD-RAW")
        || bytes.starts_with(b"IIRO")
        || bytes.starts_with(b"IIRS")
        || bytes.starts_with(b"MMOR")
        || bytes.starts_with(b"IIU\0")
        || bytes.get(4..11) == Some(b"ftypcrx")
        || (bytes.starts_with(b"II*\0") && bytes.get(8..10) == Some(b"CR"));
    raw.then(|| RAW.to_owned())
}

/// The reason for raw files, also for TIFF files that hold one.
pub(super) const RAW: &str = "a camera's raw file, which is not read here; convert it first, for instance with `darktable-cli in.raw out.jpg`";

/// The reason for a format that is known and not read.
fn other(bytes: &[u8]) -> Option<String> {
    let convert = |what: &str, with: &str| {
        format!("{what}, which is not read here; convert it first, for instance with `{with}`")
    };
    let magick = |what: &str, ending: &str| convert(what, &format!("magick in.{ending} out.png"));
    let video = || "a video, not a picture; give it as a video".to_owned();
    if bytes.get(4..8) == Some(b"ftyp") {
        return Some(boxes(bytes).map_or_else(video, |(what, with)| convert(what, with)));
    }
    let starts: [(&[u8], Told); 19] = [
        (b"\0\0\0\x0cJXL ", Told::With("a JPEG XL picture", "djxl in.jxl out.png")),
        (b"\xff\x0a", Told::With("a JPEG XL picture", "djxl in.jxl out.png")),
        (b"\0\0\0\x0cjP  ", Told::Magick("a JPEG 2000 picture", "jp2")),
        (b"\xff\x4f\xff\x51", Told::Magick("a JPEG 2000 picture", "jp2")),
        (b"%PDF-", Told::With("a PDF document", "pdftoppm -png -r 150 in.pdf page")),
        (b"%!PS", Told::Magick("a PostScript document", "eps")),
        (b"8BPS", Told::With("a Photoshop file", "magick in.psd[0] out.png")),
        (b"gimp xcf", Told::With("a GIMP file", "magick in.xcf -flatten out.png")),
        (b"\x76\x2f\x31\x01", Told::Magick("an OpenEXR picture", "exr")),
        (b"#?RADIANCE", Told::Magick("a Radiance picture", "hdr")),
        (b"DDS ", Told::Magick("a DDS texture", "dds")),
        (b"qoif", Told::Magick("a QOI picture", "qoi")),
        (b"farbfeld", Told::Magick("a farbfeld picture", "ff")),
        (b"\x1a\x45\xdf\xa3", Told::Video),
        (b"FLV\x01", Told::Video),
        (b"OggS", Told::Video),
        (b"\0\0\x01\xba", Told::Video),
        (b"\0\0\x01\xb3", Told::Video),
        (b"PK\x03\x04", Told::Archive),
    ];
    if let Some((_, told)) = starts.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Some(match told {
            Told::With(what, with) => convert(what, with),
            Told::Magick(what, ending) => magick(what, ending),
            Told::Video => video(),
            Told::Archive => "an archive (ZIP), not a picture; take the pictures out of it first".to_owned(),
        });
    }
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"AVI ") {
        return Some(video());
    }
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]).to_ascii_lowercase();
    let head = head.trim_start_matches('\u{feff}').trim_start();
    if head.starts_with("<svg") || (head.starts_with("<?xml") && head.contains("<svg")) {
        return Some(convert("an SVG drawing", "rsvg-convert -w 1024 in.svg -o out.png"));
    }
    let page = head.starts_with("<!doctype html") || head.starts_with("<html");
    page.then(|| "a web page (HTML), not a picture; get the picture itself".to_owned())
}

enum Told {
    With(&'static str, &'static str),
    Magick(&'static str, &'static str),
    Video,
    Archive,
}

/// What a file of boxes (ISO 14496-12) is and its converter; `None` for a video.
fn boxes(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let length = bytes.first_chunk::<4>().map_or(0, |length| u32::from_be_bytes(*length) as usize);
    let brands = bytes.get(8..length.clamp(12, bytes.len().max(12))).unwrap_or_default();
    let has =
        |names: &[&[u8; 4]]| brands.chunks_exact(4).any(|brand| names.iter().any(|name| brand == *name));
    if has(&[b"avif", b"avis"]) {
        return Some(("an AVIF picture", "avifdec in.avif out.png"));
    }
    if has(&[b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"]) {
        return Some(("a HEIC picture", "heif-convert in.heic out.jpg"));
    }
    None
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
}
