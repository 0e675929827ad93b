//! The form an answer must have: read from a body's many fields for it, and held to bounds.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fields::{Fields, deeper_than, wrong};
use super::{Bounds, policy};
use crate::error::{Error, Field, Result};
use crate::gbnf;

/// Arrays and objects inside one another in a schema.
const SCHEMA_DEPTH: usize = 64;

/// A form that every answer obeys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grammar {
    /// llama.cpp's GBNF, with a rule named `root`.
    Gbnf(String),
    /// A JSON schema, as JSON text.
    JsonSchema(String),
    /// A regular expression that the whole answer matches.
    Regex(String),
    /// Any JSON object.
    JsonObject,
    /// Calls of tools, in llguidance's Lark; made here of their schemas.
    Calls(String),
}

impl Grammar {
    /// Checks nesting and size, so that no parser behind runs out of stack or memory.
    ///
    /// # Errors
    /// Kind `Usage` with the bound that is passed.
    pub fn checked(self) -> Result<Self> {
        match &self {
            Grammar::Gbnf(text) => gbnf::check(text)?,
            Grammar::JsonSchema(text) if deeper_than(text.as_bytes(), SCHEMA_DEPTH) => {
                let field = Field::JsonSchema;
                return Err(Error::usage(format!(
                    "{field}: it nests deeper than {SCHEMA_DEPTH}; flatten it"
                )));
            }
            _ => {}
        }
        Ok(self)
    }

    fn bytes(&self) -> usize {
        match self {
            Grammar::Gbnf(text) | Grammar::JsonSchema(text) | Grammar::Regex(text) | Grammar::Calls(text) => {
                text.len()
            }
            Grammar::JsonObject => 0,
        }
    }

    /// One of these texts.
    fn one_of(choices: &[String]) -> Self {
        let quoted = choices.iter().map(|choice| {
            let escaped = choice.chars().map(|letter| match letter {
                '"' | '\\' => format!("\\{letter}"),
                '\n' => "\\n".into(),
                '\r' => "\\r".into(),
                '\t' => "\\t".into(),
                letter => letter.to_string(),
            });
            format!("\"{}\"", escaped.collect::<String>())
        });
        Grammar::Gbnf(format!("root ::= {}", quoted.collect::<Vec<_>>().join(" | ")))
    }
}

/// The one form a body asks for: OpenAI's `response_format`, llama.cpp's `grammar` and `json_schema`, vLLM's
/// `guided_*` and `structured_outputs`.
///
/// # Errors
/// Kind `Usage` for a form that is none, for two of them, and for one that is too large.
pub(super) fn read(body: &mut Fields, bounds: &Bounds) -> Result<Option<Grammar>> {
    let mut found = Vec::new();
    found.extend(body.text("grammar")?.filter(|text| !text.is_empty()).map(Grammar::Gbnf));
    found.extend(body.value("json_schema").map(|value| schema("json_schema", value)).transpose()?);
    if let Some(object) = body.object("response_format")? {
        found.extend(response_format(object)?);
    }
    guided(
        body,
        ["guided_json", "guided_regex", "guided_choice", "guided_grammar", "guided_json_object"],
        &mut found,
    )?;
    if let Some(mut object) = body.object("structured_outputs")? {
        guided(&mut object, ["json", "regex", "choice", "grammar", "json_object"], &mut found)?;
        object.close(&policy::FORMAT)?;
    }
    if found.len() > 1 {
        return Err(Error::usage(
            "grammar, json_schema, response_format, guided_* and structured_outputs exclude each other: give one",
        ));
    }
    let Some(grammar) = found.pop() else { return Ok(None) };
    let (bytes, most) = (grammar.bytes(), bounds.grammar_bytes);
    if bytes > most {
        return Err(Error::usage(format!(
            "the grammar or schema has {bytes} bytes, the limit is {most} ({}); shorten it",
            Field::MaxGrammar
        )));
    }
    grammar.checked().map(Some)
}

