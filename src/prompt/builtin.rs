//! Templates for files that carry none: LLaVA pairs converted before templates were stored.

/// A template found by looking at the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detected {
    /// LLaVA on Vicuna or LLaMA.
    Vicuna,
    /// LLaVA on Mistral.
    Mistral,
    /// LLaVA on Yi-34B or Qwen2, whose vocabularies have the ChatML marks.
    ChatMl,
}

impl Detected {
    /// `has_token` tells whether the vocabulary has a token of that text. Mistral and Vicuna share
    /// theirs; Mistral's attention has fewer heads for keys than for queries, which no Vicuna has
    /// that LLaVA was trained on.
    #[must_use]
    pub fn of(has_token: impl Fn(&str) -> bool, grouped_queries: bool) -> Self {
        match (has_token("<|im_start|>"), grouped_queries) {
            (true, _) => Detected::ChatMl,
            (false, true) => Detected::Mistral,
            (false, false) => Detected::Vicuna,
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Detected::Vicuna, Detected::Mistral, Detected::ChatMl]
            .into_iter()
            .find(|detected| detected.name() == name)
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Detected::Vicuna => "vicuna",
            Detected::Mistral => "mistral",
            Detected::ChatMl => "chatml",
        }
    }

    /// Jinja source. Content parts: a picture is `<image>` and a line break, as these models
    /// were trained.
    #[must_use]
    pub fn source(self) -> &'static str {
        match self {
            Detected::Vicuna => VICUNA,
            Detected::Mistral => MISTRAL,
            Detected::ChatMl => CHATML,
        }
    }
}

const VICUNA: &str = "\
{%- macro say(content) -%}
{%- if content is string -%}{{ content }}{%- else -%}
{%- for part in content -%}
{%- if part.type == 'image' -%}{{ '<image>\\n' }}{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}{%- endif -%}
{%- endmacro -%}
{%- if messages[0].role != 'system' -%}
{{ 'A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the human\\'s questions. ' }}
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'system' -%}{{ say(message.content) + ' ' }}
{%- elif message.role == 'user' -%}{{ 'USER: ' + say(message.content) + ' ' }}
{%- else -%}{{ 'ASSISTANT: ' + say(message.content) + '</s>' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}ASSISTANT:{%- endif -%}";

const MISTRAL: &str = "\
{%- macro say(content) -%}
{%- if content is string -%}{{ content }}{%- else -%}
{%- for part in content -%}
{%- if part.type == 'image' -%}{{ '<image>\\n' }}{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}{%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
{%- if message.role == 'user' -%}{{ '[INST] ' }}
{%- if loop.index0 == 1 and messages[0].role == 'system' -%}{{ '<<SYS>>\\n' + say(messages[0].content) + '\\n<</SYS>>\\n\\n' }}{%- endif -%}
{{ say(message.content) + ' [/INST]' }}
{%- elif message.role == 'assistant' -%}{{ ' ' + say(message.content) + '</s>' }}
{%- endif -%}
{%- endfor -%}";

const CHATML: &str = "\
{%- macro say(content) -%}
{%- if content is string -%}{{ content }}{%- else -%}
{%- for part in content -%}
{%- if part.type == 'image' -%}{{ '<image>\\n' }}{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}{%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' + say(message.content) + '<|im_end|>' + '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detection() {
        for (marks, grouped, expected) in [
            (&["<s>"][..], false, Detected::Vicuna),
            (&["<s>"], true, Detected::Mistral),
            (&["<s>", "<|im_start|>"], true, Detected::ChatMl),
            (&["<|im_start|>"], false, Detected::ChatMl),
        ] {
            assert_eq!(Detected::of(|mark| marks.contains(&mark), grouped), expected, "{marks:?} {grouped}");
        }
        for detected in [Detected::Vicuna, Detected::Mistral, Detected::ChatMl] {
            assert_eq!(Detected::named(detected.name()), Some(detected));
        }
        assert_eq!(Detected::named("llama"), None);
    }
}
