//! The field `merge` of a request: the command line's flags as an object.
//!
//! `"off"`, `"paper"` ... alone is the preset; an object has `preset` (or `off`), `keep`,
//! `vit_layers` with `vit_r`, `llm_layers` with `llm_r` or `llm_keep`, `score`, `grid`, `strategy`
//! and `strategy_seed`.

use serde::Deserialize;
use serde_json::Value;

use super::super::error::{ApiError, ApiResult};
use crate::error::Error;
use crate::schedule::{Amount, Choice, Grid, Half, MergeFlag, Score, Strategy, parse_amounts, parse_layers};

#[derive(Debug, Deserialize)]
struct Merge {
    preset: Option<String>,
    off: Option<bool>,
    keep: Option<f64>,
    vit_layers: Option<Value>,
    vit_r: Option<Value>,
    llm_layers: Option<Value>,
    llm_r: Option<Value>,
    llm_keep: Option<Value>,
    score: Option<String>,
    grid: Option<String>,
    strategy: Option<String>,
    strategy_seed: Option<u32>,
}

/// `None` is the server's own schedule.
///
/// # Errors
/// 400 that names the field and what it takes.
pub fn choice(value: &Value) -> ApiResult<Option<Choice>> {
    let merge = match value {
        Value::Null => return Ok(None),
        Value::Bool(false) => return Ok(Some(preset("off")?)),
        Value::String(name) => return Ok(Some(preset(name)?)),
        Value::Object(fields) if fields.is_empty() => return Ok(None),
        Value::Object(_) => {
            Merge::deserialize(value).map_err(|error| ApiError::invalid(format!("merge: {error}")))?
        }
        _ => return Err(ApiError::invalid("merge: give a preset's name or an object")),
    };
    let mut choice = match (merge.preset, merge.off) {
        (Some(name), None | Some(false)) => preset(&name)?,
        (None, Some(true)) => preset("off")?,
        (Some(name), Some(true)) if name == "off" => preset("off")?,
        (Some(_), Some(true)) => {
            return Err(ApiError::invalid("merge: off and preset exclude each other: give one"));
        }
        (None, None | Some(false)) => Choice::default(),
    };
    choice.keep = merge.keep;
    choice.vit = half("vit", merge.vit_layers, merge.vit_r, None)?;
    choice.llm = half("llm", merge.llm_layers, merge.llm_r, merge.llm_keep)?;
    choice.score = match merge.score.as_deref() {
        None | Some("image") => Score::Image,
        Some("last-token") => Score::LastToken,
        Some(_) => return Err(ApiError::invalid("merge.score: use image or last-token")),
    };
    choice.grid = match merge.grid.as_deref() {
        None | Some("faithful") => Grid::Faithful,
        Some("reference") => Grid::Reference,
        Some(_) => return Err(ApiError::invalid("merge.grid: use faithful or reference")),
    };
    if let Some(name) = &merge.strategy {
        choice.strategy = Strategy::parse(name, merge.strategy_seed.unwrap_or(0)).map_err(|_| {
            let names = Strategy::ALL.map(Strategy::name).join(", ");
            ApiError::invalid(format!("merge.strategy: use one of {names}"))
        })?;
    }
    Ok(Some(choice))
}

fn preset(name: &str) -> ApiResult<Choice> {
    let merge = MergeFlag::parse(name)
        .map_err(|_| ApiError::invalid("merge.preset: use off, model, paper, image, video or qwen2vl"))?;
    Ok(Choice { merge: Some(merge), ..Choice::default() })
}

fn half(name: &str, layers: Option<Value>, r: Option<Value>, keep: Option<Value>) -> ApiResult<Option<Half>> {
    let field = |part: &str| format!("merge.{name}_{part}");
    let invalid = |error: Error| ApiError::invalid(error.to_string());
    let Some(layers) = layers else {
        return match (r, keep) {
            (None, None) => Ok(None),
            _ => Err(ApiError::invalid(format!("{} is missing", field("layers")))),
        };
    };
    let layers = parse_layers(&field("layers"), &list(&field("layers"), layers)?).map_err(invalid)?;
    let amounts = match (r, keep) {
        (Some(r), None) => parse_amounts(&field("r"), &list(&field("r"), r)?).map_err(invalid)?,
        (None, Some(keep)) => keeps(&field("keep"), &keep)?,
        (None, None) => return Err(ApiError::invalid(format!("{} is missing", field("r")))),
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid("merge: llm_r and llm_keep exclude each other: give one"));
        }
    };
    Ok(Some(Half { layers, amounts }))
}

