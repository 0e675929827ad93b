//! What an answer must look like: `response_format`, `json_schema`, `grammar`.

use serde_json::Value;

use super::super::error::{ApiError, ApiResult};
use super::super::settings::Bounds;
use super::chat::Body;
use crate::request::Grammar;

/// # Errors
/// 400 for a form that is none, for two of them, and for one that is too long.
pub(super) fn grammar(body: &Body, bounds: &Bounds) -> ApiResult<Option<Grammar>> {
    let given = body.grammar.clone().filter(|grammar| !grammar.is_empty()).map(Grammar::Gbnf);
    let schema = body.json_schema.as_ref().filter(|schema| !schema.is_null()).map(schema).transpose()?;
    let format = body.response_format.as_ref().filter(|format| !format.is_null()).map(format).transpose()?;
    let mut found = [given, schema, format.flatten()].into_iter().flatten();
    let first = found.next();
    if found.next().is_some() {
        return Err(ApiError::invalid(
            "grammar, json_schema and response_format exclude each other: give one",
        ));
    }
    let length = match &first {
        Some(Grammar::Gbnf(text) | Grammar::JsonSchema(text)) => text.len(),
        _ => 0,
    };
    if length > bounds.grammar_bytes {
        return Err(ApiError::invalid(format!(
            "the grammar or schema has {length} bytes, the limit is {} (--max-grammar-bytes)",
            bounds.grammar_bytes
        )));
    }
    Ok(first)
}

fn format(format: &Value) -> ApiResult<Option<Grammar>> {
    let kind = format.get("type").and_then(Value::as_str);
    match kind {
        Some("text") => Ok(None),
        // llama.cpp takes a schema here too.
        Some("json_object") => match format.get("schema") {
            None | Some(Value::Null) => Ok(Some(Grammar::JsonObject)),
            Some(own) => schema(own).map(Some),
        },
        Some("json_schema") => format
            .pointer("/json_schema/schema")
            .or_else(|| format.get("schema"))
            .ok_or_else(|| ApiError::invalid("response_format.json_schema.schema is missing"))
            .and_then(schema)
            .map(Some),
        _ => Err(ApiError::invalid("response_format.type: use text, json_object or json_schema")),
    }
}

fn schema(value: &Value) -> ApiResult<Grammar> {
    match value {
        Value::Object(fields) if fields.is_empty() => Ok(Grammar::JsonObject),
        Value::Object(_) => Ok(Grammar::JsonSchema(value.to_string())),
        _ => Err(ApiError::invalid("the JSON schema must be an object")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Option<Grammar>, String> {
        let body: Body = serde_json::from_value(value).unwrap();
        grammar(&body, &Bounds { grammar_bytes: 40, ..Bounds::default() })
            .map_err(|error| error.body()["message"].as_str().unwrap().to_owned())
    }

    #[test]
    fn forms() {
        let schema = json!({ "type": "object" });
        let wanted = Some(Grammar::JsonSchema(schema.to_string()));
        for (value, expected) in [
            (json!({}), None),
            (json!({ "response_format": { "type": "text" } }), None),
            (json!({ "response_format": { "type": "json_object" } }), Some(Grammar::JsonObject)),
            (json!({ "response_format": { "type": "json_object", "schema": schema } }), wanted.clone()),
            (
                json!({ "response_format": { "type": "json_schema",
                        "json_schema": { "name": "x", "strict": true, "schema": schema } } }),
                wanted.clone(),
            ),
            (json!({ "json_schema": schema }), wanted),
            (json!({ "json_schema": {} }), Some(Grammar::JsonObject)),
            (json!({ "grammar": "root ::= \"a\"" }), Some(Grammar::Gbnf("root ::= \"a\"".into()))),
            (json!({ "grammar": "", "response_format": null }), None),
        ] {
            assert_eq!(read(value.clone()).unwrap(), expected, "{value}");
        }
    }

    #[test]
    fn what_is_none() {
        for (value, part) in [
            (json!({ "response_format": "json" }), "response_format.type"),
            (json!({ "response_format": { "type": "xml" } }), "response_format.type"),
            (json!({ "response_format": { "type": "json_schema" } }), "schema is missing"),
            (json!({ "json_schema": [1] }), "must be an object"),
            (json!({ "json_schema": { "a": 1 }, "grammar": "x" }), "exclude each other"),
            (json!({ "grammar": "x".repeat(41) }), "--max-grammar-bytes"),
        ] {
            let error = read(value).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
