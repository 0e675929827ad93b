//! `illava serve` with its worker, on tiny models: what only the real one can show.

mod binary;
#[path = "serve/clip.rs"]
mod clip;
#[path = "serve/curl.rs"]
mod curl;
#[path = "serve/http.rs"]
mod http;
#[path = "serve/models.rs"]
mod models;
#[path = "serve/served.rs"]
mod served;
#[path = "serve/slots.rs"]
mod slots;
#[path = "serve/systemd.rs"]
mod systemd;
#[path = "serve/visuals.rs"]
mod visuals;

use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{Caller, about, png, question};
use serde_json::{Value, json};
use served::Served;

fn signal(name: &str, pid: &str) {
    assert!(Command::new("kill").args([name, pid]).status().unwrap().success());
}

/// Goes on for long enough to be interrupted.
fn long(text: &str) -> Value {
    let mut body = about(&[&png(40, 30)], text);
    body["max_tokens"] = 600.into();
    body["ignore_eos"] = true.into();
    body
}

fn short(mut body: Value) -> Value {
    body["max_tokens"] = 8.into();
    body["temperature"] = 0.into();
    body
}

/// llama.cpp's ways to choose a slot and to bias tokens by their text, with what its answer tells of them.
#[test]
fn slots_and_biases_of_a_request() {
    let served = Served::start("siglip-qwen2-f32", &["-np", "2"]);
    let server = &served.caller;
    let ask = |more: Value| {
        let mut body =
            json!({ "prompt": "what shape", "n_predict": 3, "temperature": 0, "ignore_eos": true });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/completion", &body).json()
    };
    for slot in [1, 0, 1] {
        assert_eq!(ask(json!({ "id_slot": slot }))["id_slot"], slot);
    }
    let free = ask(json!({}));
    let ends = free["generation_settings"]["logit_bias"].as_array().unwrap().clone();
    assert!(!ends.is_empty() && ends.iter().all(|entry| entry["bias"].is_null()), "{ends:?}");
    // One wanted text, as a pair and as a field: the answer is its tokens and no others.
    let tokens =
        server.post("/tokenize", &json!({ "content": "shape", "add_special": false })).json()["tokens"]
            .clone();
    let wanted: Vec<i64> = tokens.as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
    for bias in [json!([["shape", 1e6]]), json!({ "shape": 1e6 })] {
        let answer = ask(json!({ "logit_bias": bias, "return_tokens": true }));
        let drawn = answer["tokens"].as_array().unwrap();
        assert!(drawn.iter().all(|id| wanted.contains(&id.as_i64().unwrap())), "{answer}");
        let told = answer["generation_settings"]["logit_bias"].as_array().unwrap();
        assert_eq!(told.len(), wanted.len() + ends.len());
        assert_eq!(told[0], json!({ "token": wanted[0], "bias": 1e6 }));
    }
}

