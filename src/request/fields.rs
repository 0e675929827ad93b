//! One JSON object read field by field: types, and an end at which nothing unread is passed over.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The fields of an object that are not read yet. `null` is the same as leaving a field out.
pub struct Fields {
    map: Map<String, Value>,
    /// Path of the object, with its dot: empty for a body, `merge.`, `messages[0].`.
    at: String,
    /// Names that were asked for: what a misspelt name may have meant.
    known: Vec<&'static str>,
    /// Fields that a dialect has put here, and their paths in its own body.
    moved: Vec<(&'static str, String)>,
}

/// Fields that are read nowhere.
pub(super) struct Policy {
    /// Fields that change no answer.
    pub neutral: &'static [&'static str],
    /// Fields that would change the answer, unless they are empty, `false` or the value given here as JSON.
    pub unsupported: &'static [(&'static str, &'static str)],
}

/// Ollama's `options`: how the model is loaded, which it is already, and samplers that there are not.
const OPTIONS: Policy = Policy {
    neutral: &[
        "num_ctx",
        "num_keep",
        "num_batch",
        "num_gpu",
        "main_gpu",
        "num_thread",
        "use_mmap",
        "use_mlock",
        "numa",
        "low_vram",
        "vocab_only",
        "f16_kv",
        "logits_all",
        "embedding_only",
        "penalize_newline",
        "mirostat_tau",
        "mirostat_eta",
    ],
    unsupported: &[("mirostat", "0"), ("typical_p", "1"), ("tfs_z", "1"), ("draft_num_predict", "0")],
};

impl Fields {
    #[must_use]
    pub fn new(map: Map<String, Value>, at: impl Into<String>) -> Self {
        Self { map, at: at.into(), known: Vec::new(), moved: Vec::new() }
    }

    /// # Errors
    /// Kind `Usage` for a value that is no object.
    pub fn of(value: Value, at: String) -> Result<Self> {
        match value {
            Value::Object(map) => Ok(Self::new(map, at + ".")),
            other => Err(wrong(&at, &other, "an object")),
        }
    }

