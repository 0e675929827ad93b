//! Question as it is asked: pictures in their places, options, and the kind of answer that is wanted.

use super::{Item, Metric};

/// Place of a picture in a question's text, as MuirBench writes it.
const PICTURE: &str = "<image>";

/// Piece of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Number of the picture.
    Picture(usize),
    Text(String),
}

/// Instruction that makes an answer markable. It follows the sets' customs in our own words.
#[must_use]
pub fn instruction(metric: Metric) -> &'static str {
    match metric {
        Metric::Choice => "Reply with the letter of the right option only.",
        Metric::YesNo => "Reply with yes or no only.",
        Metric::Words | Metric::Open | Metric::Anls | Metric::Relaxed | Metric::Vqa | Metric::ActivityNet => {
            "Reply with one word or a short phrase only."
        }
        Metric::Exact
        | Metric::Math
        | Metric::Cider
        | Metric::MmVet
        | Metric::VideoChat
        | Metric::Description
        | Metric::Llava => "",
    }
}

/// Returns the question with its options and the instruction. Neither stands twice: questions of some sets list
/// their options themselves, or end with what is to be answered.
#[must_use]
pub fn prompt(item: &Item, instruction: &str) -> String {
    let question = item.question.trim();
    let mut text = question.to_owned();
    let options: Vec<(char, &String)> = ('A'..='Z').zip(&item.options).collect();
    let is_listed = |(letter, option): &(char, &String)| {
        let ways = [". ", ") ", ": "];
        ways.iter().any(|way| question.contains(&format!("{letter}{way}{option}")))
    };
    if !options.iter().all(is_listed) {
        for (letter, option) in options {
            text.push_str(&format!("\n{letter}. {option}"));
        }
    }
    let last = question.rsplit(['\n', '?']).next().unwrap_or_default().trim().to_lowercase();
    if !instruction.is_empty() && !last.starts_with("please answer") {
        text.push('\n');
        text.push_str(instruction);
    }
    text
}

/// Cuts a question at its places for pictures. If these are not as many as the pictures, all pictures come
/// first.
#[must_use]
pub fn pieces(text: &str, pictures: usize) -> Vec<Piece> {
    let parts: Vec<&str> = text.split(PICTURE).collect();
    if pictures == 0 || parts.len() != pictures + 1 {
        let first = (0..pictures).map(Piece::Picture);
        return first.chain([Piece::Text(text.replace(PICTURE, "").trim().to_owned())]).collect();
    }
    let mut pieces = Vec::new();
    for (number, part) in parts.into_iter().enumerate() {
        if number > 0 {
            pieces.push(Piece::Picture(number - 1));
        }
        if !part.is_empty() {
            pieces.push(Piece::Text(part.to_owned()));
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(question: &str, options: &[&str]) -> Item {
        let options = options.iter().map(ToString::to_string).collect();
        Item { question: question.into(), options, ..Item::default() }
    }

    #[test]
    fn prompts_show_the_options_once() {
        let options = ["cat", "dog"];
        assert_eq!(
            prompt(&item("What is it? ", &options), "Letter only."),
            "What is it?\nA. cat\nB. dog\nLetter only."
        );
        assert_eq!(prompt(&item("Q", &[]), ""), "Q");
        let listed = "What is it?\n(A) cat\n(B) dog";
        assert_eq!(prompt(&item(listed, &options), "Letter."), format!("{listed}\nLetter."));
        let asks = "Is it a cat? Please answer yes or no.";
        assert_eq!(prompt(&item(asks, &[]), "Reply with yes or no only."), asks);
    }

    #[test]
    fn pictures_stand_in_their_places() {
        let text = |text: &str| Piece::Text(text.to_owned());
        assert_eq!(
            pieces("Is <image> older than <image>?", 2),
            [text("Is "), Piece::Picture(0), text(" older than "), Piece::Picture(1), text("?")]
        );
        assert_eq!(pieces("Which?", 2), [Piece::Picture(0), Piece::Picture(1), text("Which?")]);
        assert_eq!(pieces("<image>\nWhich?", 2), [Piece::Picture(0), Piece::Picture(1), text("Which?")]);
        assert_eq!(pieces("Why?", 0), [text("Why?")]);
    }
}
