//! A JSON body, over HTTP or as a line of `batch`, to a request: every field, every bound, one policy.

use serde_json::{Map, Value};

use super::fields::{Fields, deeper_than, whole, wrong};
use super::sampling::check_texts;
use super::{
    Bounds, Limits, Reasoning, Reference, Request, Sampling, Thinking, check_logprobs, grammar, merge,
    messages, policy, thinking,
};
use crate::error::{Error, Field, Result};
use crate::prompt::{Message, Role};
use crate::schedule::Choice;

/// Settings of requests that say nothing else, and bounds of all of them.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// Prompt of bodies with neither `messages` nor `prompt`.
    pub prompt: Option<String>,
    /// System message of conversations without one.
    pub system: Option<String>,
    /// A schedule that a body asks for keeps score, grid and strategy of this one unless it names its own.
    pub choice: Choice,
    pub limits: Limits,
    pub sampling: Sampling,
    pub grammar: Option<super::Grammar>,
    pub logprobs: Option<u32>,
    pub scope: Option<Vec<u8>>,
    pub bounds: Bounds,
    /// Whether answers may call tools.
    pub tools: bool,
    pub thinking: Thinking,
    pub reasoning: Reasoning,
    /// Variables of the chat template, behind those of a body.
    pub variables: Map<String, Value>,
}

/// How an answer is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reply {
    pub stream: bool,
    pub include_usage: bool,
    /// Answers to the same request, from 1.
    pub choices: u32,
    pub logprobs: bool,
    pub report: bool,
    pub trace: bool,
    /// The fate of every cell, made of the trace.
    pub kept: bool,
    /// llama.cpp's `timings` with every piece of a stream.
    pub timings_per_token: bool,
    /// llama.cpp's `prompt_progress` in a stream.
    pub progress: bool,
    /// Place where a thought is told.
    pub reasoning: Reasoning,
}

/// Parses an object that nests no deeper than `depth`. A byte order mark before it is passed over.
///
/// # Errors
/// Kind `Usage`, one line.
pub fn object(body: &[u8], depth: usize) -> Result<Map<String, Value>> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::usage("empty: send a JSON object"));
    }
    if deeper_than(body, depth) {
        return Err(Error::usage(format!(
            "arrays and objects nest deeper than {depth} ({}); flatten them",
            Field::MaxDepth
        )));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Error::usage("the JSON must be an object")),
        Err(error) => Err(Error::usage(format!("not JSON ({error})"))),
    }
}

/// A body as a request, its pictures still references.
///
/// # Errors
/// Kind `Usage` that names the field, the limit and what to do.
pub fn read(body: Map<String, Value>, defaults: &Defaults) -> Result<(Request<Reference>, Reply)> {
    read_fields(Fields::new(body, ""), defaults)
}

/// The same of a body that a dialect may have put its own fields in.
///
/// # Errors
/// As [`read`].
pub fn read_fields(mut body: Fields, defaults: &Defaults) -> Result<(Request<Reference>, Reply)> {
    let conversation = conversation(&mut body, defaults)?;
    let headless = continues(&mut body, conversation.0.last().map(|message| message.role))?;
    let (request, reply) = settings(body, defaults, conversation)?;
    Ok((Request { headless, ..request }, reply))
}

