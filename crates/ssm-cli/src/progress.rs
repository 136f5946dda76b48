//! A line that says how far something is, on a terminal.

use std::borrow::Cow;
use std::io::{self, IsTerminal};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output;

/// The line, on stderr. It goes when this is dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    what: Cow<'static, str>,
}

impl Progress {
    /// Counts `what`. Shows nothing where stderr is no terminal or the user wants it quiet.
    #[cfg(feature = "lookup")]
    pub(crate) fn start(what: impl Into<Cow<'static, str>>) -> Self {
        Self::start_if(true, what)
    }

    /// The same, but only if `wanted`.
    pub(crate) fn start_if(wanted: bool, what: impl Into<Cow<'static, str>>) -> Self {
        let shown = wanted && io::stderr().is_terminal() && !output::is_quiet();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("{msg}").expect("a template without a mistake");
        Self { bar: ProgressBar::with_draw_target(None, target).with_style(style), what: what.into() }
    }

    /// This many so far.
    pub(crate) fn set(&self, count: usize) {
        self.bar.set_message(format!("{} {}", HumanCount(count as u64), self.what));
        self.bar.tick();
    }

    /// Takes the line away while something is said.
    pub(crate) fn suspend<T>(&self, say: impl FnOnce() -> T) -> T {
        self.bar.suspend(say)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
