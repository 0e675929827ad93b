//! Field `merge`, which has the names of the command line's flags.
//!
//! `"off"`, `"paper"` ... alone is the preset, `false` is off, `true` the default. An object has `preset` (or
//! `off`), `keep`, `keep_min` and `keep_max` (of `auto`), and the halves: `vit_layers` with `vit_r`,
//! `llm_layers` with `llm_r`, `llm_keep` or `llm_mass`. The rest is `score`, `grid`, `positions`, `strategy`,
//! `strategy_seed` and `vit_sizes`.

use serde_json::Value;

use super::fields::{Fields, wrong};
use crate::error::{Error, Field, Result};
use crate::schedule::{
    Amount, Choice, Grid, Half, MergeFlag, Positions, Strategy, parse_amounts, parse_keeps, parse_layers,
    parse_scores,
};

/// `None` is the answerer's own schedule; score, grid and strategy are those of `base` unless they are named.
///
/// # Errors
/// Kind `Usage` that names the field and what it takes.
pub(super) fn read(body: &mut Fields, base: &Choice) -> Result<Option<Choice>> {
    let bounds = (base.keep_min, base.keep_max);
    let base = Choice {
        merge: None,
        keep: None,
        keep_min: None,
        keep_max: None,
        vit: None,
        llm: None,
        llm_mass: None,
        ..base.clone()
    };
    // The short form of a line of `batch`.
    let keep = body.number("keep")?;
    let choice = match body.value("merge") {
        None | Some(Value::Bool(true)) => None,
        Some(Value::Object(fields)) if fields.is_empty() => None,
        Some(Value::Bool(false)) => Some(Choice { merge: Some(MergeFlag::Off), ..base.clone() }),
        Some(Value::String(name)) => Some(Choice { merge: Some(MergeFlag::parse(&name)?), ..base.clone() }),
        Some(Value::Object(fields)) => Some(object(Fields::new(fields, "merge."), base.clone())?),
        Some(other) => return Err(wrong("merge", &other, "a preset's name, an object, true or false")),
    };
    // The answerer's own bounds are for auto alone.
    let choice = choice.map(|choice| match choice.merge {
        Some(MergeFlag::Auto) => {
            let keep_min = choice.keep_min.or(bounds.0);
            Choice { keep_min, keep_max: choice.keep_max.or(bounds.1), ..choice }
        }
        _ => choice,
    });
    match (choice, keep) {
        (choice, None) => Ok(choice),
        (Some(choice), Some(_)) if choice.keep.is_some() => {
            Err(Error::usage("keep is the same as merge.keep: give one"))
        }
        (choice, keep) => Ok(Some(Choice { keep, ..choice.unwrap_or(base) })),
    }
}

fn object(mut merge: Fields, base: Choice) -> Result<Choice> {
    let preset = merge.text("preset")?.map(|name| MergeFlag::parse(&name)).transpose()?;
    let preset = match (preset, merge.flag("off")?) {
        (None, Some(true)) | (Some(MergeFlag::Off), Some(true)) => Some(MergeFlag::Off),
        (Some(_), Some(true)) => {
            return Err(Error::usage("merge: off and preset exclude each other: give one"));
        }
        (preset, _) => preset,
    };
    let mut choice = Choice { merge: preset, keep: merge.number("keep")?, ..base };
    (choice.keep_min, choice.keep_max) = (merge.number("keep_min")?, merge.number("keep_max")?);
    let (layers, r) = (list(&mut merge, "vit_layers")?, list(&mut merge, "vit_r")?);
    choice.vit = half([Field::VitLayers, Field::VitR, Field::VitR], layers, r, None)?;
    let (layers, r) = (list(&mut merge, "llm_layers")?, list(&mut merge, "llm_r")?);
    let keep = list(&mut merge, "llm_keep")?;
    choice.llm_mass = merge.number("llm_mass")?;
    // As many as their scores need.
    let all = (r.is_none() && choice.llm_mass.is_some() && layers.is_some()).then(|| "1".to_owned());
    choice.llm = half([Field::LlmLayers, Field::LlmR, Field::LlmKeep], layers, r, keep.or(all))?;
    if let Some(name) = merge.text("score")? {
        (choice.vit_score, choice.score) = parse_scores(&name)?;
    }
    if let Some(name) = merge.text("grid")? {
        choice.grid = Grid::parse(&name)?;
    }
    if let Some(name) = merge.text("positions")? {
        choice.positions = Some(Positions::parse(&name)?);
    }
    let seed = merge.whole("strategy_seed")?;
    if let Some(seed) = seed {
        choice.strategy_seed = u32::try_from(seed)
            .map_err(|_| Error::usage(format!("merge.strategy_seed {seed}: give a number of 32 bits")))?;
    }
    let name = merge.text("strategy")?.or_else(|| choice.strategy.map(|own| own.name().to_owned()));
    choice.strategy = name.map(|name| Strategy::parse(&name, choice.strategy_seed)).transpose()?;
    if let Some(count) = merge.flag("vit_sizes")? {
        choice.vit_sizes = Some(count);
    }
    merge.all_read()?;
    Ok(choice)
}