/// Everything beside the conversation.
///
/// # Errors
/// As [`read`].
pub(super) fn settings(
    mut body: Fields,
    defaults: &Defaults,
    (messages, media): (Vec<Message>, Vec<Reference>),
) -> Result<(Request<Reference>, Reply)> {
    refuse_speech(&mut body)?;
    let logprobs = logprobs(&mut body)?.or(defaults.logprobs);
    let reasoning = thinking::place(&mut body, defaults.reasoning)?;
    let reply = Reply { logprobs: logprobs.is_some(), reasoning, ..reply(&mut body, &defaults.bounds)? };
    let cache = body.flag("cache_prompt")?.unwrap_or(true);
    let text_bias = body.peek("logit_bias").map(logit_bias).transpose()?.unwrap_or_default().1;
    let mut variables = match body.value("chat_template_kwargs") {
        None => Map::new(),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(wrong("chat_template_kwargs", &other, "an object")),
    };
    if let Some(name) = GIVEN.iter().find(|name| variables.contains_key(**name)) {
        return Err(Error::usage(format!(
            "chat_template_kwargs.{name}: the request's own field says that; leave it out"
        )));
    }
    let thinking = thinking::read(&mut body, defaults.thinking, &mut variables)?;
    for (name, value) in &defaults.variables {
        variables.entry(name.as_str()).or_insert_with(|| value.clone());
    }
    let request = Request {
        id: 0,
        messages,
        raw: Vec::new(),
        media,
        tools: super::tools::read(&mut body, defaults.tools)?,
        variables,
        thinking,
        marks: Vec::new(),
        merge: merge::read(&mut body, &defaults.choice)?,
        limits: limits(&mut body, &defaults.limits)?,
        sampling: sampling(&mut body, &defaults.sampling)?,
        text_bias,
        grammar: grammar::read(&mut body, &defaults.bounds)?.or_else(|| defaults.grammar.clone()),
        logprobs,
        scope: if cache { defaults.scope.clone() } else { None },
        trace: reply.trace || reply.kept,
        slot: slot(&mut body)?,
        headless: false,
    };
    body.close(&policy::BODY)?;
    Ok((request, reply))
}

/// Variables that the template gets from elsewhere.
const GIVEN: [&str; 6] =
    ["messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"];

/// Speech changes an answer, unless it is switched off.
fn refuse_speech(body: &mut Fields) -> Result<()> {
    let refuse = |name: &str| Err(Error::usage(format!("{name}: not supported here; leave it out")));
    let sigma = body.number("top_n_sigma")?;
    if sigma.is_some_and(|sigma| sigma > 0.0) {
        return refuse("top_n_sigma");
    }
    let kinds = body.texts("modalities")?.unwrap_or_default();
    if kinds.iter().any(|kind| kind != "text") { refuse("modalities other than text") } else { Ok(()) }
}

fn conversation(body: &mut Fields, defaults: &Defaults) -> Result<(Vec<Message>, Vec<Reference>)> {
    let (given, prompt) = (body.value("messages"), body.text("prompt")?);
    let mut shown = Vec::new();
    for (name, wrap) in [
        ("image", Reference::Image as fn(String) -> Reference),
        ("images", Reference::Image),
        ("video", Reference::Video),
    ] {
        shown.extend(body.texts(name)?.unwrap_or_default().into_iter().map(wrap));
    }
    let system = body.text("system")?.or_else(|| defaults.system.clone());
    let asked = prompt.is_some();
    let conversation = match (given, prompt.or_else(|| defaults.prompt.clone())) {
        (Some(_), _) if asked => return Err(Error::usage("give prompt or messages, not both")),
        (Some(_), _) if !shown.is_empty() => {
            return Err(Error::usage(
                "pictures of messages stand in their content, not in image, images or video",
            ));
        }
        (Some(given), _) => messages::read(given, &defaults.bounds)?,
        (None, Some(prompt)) => messages::ask(prompt, shown),
        (None, None) => {
            return Err(Error::usage(
                "messages is missing: give a list of {\"role\": ..., \"content\": ...}",
            ));
        }
    };
    let conversation = messages::with_system(conversation, system);
    messages::check(&conversation, &defaults.bounds)?;
    Ok(conversation)
}

/// A conversation that ends with an assistant's message is continued, any other is answered. True for one whose prompt
/// has no head of an answer.
fn continues(body: &mut Fields, last: Option<Role>) -> Result<bool> {
    let (header, open) = (body.flag("add_generation_prompt")?, body.flag("continue_final_message")?);
    let continued = last == Some(Role::Assistant);
    let refuse = |name: &str, why: &str| Err(Error::usage(format!("{name}: {why}")));
    match (open, header) {
        (Some(true), _) if !continued => {
            refuse("continue_final_message", "the last message is not the assistant's; leave it out")
        }
        (Some(true), Some(true)) => {
            refuse("continue_final_message", "excludes add_generation_prompt: give one")
        }
        (Some(false), _) if continued => refuse(
            "continue_final_message",
            "a conversation that ends with an assistant's message is continued; leave that message out",
        ),
        (None, Some(true)) if continued => refuse(
            "add_generation_prompt",
            "a conversation that ends with an assistant's message is continued; leave that message out",
        ),
        _ => Ok(header == Some(false) && !continued),
    }
}

