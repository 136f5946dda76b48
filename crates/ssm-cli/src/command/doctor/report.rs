//! Runs checks at the same time, and tells what they find in the order they were given.

use std::future::poll_fn;
use std::io::{self, IsTerminal, Write};
use std::task::Poll;
use std::time::Instant;

use serde_json::json;
use ssm_shell::NoticeWriter;

use super::outcome::{Check, Outcome};
use crate::command::verdict::Verdict;
use crate::error::Error;
use crate::output::{self, CLEAR, Json, Reader};

/// Most characters of what is waited for.
const HINT_MAX: usize = 70;

/// How things are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Lines,
    Json,
}

/// How many of each verdict there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) failed: usize,
    pub(super) warned: usize,
    pub(super) all: usize,
}

struct Running<'a> {
    check: Check<'a>,
    outcome: Option<(Outcome, u128)>,
}

/// Runs all checks, and prints each when it and those in front of it are done.
///
/// # Errors
///
/// When one cannot be printed.
pub(super) async fn run(
    checks: Vec<Check<'_>>,
    form: Form,
    print: impl Fn(String) -> Result<Reader, Error>,
) -> Result<Tally, Error> {
    let begin = Instant::now();
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut running: Vec<_> = checks.into_iter().map(limited).collect();
    let mut hint = Hint::new();
    let mut told = 0;
    let mut tally = Tally::default();
    poll_fn(|cx| {
        for Running { check, outcome } in &mut running {
            if outcome.is_none()
                && let Poll::Ready(found) = check.finding.as_mut().poll(cx)
            {
                *outcome = Some((found.unwrap_or_else(|early| early), begin.elapsed().as_millis()));
            }
        }
        while let Some(Running { check, outcome: Some((outcome, millis)) }) = running.get(told) {
            hint.erase();
            tally.count(outcome.verdict);
            let text = match form {
                Form::Lines => {
                    let Outcome { verdict, found, advice, .. } = outcome;
                    verdict.lines(&check.name, width, found, advice.as_deref())
                }
                Form::Json => as_json(&check.name, outcome, *millis),
            };
            // Whether anything is wrong is also said by the exit code, when nobody reads on.
            if let Err(error) = print(text) {
                return Poll::Ready(Err(error));
            }
            told += 1;
        }
        let open = running.iter().filter(|running| running.outcome.is_none());
        let open: Vec<&str> = open.map(|running| running.check.name.as_str()).collect();
        if open.is_empty() {
            hint.erase();
            return Poll::Ready(Ok(()));
        }
        hint.show(&open);
        Poll::Pending
    })
    .await?;
    Ok(tally)
}

fn limited(check: Check<'_>) -> Running<'_> {
    let Check { name, limit, finding } = check;
    let check = Check::new(name, limit, async move {
        match tokio::time::timeout(limit, finding).await {
            Ok(finding) => finding,
            Err(_) => Ok(Outcome::failed(format!("not done within {} s", limit.as_secs()))),
        }
    });
    Running { check, outcome: None }
}

impl Tally {
    fn count(&mut self, verdict: Verdict) {
        self.all += 1;
        self.failed += usize::from(verdict == Verdict::Fail);
        self.warned += usize::from(verdict == Verdict::Warn);
    }
}

fn as_json(name: &str, outcome: &Outcome, millis: u128) -> String {
    let Outcome { verdict, found, advice, facts } = outcome;
    let line = json!({
        "check": name,
        "verdict": verdict.to_string(),
        "found": found,
        "advice": advice,
        "facts": facts,
        "took_ms": u64::try_from(millis).unwrap_or(u64::MAX),
    });
    format!("{}\n", Json(line))
}

/// What is waited for, on a terminal.
struct Hint {
    is_wanted: bool,
    shown: String,
}

impl Hint {
    fn new() -> Self {
        Self { is_wanted: io::stderr().is_terminal() && !output::is_quiet(), shown: String::new() }
    }

    fn show(&mut self, names: &[&str]) {
        let text: String = format!("waiting for {}", names.join(", ")).chars().take(HINT_MAX).collect();
        if self.is_wanted && text != self.shown {
            // Nobody is left to tell when stderr is gone.
            let _ = NoticeWriter.write_all(format!("{CLEAR}{text}").as_bytes());
            self.shown = text;
        }
    }

    fn erase(&mut self) {
        if !self.shown.is_empty() {
            let _ = NoticeWriter.write_all(CLEAR.as_bytes());
            self.shown.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_of_json_has_everything() {
        let outcome = Outcome::ok("eu-west-1").with("region", "eu-west-1");
        let line: serde_json::Value = serde_json::from_str(&as_json("region", &outcome, 7)).unwrap();
        let expected = json!({ "check": "region", "verdict": "ok", "found": "eu-west-1", "advice": null,
            "facts": { "region": "eu-west-1" }, "took_ms": 7 });
        assert_eq!(line, expected);
    }

    #[tokio::test]
    async fn a_check_that_hangs_fails_and_holds_up_nothing_else() {
        let checks = vec![
            Check::new("hangs", Duration::from_millis(5), std::future::pending()),
            Check::now("works", || Outcome::ok("fine")),
            Check::new("cannot", Duration::from_secs(9), async { Err(Outcome::skip("no")) }),
        ];
        let out = RefCell::new(String::new());
        let print = |text: String| {
            out.borrow_mut().push_str(&text);
            Ok(Reader::There)
        };
        let tally = run(checks, Form::Lines, print).await.unwrap();
        assert_eq!(tally, Tally { failed: 1, warned: 0, all: 3 });
        let expected = "fail  hangs   not done within 0 s\nok    works   fine\nskip  cannot  no\n";
        assert_eq!(out.into_inner(), expected);
    }
}
