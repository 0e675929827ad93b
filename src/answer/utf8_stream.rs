//! Token bytes to text: a letter can span several tokens.

/// Collects bytes and hands out whole letters.
#[derive(Debug, Default)]
pub(super) struct Utf8Stream {
    pending: Vec<u8>,
}

impl Utf8Stream {
    /// Returns the text that is complete once `bytes` have come. Bytes that can never become a character show as U+FFFD.
    pub(super) fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut out = String::new();
        loop {
            match std::str::from_utf8(&self.pending) {
                Ok(text) => {
                    out.push_str(text);
                    self.pending.clear();
                    return out;
                }
                Err(error) => {
                    let (good, rest) = self.pending.split_at(error.valid_up_to());
                    out.push_str(&String::from_utf8_lossy(good));
                    match error.error_len() {
                        Some(bad) => {
                            out.push(char::REPLACEMENT_CHARACTER);
                            self.pending = rest[bad..].to_vec();
                        }
                        None => {
                            self.pending = rest.to_vec();
                            return out;
                        }
                    }
                }
            }
        }
    }

    /// Returns the rest at the end: half a character, if anything.
    pub(super) fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_across_tokens() {
        let euro = "€".as_bytes();
        let cases: [(&[&[u8]], &[&str], &str); 5] = [
            (&[b"ab", b"c"], &["ab", "c"], ""),
            (&[&euro[..1], &euro[1..2], &euro[2..]], &["", "", "€"], ""),
            (&[b"a\xff", b"b"], &["a\u{FFFD}", "b"], ""),
            (&[&euro[..2]], &[""], "\u{FFFD}"),
            (&[&euro[..2], b"x"], &["", "\u{FFFD}x"], ""),
        ];
        for (pieces, shown, rest) in cases {
            let mut letters = Utf8Stream::default();
            let out: Vec<String> = pieces.iter().map(|bytes| letters.push(bytes)).collect();
            assert_eq!(out, shown, "{pieces:?}");
            assert_eq!(letters.finish(), rest, "{pieces:?}");
        }
    }
}