fn reply(body: &mut Fields, bounds: &Bounds) -> Result<Reply> {
    let choices = body.whole("n")?.unwrap_or(1);
    let choices =
        u32::try_from(choices).ok().filter(|n| (1..=bounds.choices).contains(n)).ok_or_else(|| {
            Error::usage(format!(
                "n {choices}: give a number from 1 to {} ({})",
                bounds.choices,
                Field::MaxChoices
            ))
        })?;
    let stream = body.flag("stream")?.unwrap_or(false);
    let include_usage = match body.object("stream_options")? {
        None => false,
        Some(mut options) => {
            let usage = options.flag("include_usage")?.unwrap_or(false);
            options.close(&policy::STREAM_OPTIONS)?;
            usage
        }
    };
    let mut told = |name| body.flag(name).map(|asked| asked.unwrap_or(false));
    let (report, trace, kept) = (told("report")?, told("trace")?, told("kept")?);
    let (timings_per_token, progress) = (told("timings_per_token")?, told("return_progress")?);
    if choices > 1 && (report || trace || kept) {
        return Err(Error::usage("report, trace and kept tell of one answer: leave out n"));
    }
    Ok(Reply {
        stream,
        include_usage,
        choices,
        logprobs: false,
        report,
        trace,
        kept,
        timings_per_token,
        progress,
        reasoning: Reasoning::default(),
    })
}

fn limits(body: &mut Fields, own: &Limits) -> Result<Limits> {
    let mut asked = None;
    for name in ["max_completion_tokens", "max_tokens", "n_predict"] {
        let tokens = match body.whole(name)? {
            None => continue,
            Some(-1) => None,
            Some(n) => Some(u32::try_from(n).map_err(|_| {
                let name = body.path(name);
                Error::usage(format!("{name} {n}: give a number of tokens, or -1 for no limit"))
            })?),
        };
        asked = asked.or(Some(tokens));
    }
    Limits {
        max_tokens: asked.unwrap_or(own.max_tokens),
        stop: body.texts("stop")?.unwrap_or_else(|| own.stop.clone()),
        ignore_eos: body.flag("ignore_eos")?.unwrap_or(own.ignore_eos),
    }
    .checked()
}

/// The body's sampling over the defaults.
fn sampling(body: &mut Fields, own: &Sampling) -> Result<Sampling> {
    let mut single = |name, own| body.number(name).map(|asked| asked.map_or(own, to_f32));
    let (temperature, top_p) = (single("temperature", own.temperature)?, single("top_p", own.top_p)?);
    let min_p = single("min_p", own.min_p)?;
    // llama.cpp's name, then vLLM's.
    let repeat_penalty = single("repetition_penalty", own.repeat_penalty)?;
    let repeat_penalty = single("repeat_penalty", repeat_penalty)?;
    let frequency_penalty = single("frequency_penalty", own.frequency_penalty)?;
    let presence_penalty = single("presence_penalty", own.presence_penalty)?;
    let mut small = |name, own| match body.whole(name)? {
        None => Ok(own),
        Some(n) => {
            let name = body.path(name);
            i32::try_from(n).map_err(|_| Error::usage(format!("{name} {n}: give a whole number of 32 bits")))
        }
    };
    let (top_k, repeat_last_n) = (small("top_k", own.top_k)?, small("repeat_last_n", own.repeat_last_n)?);
    let seed = match body.whole("seed")? {
        None => own.seed,
        Some(-1) => None,
        // Longer seeds are folded: the same one gives the same answer, which is what it is for.
        Some(seed) => Some(fold(seed)),
    };
    let logit_bias = match body.value("logit_bias") {
        None => own.logit_bias.clone(),
        Some(value) => logit_bias(&value)?.0,
    };
    let sampling = Sampling {
        temperature,
        top_k,
        top_p,
        min_p,
        seed,
        repeat_last_n,
        repeat_penalty,
        frequency_penalty,
        presence_penalty,
        logit_bias,
    };
    samplers(body, sampling)?.checked()
}

/// Samplers there are, in the order in which they act.
pub const SAMPLERS: [&str; 5] = ["penalties", "top_k", "top_p", "min_p", "temperature"];
/// Those of llama.cpp that are off here, whether they are named or not.
const OFF: [&str; 8] = ["dry", "top_n_sigma", "typ_p", "typical_p", "xtc", "infill", "adaptive_p", "tfs_z"];