    /// The whole name of a field, as its sender wrote it.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        let moved = self.moved.iter().find(|(to, _)| *to == name).map(|(_, path)| path.clone());
        moved.unwrap_or_else(|| format!("{}{name}", self.at))
    }

    /// Whether the field is there and no `null`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.peek(name).is_some()
    }

    /// The field as it is, which stays unread.
    #[must_use]
    pub fn peek(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// Puts a field here that its sender calls `path`, which errors about it name.
    ///
    /// # Errors
    /// Kind `Usage` if the field is there already.
    pub fn put(&mut self, name: &'static str, value: Value, path: String) -> Result<()> {
        if self.has(name) {
            return Err(Error::usage(format!("{path} is the same as {name}: give one")));
        }
        self.map.insert(name.to_owned(), value);
        self.moved.push((name, path));
        Ok(())
    }

    /// Lets the field `from` be read as `to`.
    ///
    /// # Errors
    /// As [`Fields::put`].
    pub fn rename(&mut self, from: &'static str, to: &'static str) -> Result<()> {
        match self.value(from) {
            Some(value) => self.put(to, value, self.path(from)),
            None => Ok(()),
        }
    }

    /// Lets fields of the object `name` be read as fields beside it: `names` are their own names and those here.
    ///
    /// # Errors
    /// Kind `Usage` for a value that is no object. The same for a field of it that would change an answer and
    /// is not in `names`, and as [`Fields::put`].
    pub fn lift(&mut self, name: &'static str, names: &[(&'static str, &'static str)]) -> Result<()> {
        let Some(mut object) = self.object(name)? else { return Ok(()) };
        for (from, to) in names {
            if let Some(value) = object.value(from) {
                self.put(to, value, object.path(from))?;
            }
        }
        object.close(&OPTIONS)
    }

    /// The field as it is.
    pub fn value(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.map.remove(name).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &mut self,
        name: &'static str,
        wanted: &str,
        read: impl Fn(Value) -> std::result::Result<T, Value>,
    ) -> Result<Option<T>> {
        let value = self.value(name);
        value.map(|value| read(value).map_err(|value| wrong(&self.path(name), &value, wanted))).transpose()
    }

    /// # Errors
    /// Kind `Usage` that names the field, as of all of these.
    pub fn text(&mut self, name: &'static str) -> Result<Option<String>> {
        self.typed(name, "a text", |value| match value {
            Value::String(text) => Ok(text),
            other => Err(other),
        })
    }

    /// # Errors
    /// As [`Fields::text`].
    pub fn flag(&mut self, name: &'static str) -> Result<Option<bool>> {
        self.typed(name, "true or false", |value| value.as_bool().ok_or(value))
    }

    /// # Errors
    /// As [`Fields::text`].
    pub fn number(&mut self, name: &'static str) -> Result<Option<f64>> {
        self.typed(name, "a number", |value| value.as_f64().ok_or(value))
    }

    /// A whole number; 5.0 is one.
    ///
    /// # Errors
    /// As [`Fields::text`].
    pub fn whole(&mut self, name: &'static str) -> Result<Option<i64>> {
        self.typed(name, "a whole number", |value| whole(&value).ok_or(value))
    }

    /// A list of whole numbers.
    ///
    /// # Errors
    /// As [`Fields::text`].
    pub fn wholes(&mut self, name: &'static str) -> Result<Option<Vec<i64>>> {
        self.typed(name, "a list of whole numbers", |value| {
            value.as_array().and_then(|items| items.iter().map(whole).collect()).ok_or(value)
        })
    }

    /// A text, or a list of them.
    ///
    /// # Errors
    /// As [`Fields::text`].
    pub fn texts(&mut self, name: &'static str) -> Result<Option<Vec<String>>> {
        self.typed(name, "a text or a list of texts", |value| match value {
            Value::String(text) => Ok(vec![text]),
            Value::Array(items) if items.iter().all(Value::is_string) => Ok(items
                .into_iter()
                .filter_map(|item| if let Value::String(text) = item { Some(text) } else { None })
                .collect()),
            other => Err(other),
        })
    }

    /// # Errors
    /// As [`Fields::text`].
    pub fn object(&mut self, name: &'static str) -> Result<Option<Self>> {
        self.value(name).map(|value| Self::of(value, self.path(name))).transpose()
    }

    /// # Errors
    /// Kind `Usage` that names the first field that was not read.
    pub fn all_read(self) -> Result<()> {
        self.close(&Policy { neutral: &[], unsupported: &[] })
    }

    /// # Errors
    /// Kind `Usage` that names the first field left: one that is not supported, or one that there is not, with the
    /// nearest name that there is.
    pub(super) fn close(self, policy: &Policy) -> Result<()> {
        for (name, value) in &self.map {
            let path: String = self.path(name).chars().take(80).collect();
            if value.is_null() || policy.neutral.contains(&name.as_str()) {
                continue;
            }
            if let Some((_, neutral)) = policy.unsupported.iter().find(|(other, _)| other == name) {
                if is_neutral(value, neutral) {
                    continue;
                }
                return Err(Error::usage(format!("{path}: not supported here; leave it out")));
            }
            // `speculative.n_max` and its like switch other engines on.
            if name.starts_with("speculative.") {
                continue;
            }
            let near = self.known.iter().map(|known| (strsim::jaro_winkler(known, name), known));
            let near = near.filter(|(likeness, _)| *likeness > 0.8).max_by(|a, b| a.0.total_cmp(&b.0));
            return Err(Error::usage(match near {
                Some((_, known)) => {
                    format!("{path}: there is no such field; did you mean {}?", self.path(known))
                }
                None => format!("{path}: there is no such field; leave it out"),
            }));
        }
        Ok(())
    }
}