fn half(
    [at, at_r, at_keep]: [Field; 3],
    layers: Option<String>,
    r: Option<String>,
    keep: Option<String>,
) -> Result<Option<Half>> {
    let Some(layers) = layers else {
        return match (r, keep) {
            (None, None) => Ok(None),
            _ => Err(Error::usage(format!("{at} is missing"))),
        };
    };
    let amounts: Vec<Amount> = match (r, keep) {
        (Some(r), None) => parse_amounts(at_r, &r)?,
        (None, Some(keep)) => parse_keeps(at_keep, &keep)?,
        (None, None) => return Err(Error::usage(format!("{at_r} is missing"))),
        (Some(_), Some(_)) => {
            return Err(Error::usage(format!("{at_r} and {at_keep} exclude each other: give one")));
        }
    };
    Ok(Some(Half { layers: parse_layers(at, &layers)?, amounts }))
}

/// `"5,6"`, `5` or `[5, 6]`, items numbers or texts such as `"12.6%"`, as the command line's list.
fn list(merge: &mut Fields, name: &'static str) -> Result<Option<String>> {
    let item = |value: &Value| match value {
        Value::Number(number) => {
            Some(super::fields::whole(value).map_or(number.to_string(), |n| n.to_string()))
        }
        Value::String(text) => Some(text.clone()),
        _ => None,
    };
    let Some(value) = merge.value(name) else { return Ok(None) };
    let text = match &value {
        Value::Array(items) => items.iter().map(item).collect::<Option<Vec<_>>>().map(|all| all.join(",")),
        other => item(other),
    };
    text.map(Some).ok_or_else(|| wrong(&merge.path(name), &value, "numbers"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schedule::{Preset, Score, TowerScore};

    fn choice(value: Value) -> Result<Option<Choice>> {
        let Value::Object(map) = json!({ "merge": value }) else { panic!() };
        read(&mut Fields::new(map, ""), &Choice::default())
    }

    #[test]
    fn flags_as_an_object() {
        let paper = Choice { merge: Some(MergeFlag::Preset(Preset::Paper)), ..Choice::default() };
        let off = Choice { merge: Some(MergeFlag::Off), ..Choice::default() };
        let vit = |amounts| Some(Half { layers: vec![5, 6], amounts });
        for (value, expected) in [
            (json!(null), None),
            (json!(true), None),
            (json!({}), None),
            (json!("paper"), Some(paper.clone())),
            (json!({ "preset": "paper" }), Some(paper.clone())),
            (json!("off"), Some(off.clone())),
            (json!(false), Some(off.clone())),
            (json!({ "off": true }), Some(off)),
            (json!("auto"), Some(Choice { merge: Some(MergeFlag::Auto), ..Choice::default() })),
            (
                json!({ "preset": "auto", "keep_min": 0.1, "keep_max": 0.5 }),
                Some(Choice {
                    merge: Some(MergeFlag::Auto),
                    keep_min: Some(0.1),
                    keep_max: Some(0.5),
                    ..Choice::default()
                }),
            ),
            (json!({ "keep": 0.35 }), Some(Choice { keep: Some(0.35), ..Choice::default() })),
            (json!({ "preset": "paper", "keep": 0.5 }), Some(Choice { keep: Some(0.5), ..paper.clone() })),
            (
                json!({ "preset": "paper", "positions": "closed" }),
                Some(Choice { positions: Some(Positions::Closed), ..paper.clone() }),
            ),
            (
                json!({ "preset": "paper", "strategy": "random", "strategy_seed": 7 }),
                Some(Choice { strategy: Some(Strategy::Random(7)), strategy_seed: 7, ..paper }),
            ),
            (
                json!({ "vit_layers": [5, 6.0], "vit_r": 92 }),
                Some(Choice { vit: vit(vec![Amount::Count(92)]), ..Choice::default() }),
            ),
            (
                json!({ "vit_layers": "5,6", "vit_r": ["12.5%", 3] }),
                Some(Choice { vit: vit(vec![Amount::Share(0.125), Amount::Count(3)]), ..Choice::default() }),
            ),
            (
                json!({ "llm_layers": 8, "llm_keep": 0.7, "score": "class,last-token", "grid": "reference", "vit_sizes": true }),
                Some(Choice {
                    llm: Some(Half { layers: vec![8], amounts: vec![Amount::Keep(0.7)] }),
                    score: Score::LastToken,
                    vit_score: TowerScore::Class,
                    vit_sizes: Some(true),
                    grid: Grid::Reference,
                    ..Choice::default()
                }),
            ),
        ] {
            assert_eq!(choice(value.clone()).unwrap(), expected, "{value}");
        }
    }

    #[test]
    fn the_short_form_of_a_line() {
        let line = |value: Value| {
            let Value::Object(map) = value else { panic!() };
            let base = Choice { keep: Some(0.9), grid: Grid::Reference, ..Choice::default() };
            read(&mut Fields::new(map, ""), &base)
        };
        let half = Choice { keep: Some(0.5), grid: Grid::Reference, ..Choice::default() };
        assert_eq!(line(json!({ "keep": 0.5 })).unwrap(), Some(half.clone()));
        let paper = Choice { merge: Some(MergeFlag::Preset(Preset::Paper)), ..half };
        assert_eq!(line(json!({ "keep": 0.5, "merge": "paper" })).unwrap(), Some(paper));
        assert_eq!(line(json!({})).unwrap(), None);
        assert!(line(json!({ "keep": 0.5, "merge": { "keep": 0.5 } })).is_err());
    }

    #[test]
    fn the_answerers_bounds_hold_for_auto() {
        let base = Choice { keep_min: Some(0.2), keep_max: Some(0.6), ..Choice::default() };
        let of = |value: Value| {
            let Value::Object(map) = json!({ "merge": value }) else { panic!() };
            let choice = read(&mut Fields::new(map, ""), &base).unwrap().unwrap();
            (choice.keep_min, choice.keep_max)
        };
        assert_eq!(of(json!("auto")), (Some(0.2), Some(0.6)));
        assert_eq!(of(json!({ "preset": "auto", "keep_max": 0.9 })), (Some(0.2), Some(0.9)));
        assert_eq!(of(json!("paper")), (None, None));
    }

    #[test]
    fn wrong_values_name_the_field() {
        for (value, part) in [
            (json!(5), "merge 5:"),
            (json!("best"), "merge.preset best: choose"),
            (json!({ "preset": "best" }), "merge.preset best: choose"),
            (json!({ "preset": 5 }), "merge.preset 5: give a text"),
            (json!({ "preset": "paper", "off": true }), "exclude"),
            (json!({ "preset": "paper", "keeep": 1 }), "did you mean merge.keep?"),
            (json!({ "keep": "much" }), "merge.keep \"much\""),
            (json!({ "vit_layers": [5] }), "merge.vit_r is missing"),
            (json!({ "vit_r": 5 }), "merge.vit_layers is missing"),
            (json!({ "vit_layers": [6, 5], "vit_r": 5 }), "merge.vit_layers"),
            (json!({ "vit_layers": [{}], "vit_r": 5 }), "merge.vit_layers"),
            (json!({ "vit_layers": [5], "vit_r": "x" }), "merge.vit_r"),
            (json!({ "llm_layers": [5], "llm_keep": 0 }), "merge.llm_keep"),
            (json!({ "llm_layers": [5], "llm_keep": 0.5, "llm_r": 5 }), "exclude"),
            (json!({ "score": "x" }), "merge.score"),
            (json!({ "grid": "x" }), "merge.grid"),
            (json!({ "positions": "x" }), "merge.positions x: choose own or closed"),
            (json!({ "strategy": "x" }), "merge.strategy"),
            (json!({ "strategy_seed": -1 }), "merge.strategy_seed -1"),
        ] {
            let error = choice(value.clone()).unwrap_err().to_string();
            assert!(error.contains(part), "{value}: {error}");
        }
    }
}
