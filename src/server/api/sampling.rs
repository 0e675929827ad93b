//! How tokens are drawn and when an answer ends.

use serde_json::Value;

use super::super::error::{ApiError, ApiResult};
use super::super::settings::Bounds;
use super::chat::Body;
use crate::request::Sampling;

/// Alternatives of one token at most, as OpenAI has it.
const MOST_LOGPROBS: i64 = 20;

/// The request's sampling over the server's own.
///
/// # Errors
/// 400 that names the field and what it takes.
pub(super) fn sampling(body: &Body, own: &Sampling, bounds: &Bounds) -> ApiResult<Sampling> {
    let share = |name: &str, value: Option<f64>, own: f32| match value {
        None => Ok(own),
        Some(value) if (0.0..=1.0).contains(&value) => Ok(single(value)),
        Some(value) => Err(ApiError::invalid(format!("{name} {value}: give a number from 0 to 1"))),
    };
    let within = |name: &str, value: Option<f64>, own: f32, least: f64, most: f64| match value {
        None => Ok(own),
        Some(value) if (least..=most).contains(&value) => Ok(single(value)),
        Some(value) => {
            Err(ApiError::invalid(format!("{name} {value}: give a number from {least} to {most}")))
        }
    };
    let whole = |name: &str, value: Option<i64>, own: i32| match value {
        None => Ok(own),
        Some(value) => i32::try_from(value)
            .map_err(|_| ApiError::invalid(format!("{name} {value}: give a whole number of 32 bits"))),
    };
    Ok(Sampling {
        temperature: within("temperature", body.temperature, own.temperature, 0.0, 100.0)?,
        top_k: whole("top_k", body.top_k, own.top_k)?,
        top_p: share("top_p", body.top_p, own.top_p)?,
        min_p: share("min_p", body.min_p, own.min_p)?,
        seed: match body.seed {
            None => own.seed,
            Some(-1) => None,
            // Longer seeds are folded: the same one gives the same answer, which is what it is for.
            Some(seed) => Some(fold(seed)),
        },
        repeat_last_n: whole("repeat_last_n", body.repeat_last_n, own.repeat_last_n)?,
        repeat_penalty: within("repeat_penalty", body.repeat_penalty, own.repeat_penalty, 0.01, 100.0)?,
        frequency_penalty: within(
            "frequency_penalty",
            body.frequency_penalty,
            own.frequency_penalty,
            -100.0,
            100.0,
        )?,
        presence_penalty: within(
            "presence_penalty",
            body.presence_penalty,
            own.presence_penalty,
            -100.0,
            100.0,
        )?,
        logit_bias: match &body.logit_bias {
            None | Some(Value::Null) => own.logit_bias.clone(),
            Some(value) => logit_bias(value, bounds)?,
        },
    })
}

#[allow(clippy::cast_possible_truncation)]
fn single(value: f64) -> f32 {
    value as f32
}

fn fold(seed: i64) -> u32 {
    let bytes = seed.to_le_bytes();
    let half = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
    if (0..i64::from(u32::MAX)).contains(&seed) { half(0) } else { half(0) ^ half(4) }
}

/// OpenAI's object of token to bias, or llama.cpp's list of pairs, where `false` forbids a token.
fn logit_bias(value: &Value, bounds: &Bounds) -> ApiResult<Vec<(i32, f32)>> {
    let wrong = || {
        ApiError::invalid(
            "logit_bias: give an object of token ids to numbers, or a list of [token id, number or false]",
        )
    };
    let token = |text: &str| text.trim().parse::<i32>().ok().filter(|id| *id >= 0);
    let bias = |value: &Value| match value {
        Value::Bool(false) => Some(f32::NEG_INFINITY),
        value => value.as_f64().map(single).filter(|bias| bias.is_finite()),
    };
    let pairs: Option<Vec<(i32, f32)>> = match value {
        Value::Object(fields) => fields.iter().map(|(id, value)| Some((token(id)?, bias(value)?))).collect(),
        Value::Array(items) => items
            .iter()
            .map(|item| match item.as_array()?.as_slice() {
                [Value::Number(id), value] => Some((token(&id.to_string())?, bias(value)?)),
                _ => None,
            })
            .collect(),
        _ => None,
    };
    let pairs = pairs.ok_or_else(wrong)?;
    if pairs.len() > bounds.logit_biases {
        return Err(ApiError::invalid(format!(
            "logit_bias names {} tokens, the limit is {}",
            pairs.len(),
            bounds.logit_biases
        )));
    }
    Ok(pairs)
}

/// `None` where nothing was asked; `Some(None)` until the context is full.
///
/// # Errors
/// 400 below -1.
pub(super) fn max_tokens(asked: Option<i64>) -> ApiResult<Option<Option<u32>>> {
    match asked {
        None => Ok(None),
        Some(-1) => Ok(Some(None)),
        Some(n) => u32::try_from(n).map(|n| Some(Some(n))).map_err(|_| {
            ApiError::invalid(format!("max_tokens {n}: give a number of tokens, or -1 for no limit"))
        }),
    }
}

