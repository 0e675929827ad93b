//! Tools that a model may call, and the forms that models were trained to call them in.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Message, Part, Role};

/// Functions that may be called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tools {
    pub list: Vec<Tool>,
    pub choice: ToolChoice,
    /// Whether one answer may call several.
    pub parallel: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    pub name: String,
    pub description: String,
    /// A JSON schema of the arguments' object.
    pub parameters: Value,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// Any of them, but one.
    Required,
    Named(String),
}

/// A call that an assistant's message made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Called {
    pub id: String,
    pub name: String,
    /// JSON, an object.
    pub arguments: String,
}

/// How a call is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallForm {
    /// `<tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>`: Qwen, Hermes.
    Hermes,
    /// `{"name": ..., "parameters": {...}}`: Llama 3.1.
    Llama,
    /// `[TOOL_CALLS] [{"name": ..., "arguments": {...}, "id": ...}]`.
    Mistral,
    /// Hermes' form, explained in the system's text: for templates that know nothing of tools.
    Told,
}

impl CallForm {
    /// The form by the marks of a chat template.
    #[must_use]
    pub fn of(template: &str) -> Self {
        let has = |mark: &str| template.contains(mark);
        match () {
            () if !has("tools") => Self::Told,
            () if has("[TOOL_CALLS]") => Self::Mistral,
            () if has("<tool_call>") => Self::Hermes,
            () if has("ipython") || has("<|python_tag|>") => Self::Llama,
            () => Self::Told,
        }
    }

    /// Text that a call begins with; none for a form whose calls are the whole answer.
    #[must_use]
    pub fn opening(self) -> Option<&'static str> {
        match self {
            Self::Hermes | Self::Told => Some("<tool_call>"),
            Self::Mistral => Some("[TOOL_CALLS]"),
            Self::Llama => None,
        }
    }

    /// The name of the arguments' field.
    #[must_use]
    pub fn arguments(self) -> &'static str {
        if self == Self::Llama { "parameters" } else { "arguments" }
    }

    /// Texts of special tokens that are part of the form: they are shown in the answer, as no other special token is.
    #[must_use]
    pub fn marks(self) -> Vec<String> {
        let marks: &[&str] = match self {
            Self::Hermes | Self::Told => &["<tool_call>", "</tool_call>"],
            Self::Mistral => &["[TOOL_CALLS]"],
            Self::Llama => &["<|python_tag|>"],
        };
        marks.iter().map(|mark| (*mark).to_owned()).collect()
    }
}

impl Tool {
    /// OpenAI's form, which templates read.
    #[must_use]
    pub fn value(&self) -> Value {
        json!({ "type": "function", "function":
            { "name": self.name, "description": self.description, "parameters": self.parameters } })
    }
}

/// An id as Mistral's templates want it, nine letters and digits: the id itself, or always the same for the same one.
pub(super) fn short_id(id: &str) -> String {
    if id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    const DIGITS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let hash = blake3::hash(id.as_bytes());
    hash.as_bytes()[..9].iter().map(|byte| char::from(DIGITS[usize::from(*byte) % DIGITS.len()])).collect()
}

/// Calls and their results as words, for a template that knows nothing of tools; the tools themselves and how to call
/// them become the system's text.
pub(super) fn told(messages: &[Message], tools: Option<&Tools>) -> Vec<Message> {
    let mut turns: Vec<Message> = Vec::with_capacity(messages.len() + 1);
    if let Some(tools) = tools {
        turns.push(Message::text(Role::System, explained(tools)));
    }
    for message in messages {
        match message.role {
            Role::System if turns.len() == 1 && tools.is_some() => {
                // One system message: its own text first.
                let own = message.parts.iter().cloned().chain([Part::Text("\n\n".into())]);
                let explained = std::mem::take(&mut turns[0].parts);
                turns[0].parts = own.chain(explained).collect();
            }
            Role::Tool => {
                let texts = message.parts.iter().filter(|part| !matches!(part, Part::CallId(_))).cloned();
                let open = Part::Text("<tool_response>\n".into());
                let parts =
                    std::iter::once(open).chain(texts).chain([Part::Text("\n</tool_response>".into())]);
                // Results of one turn are one message, as templates want turns to alternate.
                match turns.last_mut().filter(|last| last.role == Role::User) {
                    Some(last) => last.parts.extend(std::iter::once(Part::Text("\n".into())).chain(parts)),
                    None => turns.push(Message { role: Role::User, parts: parts.collect() }),
                }
            }
            _ => {
                let parts = message.parts.iter().map(|part| match part {
                    Part::Call(call) => Part::Text(format!(
                        "<tool_call>\n{{\"name\": {}, \"arguments\": {}}}\n</tool_call>",
                        json!(call.name),
                        call.arguments
                    )),
                    part => part.clone(),
                });
                turns.push(Message { role: message.role, parts: parts.collect() });
            }
        }
    }
    turns
}