/// vLLM's forms under their five names, old and new.
fn guided(fields: &mut Fields, names: [&'static str; 5], found: &mut Vec<Grammar>) -> Result<()> {
    let [json, regex, choice, grammar, object] = names;
    if let Some(value) = fields.value(json) {
        found.push(schema(&fields.path(json), value)?);
    }
    found.extend(fields.text(regex)?.map(Grammar::Regex));
    if let Some(choices) = fields.texts(choice)? {
        if choices.is_empty() {
            return Err(Error::usage(format!("{} is empty: give texts to choose from", fields.path(choice))));
        }
        found.push(Grammar::one_of(&choices));
    }
    found.extend(fields.text(grammar)?.map(Grammar::Gbnf));
    if fields.flag(object)? == Some(true) {
        found.push(Grammar::JsonObject);
    }
    Ok(())
}

fn response_format(mut format: Fields) -> Result<Option<Grammar>> {
    let kind = format.text("type")?;
    // huggingface_hub sends the schema as `value`.
    let (schema_of, value) = (format.value("schema"), format.value("value"));
    let own = schema_of.or(value);
    let named = format.object("json_schema")?;
    let grammar = match kind.as_deref() {
        Some("text") => None,
        // llama.cpp takes a schema here too.
        Some("json" | "json_object") => match own {
            None => Some(Grammar::JsonObject),
            Some(own) => Some(schema("response_format.schema", own)?),
        },
        Some("json_schema") => {
            let mut found = own;
            if let Some(mut named) = named {
                found = named.value("schema").or(found);
                named.close(&policy::FORMAT)?;
            }
            let missing =
                || Error::usage("response_format.json_schema.schema is missing: give a JSON schema");
            Some(schema("response_format.json_schema.schema", found.ok_or_else(missing)?)?)
        }
        _ => return Err(Error::usage("response_format.type: use text, json_object or json_schema")),
    };
    format.close(&policy::FORMAT)?;
    Ok(grammar)
}

/// A schema as an object, or as the text of one.
fn schema(path: &str, value: Value) -> Result<Grammar> {
    let value = match value {
        Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        value => value,
    };
    match value {
        Value::Object(fields) if fields.is_empty() => Ok(Grammar::JsonObject),
        Value::Object(_) => Ok(Grammar::JsonSchema(value.to_string())),
        other => Err(wrong(path, &other, "a JSON schema, which must be an object")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn form(value: Value) -> Result<Option<Grammar>> {
        let Value::Object(map) = value else { panic!("no object") };
        read(&mut Fields::new(map, ""), &Bounds { grammar_bytes: 40, ..Bounds::default() })
    }

    #[test]
    fn forms() {
        let schema = json!({ "type": "object" });
        let wanted = Some(Grammar::JsonSchema(schema.to_string()));
        let gbnf = |text: &str| Some(Grammar::Gbnf(text.into()));
        for (value, expected) in [
            (json!({}), None),
            (json!({ "response_format": { "type": "text" } }), None),
            (json!({ "response_format": { "type": "json_object" } }), Some(Grammar::JsonObject)),
            (json!({ "response_format": { "type": "json_object", "schema": schema } }), wanted.clone()),
            (json!({ "response_format": { "type": "json", "value": schema } }), wanted.clone()),
            (
                json!({ "response_format": { "type": "json_schema",
                        "json_schema": { "name": "x", "strict": true, "schema": schema } } }),
                wanted.clone(),
            ),
            (json!({ "json_schema": schema }), wanted.clone()),
            (json!({ "json_schema": schema.to_string() }), wanted.clone()),
            (json!({ "json_schema": {} }), Some(Grammar::JsonObject)),
            (json!({ "guided_json": schema }), wanted.clone()),
            (json!({ "structured_outputs": { "json": schema, "disable_fallback": true } }), wanted),
            (json!({ "structured_outputs": { "json_object": true } }), Some(Grammar::JsonObject)),
            (json!({ "guided_regex": "[0-9]{3}" }), Some(Grammar::Regex("[0-9]{3}".into()))),
            (json!({ "guided_choice": ["yes", "n\"o\n"] }), gbnf(r#"root ::= "yes" | "n\"o\n""#)),
            (json!({ "structured_outputs": { "choice": "yes" } }), gbnf(r#"root ::= "yes""#)),
            (json!({ "guided_grammar": "root ::= \"a\"" }), gbnf("root ::= \"a\"")),
            (json!({ "grammar": "root ::= \"a\"" }), gbnf("root ::= \"a\"")),
            (json!({ "grammar": "", "response_format": null }), None),
        ] {
            assert_eq!(form(value.clone()).unwrap(), expected, "{value}");
        }
    }

    #[test]
    fn what_is_none() {
        for (value, part) in [
            (json!({ "response_format": "json" }), "response_format \"json\": give an object"),
            (json!({ "response_format": { "type": "xml" } }), "response_format.type"),
            (json!({ "response_format": { "type": "json_schema" } }), "schema is missing"),
            (json!({ "json_schema": [1] }), "must be an object"),
            (json!({ "guided_json": "no" }), "must be an object"),
            (json!({ "guided_choice": [] }), "guided_choice is empty"),
            (json!({ "guided_choice": [1] }), "guided_choice [1]"),
            (
                json!({ "structured_outputs": { "choices": ["a"] } }),
                "did you mean structured_outputs.choice?",
            ),
            (json!({ "json_schema": { "a": 1 }, "grammar": "x" }), "exclude each other"),
            (json!({ "guided_regex": "a", "grammar": "x" }), "exclude each other"),
            (json!({ "grammar": "x".repeat(41) }), "41 bytes, the limit is 40"),
        ] {
            let error = form(value).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        for (grammar, part) in [
            (Grammar::Gbnf(format!("root ::= {}", "(".repeat(20_000))), "grammar: brackets deeper than 100"),
            (Grammar::JsonSchema(deep(20_000)), "json_schema: it nests deeper than 64"),
        ] {
            assert!(grammar.checked().unwrap_err().to_string().contains(part));
        }
        assert!(Grammar::JsonSchema(deep(64)).checked().is_ok());
    }
}
