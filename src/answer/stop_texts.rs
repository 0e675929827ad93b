//! End of an answer: strings that are looked for across the borders of tokens.

/// Text that may be shown, and whether a stop text has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Released {
    pub text: String,
    pub stopped_by: Option<String>,
}

/// Holds text back while it may still become a stop string.
#[derive(Debug, Default)]
pub(super) struct StopTexts {
    /// Longest first does not matter: the one that begins first counts.
    strings: Vec<String>,
    held: String,
}

impl StopTexts {
    pub(super) fn new(strings: Vec<String>) -> Self {
        Self { strings: strings.into_iter().filter(|s| !s.is_empty()).collect(), held: String::new() }
    }

    /// Returns the text that can be shown once `text` has come.
    pub(super) fn push(&mut self, text: &str) -> Released {
        self.held.push_str(text);
        // The earliest one counts; of two that begin at the same place, the one given first.
        let found = self
            .strings
            .iter()
            .filter_map(|s| Some((self.held.find(s.as_str())?, s)))
            .min_by_key(|(at, _)| *at);
        if let Some((at, string)) = found {
            let shown = Released { text: self.held[..at].to_owned(), stopped_by: Some(string.clone()) };
            self.held.clear();
            return shown;
        }
        let keep = self.strings.iter().map(|string| overlap(&self.held, string)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Released { text: std::mem::replace(&mut self.held, rest), stopped_by: None }
    }

    /// Returns the text that was held back and became no stop text.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes at the end of `text` with which `string` begins.
fn overlap(text: &str, string: &str) -> usize {
    let most = text.len().min(string.len().saturating_sub(1));
    (1..=most)
        .rev()
        .find(|&n| text.as_bytes()[text.len() - n..] == string.as_bytes()[..n] && string.is_char_boundary(n))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn across_tokens() {
        // (stop strings, pieces, shown piece by piece, stopped by, left at the end)
        let cases: [(&[&str], &[&str], &[&str], Option<&str>, &str); 9] = [
            (&[], &["ab", "c"], &["ab", "c"], None, ""),
            (&["END"], &["abEN", "Dcd"], &["ab", ""], Some("END"), ""),
            (&["END"], &["abEN", "cd"], &["ab", "ENcd"], None, ""),
            (&["END"], &["abE", "N"], &["ab", ""], None, "EN"),
            (&["aab"], &["aa", "ab"], &["", "a"], Some("aab"), ""),
            (&["\n\n", "\nUser"], &["x\n", "U", "ser"], &["x", "", ""], Some("\nUser"), ""),
            (&["bc", "ab"], &["abc"], &[""], Some("ab"), ""),
            (&["é!"], &["caf", "é", "é!"], &["caf", "", "é"], Some("é!"), ""),
            (&["", "x"], &["ax"], &["a"], Some("x"), ""),
        ];
        for (strings, pieces, expected, stopped_by, left) in cases {
            let mut stop = StopTexts::new(strings.iter().map(ToString::to_string).collect());
            let shown: Vec<Released> = pieces.iter().map(|piece| stop.push(piece)).collect();
            let texts: Vec<&str> = shown.iter().map(|shown| shown.text.as_str()).collect();
            assert_eq!(texts, expected, "{strings:?} {pieces:?}");
            assert_eq!(shown.last().unwrap().stopped_by.as_deref(), stopped_by, "{strings:?} {pieces:?}");
            assert_eq!(stop.finish(), left, "{strings:?} {pieces:?}");
        }
    }

    proptest::proptest! {
        /// As much of an answer is shown in pieces as if it had come at once, however it is cut into tokens.
        #[test]
        fn the_cut_does_not_matter(
            strings in proptest::collection::vec("[abé]{0,4}", 0..4),
            pieces in proptest::collection::vec("[abé]{0,5}", 0..12),
        ) {
            let whole = pieces.concat();
            let ends = strings.iter().filter(|s| !s.is_empty()).filter_map(|s| whole.find(s.as_str()).map(|at| at + s.len()));
            let mut stop = StopTexts::new(strings.clone());
            let (mut shown, mut read, mut stopped) = (String::new(), 0, None);
            for piece in &pieces {
                read += piece.len();
                let released = stop.push(piece);
                shown += &released.text;
                stopped = released.stopped_by;
                if stopped.is_some() {
                    break;
                }
            }
            match (stopped, ends.min()) {
                // The answer stops in the piece that completes a stop text, and shows the text before it.
                (Some(string), Some(end)) => {
                    proptest::prop_assert!(read >= end && whole[..read].starts_with(&(shown + &string)));
                }
                (None, None) => proptest::prop_assert_eq!(shown + &stop.finish(), whole),
                other => proptest::prop_assert!(false, "{:?} in {:?}: {:?}", strings, whole, other),
            }
        }
    }
}
