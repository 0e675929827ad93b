//! One HTML file that shows everything, without a network.

use std::io::Cursor;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image::{ImageFormat, RgbImage};
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, context};
use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::report::{Fate, Report};

/// Longest side of an embedded picture in pixels: sharp on a screen, small in a file.
const LONGEST: u32 = 1024;

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
/// Module that draws the cells; the server's page uses it too.
const VIEWER: &str = include_str!("../server/web/app/viewer.js");

/// Contents of the page.
#[derive(Debug)]
pub struct Look<'a> {
    pub fates: &'a [Fate],
    /// \[fates\] the pictures, if they are at hand.
    pub pictures: &'a [Option<RgbImage>],
    /// \[fates\] their names, as far as they are known.
    pub names: &'a [Option<String>],
    pub question: Option<&'a str>,
    pub report: Option<&'a Report>,
}

#[derive(Serialize)]
struct ShownFate<'a> {
    fate: &'a Fate,
    /// Returns a data URI.
    picture: Option<String>,
    name: Option<&'a str>,
}

/// Returns the page as text.
///
/// # Errors
/// A picture that cannot be encoded.
pub fn page(look: &Look) -> Result<String> {
    let failed = |error: &dyn std::fmt::Display| Error::new(Kind::Media, format!("explain page: {error}"));
    let mut shown = Vec::new();
    for (i, fate) in look.fates.iter().enumerate() {
        let picture = look.pictures.get(i).and_then(Option::as_ref);
        let picture = picture.map(data_uri).transpose().map_err(|error| failed(&error))?;
        let name = look.names.get(i).and_then(Option::as_deref);
        shown.push(ShownFate { fate, picture, name });
    }
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment
        .render_str(
            TEMPLATE,
            context! {
                style => STYLE,
                script => SCRIPT,
                viewer => format!("data:text/javascript;base64,{}", BASE64_STANDARD.encode(VIEWER)),
                question => look.question,
                strategy => look.fates.first().map(|fate| fate.strategy.as_str()),
                report => Value::from(Serde(&look.report)),
                shown => Value::from(Serde(&shown)),
            },
        )
        .map_err(|error| failed(&error))
}

fn data_uri(picture: &RgbImage) -> image::ImageResult<String> {
    let mut bytes = Cursor::new(Vec::new());
    let longest = picture.width().max(picture.height());
    if longest > LONGEST {
        image::DynamicImage::ImageRgb8(picture.clone())
            .thumbnail(LONGEST, LONGEST)
            .write_to(&mut bytes, ImageFormat::Png)?;
    } else {
        picture.write_to(&mut bytes, ImageFormat::Png)?;
    }
    Ok(format!("data:image/png;base64,{}", BASE64_STANDARD.encode(bytes.into_inner())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Cell, Stage, TileFate};

    #[test]
    fn nothing_in_it_ends_a_script_or_loads_from_elsewhere() {
        let fate = Fate {
            index: 0,
            width: 2,
            height: 2,
            strategy: "merge".into(),
            stages: vec![Stage { half: None, layer: 0, left: 1 }],
            tiles: vec![TileFate {
                tile: 0,
                columns: 1,
                rows: 1,
                pixels: None,
                frame: None,
                region: None,
                score: None,
                cells: vec![Cell { gone: 0, returns: Vec::new(), into: None, scores: Vec::new() }],
            }],
            region: None,
        };
        let question = "</script><img src=x onerror=alert(1)>";
        let look = Look {
            fates: &[fate],
            pictures: &[Some(RgbImage::new(2, 2))],
            names: &[Some("</script>.png".to_owned())],
            question: Some(question),
            report: None,
        };
        let html = page(&look).unwrap();
        assert!(!html.contains("<img"), "{html}");
        assert_eq!(html.matches("</script>").count(), 3, "the import map, the data and the script");
        assert!(!html.contains("http://") && !html.contains("https://"));
        assert!(html.contains("data:image/png;base64,"));
    }
}
