//! Generation of a Qwen-VL text model. Qwen2-VL and Qwen2.5-VL share one architecture, and their 7B and 72B
//! are equally wide. Only the text model's own words tell them apart.

use crate::native::Gguf;

/// A generation with a projector type of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Generation {
    Qwen2,
    Qwen25,
}

/// The generation by each of the two things that a text file says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Told {
    /// By its names and those of the models it was made of; `None` if they name none, or both.
    name: Option<Generation>,
    /// By its vocabulary, which a fine-tune keeps: Qwen2.5 added the marks of tool calls to Qwen2's.
    vocabulary: Option<Generation>,
}

/// How a projector of one generation goes with a text model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    Fits,
    /// The vocabulary alone says otherwise.
    Doubtful,
    /// The names say otherwise.
    Not,
}

impl Generation {
    pub(super) fn of_projector(projector: &str) -> Option<Self> {
        match projector {
            "qwen2vl_merger" => Some(Self::Qwen2),
            "qwen2.5vl_merger" => Some(Self::Qwen25),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Qwen2 => "Qwen2-VL",
            Self::Qwen25 => "Qwen2.5-VL",
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::Qwen2 => Self::Qwen25,
            Self::Qwen25 => Self::Qwen2,
        }
    }

    fn named(text: &str) -> Option<Self> {
        let letters: String =
            text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
        [Self::Qwen2, Self::Qwen25]
            .into_iter()
            .find(|generation| letters.contains(&generation.name().to_lowercase().replace(['-', '.'], "")))
    }
}

impl Told {
    /// Reads `file`, the text model.
    pub(super) fn read(file: &Gguf) -> Self {
        let keys = [
            "general.basename",
            "general.name",
            "general.base_model.0.name",
            "general.base_model.0.repo_url",
        ];
        let names: Vec<String> = keys.iter().filter_map(|key| file.string(key)).collect();
        let tokens = file.strings("tokenizer.ggml.tokens").unwrap_or_default();
        let has = |mark: &str| tokens.iter().any(|token| token == mark.as_bytes());
        Self::of(&names, has("<|vision_start|>"), has("<tool_call>"))
    }

    fn of(names: &[String], sees: bool, calls_tools: bool) -> Self {
        let mut named = names.iter().filter_map(|name| Generation::named(name));
        let first = named.next();
        let name = first.filter(|first| named.all(|other| other == *first));
        let vocabulary = sees.then_some(if calls_tools { Generation::Qwen25 } else { Generation::Qwen2 });
        Self { name, vocabulary }
    }

    pub(super) fn fit(self, projector: Generation) -> Fit {
        match (self.name, self.vocabulary) {
            (Some(name), _) if name != projector => Fit::Not,
            (None, Some(vocabulary)) if vocabulary != projector => Fit::Doubtful,
            _ => Fit::Fits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_before_the_vocabulary() {
        use Generation::{Qwen2, Qwen25};
        for (names, calls_tools, projector, fit) in [
            (&["Qwen2-VL", "Qwen2 VL 7B Instruct"][..], false, Qwen2, Fit::Fits),
            (&["Qwen2-VL", "Qwen2 VL 7B Instruct"], false, Qwen25, Fit::Not),
            (&["Qwen2.5-VL", "Qwen2.5 VL 7B Instruct"], true, Qwen25, Fit::Fits),
            (&["Qwen2.5-VL"], true, Qwen2, Fit::Not),
            (&["Qwen2.5_VL_72B"], false, Qwen25, Fit::Fits),
            (&["olmOCR", "https://example.org/Qwen/Qwen2-VL-7B-Instruct"], false, Qwen25, Fit::Not),
            (&["Qwen2-VL", "Qwen2.5-VL"], true, Qwen25, Fit::Fits),
            (&["Qwen2-VL", "Qwen2.5-VL"], true, Qwen2, Fit::Doubtful),
            (&["mine"], false, Qwen2, Fit::Fits),
            (&["mine"], false, Qwen25, Fit::Doubtful),
            (&["mine"], true, Qwen2, Fit::Doubtful),
            (&[], true, Qwen25, Fit::Fits),
        ] {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            assert_eq!(Told::of(&names, true, calls_tools).fit(projector), fit, "{names:?} {projector:?}");
        }
        assert_eq!(
            Told::of(&[], false, false).fit(Qwen25),
            Fit::Fits,
            "a vocabulary without pictures says nothing"
        );
    }
}
