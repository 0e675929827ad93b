//! Places of the hub and its cache, from the environment variables of the `huggingface_hub` package.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::error::{Error, Result};

/// Settings of [`super::fetch`] beside the request.
#[derive(Debug, Clone)]
pub struct Settings {
    pub endpoint: Url,
    pub token: Option<Token>,
    /// Folder with a `models--USER--REPO` folder for each repository.
    pub cache: PathBuf,
    /// Whether only files in the cache are used.
    pub offline: bool,
    pub patience: Patience,
}

/// Access token, which no debug output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub(super) String);

impl Token {
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Patience with a bad connection.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Time until a connection stands.
    pub connect: Duration,
    /// Time without a byte.
    pub silence: Duration,
    /// Attempts without progress, before the download is given up.
    pub attempts: u32,
    /// Pause before the second attempt, doubled for each further one.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            silence: Duration::from_secs(60),
            attempts: 5,
            pause: Duration::from_secs(1),
        }
    }
}

impl Settings {
    /// Reads `HF_ENDPOINT`, `HF_TOKEN` (or the file that `hf auth login` writes), `HF_HUB_CACHE`, `HF_HOME`,
    /// `XDG_CACHE_HOME` and `HF_HUB_OFFLINE`, which `variable` looks up.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] naming the variable.
    pub fn from_variables(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let on = |name: &str| {
            set(name).is_some_and(|value| {
                matches!(value.to_ascii_lowercase().as_str(), "1" | "on" | "yes" | "true")
            })
        };
        let home = || {
            set("HOME")
                .map(PathBuf::from)
                .ok_or_else(|| Error::usage("HOME is not set; name the folder of models with HF_HUB_CACHE"))
        };
        let hf_home = match (set("HF_HOME"), set("XDG_CACHE_HOME")) {
            (Some(folder), _) => Ok(PathBuf::from(folder)),
            (None, Some(folder)) => Ok(PathBuf::from(folder).join("huggingface")),
            (None, None) => home().map(|home| home.join(".cache/huggingface")),
        };
        let cache = match set("HF_HUB_CACHE").or_else(|| set("HUGGINGFACE_HUB_CACHE")) {
            Some(folder) => PathBuf::from(folder),
            None => hf_home.clone()?.join("hub"),
        };
        let file = set("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(hf_home.ok()?.join("token")));
        let token = set("HF_TOKEN").or_else(|| crate::file::text(&file?).ok());
        Ok(Self {
            endpoint: endpoint(set("HF_ENDPOINT").as_deref())?,
            token: token.map(|text| Token::new(&text)).filter(|token| !token.0.is_empty()),
            cache,
            offline: on("HF_HUB_OFFLINE"),
            patience: Patience::default(),
        })
    }
}

fn endpoint(text: Option<&str>) -> Result<Url> {
    let text = text.unwrap_or("https://huggingface.co");
    let wrong = |reason: &str| {
        Error::usage(format!("HF_ENDPOINT {text}: {reason}; give an address like https://huggingface.co"))
    };
    let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        scheme => Err(wrong(&format!("{scheme} is not http or https"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings> {
        Settings::from_variables(&|name| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_cache_folder() {
        let cases: [(&[(&str, &str)], &str); 5] = [
            (&[("HOME", "/h")], "/h/.cache/huggingface/hub"),
            (&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/f")], "/f/hub"),
            (&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/f")], "/c"),
            (&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", " ")], "/old"),
        ];
        for (variables, expected) in cases {
            assert_eq!(settings(variables).unwrap().cache, PathBuf::from(expected), "{variables:?}");
        }
        assert!(settings(&[]).unwrap_err().to_string().contains("HF_HUB_CACHE"));
    }

    #[test]
    fn token_endpoint_and_offline() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "from-file\n").unwrap();
        let home = folder.path().to_str().unwrap();
        let found = settings(&[("HF_HOME", home)]).unwrap();
        assert_eq!(found.token, Some(Token("from-file".into())));
        assert_eq!(found.endpoint.as_str(), "https://huggingface.co/");
        assert!(!found.offline);
        let given = [
            ("HF_HOME", home),
            ("HF_TOKEN", "abc"),
            ("HF_ENDPOINT", "http://mirror:8080/hf"),
            ("HF_HUB_OFFLINE", "1"),
        ];
        let found = settings(&given).unwrap();
        assert_eq!((found.token.clone(), found.offline), (Some(Token("abc".into())), true));
        assert!(!format!("{found:?}").contains("abc"));
        for wrong in ["mirror", "ftp://mirror", "file:///x", "http://"] {
            let error = settings(&[("HF_HOME", home), ("HF_ENDPOINT", wrong)]).unwrap_err();
            assert!(error.to_string().starts_with("HF_ENDPOINT"), "{error}");
        }
    }
}
