//! One message or command of the chat.

use std::path::Path;

pub(super) const HELP: &str = "\
/image FILE ...   show pictures with the next message; a dropped file does the same
/video FILE       show a video, a folder of frames or a comma list of them
/drop             leave out the pictures that wait for the next message
/merge PRESET     off, model, balanced, auto, paper, image, video, qwen2vl, or a share as 0.5; pictures are encoded again
/regen            answer the last message again
/save FILE        write the conversation: Markdown, or JSON messages if the name ends in .json
/clear            forget the conversation and its pictures
/help             this list
/quit             leave (also Ctrl-D)
A line that ends in a backslash goes on in the next; three quotes (\"\"\") begin and end several lines.
Tab completes commands and paths. Ctrl-C ends an answer; a second one ends the program.
";

/// Commands, for completion.
pub(super) const COMMANDS: [&str; 9] =
    ["/image", "/video", "/drop", "/merge", "/regen", "/save", "/clear", "/help", "/quit"];

/// Meaning of a message or command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Say(&'a str),
    Images(Vec<String>),
    Video(String),
    Drop,
    Merge(&'a str),
    Again,
    Save(String),
    Clear,
    Help,
    Quit,
    Nothing,
    Unknown(&'a str),
}

/// Reads `line`; `exists` tells whether there is such a path.
pub(super) fn read(line: &str, exists: impl Fn(&str) -> bool) -> Line<'_> {
    let line = line.trim();
    let Some(command) = line.strip_prefix('/') else {
        return match line {
            "" => Line::Nothing,
            // A terminal writes a dropped file in quotes or as a URL.
            _ if line.starts_with(['\'', '"']) || line.starts_with("file://") => {
                let names = paths(line, &exists);
                if names.iter().all(|name| exists(name)) { Line::Images(names) } else { Line::Say(line) }
            }
            _ => Line::Say(line),
        };
    };
    let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    match (name, rest.trim()) {
        ("image", names) if !names.is_empty() => Line::Images(paths(names, &exists)),
        ("video", name) if !name.is_empty() => Line::Video(paths(name, &exists).join(" ")),
        ("drop", "") => Line::Drop,
        ("merge", preset) if !preset.is_empty() => Line::Merge(preset),
        ("regen", "") => Line::Again,
        ("save", name) if !name.is_empty() => Line::Save(paths(name, &exists).join(" ")),
        ("clear", "") => Line::Clear,
        ("help", "") => Line::Help,
        ("quit" | "exit", "") => Line::Quit,
        // On this system a dropped file begins like a command.
        _ if paths(line, &exists).iter().all(|name| exists(name)) => Line::Images(paths(line, &exists)),
        _ => Line::Unknown(name),
    }
}

/// Returns the paths that `text` names. If all of it is one path, its blanks belong to it. Otherwise quotes
/// and backslashes count as in a shell. If even then not each word is a path, the text is one name.
fn paths(text: &str, exists: &impl Fn(&str) -> bool) -> Vec<String> {
    let whole = home(text);
    if exists(&whole) {
        return vec![whole];
    }
    let words: Vec<String> = words(text).iter().map(|word| home(word)).collect();
    match words.as_slice() {
        [_] => words,
        several if !several.is_empty() && several.iter().all(|word| exists(word)) => words,
        _ => vec![whole],
    }
}

/// `text` with the user's folder for a leading `~`.
fn home(text: &str) -> String {
    match (text.strip_prefix('~'), std::env::var("HOME")) {
        (Some(rest), Ok(home)) if rest.is_empty() || rest.starts_with('/') => format!("{home}{rest}"),
        _ => text.to_owned(),
    }
}

/// Splits `text` into words, without the quotes and backslashes that join them.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let (mut open, mut quote) = (false, None);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let letter = match (letter, quote) {
            (' ' | '\t', None) => {
                open = false;
                continue;
            }
            ('\'' | '"', None) => {
                quote = Some(letter);
                None
            }
            (letter, Some(mark)) if letter == mark => {
                quote = None;
                None
            }
            ('\\', None | Some('"')) => letters.next(),
            (letter, _) => Some(letter),
        };
        if !open {
            words.push(String::new());
            open = true;
        }
        if let (Some(letter), Some(word)) = (letter, words.last_mut()) {
            word.push(letter);
        }
    }
    words
}

/// Whether there is such a file or folder.
pub(super) fn exists(name: &str) -> bool {
    let path = name.strip_prefix("file://").unwrap_or(name);
    Path::new(path).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let exists =
            |name: &str| ["a b.png", "c.png", "d.png", "/x/e f.png", "file:///g.png"].contains(&name);
        let images = |names: &[&str]| Line::Images(names.iter().map(|&name| name.to_owned()).collect());
        for (line, expected) in [
            ("hello", Line::Say("hello")),
            ("  ", Line::Nothing),
            ("/image a b.png ", images(&["a b.png"])),
            ("/image c.png d.png", images(&["c.png", "d.png"])),
            ("/image 'a b.png' c.png", images(&["a b.png", "c.png"])),
            ("/image a\\ b.png", images(&["a b.png"])),
            ("/image \"a b.png\"", images(&["a b.png"])),
            ("/image none such.png", images(&["none such.png"])),
            ("/image none\\ such.png", images(&["none such.png"])),
            ("'a b.png'", images(&["a b.png"])),
            ("'/x/e f.png' c.png", images(&["/x/e f.png", "c.png"])),
            ("/x/e f.png", images(&["/x/e f.png"])),
            ("/x/e\\ f.png", images(&["/x/e f.png"])),
            ("file:///g.png", images(&["file:///g.png"])),
            ("'tis a picture", Line::Say("'tis a picture")),
            ("/image", Line::Unknown("image")),
            ("/video a b.mp4", Line::Video("a b.mp4".into())),
            ("/video", Line::Unknown("video")),
            ("/drop", Line::Drop),
            ("/merge off", Line::Merge("off")),
            ("/merge 0.5", Line::Merge("0.5")),
            ("/regen", Line::Again),
            ("/save talk.md", Line::Save("talk.md".into())),
            ("/clear", Line::Clear),
            ("/help", Line::Help),
            ("/quit", Line::Quit),
            ("/exit", Line::Quit),
            ("/dance", Line::Unknown("dance")),
        ] {
            assert_eq!(read(line, exists), expected, "{line}");
        }
    }

    #[test]
    fn the_home_folder() {
        let expected = std::env::var("HOME").map_or("~/a.png".to_owned(), |home| format!("{home}/a.png"));
        assert_eq!(read("/image ~/a.png", |_| false), Line::Images(vec![expected]));
        assert_eq!(read("/image ~other/a.png", |_| false), Line::Images(vec!["~other/a.png".into()]));
    }
}
