//! Property test: a body over HTTP and the same body as a line give the same request or the same error.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::record::parse;
use crate::request::Defaults;
use crate::server::{self, Settings};

/// Values of every type, inside and outside every range.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..40_i64).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-4..8_i32).prop_map(|n| json!(f64::from(n) / 2.0)),
        any::<f64>().prop_map(Value::from),
        "[a-z<|>\\[\\(\"\\\\ ]{0,12}".prop_map(Value::from),
        Just(json!("paper")),
        Just(json!("12.5%")),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec(("[a-z_]{1,8}", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Values that make sense for most fields of their kind.
fn sensible(name: &'static str) -> BoxedStrategy<Value> {
    let schema = || prop_oneof![Just(json!({ "type": "object" })), Just(json!({}))];
    match name {
        "temperature" | "top_p" | "min_p" | "keep" => {
            (0..5_i32).prop_map(|n| json!(f64::from(n) / 4.0)).boxed()
        }
        "repeat_penalty" | "repetition_penalty" | "frequency_penalty" | "presence_penalty" => {
            (1..9_i32).prop_map(|n| json!(f64::from(n) / 4.0)).boxed()
        }
        "max_tokens"
        | "max_completion_tokens"
        | "n_predict"
        | "top_k"
        | "seed"
        | "repeat_last_n"
        | "top_logprobs"
        | "n_probs" => {
            prop_oneof![(-1..30_i64).prop_map(Value::from), (0..30_i32).prop_map(|n| json!(f64::from(n)))]
                .boxed()
        }
        "stop" | "guided_choice" => prop_oneof![
            "[a-z\"\n]{0,4}".prop_map(Value::from),
            proptest::collection::vec("[a-z\\\\]{0,4}", 0..20).prop_map(Value::from)
        ]
        .boxed(),
        "json_schema" | "guided_json" => schema().boxed(),
        "structured_outputs" => prop_oneof![
            schema().prop_map(|schema| json!({ "json": schema })),
            Just(json!({ "choice": ["a"] })),
            Just(json!({ "regex": "a+", "backend": "x" })),
        ]
        .boxed(),
        "response_format" => prop_oneof![
            Just(json!({ "type": "text" })),
            Just(json!({ "type": "json_object" })),
            schema().prop_map(|schema| json!({ "type": "json_schema", "json_schema": { "schema": schema } })),
        ]
        .boxed(),
        "grammar" | "guided_grammar" => prop_oneof![
            Just(json!("root ::= \"a\"")),
            (1..300_usize).prop_map(|n| json!(format!("root ::= {}", "(".repeat(n)))),
        ]
        .boxed(),
        "logit_bias" => prop_oneof![
            Just(json!({ "5": -100, "7": 1.5 })),
            Just(json!([[3, false], [4, 2]])),
            Just(json!({ "-5": 1 })),
        ]
        .boxed(),
        "merge" => merge().boxed(),
        "messages" => messages().boxed(),
        "n" => Just(json!(1)).boxed(),
        _ => any::<bool>().prop_map(Value::from).boxed(),
    }
}

fn merge() -> impl Strategy<Value = Value> {
    let names = [
        "preset",
        "off",
        "keep",
        "keep_min",
        "keep_max",
        "vit_layers",
        "vit_r",
        "llm_layers",
        "llm_r",
        "llm_keep",
        "llm_mass",
        "score",
        "grid",
        "positions",
        "strategy",
        "strategy_seed",
        "vit_layer",
    ];
    let value = prop_oneof![
        Just(json!("off")),
        Just(json!("image")),
        Just(json!("faithful")),
        Just(json!("random")),
        Just(json!([3, 4])),
        Just(json!("5,6")),
        Just(json!(0.5)),
        Just(json!(9)),
        Just(json!(true)),
        anything(),
    ];
    let object = proptest::collection::vec((proptest::sample::select(names.to_vec()), value), 0..5).prop_map(
        |fields| Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
    );
    prop_oneof![
        Just(json!("off")),
        Just(json!("paper")),
        Just(json!("best")),
        any::<bool>().prop_map(Value::from),
        object
    ]
}

fn messages() -> impl Strategy<Value = Value> {
    let part = prop_oneof![
        "[a-z<>]{0,9}".prop_map(|text| json!({ "type": "text", "text": text })),
        Just(json!({ "type": "image_url", "image_url": { "url": "data:,x", "detail": "low" } })),
        Just(json!({ "type": "image", "image": "a.png" })),
        Just(json!({ "type": "video_url", "video_url": "v.mp4" })),
        Just(json!({ "type": "video_url", "video_url": { "url": "v.mp4", "fps": 1 } })),
        Just(json!({ "type": "input_audio" })),
        anything(),
    ];
    let content = prop_oneof![
        "[a-z]{0,9}".prop_map(Value::from),
        proptest::collection::vec(part, 0..40).prop_map(Value::from),
        anything(),
    ];
    let role = prop_oneof![4 => Just("user"), 2 => Just("assistant"), 1 => Just("system"), 1 => Just("tool")];
    let message = (role, content, proptest::option::weighted(0.1, anything()), any::<bool>()).prop_map(
        |(role, content, images, name)| {
            let mut message = json!({ "role": role, "content": content });
            if let Some(images) = images {
                message[if name { "images" } else { "name" }] = images;
            }
            message
        },
    );
    proptest::collection::vec(message, 0..4).prop_map(Value::from)
}

/// Bodies with every field that is read, some that pass, some that are refused, and some unknown ones.
const FIELDS: &[&str] = &[
    "messages",
    "prompt",
    "system",
    "image",
    "images",
    "video",
    "keep",
    "merge",
    "stream",
    "stream_options",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "n_predict",
    "stop",
    "ignore_eos",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "seed",
    "repeat_penalty",
    "repetition_penalty",
    "repeat_last_n",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "n_probs",
    "grammar",
    "json_schema",
    "response_format",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "structured_outputs",
    "cache_prompt",
    "report",
    "trace",
    "kept",
    "add_generation_prompt",
    "continue_final_message",
    "tools",
    "tool_choice",
    "modalities",
    "top_n_sigma",
    "user",
    "metadata",
    "best_of",
    "bad_words",
    "min_tokens",
    "options",
    "temprature",
    "foo",
];

fn body() -> impl Strategy<Value = Value> {
    let field = proptest::sample::select(FIELDS.to_vec())
        .prop_flat_map(|name| (Just(name), prop_oneof![3 => sensible(name), 1 => anything()]));
    let begun = prop_oneof![4 => messages().prop_map(Some), 1 => Just(None)];
    (begun, proptest::collection::vec(field, 0..6)).prop_map(|(messages, fields)| {
        let mut body: serde_json::Map<String, Value> =
            fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        if let Some(messages) = messages {
            body.insert("messages".into(), messages);
        }
        Value::Object(body)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn over_http_and_as_a_line(body in body(), mark in any::<bool>()) {
        let settings = Settings::default();
        let text = format!("{}{body}", if mark { "\u{feff}" } else { "" });
        let sent = server::read_request(text.as_bytes(), &settings, b"s".to_vec());
        let defaults = Defaults { scope: Some(b"s".to_vec()), bounds: settings.bounds.request, ..Defaults::default() };
        let line = parse(text.as_bytes(), 1, &defaults).record;
        match (sent, line) {
            (Ok((request, reply)), Ok(record)) => {
                prop_assert_eq!(reply, record.reply);
                // NaN is no bias, and the bounds let no other value pass.
                prop_assert_eq!(request, record.request);
            }
            (Err(sent), Err(line)) => {
                prop_assert_eq!(format!("line 1: {sent}"), line.to_string());
                prop_assert_eq!(sent.kind(), line.kind());
            }
            // One line gives one answer.
            (Ok((_, reply)), Err(_)) if reply.choices > 1 => {}
            (sent, line) => prop_assert!(false, "{:?} is not {:?}", sent, line),
        }
    }
}