fn explained(tools: &Tools) -> String {
    let mut text = String::from(
        "You may call functions to help with the user's request. Each of these lines of JSON describes one:\n",
    );
    for tool in &tools.list {
        text.push_str(&tool.value()["function"].to_string());
        text.push('\n');
    }
    text.push_str(
        "To call one, answer with nothing but\n<tool_call>\n{\"name\": \"the function's name\", \"arguments\": {the arguments as JSON}}\n</tool_call>\nIf no function helps, answer in words.",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_by_their_marks() {
        for (template, form) in [
            ("{{ messages }}", CallForm::Told),
            ("{% if tools %}<tool_call>{% endif %}", CallForm::Hermes),
            ("{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]", CallForm::Mistral),
            ("{% if tools is not none %}Environment: ipython{% endif %}", CallForm::Llama),
            ("{% if tools %}<functions>{% endif %}", CallForm::Told),
        ] {
            assert_eq!(CallForm::of(template), form, "{template}");
        }
    }

    #[test]
    fn ids_of_nine() {
        assert_eq!(short_id("abcDEF123"), "abcDEF123");
        let made = short_id("call_0123456789");
        assert_eq!((made.len(), &made), (9, &short_id("call_0123456789")));
        assert_ne!(made, short_id("call_1"));
    }

    #[test]
    fn tools_in_words() {
        let call = Called { id: "1".into(), name: "look".into(), arguments: "{\"at\": 5}".into() };
        let tool = Tool {
            name: "look".into(),
            description: "Looks.".into(),
            parameters: json!({ "type": "object" }),
        };
        let tools = Tools { list: vec![tool], choice: ToolChoice::Auto, parallel: true };
        let result =
            || Message { role: Role::Tool, parts: vec![Part::CallId("1".into()), Part::Text("seen".into())] };
        let messages = [
            Message::text(Role::System, "Be brief."),
            Message::text(Role::User, "?"),
            Message { role: Role::Assistant, parts: vec![Part::Call(call)] },
            result(),
            result(),
        ];
        let turns = told(&messages, Some(&tools));
        let text = |message: &Message| {
            let texts = message
                .parts
                .iter()
                .filter_map(|part| if let Part::Text(text) = part { Some(text) } else { None });
            texts.cloned().collect::<String>()
        };
        let roles: Vec<Role> = turns.iter().map(|turn| turn.role).collect();
        assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::User]);
        assert!(
            text(&turns[0]).starts_with("Be brief.\n\nYou may call") && text(&turns[0]).contains("Looks.")
        );
        assert_eq!(
            text(&turns[2]),
            "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": 5}}\n</tool_call>"
        );
        assert_eq!(text(&turns[3]).matches("seen").count(), 2);
    }

    /// Tools in published templates, in the fewest words: Qwen's, Llama 3.1's, Mistral's.
    const QWEN: &str = "{%- if tools %}{{ '<|im_start|>system\n' + (messages[0].content if messages[0].role == 'system' else 'You help.') }}\n<tools>{%- for tool in tools %}{{ '\n' + (tool | tojson) }}{%- endfor %}{{ '\n</tools><|im_end|>\n' }}{%- endif %}{%- for m in messages %}{%- if m.role == 'user' %}{{ '<|im_start|>user\n' + m.content + '<|im_end|>\n' }}{%- elif m.role == 'assistant' %}{{ '<|im_start|>assistant' }}{%- if m.content %}{{ '\n' + m.content }}{%- endif %}{%- for call in m.tool_calls %}{%- if call.function is defined %}{%- set call = call.function %}{%- endif %}{{ '\n<tool_call>\n{\"name\": \"' + call.name + '\", \"arguments\": ' + (call.arguments | tojson) + '}\n</tool_call>' }}{%- endfor %}{{ '<|im_end|>\n' }}{%- elif m.role == 'tool' %}{{ '<|im_start|>user\n<tool_response>\n' + m.content + '\n</tool_response><|im_end|>\n' }}{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}";
    const LLAMA: &str = "{%- if tools is not none %}{{ 'Environment: ipython' }}{%- for t in tools %}{{ '\n' + (t | tojson(indent=4)) }}{%- endfor %}{%- endif %}{%- for m in messages %}{%- if 'tool_calls' in m %}{%- if not m.tool_calls | length == 1 %}{{ raise_exception('one call at once') }}{%- endif %}{%- set call = m.tool_calls[0].function %}{{ '<a>{\"name\": \"' + call.name + '\", \"parameters\": ' + (call.arguments | tojson) + '}<|eot_id|>' }}{%- elif m.role == 'tool' %}{{ '<ipython>' }}{%- if m.content is mapping or m.content is iterable %}{{ m.content | tojson }}{%- else %}{{ m.content }}{%- endif %}{{ '<|eot_id|>' }}{%- else %}{{ '<' + m.role + '>' + m.content + '<|eot_id|>' }}{%- endif %}{%- endfor %}";
    const MISTRAL: &str = "{%- for m in messages %}{%- if m.role == 'user' %}{%- if tools is not none and m == messages[-1] %}{{ '[AVAILABLE_TOOLS] ' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}{%- endif %}{{ '[INST] ' + m.content + '[/INST]' }}{%- elif m.tool_calls is defined and m.tool_calls is not none %}{{ '[TOOL_CALLS] [' }}{%- for call in m.tool_calls %}{%- set out = call.function | tojson %}{{ out[:-1] }}{%- if call.id | length != 9 %}{{ raise_exception('ids have nine letters') }}{%- endif %}{{ ', \"id\": \"' + call.id + '\"}' }}{%- endfor %}{{ ']</s>' }}{%- elif m.role == 'tool' %}{{ '[TOOL_RESULTS] {\"content\": ' + m.content|string + ', \"call_id\": \"' + m.tool_call_id + '\"}[/TOOL_RESULTS]' }}{%- endif %}{%- endfor %}";

    #[test]
    fn tools_in_templates() {
        use super::super::{Conversation, Family, Piece, Template};
        let call =
            Called { id: "call_1".into(), name: "look".into(), arguments: r#"{"at": "<|im_end|>"}"#.into() };
        let tool = Tool {
            name: "look".into(),
            description: "Looks <|im_end|>.".into(),
            parameters: json!({ "type": "object", "properties": {} }),
        };
        let tools = Tools { list: vec![tool], choice: ToolChoice::Auto, parallel: true };
        let history = [
            Message::text(Role::User, "?"),
            Message { role: Role::Assistant, parts: vec![Part::Call(call)] },
            Message {
                role: Role::Tool,
                parts: vec![Part::CallId("call_1".into()), Part::Text("seen".into())],
            },
        ];
        let render = |source: &str, messages: &[Message], tools| {
            let given = Conversation { messages, tools, ..Conversation::default() };
            let pieces = Template::new(source, "", "").unwrap().converse(given, Family::Llava).unwrap();
            let shown = pieces.into_iter().map(|piece| match piece {
                Piece::Template(text) => text,
                Piece::Plain(text) => format!("[{text}]"),
                Piece::Image(number) => format!("{{{number}}}"),
            });
            shown.collect::<String>()
        };
        let named = r#"{"type": "function", "function": {"name": "look", "description": "[Looks <|im_end|>.]", "parameters": {"type": "object", "properties": {}}}}"#;
        let qwen = render(QWEN, &history, Some(&tools));
        assert!(qwen.contains(&format!("<tools>\n{named}\n</tools>")), "{qwen}");
        assert!(
            qwen.ends_with("assistant\n<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"[<|im_end|>]\"}}\n</tool_call><|im_end|>\n<|im_start|>user\n<tool_response>\n[seen]\n</tool_response><|im_end|>\n<|im_start|>assistant\n"),
            "{qwen}"
        );
        let llama = render(LLAMA, &history, Some(&tools));
        assert!(llama.contains("ipython\n{\n    \"type\": \"function\""), "{llama}");
        assert!(llama.ends_with("<a>{\"name\": \"look\", \"parameters\": {\"at\": \"[<|im_end|>]\"}}<|eot_id|><ipython>\"[seen]\"<|eot_id|>"), "{llama}");
        let short = short_id("call_1");
        let mistral = render(MISTRAL, &history, Some(&tools));
        assert!(mistral.ends_with(&format!("[TOOL_CALLS] [{{\"name\": \"look\", \"arguments\": {{\"at\": \"[<|im_end|>]\"}}, \"id\": \"{short}\"}}]</s>[TOOL_RESULTS] {{\"content\": [seen], \"call_id\": \"{short}\"}}[/TOOL_RESULTS]")), "{mistral}");
        let asked = render(MISTRAL, &history[..1], Some(&tools));
        assert_eq!(asked, format!("[AVAILABLE_TOOLS] [{named}][/AVAILABLE_TOOLS][INST] [?][/INST]"));
        // A template that knows nothing of tools, and has no place for a system message either.
        let plain = "{% for m in messages %}{% if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endif %}{% endfor %}";
        let told = render(plain, &history, Some(&tools));
        assert!(
            told.starts_with("<user>[You may call")
                && told.contains("[<tool_call>\n{\"name\": \"look\"")
                && told.contains("<tool_response>"),
            "{told}"
        );
        assert_eq!(
            render(QWEN, &[Message::text(Role::User, "?")], None),
            "<|im_start|>user\n[?]<|im_end|>\n<|im_start|>assistant\n"
        );
    }
}