/// `"5,6"`, `5` or `[5, 6]`, items numbers or texts such as `"12.6%"`, as the command line's list.
fn list(field: &str, value: Value) -> ApiResult<String> {
    let item = |value: &Value| match value {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        _ => None,
    };
    let text = match &value {
        Value::Array(items) => items.iter().map(item).collect::<Option<Vec<_>>>().map(|all| all.join(",")),
        other => item(other),
    };
    text.ok_or_else(|| ApiError::invalid(format!("{field}: give numbers")))
}

fn keeps(field: &str, value: &Value) -> ApiResult<Vec<Amount>> {
    let wrong = || ApiError::invalid(format!("{field}: give shares above 0 and up to 1"));
    let share = |value: &Value| {
        let share = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
        share.filter(|share| *share > 0.0 && *share <= 1.0).map(Amount::Keep).ok_or_else(wrong)
    };
    match value {
        Value::Array(items) => items.iter().map(share).collect(),
        other => Ok(vec![share(other)?]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schedule::Preset;

    #[test]
    fn flags_as_an_object() {
        let paper = Choice { merge: Some(MergeFlag::Preset(Preset::Paper)), ..Choice::default() };
        let off = Choice { merge: Some(MergeFlag::Off), ..Choice::default() };
        let vit = |amounts| Some(Half { layers: vec![5, 6], amounts });
        for (value, expected) in [
            (json!(null), None),
            (json!({}), None),
            (json!("paper"), Some(paper.clone())),
            (json!({ "preset": "paper", "unknown": 1 }), Some(paper.clone())),
            (json!("off"), Some(off.clone())),
            (json!(false), Some(off.clone())),
            (json!({ "off": true }), Some(off)),
            (json!({ "keep": 0.35 }), Some(Choice { keep: Some(0.35), ..Choice::default() })),
            (json!({ "preset": "paper", "keep": 0.5 }), Some(Choice { keep: Some(0.5), ..paper.clone() })),
            (
                json!({ "preset": "paper", "strategy": "random", "strategy_seed": 7 }),
                Some(Choice { strategy: Strategy::Random(7), ..paper }),
            ),
            (
                json!({ "vit_layers": [5, 6], "vit_r": 92 }),
                Some(Choice { vit: vit(vec![Amount::Count(92)]), ..Choice::default() }),
            ),
            (
                json!({ "vit_layers": "5,6", "vit_r": ["12.5%", 3] }),
                Some(Choice { vit: vit(vec![Amount::Share(0.125), Amount::Count(3)]), ..Choice::default() }),
            ),
            (
                json!({ "llm_layers": 8, "llm_keep": 0.7, "score": "last-token", "grid": "reference" }),
                Some(Choice {
                    llm: Some(Half { layers: vec![8], amounts: vec![Amount::Keep(0.7)] }),
                    score: Score::LastToken,
                    grid: Grid::Reference,
                    ..Choice::default()
                }),
            ),
        ] {
            assert_eq!(choice(&value).unwrap(), expected, "{value}");
        }
    }

    #[test]
    fn wrong_values_name_the_field() {
        for (value, part) in [
            (json!(5), "merge:"),
            (json!("best"), "merge.preset"),
            (json!({ "preset": "best" }), "merge.preset"),
            (json!({ "preset": 5 }), "merge:"),
            (json!({ "preset": "paper", "off": true }), "exclude"),
            (json!({ "keep": "much" }), "merge:"),
            (json!({ "vit_layers": [5] }), "merge.vit_r is missing"),
            (json!({ "vit_r": 5 }), "merge.vit_layers is missing"),
            (json!({ "vit_layers": [6, 5], "vit_r": 5 }), "merge.vit_layers"),
            (json!({ "vit_layers": [{}], "vit_r": 5 }), "merge.vit_layers"),
            (json!({ "vit_layers": [5], "vit_r": "x" }), "merge.vit_r"),
            (json!({ "llm_layers": [5], "llm_keep": 0 }), "merge.llm_keep"),
            (json!({ "llm_layers": [5], "llm_keep": 0.5, "llm_r": 5 }), "exclude"),
            (json!({ "score": "x" }), "merge.score"),
            (json!({ "grid": "x" }), "merge.grid"),
            (json!({ "strategy": "x" }), "merge.strategy"),
        ] {
            let error = choice(&value).unwrap_err().body()["message"].as_str().unwrap().to_owned();
            assert!(error.contains(part), "{value}: {error}");
        }
    }
}