#[test]
fn answers() {
    let served = Served::start("siglip-qwen2-f32", &["--merge", "paper", "--metrics"]);
    let server = &served.caller;
    let picture = png(96, 72);
    let body = short(about(&[&picture], "what shape is it"));

    let whole = server.chat(&body);
    let text = whole.text();
    let streamed = server.stream(&body).rest();
    let pieces = streamed.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    assert_eq!(pieces.collect::<String>(), text);

    // The second time everything but the end of the prompt is known.
    let usage = server.chat(&body).json()["usage"].clone();
    assert!(usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() > 20, "{usage}");
    assert!(usage["prompt_tokens_after_merge"].as_u64() < usage["prompt_tokens"].as_u64(), "{usage}");

    // Budgets are free from request to request.
    let with = |merge: Value| {
        let mut body = body.clone();
        body["merge"] = merge;
        body["report"] = true.into();
        let answer = server.chat(&body);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["report"]["tokens"]["visual_kv"].as_array().unwrap().last().unwrap()["tokens"]
            .as_u64()
            .unwrap()
    };
    let (off, half, paper) =
        (with(json!("off")), with(json!({ "keep": 0.5 })), with(json!({ "preset": "paper" })));
    assert!(paper < half && half < off, "{paper} {half} {off}");

    // Three pictures, and what a person writes is text.
    let three = server.chat(&short(about(&[&picture, &png(30, 60), &picture], "what differs")));
    assert_eq!(three.status, 200, "{three:?}");
    let tokens = |text: &str| {
        let answer = server.chat(&short(question(text)));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    for special in ["<|im_end|>", "<|im_start|>system", "<image>"] {
        assert!(tokens(special) > tokens("x") + 2, "{special} is letters, not one token or a picture");
    }

    // Forms.
    let mut yes_or_no = short(question("is it"));
    yes_or_no["grammar"] = "root ::= \"yes\" | \"no\"".into();
    assert!(["yes", "no"].contains(&server.chat(&yes_or_no).text().as_str()));
    let mut schema = short(question("which"));
    // Random weights are fond of white space: it has a bound, or they would never come to the point.
    schema["max_tokens"] = 200.into();
    schema["response_format"] = json!({ "type": "json_schema", "json_schema": { "schema": {
        "type": "object", "properties": { "n": { "enum": [1, 2] } }, "required": ["n"], "additionalProperties": false } } });
    let value: Value = serde_json::from_str(&server.chat(&schema).text()).unwrap();
    assert!([1, 2].contains(&value["n"].as_i64().unwrap()));

    for (name, value) in [
        ("guided_choice", json!(["yes", "no"])),
        ("guided_regex", json!("yes|no")),
        ("structured_outputs", json!({ "choice": ["yes", "no"] })),
    ] {
        let mut guided = short(question("is it"));
        guided[name] = value;
        let text = server.chat(&guided).text();
        assert!(["yes", "no"].contains(&text.as_str()), "{name}: {text}");
    }

    // Ollama's pictures are shown, not dropped.
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(96, 72).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    let inline = BASE64_STANDARD.encode(bytes.into_inner());
    let user = |content: Value| json!({ "role": "user", "content": content });
    let mut ollama = user("what shape is it".into());
    ollama["images"] = json!([inline]);
    let parts = json!([{ "type": "image_url", "image_url": picture }, { "type": "text", "text": "what shape is it" }]);
    let said = |message: Value| {
        let answer = server.chat(&short(json!({ "messages": [message] })));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text()
    };
    assert_eq!(said(ollama), said(user(parts)));

    // Only the model can refuse these.
    let mut broken = question("x");
    broken["grammar"] = "root ::= <<<".into();
    server.chat(&broken).fails(400, "grammar");
    let reply = server.ask(&"the shape ".repeat(3000));
    reply.fails(400, "");
    assert_eq!(reply.json()["error"]["type"], "exceed_context_size_error");
    // Every picture counts, though none was encoded.
    let many = server.chat(&about(&[picture.as_str(); 32], "which"));
    many.fails(400, "");
    let one = server.chat(&short(about(&[&picture], "which"))).json()["usage"].clone();
    let tokens = |usage: &Value, name: &str| usage[name].as_u64().unwrap();
    let text_and_pictures =
        tokens(&one, "prompt_tokens") + 31 * tokens(&one["prompt_tokens_details"], "image_tokens");
    let told = many.json()["error"]["n_prompt_tokens"].as_u64().unwrap();
    // The template may write a space or a line break about each.
    assert!(told.abs_diff(text_and_pictures) <= 2 * 32, "{told} told, {text_and_pictures} true");
    for (merge, part) in [
        (json!({ "vit_layers": [99], "vit_r": 4 }), "99"),
        (json!({ "vit_layers": [3], "vit_r": 100_000 }), "100000"),
        (json!({ "keep": 0 }), "keep"),
        (json!({ "preset": "model" }), "illava.merge"),
    ] {
        let mut body = body.clone();
        body["merge"] = merge;
        server.chat(&body).fails(400, part);
    }
    let mut likely = short(question("x"));
    likely["logprobs"] = true.into();
    likely["top_logprobs"] = 3.into();
    let content = server.chat(&likely).json()["choices"][0]["logprobs"]["content"].clone();
    assert_eq!(content[0]["top_logprobs"].as_array().unwrap().len(), 3, "{content}");
    assert!(server.get("/metrics").body.contains("llamacpp:prompt_tokens_total"));
    assert_eq!(server.get("/slots").json().as_array().unwrap().len(), 8);
    assert_eq!(server.post("/tokenize", &json!({ "content": "hello" })).status, 200);
}

#[test]
fn a_killed_worker_costs_eight_streams_one_error_each() {
    let served = Served::start("siglip-qwen2-f32", &[]);
    let mut streams: Vec<_> = (0..8).map(|i| served.caller.stream(&long(&format!("shape {i}")))).collect();
    for stream in &mut streams {
        assert!(stream.next().unwrap().contains("assistant"));
    }
    signal("-KILL", &served.worker());
    for stream in &mut streams {
        let objects = stream.rest();
        let error = &objects.last().unwrap()["error"];
        assert_eq!(
            (&error["code"], &error["type"]),
            (&json!(503), &json!("unavailable_error")),
            "{objects:?}"
        );
    }
    let next = served.caller.chat(&short(question("again")));
    assert_eq!(next.status, 200, "{next:?}");
}

#[test]
fn a_client_that_leaves_frees_its_slot_and_the_order_to_stop_drains() {
    let mut served = Served::start("siglip-qwen2-f32", &[]);
    let mut leaving = served.caller.stream(&long("leaving"));
    leaving.next().unwrap();
    drop(leaving);
    let busy = |caller: &Caller| {
        caller.get("/slots").json().as_array().unwrap().iter().any(|slot| slot["is_processing"] == true)
    };
    served.caller.wait("a free slot", || !busy(&served.caller));

    let mut body = long("staying");
    body["max_tokens"] = 100.into();
    let mut staying = served.caller.stream(&body);
    staying.next().unwrap();
    signal("-TERM", &served.process.id().to_string());
    let objects = staying.rest();
    assert_eq!(objects.last().unwrap()["choices"][0]["finish_reason"], "length", "{objects:?}");
    assert_eq!(served.process.wait().unwrap().code(), Some(0));
}

#[test]
fn a_picture_whose_client_leaves_is_not_encoded_to_its_end() {
    // One tile of 12,544 patches: seconds of attention, and a client that goes in the middle of it.
    let served =
        Served::start("qwen2vl-f32", &["--metrics", "-np", "1", "-c", "4096", "-t", "1", "--merge", "off"]);
    let server = &served.caller;
    let leaving = server.stream(&short(about(&[&png(896, 896)], "leaving")));
    server.wait("the slot to wait for its picture", || {
        let slot = &server.get("/slots").json()[0];
        slot["state"] == "encoding"
    });
    drop(leaving);
    // The encoder takes one picture after another: behind the second answer the first picture is done with.
    let next = server.chat(&short(about(&[&png(40, 30)], "staying")));
    assert_eq!(next.status, 200, "{next:?}");
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("illava_picture_cache_misses_total 1\n"), "both were encoded: {metrics}");
}

#[test]
fn what_keeps_a_server_from_starting() {
    let pair = binary::pair("siglip-qwen2-f32");
    let start = |args: &[&str]| {
        let args: Vec<String> = ["serve"].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
        binary::illava(&args)
    };
    let given: Vec<&str> = pair.iter().map(String::as_str).collect();
    start(&["-m", "none.gguf", "-mm", "none.gguf"]).fails(1, "none.gguf");
    start(&[&given[..], &["-np", "0"]].concat()).fails(2, "-np 0");
    start(&[&given[..], &["--media-path", "/no/such/folder"]].concat()).fails(2, "--media-path");
    start(&[&given[..], &["--host", "no.such.host.invalid"]].concat()).fails(2, "--host");
}
