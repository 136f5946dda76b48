//! What a check finds.

use std::pin::Pin;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::command::verdict::Verdict;

/// What was found, and what can be done about it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    pub(super) found: String,
    pub(super) advice: Option<String>,
    /// The same for programs.
    pub(super) facts: Map<String, Value>,
}

/// A check ends early with `?` where what it builds on is not there.
pub(super) type Finding = Result<Outcome, Outcome>;

impl Outcome {
    pub(super) fn ok(found: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, found: found.into(), advice: None, facts: Map::new() }
    }

    pub(super) fn skip(why: impl Into<String>) -> Self {
        Self { verdict: Verdict::Skip, ..Self::ok(why) }
    }

    pub(super) fn warn(found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, advice: Some(advice.into()), ..Self::ok(found) }
    }

    pub(super) fn fail(found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, ..Self::warn(found, advice) }
    }

    /// A failure whose words say what to do.
    pub(super) fn failed(found: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, ..Self::ok(found) }
    }

    /// No worse than a warning.
    #[cfg(feature = "aws")]
    pub(super) fn at_most_warn(self) -> Self {
        Self { verdict: self.verdict.min(Verdict::Warn), ..self }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.into(), value.into());
        self
    }
}

/// Something to find out.
pub(super) struct Check<'a> {
    pub(super) name: String,
    /// How long it may take.
    pub(super) limit: Duration,
    pub(super) finding: Pin<Box<dyn Future<Output = Finding> + 'a>>,
}

impl<'a> Check<'a> {
    pub(super) fn new(
        name: impl Into<String>,
        limit: Duration,
        finding: impl Future<Output = Finding> + 'a,
    ) -> Self {
        Self { name: name.into(), limit, finding: Box::pin(finding) }
    }

    /// One that takes no time.
    pub(super) fn now(name: impl Into<String>, outcome: impl FnOnce() -> Outcome + 'a) -> Self {
        Self::new(name, Duration::MAX, async { Ok(outcome()) })
    }
}
