//! The tools of a body, and the form that their calls must have.

use serde_json::{Value, json};

use super::fields::{Fields, wrong};
use super::{Grammar, policy};
use crate::error::{Error, Result};
use crate::prompt::{CallForm, Tool, ToolChoice, Tools};

/// Tools in one body.
const MOST: usize = 128;
const LONGEST_NAME: usize = 64;

/// # Errors
/// Kind `Usage` that names the tool and the field; also for any tool at all if `allowed` is false.
pub(super) fn read(body: &mut Fields, allowed: bool) -> Result<Option<Tools>> {
    let choice = choice(body)?;
    let parallel = body.flag("parallel_tool_calls")?.unwrap_or(true);
    let list = match body.value("tools") {
        None => Vec::new(),
        Some(Value::Array(given)) => given,
        Some(other) => return Err(wrong("tools", &other, "a list of tools")),
    };
    if list.len() > MOST {
        return Err(Error::usage(format!("tools: {} of them, the limit is {MOST}; give fewer", list.len())));
    }
    let Some(choice) = choice else { return Ok(None) };
    if !allowed && (!list.is_empty() || choice != ToolChoice::Auto) {
        let name = if list.is_empty() { "tool_choice" } else { "tools" };
        return Err(Error::usage(format!("{name}: not supported here; leave it out")));
    }
    if list.is_empty() {
        return match choice {
            ToolChoice::Auto => Ok(None),
            _ => Err(Error::usage("tool_choice: there are no tools to choose from; give tools")),
        };
    }
    let list: Vec<Tool> =
        list.into_iter().enumerate().map(|(i, value)| tool(i, value)).collect::<Result<_>>()?;
    if let ToolChoice::Named(name) = &choice
        && list.iter().all(|tool| tool.name != *name)
    {
        return Err(Error::usage(format!("tool_choice: `{name}` is none of the tools; name one of them")));
    }
    Ok(Some(Tools { list, choice, parallel }))
}

/// `None`: no tool may be called.
fn choice(body: &mut Fields) -> Result<Option<ToolChoice>> {
    match body.value("tool_choice") {
        None => Ok(Some(ToolChoice::Auto)),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => Ok(Some(ToolChoice::Auto)),
            "required" | "any" => Ok(Some(ToolChoice::Required)),
            "none" => Ok(None),
            _ => Err(Error::usage(
                "tool_choice: use auto, required, none, or {\"type\": \"function\", \"function\": {\"name\"}}",
            )),
        },
        Some(value) => {
            let mut object = Fields::of(value, "tool_choice".into())?;
            object.text("type")?;
            let named =
                object.object("function")?.map(|mut function| function.text("name")).transpose()?.flatten();
            let name = named
                .ok_or_else(|| Error::usage("tool_choice.function.name is missing: name one of the tools"))?;
            Ok(Some(ToolChoice::Named(name)))
        }
    }
}

fn tool(i: usize, value: Value) -> Result<Tool> {
    let at = format!("tools[{i}]");
    let mut outer = Fields::of(value, at.clone())?;
    if let Some(kind) = outer.text("type")?.filter(|kind| kind != "function") {
        let kind: String = kind.chars().take(40).collect();
        return Err(Error::usage(format!("{at}.type: `{kind}` is none that is known here; use function")));
    }
    let mut function =
        outer.object("function")?.ok_or_else(|| Error::usage(format!("{at}.function is missing")))?;
    let name = function.text("name")?.unwrap_or_default();
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(letters) {
        return Err(Error::usage(format!(
            "{at}.function.name: give 1 to {LONGEST_NAME} letters, digits, and _ - . :"
        )));
    }
    let description = function.text("description")?.unwrap_or_default();
    let parameters = match function.value("parameters") {
        None => json!({ "type": "object", "properties": {} }),
        Some(schema @ Value::Object(_)) => schema,
        Some(other) => {
            return Err(wrong(
                &function.path("parameters"),
                &other,
                "a JSON schema, which must be an object",
            ));
        }
    };
    function.close(&policy::TOOL)?;
    outer.close(&policy::TOOL)?;
    Ok(Tool { name, description, parameters })
}

