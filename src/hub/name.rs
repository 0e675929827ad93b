//! `user/repo[:quant]`.

use std::fmt;

use crate::error::{Error, Field, Result};

/// Model repository and the quantisation asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repo {
    pub user: String,
    pub name: String,
    pub quant: Option<String>,
}

impl Repo {
    /// # Errors
    /// [`crate::error::Kind::Usage`] if `text` is not of that form.
    pub fn parse(text: &str) -> Result<Self> {
        let (repo, quant) = match text.split_once(':') {
            Some((repo, quant)) => (repo, Some(quant)),
            None => (text, None),
        };
        // The hub allows these names. The check keeps `..` and separators out of the cache's paths.
        let plain = |part: &str| {
            !part.is_empty()
                && part.len() <= 96
                && !part.starts_with(['.', '-'])
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        match repo.split_once('/') {
            Some((user, name)) if plain(user) && plain(name) && quant.is_none_or(plain) => {
                Ok(Self { user: user.into(), name: name.into(), quant: quant.map(Into::into) })
            }
            _ => {
                Err(Error::usage(format!("{} {text}: give user/repo or user/repo:quant", Field::Repository)))
            }
        }
    }
}

/// Returns the name without the quantisation.
impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.user, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let repo = Repo::parse("ggml-org/Qwen2-VL-2B_v1.5-GGUF:Q4_K_M").unwrap();
        assert_eq!(
            (repo.to_string().as_str(), repo.quant.as_deref()),
            ("ggml-org/Qwen2-VL-2B_v1.5-GGUF", Some("Q4_K_M"))
        );
        assert_eq!(Repo::parse("a/b").unwrap().quant, None);
        for wrong in
            ["", "a", "a/", "/b", "a/b/c", "../b", "a/..", "a/b:", "a/b:x/y", "a b/c", "a/b\n", "http://x/y"]
        {
            let error = Repo::parse(wrong).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Usage, "{wrong}");
        }
    }
}