/// Empty or off, or what stands in the list as JSON; numbers are compared as such.
fn is_neutral(value: &Value, neutral: &str) -> bool {
    let same = serde_json::from_str::<Value>(neutral).is_ok_and(|neutral| {
        *value == neutral || value.as_f64().is_some_and(|number| Some(number) == neutral.as_f64())
    });
    same || match value {
        Value::Bool(set) => !set && neutral != "true",
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[allow(clippy::cast_possible_truncation)]
pub(super) fn whole(value: &Value) -> Option<i64> {
    // Every whole number up to 2^53 is one of these. A larger number has no fraction.
    let whole = |number: f64| (number.fract() == 0.0 && number.abs() < 9e18).then_some(number as i64);
    value.as_i64().or_else(|| value.as_f64().and_then(whole))
}

/// The error for a value of another type.
pub(super) fn wrong(path: &str, value: &Value, wanted: &str) -> Error {
    let text = value.to_string();
    let mut shown: String = text.chars().take(40).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    Error::usage(format!("{path} {shown}: give {wanted}"))
}

/// Whether arrays and objects of `text` stand in one another more than `limit` deep. Looks at brackets outside of
/// strings: cheaper than finding out while values are being built.
pub(super) fn deeper_than(text: &[u8], limit: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const POLICY: Policy = Policy { neutral: &["user"], unsupported: &[("best_of", "1"), ("mode", "\"x\"")] };

    fn fields(value: Value) -> Fields {
        Fields::of(value, "at".into()).unwrap()
    }

    #[test]
    fn types() {
        let all =
            json!({ "t": "x", "f": true, "n": 1, "w": 5.0, "l": ["a"], "one": "a", "o": {}, "none": null });
        let mut f = fields(all);
        assert_eq!(f.text("t").unwrap(), Some("x".into()));
        assert_eq!((f.flag("f").unwrap(), f.number("n").unwrap()), (Some(true), Some(1.0)));
        assert_eq!((f.whole("w").unwrap(), f.whole("none").unwrap()), (Some(5), None));
        assert_eq!(
            (f.texts("l").unwrap(), f.texts("one").unwrap()),
            (Some(vec!["a".into()]), Some(vec!["a".into()]))
        );
        assert!(f.object("o").unwrap().is_some() && f.text("missing").unwrap().is_none());
        f.close(&POLICY).unwrap();
        let mut f =
            fields(json!({ "t": 1, "f": "true", "n": "1", "w": 1.5, "big": 1e30, "l": [1], "o": [] }));
        for (error, part) in [
            (f.text("t").unwrap_err(), "at.t 1: give a text"),
            (f.flag("f").unwrap_err(), "at.f \"true\": give true or false"),
            (f.number("n").unwrap_err(), "at.n \"1\": give a number"),
            (f.whole("w").unwrap_err(), "at.w 1.5: give a whole number"),
            (f.whole("big").unwrap_err(), "at.big 1e+30"),
            (f.texts("l").unwrap_err(), "at.l [1]: give a text or"),
            (f.object("o").err().unwrap(), "at.o []: give an object"),
        ] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn nothing_is_passed_over() {
        for (value, part) in [
            (json!({ "best_of": 2 }), "at.best_of: not supported"),
            (json!({ "mode": "y" }), "at.mode: not supported"),
            (json!({ "temprature": 1 }), "did you mean at.temperature?"),
            (json!({ "zzz": 1 }), "at.zzz: there is no such field; leave it out"),
        ] {
            let mut f = fields(value.clone());
            f.number("temperature").unwrap();
            let error = f.close(&POLICY).unwrap_err().to_string();
            assert!(error.contains(part), "{value}: {error}");
        }
        for value in [
            json!({ "user": 5, "best_of": 1, "mode": "x", "zzz": null }),
            json!({ "best_of": 1.0, "mode": "" }),
            json!({ "best_of": [], "speculative.n_max": 3 }),
        ] {
            fields(value.clone()).close(&POLICY).unwrap_or_else(|error| panic!("{value}: {error}"));
        }
    }
}
