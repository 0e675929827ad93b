//! Templates for files that carry none: LLaVA pairs converted before templates were stored.

/// A template found by looking at the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detected {
    /// LLaVA on Vicuna or LLaMA.
    Vicuna,
    /// LLaVA on Yi-34B, whose vocabulary has the ChatML marks.
    ChatMl,
}

impl Detected {
    /// `has_token` tells whether the vocabulary has a token of that text.
    #[must_use]
    pub fn of(has_token: impl Fn(&str) -> bool) -> Self {
        if has_token("<|im_start|>") { Detected::ChatMl } else { Detected::Vicuna }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Detected::Vicuna, Detected::ChatMl].into_iter().find(|detected| detected.name() == name)
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Detected::Vicuna => "vicuna",
            Detected::ChatMl => "chatml",
        }
    }

    /// Jinja source. Content parts: a picture is `<image>` and a line break, as these models
    /// were trained.
    #[must_use]
    pub fn source(self) -> &'static str {
        match self {
            Detected::Vicuna => VICUNA,
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
