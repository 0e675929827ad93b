//! Trial of grammars and schemas: in bounded time and on a thread of their own, because other answers come
//! from the worker.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use llguidance::ParserFactory;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::ApproximateTokEnv;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::error::{ApiError, ApiResult};
use crate::request::Grammar;

/// Schemas that are compiled at once. One that takes too long keeps its thread until llguidance's own limits
/// end it.
const AT_ONCE: usize = 4;

pub struct Grammars {
    gate: Arc<Semaphore>,
    time: Duration,
}

impl Grammars {
    #[must_use]
    pub fn new(time: Duration) -> Self {
        Self { gate: Arc::new(Semaphore::new(AT_ONCE)), time }
    }

    /// # Errors
    /// 400 for a grammar that cannot be used or takes too long.
    pub async fn check(&self, grammar: Option<&Grammar>) -> ApiResult<()> {
        // A grammar in GBNF was held to its bounds when it was read. The library finds its errors quickly.
        let Some(grammar @ (Grammar::JsonSchema(_) | Grammar::Regex(_) | Grammar::Calls(_))) =
            grammar.cloned()
        else {
            return Ok(());
        };
        let what = match &grammar {
            Grammar::Regex(_) => "regular expression",
            Grammar::Calls(_) => "JSON schema of a tool",
            _ => "JSON schema",
        };
        let work = async {
            let permit = Arc::clone(&self.gate).acquire_owned().await;
            tokio::task::spawn_blocking(move || {
                let _permit = permit;
                compile(&grammar)
            })
            .await
            .unwrap_or_else(|_| Err("the compiler broke off".into()))
        };
        let result = timeout(self.time, work).await.map_err(|_| {
            ApiError::invalid(format!(
                "the {what} takes longer than {} s to compile (--grammar-timeout); simplify it",
                self.time.as_secs_f32()
            ))
        })?;
        result.map_err(|reason| ApiError::invalid(format!("not a usable {what} ({reason})")))
    }
}

/// Single bytes as the vocabulary: whether a schema makes sense does not depend on it.
static FACTORY: LazyLock<Result<ParserFactory, String>> = LazyLock::new(|| {
    let mut factory = ParserFactory::new_simple(&ApproximateTokEnv::single_byte_env())
        .map_err(|error| error.to_string())?;
    factory.quiet();
    Ok(factory)
});

fn compile(grammar: &Grammar) -> Result<(), String> {
    let top = match grammar {
        Grammar::Regex(text) => TopLevelGrammar::from_regex(text),
        Grammar::Calls(text) => TopLevelGrammar::from_lark(text.clone()),
        Grammar::JsonSchema(text) => {
            let schema: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
            TopLevelGrammar::from_json_schema(schema)
        }
        Grammar::Gbnf(_) | Grammar::JsonObject => return Ok(()),
    };
    let factory = FACTORY.as_ref().map_err(Clone::clone)?;
    let line = |error: String| error.lines().next().unwrap_or_default().chars().take(300).collect::<String>();
    factory.create_parser(top).map(|_| ()).map_err(|error| line(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(grammar: Grammar) -> Result<(), String> {
        let grammars = Grammars::new(Duration::from_secs(20));
        let result = grammars.check(Some(&grammar)).await;
        result.map_err(|error| error.body()["message"].as_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn schemas() {
        let good = r#"{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}"#;
        assert_eq!(check(Grammar::JsonSchema(good.into())).await, Ok(()));
        assert_eq!(check(Grammar::JsonObject).await, Ok(()));
        assert_eq!(check(Grammar::Gbnf("root ::= \"a\"".into())).await, Ok(()));
        for bad in [r#"{"type":5}"#, r##"{"$ref":"#/nowhere"}"##, r#"{"$ref":"http://localhost/x"}"#] {
            let error = check(Grammar::JsonSchema(bad.into())).await.unwrap_err();
            assert!(error.contains("JSON schema"), "{bad}: {error}");
        }
        assert_eq!(check(Grammar::Regex("[0-9]{3}".into())).await, Ok(()));
        assert!(check(Grammar::Regex("(".into())).await.unwrap_err().contains("regular expression"));
    }

    #[tokio::test]
    async fn a_schema_has_bounded_time() {
        let grammars = Grammars::new(Duration::ZERO);
        let _all = Arc::clone(&grammars.gate).acquire_many_owned(AT_ONCE as u32).await.unwrap();
        let error = grammars.check(Some(&Grammar::JsonSchema("{\"type\":\"object\"}".into()))).await;
        assert!(error.unwrap_err().body()["message"].as_str().unwrap().contains("--grammar-timeout"));
    }
}
