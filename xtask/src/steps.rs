//! A sequence of named steps: all of them run, each is timed, one failure fails the whole.

use std::time::{Duration, Instant};

use crate::process::Failure;

/// Steps run so far.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<(&'static str, Duration, Result<(), Failure>)>,
}

impl Steps {
    /// Runs one step; a failure is kept for [`Steps::finish`], so that one run shows every problem.
    pub(crate) fn run(&mut self, name: &'static str, work: impl FnOnce() -> Result<(), Failure>) {
        eprintln!("\n=== {name}");
        let start = Instant::now();
        let result = work();
        if let Err(failure) = &result {
            eprintln!("xtask: {name}: {failure}");
        }
        self.done.push((name, start.elapsed(), result));
    }

    /// Whether the step of this name has run without a failure.
    pub(crate) fn passed(&self, name: &str) -> bool {
        self.done.iter().any(|(done, _, result)| *done == name && result.is_ok())
    }

    /// Prints the summary.
    ///
    /// # Errors
    /// When a step failed, with the names of all that did.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        eprintln!("\n=== summary");
        for (name, took, result) in &self.done {
            let verdict = if result.is_ok() { "ok" } else { "FAILED" };
            eprintln!("{name:<20} {:>6.1} s  {verdict}", took.as_secs_f64());
        }
        let failed: Vec<&str> =
            self.done.iter().filter(|(_, _, result)| result.is_err()).map(|(name, ..)| *name).collect();
        if failed.is_empty() { Ok(()) } else { Err(Failure::new(format!("failed: {}", failed.join(", ")))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_fails_the_whole_and_is_named() {
        let mut steps = Steps::default();
        steps.run("first", || Ok(()));
        steps.run("second", || Err(Failure::new("broken")));
        steps.run("third", || Ok(()));
        assert!(steps.passed("first") && !steps.passed("second") && !steps.passed("fourth"));
        assert_eq!(steps.finish().unwrap_err().to_string(), "failed: second");
    }
}