/// Holds an answer to calls that fit their schemas: all of it if a tool must be called, and otherwise the
/// part that begins as a call. `asked` is the form of answers in words, if the body has one.
///
/// # Errors
/// Kind `Usage` for a form of words that excludes calls.
pub fn grammar(tools: &Tools, form: CallForm, asked: Option<Grammar>) -> Result<Option<Grammar>> {
    let auto = tools.choice == ToolChoice::Auto;
    let words = match asked {
        None => None,
        Some(_) if !auto => {
            return Err(Error::usage(
                "tool_choice: a form of the answer excludes calls that must be made; give one",
            ));
        }
        Some(Grammar::JsonSchema(text)) => {
            Some(format!("%json {}", bounded(serde_json::from_str(&text).unwrap_or_default())))
        }
        Some(Grammar::JsonObject) => Some("%json {\"type\": \"object\"}".to_owned()),
        Some(Grammar::Regex(_) | Grammar::Gbnf(_) | Grammar::Calls(_)) => {
            return Err(Error::usage(
                "tools: a grammar or a regular expression excludes calls; give a JSON schema, or no tools",
            ));
        }
    };
    // The mark of these is a special token, which no grammar over text can tell from its letters.
    if auto && form == CallForm::Mistral && words.is_none() {
        return Ok(None);
    }
    let chosen = tools
        .list
        .iter()
        .filter(|tool| !matches!(&tools.choice, ToolChoice::Named(name) if *name != tool.name));
    let (mut rules, mut names) = (String::new(), Vec::new());
    for (i, tool) in chosen.enumerate() {
        let head = format!("{{\"name\": {}, \"{}\": ", json!(tool.name), form.arguments());
        let tail = if form == CallForm::Mistral { ", \"id\": \"\" ID \"\"}" } else { "}" };
        let tail = if form == CallForm::Mistral {
            "\", \\\"id\\\": \\\"\" /[a-zA-Z0-9]{9}/ \"\\\"}\"".to_owned()
        } else {
            json!(tail).to_string()
        };
        rules.push_str(&format!(
            "call{i}: {} args{i} {tail}\nargs{i}: %json {}\n",
            json!(head),
            bounded(tool.parameters.clone())
        ));
        names.push(format!("call{i}"));
    }
    let calls = names.join(" | ");
    let one = match form {
        CallForm::Hermes | CallForm::Told => "one: \"<tool_call>\\n\" call \"\\n</tool_call>\"\n",
        CallForm::Mistral | CallForm::Llama => "one: call\n",
    };
    let several = match (form, tools.parallel) {
        (CallForm::Hermes | CallForm::Told, true) => "calls: one (\"\\n\" one)*\n",
        (CallForm::Mistral, true) => "calls: \"[\" one (\", \" one)* \"]\"\n",
        (CallForm::Mistral, false) => "calls: \"[\" one \"]\"\n",
        _ => "calls: one\n",
    };
    let text = match form {
        CallForm::Hermes | CallForm::Told => r"/(?s:([^<].*|<|<[^t].*)?)/",
        CallForm::Llama | CallForm::Mistral => r"/(?s:([^{\[].*)?)/",
    };
    let start = match (auto, words) {
        (false, _) => "start: calls\n".to_owned(),
        (true, Some(words)) => format!("start: words | calls\nwords: {words}\n"),
        (true, None) => format!("start: TEXT | calls\nTEXT: {text}\n"),
    };
    Ok(Some(Grammar::Calls(format!("{start}{several}{one}call: {calls}\n{rules}"))))
}

/// The schema with the separators that models write, and no other white space.
fn bounded(mut schema: Value) -> Value {
    if let Some(object) = schema.as_object_mut() {
        object.entry("x-guidance").or_insert_with(
            || json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " }),
        );
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(value: Value) -> Result<Option<Tools>> {
        let Value::Object(map) = value else { panic!("no object") };
        read(&mut Fields::new(map, ""), true)
    }

    fn one(name: &str) -> Value {
        json!({ "type": "function", "function": { "name": name, "parameters": { "type": "object" }, "strict": true } })
    }

    #[test]
    fn choices() {
        for (body, choice) in [
            (json!({ "tools": [one("a")] }), Some(ToolChoice::Auto)),
            (json!({ "tools": [one("a")], "tool_choice": "none" }), None),
            (json!({ "tools": [one("a")], "tool_choice": "required" }), Some(ToolChoice::Required)),
            (
                json!({ "tools": [one("a")], "tool_choice": { "type": "function", "function": { "name": "a" } } }),
                Some(ToolChoice::Named("a".into())),
            ),
            (json!({ "tools": [] }), None),
            (json!({}), None),
        ] {
            assert_eq!(tools(body.clone()).unwrap().map(|tools| tools.choice), choice, "{body}");
        }
        for (body, part) in [
            (json!({ "tools": 5 }), "tools 5: give a list"),
            (json!({ "tools": [5] }), "tools[0] 5"),
            (json!({ "tools": [{ "type": "retrieval" }] }), "tools[0].type"),
            (json!({ "tools": [{ "type": "function" }] }), "tools[0].function is missing"),
            (json!({ "tools": [one("a b")] }), "tools[0].function.name"),
            (json!({ "tools": [one("a")], "tool_choice": "b" }), "tool_choice: use auto"),
            (json!({ "tool_choice": "required" }), "no tools"),
            (json!({ "tools": [one("a")], "tool_choice": { "function": { "name": "b" } } }), "`b` is none"),
        ] {
            let error = tools(body.clone()).unwrap_err().to_string();
            assert!(error.contains(part), "{body}: {error}");
        }
    }

    #[test]
    fn every_form_has_a_grammar_that_compiles() {
        for choice in ["auto", "required"] {
            for parallel in [true, false] {
                let body = json!({ "tools": [one("a"), one("b\"".trim_end_matches('"'))], "tool_choice": choice,
                                   "parallel_tool_calls": parallel });
                let tools = tools(body).unwrap().unwrap();
                for form in [CallForm::Hermes, CallForm::Told, CallForm::Llama, CallForm::Mistral] {
                    for words in [
                        None,
                        Some(Grammar::JsonObject),
                        Some(Grammar::JsonSchema("{\"type\":\"array\"}".into())),
                    ] {
                        let made = grammar(&tools, form, words.clone());
                        let Ok(made) = made else {
                            assert!(choice == "required" && words.is_some());
                            continue;
                        };
                        let Some(Grammar::Calls(text)) = made else {
                            assert!(made.is_none() && form == CallForm::Mistral);
                            continue;
                        };
                        let environment = llguidance::toktrie::ApproximateTokEnv::single_byte_env();
                        let factory = llguidance::ParserFactory::new_simple(&environment).unwrap();
                        let top = llguidance::api::TopLevelGrammar::from_lark(text.clone());
                        factory
                            .create_parser(top)
                            .unwrap_or_else(|error| panic!("{form:?}: {error}\n{text}"));
                    }
                }
            }
        }
    }
}
