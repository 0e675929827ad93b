//! CIDEr-D of captions (Vedantam et al., 2015), as the COCO captions' evaluation computes it.

use std::collections::{HashMap, HashSet};

/// Words of the longest counted run.
const LONGEST: usize = 4;
/// Width of the penalty for another length.
const SIGMA: f64 = 6.0;
/// Marks that count as no words.
const MARKS: [char; 18] = [
    '.', '?', '!', ',', ':', ';', '"', '`', '(', ')', '[', ']', '{', '}', '\u{201c}', '\u{201d}', '\u{2018}',
    '\u{2026}',
];

/// Number of pictures whose captions hold each run of words, over a whole set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    pictures: usize,
    holders: HashMap<String, usize>,
}

/// Weighted runs of one caption, by their length.
struct Weighted {
    runs: [HashMap<String, f64>; LONGEST],
    norms: [f64; LONGEST],
    /// Number of runs of two words, which stands for the caption's length.
    length: f64,
}

impl Corpus {
    /// Counts the captions of every picture.
    pub fn of<'a>(captions: impl Iterator<Item = &'a [String]>) -> Self {
        let mut corpus = Self { pictures: 0, holders: HashMap::new() };
        for of_picture in captions {
            corpus.pictures += 1;
            let held: HashSet<String> =
                of_picture.iter().flat_map(|caption| runs(caption).into_keys()).collect();
            for run in held {
                *corpus.holders.entry(run).or_default() += 1;
            }
        }
        corpus
    }

    /// Returns the CIDEr-D of a caption, 0 to 10: 10 times the mean over captions of people and over runs of one
    /// to four words.
    #[must_use]
    pub fn cider(&self, people: &[String], caption: &str) -> f64 {
        let said = self.weighted(caption);
        let sum: f64 = people.iter().map(|own| said.similarity(&self.weighted(own))).sum();
        if people.is_empty() { 0.0 } else { 10.0 * sum / people.len() as f64 }
    }

    fn weighted(&self, caption: &str) -> Weighted {
        let mut weighted =
            Weighted { runs: std::array::from_fn(|_| HashMap::new()), norms: [0.0; LONGEST], length: 0.0 };
        let all = (self.pictures.max(1) as f64).ln();
        for (run, count) in runs(caption) {
            let holders = self.holders.get(&run).copied().unwrap_or(0).max(1) as f64;
            let weight = count as f64 * (all - holders.ln());
            let length = run.split(' ').count() - 1;
            weighted.norms[length] += weight * weight;
            if length == 1 {
                weighted.length += count as f64;
            }
            weighted.runs[length].insert(run, weight);
        }
        weighted.norms = weighted.norms.map(f64::sqrt);
        weighted
    }
}

impl Weighted {
    fn similarity(&self, own: &Self) -> f64 {
        let distance = self.length - own.length;
        let penalty = (-distance * distance / (2.0 * SIGMA * SIGMA)).exp();
        let of_length = |i: usize| {
            let norm = self.norms[i] * own.norms[i];
            // Sums in one order, so that the last bits repeat.
            let mut shared: Vec<f64> = self.runs[i]
                .iter()
                .filter_map(|(run, weight)| own.runs[i].get(run).map(|own| weight.min(*own) * own))
                .collect();
            shared.sort_by(f64::total_cmp);
            let product: f64 = shared.iter().sum();
            if norm > 0.0 { product / norm * penalty } else { 0.0 }
        };
        (0..LONGEST).map(of_length).sum::<f64>() / LONGEST as f64
    }
}

/// Returns the runs of one to four words with how often they stand in a caption.
fn runs(caption: &str) -> HashMap<String, usize> {
    let words = words(caption);
    let mut counts = HashMap::new();
    for length in 1..=LONGEST {
        for run in words.windows(length) {
            *counts.entry(run.join(" ")).or_default() += 1;
        }
    }
    counts
}

/// Returns the words in lower case without marks, endings behind an apostrophe apart: "dog", "'s".
fn words(caption: &str) -> Vec<String> {
    let text = caption.to_lowercase().replace('\u{2019}', "'").replace(MARKS, " ");
    let text = text.replace("--", " ");
    let mut words = Vec::new();
    for word in text.split_whitespace().filter(|word| word.contains(|c: char| c != '-' && c != '\'')) {
        match word.rfind('\'').filter(|&at| at > 0) {
            Some(at) if word.ends_with("n't") && at > 1 => {
                words.extend([word[..at - 1].to_owned(), word[at - 1..].to_owned()]);
            }
            Some(at) if at + 1 < word.len() => {
                words.extend([word[..at].to_owned(), word[at..].to_owned()]);
            }
            _ => words.push(word.trim_matches('\'').to_owned()),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        people: Vec<Vec<String>>,
        captions: Vec<String>,
        /// CIDEr-D of each caption, by `tools/public_sets/marks.py`.
        marks: Vec<f64>,
    }

    #[test]
    fn captions_are_marked_as_by_the_reference() {
        let text = std::fs::read_to_string("tests/fixtures/eval/captions.json").unwrap();
        let golden: Golden = serde_json::from_str(&text).unwrap();
        let corpus = Corpus::of(golden.people.iter().map(Vec::as_slice));
        assert!(golden.marks.iter().any(|&mark| mark > 1.0));
        for ((people, caption), mark) in golden.people.iter().zip(&golden.captions).zip(&golden.marks) {
            let got = corpus.cider(people, caption);
            assert!((got - mark).abs() < 1e-9, "{caption}: {got}, not {mark}");
        }
    }

    #[test]
    fn words_come_apart_as_penn_treebank_has_them() {
        assert_eq!(
            words("A dog's ball, it isn't \"red\"!"),
            ["a", "dog", "'s", "ball", "it", "is", "n't", "red"]
        );
        assert_eq!(words("t-shirt -- 'quoted' ..."), ["t-shirt", "quoted"]);
    }
}
