//! Subtitles of a video, as SubRip files have them.

use std::path::Path;

use crate::file;

/// One line of text with its time in seconds.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    from: f64,
    to: f64,
    text: String,
}

/// Returns the lines that are shown while one of `frames` is, in their order, each once. `frames` are seconds
/// since the video's start.
///
/// # Errors
/// The file's own reason, if it cannot be read.
pub fn shown(path: &Path, frames: &[f64]) -> Result<Vec<String>, String> {
    let text = file::text(path).map_err(|error| error.to_string())?;
    let is_shown = |line: &Line| frames.iter().any(|&second| line.from <= second && second < line.to);
    let mut found: Vec<String> = lines(&text).into_iter().filter(is_shown).map(|line| line.text).collect();
    found.dedup();
    Ok(found)
}

fn lines(text: &str) -> Vec<Line> {
    let mut found = Vec::new();
    let text = text.replace('\r', "");
    for block in text.split("\n\n") {
        let mut lines = block.lines().skip_while(|line| !line.contains("-->"));
        let Some((from, to)) = lines.next().and_then(|times| times.split_once("-->")) else { continue };
        let (Some(from), Some(to)) = (seconds(from), seconds(to)) else { continue };
        let text = lines.map(plain).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        if !text.is_empty() {
            found.push(Line { from, to, text });
        }
    }
    found
}

/// Returns the seconds of `00:01:02,500`.
fn seconds(time: &str) -> Option<f64> {
    let mut sum = 0.0;
    for part in time.split_whitespace().next()?.replace(',', ".").split(':') {
        sum = sum * 60.0 + part.parse::<f64>().ok()?;
    }
    Some(sum)
}

/// Takes the marks of fonts and colours out of a line.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut depth = 0;
    for letter in line.chars() {
        match letter {
            '<' => depth += 1,
            '>' if depth > 0 => depth -= 1,
            letter if depth == 0 => text.push(letter),
            _ => {}
        }
    }
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_frames_are_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.srt");
        let text = "1\r\n00:00:00,500 --> 00:00:02,000\r\n<font color=\"white\" size=\".72c\">Hello</font>\r\n\r\n\
                    2\n00:00:02,000 --> 00:00:03,000\nthere,\nyou\n\n3\n00:01:00,000 --> 00:01:02,000\nlate\n";
        std::fs::write(&path, text).unwrap();
        assert_eq!(shown(&path, &[1.0, 1.5, 2.0]).unwrap(), ["Hello", "there, you"]);
        assert_eq!(shown(&path, &[61.9]).unwrap(), ["late"]);
        assert_eq!(shown(&path, &[0.0, 3.0]).unwrap(), Vec::<String>::new());
    }
}