/// llama.cpp's `samplers`: one that is not named is off.
fn samplers(body: &mut Fields, mut own: Sampling) -> Result<Sampling> {
    let Some(mut named) = body.texts("samplers")? else { return Ok(own) };
    named.retain(|name| !OFF.contains(&name.as_str()));
    let places: Option<Vec<usize>> =
        named.iter().map(|name| SAMPLERS.iter().position(|known| known == name)).collect();
    if !places.is_some_and(|places| places.is_sorted()) {
        return Err(Error::usage(format!("samplers: give some of {} in this order", SAMPLERS.join(", "))));
    }
    let off = |name: &str| !named.iter().any(|named| named == name);
    if off("penalties") {
        (own.repeat_penalty, own.frequency_penalty, own.presence_penalty) = (1.0, 0.0, 0.0);
    }
    if off("top_k") {
        own.top_k = 0;
    }
    if off("top_p") {
        own.top_p = 1.0;
    }
    if off("min_p") {
        own.min_p = 0.0;
    }
    // Temperature 0 takes the most likely token, with any other settings.
    if off("temperature") && own.temperature > 0.0 {
        own.temperature = 1.0;
    }
    Ok(own)
}

#[allow(clippy::cast_possible_truncation)]
fn to_f32(value: f64) -> f32 {
    value as f32
}

fn fold(seed: i64) -> u32 {
    let bytes = seed.to_le_bytes();
    let half = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
    if (0..i64::from(u32::MAX)).contains(&seed) { half(0) } else { half(0) ^ half(4) }
}

/// Reads llama.cpp's number of a slot; a negative one is any.
fn slot(body: &mut Fields) -> Result<Option<u32>> {
    let (slot, older) = (body.whole("id_slot")?, body.whole("slot_id")?);
    Ok(slot.or(older).and_then(|slot| u32::try_from(slot).ok()))
}

/// Biases of tokens, and of texts.
type Biases = (Vec<(i32, f32)>, Vec<(String, f32)>);

/// Reads OpenAI's object of token to bias, or llama.cpp's list of pairs, in which `false` forbids a token. A text in the place
/// of a token stands for each of its tokens, as in llama.cpp.
fn logit_bias(value: &Value) -> Result<Biases> {
    let bias = |value: &Value| match value {
        Value::Bool(false) => Some(f32::NEG_INFINITY),
        value => value.as_f64().map(to_f32).filter(|bias| bias.is_finite()),
    };
    let pairs: Option<Vec<(Value, f32)>> = match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| {
                let number = key.trim().parse::<i64>();
                Some((number.map_or_else(|_| key.as_str().into(), Value::from), bias(value)?))
            })
            .collect(),
        Value::Array(items) => items
            .iter()
            .map(|item| match item.as_array()?.as_slice() {
                [token, value] => Some((token.clone(), bias(value)?)),
                _ => None,
            })
            .collect(),
        _ => None,
    };
    let wrong = || {
        let wanted =
            "an object of token ids or texts to numbers, or a list of [token id or text, number or false]";
        wrong("logit_bias", value, wanted)
    };
    let (mut tokens, mut texts) = (Vec::new(), Vec::new());
    for (key, bias) in pairs.ok_or_else(wrong)? {
        match key {
            Value::String(text) => texts.push((text, bias)),
            id => tokens.push((whole(&id).and_then(|id| i32::try_from(id).ok()).ok_or_else(wrong)?, bias)),
        }
    }
    check_texts(&texts)?;
    Ok((tokens, texts))
}

/// OpenAI's two fields, or llama.cpp's one.
fn logprobs(body: &mut Fields) -> Result<Option<u32>> {
    let (asked, top, n_probs) = (body.flag("logprobs")?, body.whole("top_logprobs")?, body.whole("n_probs")?);
    let count = |n: i64| check_logprobs(u32::try_from(n).unwrap_or(u32::MAX));
    let top = top.map(count).transpose()?;
    match (asked, top) {
        (Some(true), top) => Ok(Some(top.unwrap_or(0))),
        (_, Some(1..)) => Err(Error::usage("top_logprobs needs \"logprobs\": true")),
        _ => Ok(n_probs.map(count).transpose()?.filter(|n| *n > 0)),
    }
}

#[cfg(test)]
mod tests;
