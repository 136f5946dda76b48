//! How what was looked at is told, in `ssm doctor` and `ssm ecs check`.

use std::fmt;

use crate::output::{Lines, visible};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// It could not be looked at, or need not be.
    Skip,
    /// Something will not work, or not as well as it could.
    Warn,
    /// Sessions will not work.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Skip => "skip",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

impl Verdict {
    /// A line for what was found by the check of this name, and one below it for what can be done about it. `width` is that of the
    /// longest name.
    pub(super) fn lines(self, check: &str, width: usize, found: &str, advice: Option<&str>) -> String {
        let mut text = format!("{self:4}  {check:width$}  {}\n", visible(found, Lines::Joined));
        if let Some(advice) = advice {
            text += &format!("{:4}  {:width$}  -> {}\n", "", "", visible(advice, Lines::Joined));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_stands_below_what_was_found_and_neither_can_paint_the_terminal() {
        let lines = Verdict::Warn.lines("plugin", 8, "it is\nold\x1b[2J", Some("take a new\none"));
        let expected = "warn  plugin    it is old\\u{1b}[2J\n                -> take a new one\n";
        assert_eq!(lines, expected);
        assert_eq!(Verdict::Ok.lines("x", 1, "fine", None), "ok    x  fine\n");
    }
}