/// # Errors
/// 400 where `top_logprobs` is above its limit or stands without `logprobs`.
pub(super) fn logprobs(wanted: Option<bool>, top: Option<i64>) -> ApiResult<Option<u32>> {
    let top_wanted = top.unwrap_or(0);
    let top_number =
        u32::try_from(top_wanted).ok().filter(|_| top_wanted <= MOST_LOGPROBS).ok_or_else(|| {
            ApiError::invalid(format!("top_logprobs {top_wanted}: give a number from 0 to {MOST_LOGPROBS}"))
        })?;
    match wanted {
        Some(true) => Ok(Some(top_number)),
        _ if top_number > 0 => Err(ApiError::invalid("top_logprobs needs \"logprobs\": true")),
        _ => Ok(None),
    }
}

/// # Errors
/// 400 for anything but a text or a list of texts, and for too many or too long ones.
pub(super) fn stop(value: Option<&Value>, bounds: &Bounds) -> ApiResult<Vec<String>> {
    let wrong = || ApiError::invalid("stop: give a text or a list of texts");
    let strings = match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong))
            .collect::<ApiResult<_>>()?,
        Some(_) => return Err(wrong()),
    };
    if strings.len() > bounds.stop_strings {
        return Err(ApiError::invalid(format!(
            "stop has {} texts, the limit is {}",
            strings.len(),
            bounds.stop_strings
        )));
    }
    if let Some(long) = strings.iter().find(|text| text.len() > bounds.stop_bytes) {
        return Err(ApiError::invalid(format!(
            "stop has a text of {} bytes, the limit is {}",
            long.len(),
            bounds.stop_bytes
        )));
    }
    // An empty text would end every answer before it begins; llama.cpp passes over it too.
    Ok(strings.into_iter().filter(|text| !text.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Sampling, String> {
        let body: Body = serde_json::from_value(value).unwrap();
        sampling(&body, &Sampling::default(), &Bounds { logit_biases: 3, ..Bounds::default() })
            .map_err(|error| error.body()["message"].as_str().unwrap().to_owned())
    }

    #[test]
    fn values_and_defaults() {
        assert_eq!(read(json!({})).unwrap(), Sampling::default());
        let found = read(json!({
            "temperature": 0, "top_k": 1, "top_p": 1, "min_p": 0, "seed": 4_000_000_000_u32,
            "repeat_penalty": 1.5, "repeat_last_n": -1, "frequency_penalty": -1, "presence_penalty": 2,
            "logit_bias": { "5": -100, "7": 1.5 },
        }));
        let expected = Sampling {
            temperature: 0.0,
            top_k: 1,
            top_p: 1.0,
            min_p: 0.0,
            seed: Some(4_000_000_000),
            repeat_last_n: -1,
            repeat_penalty: 1.5,
            frequency_penalty: -1.0,
            presence_penalty: 2.0,
            logit_bias: vec![(5, -100.0), (7, 1.5)],
        };
        assert_eq!(found.unwrap(), expected);
        assert_eq!(read(json!({ "seed": -1 })).unwrap().seed, None);
        assert!(read(json!({ "seed": i64::MAX })).unwrap().seed.is_some());
        assert_eq!(
            read(json!({ "logit_bias": [[3, false], [4, 2]] })).unwrap().logit_bias,
            [(3, f32::NEG_INFINITY), (4, 2.0)]
        );
    }

    #[test]
    fn values_out_of_range() {
        for value in [
            json!({ "temperature": -1 }),
            json!({ "temperature": 1e30 }),
            json!({ "top_p": 1.5 }),
            json!({ "min_p": -0.5 }),
            json!({ "top_k": 5_000_000_000_i64 }),
            json!({ "repeat_penalty": 0 }),
            json!({ "frequency_penalty": 1e9 }),
            json!({ "logit_bias": { "x": 1 } }),
            json!({ "logit_bias": { "-1": 1 } }),
            json!({ "logit_bias": [[1]] }),
            json!({ "logit_bias": [[1, true]] }),
            json!({ "logit_bias": 5 }),
            json!({ "logit_bias": { "1": 1, "2": 1, "3": 1, "4": 1 } }),
        ] {
            let name = value.as_object().unwrap().keys().next().unwrap().clone();
            let error = read(value).unwrap_err();
            assert!(error.contains(&name), "{error}");
        }
    }

    #[test]
    fn ends() {
        let bounds = Bounds { stop_strings: 2, stop_bytes: 4, ..Bounds::default() };
        let stop = |value: Value| stop(Some(&value), &bounds).ok();
        assert_eq!(stop(json!(null)), Some(vec![]));
        assert_eq!(stop(json!("a")), Some(vec!["a".to_owned()]));
        assert_eq!(stop(json!(["a", ""])), Some(vec!["a".to_owned()]));
        for value in [json!(["a", "b", "c"]), json!("12345"), json!(5), json!([null])] {
            assert_eq!(stop(value), None);
        }
        assert_eq!(max_tokens(None).unwrap(), None);
        assert_eq!(max_tokens(Some(-1)).unwrap(), Some(None));
        assert_eq!(max_tokens(Some(5)).unwrap(), Some(Some(5)));
        assert!(max_tokens(Some(-2)).is_err());
        assert_eq!(logprobs(None, None).unwrap(), None);
        assert_eq!(logprobs(Some(true), None).unwrap(), Some(0));
        assert_eq!(logprobs(Some(true), Some(20)).unwrap(), Some(20));
        assert!(logprobs(Some(true), Some(21)).is_err() && logprobs(None, Some(2)).is_err());
    }
}
