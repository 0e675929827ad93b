//! Agreement with ten people, for answers written as VQA's evaluation server writes them.

use std::sync::LazyLock;

use regex::Regex;

/// Marks that VQA's evaluation takes out of answers.
const PUNCTUATION: [&str; 21] = [
    ";", "/", "[", "]", "\"", "{", "}", "(", ")", "=", "+", "\\", "_", "-", ">", "<", "@", "`", ",", "?", "!",
];
const NUMBERS: [(&str, &str); 12] = [
    ("none", "0"),
    ("zero", "0"),
    ("one", "1"),
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("ten", "10"),
];
/// Contractions that are known without their apostrophe.
const CONTRACTIONS: &str = "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't \
    he'd he's how'd how'll how's isn't it'd it'll ma'am might've mightn't must've mustn't needn't not've \
    o'clock oughtn't shan't should've shouldn't somebody'll somebody's someone'd someone'll someone's \
    something'd something'll that's there'd there're there's they'd they'll they're they've 'twas wasn't \
    we've weren't what'll what're what's what've when's where'd where's where've who'd who'll who's who've \
    why'll why're why's won't would've wouldn't y'all you'd you'll you're you've";

/// VQA's soft accuracy (Antol et al., 2015): the mean, over leaving one person out, of min(1, agreeing others
/// / 3). If a set has one answer, it is right or wrong.
pub fn agreement(people: &[String], answer: &str) -> f64 {
    let said = written(answer);
    let agrees: Vec<bool> = people.iter().map(|right| written(right) == said).collect();
    let total = agrees.iter().filter(|&&agrees| agrees).count();
    if people.len() < 2 {
        return f64::from(u8::from(total > 0));
    }
    let marks = agrees.iter().map(|&own| ((total - usize::from(own)) as f64 / 3.0).min(1.0));
    marks.sum::<f64>() / people.len() as f64
}

/// Returns an answer in the server's form: lower case, digits for small numbers, no articles, and no
/// punctuation but within numbers.
fn written(text: &str) -> String {
    static BETWEEN_DIGITS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\d,+\d").ok());
    static POINT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\.(\D|$)").ok());
    let text = text.to_lowercase().replace([',', '?'], "").replace("'s", " 's");
    let text = text.replace(['\n', '\t'], " ").trim().to_owned();
    let commas = BETWEEN_DIGITS.as_ref().is_some_and(|pattern| pattern.is_match(&text));
    let mut out = text.clone();
    for mark in PUNCTUATION {
        let beside_space = text.contains(&format!("{mark} ")) || text.contains(&format!(" {mark}"));
        out = out.replace(mark, if beside_space || commas { "" } else { " " });
    }
    // Points in a row overlap in the pattern.
    for _ in 0..2 {
        out = POINT.as_ref().map_or(out.clone(), |pattern| pattern.replace_all(&out, "$1").into_owned());
    }
    let number = |word: &str| NUMBERS.iter().find(|(name, _)| *name == word).map(|(_, digits)| *digits);
    let contraction = |word: &str| CONTRACTIONS.split(' ').find(|full| full.replace('\'', "") == word);
    out.split_whitespace()
        .map(|word| number(word).unwrap_or(word))
        .filter(|word| !matches!(*word, "a" | "an" | "the"))
        .map(|word| contraction(word).unwrap_or(word))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_of_ten_people_make_it_right() {
        let people = |agreeing: usize| {
            let mut all = vec!["cat".to_owned(); agreeing];
            all.resize(10, "dog".to_owned());
            agreement(&all, "cat")
        };
        // By hand for 2 of 10: leaving out an agreeing one leaves 1 (1/3, twice), another leaves 2 (2/3,
        // eight times).
        assert!((people(2) - (2.0 / 3.0 + 8.0 * 2.0 / 3.0) / 10.0).abs() < 1e-9);
        assert_eq!(people(0), 0.0);
        assert_eq!(people(4), 1.0);
    }
}
