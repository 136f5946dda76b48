//! Choosing from a list: type to narrow it, arrows and Enter to choose, Esc or Ctrl-C to leave.
//!
//! It is drawn on stderr and taken away again; stdin has the keys.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use dialoguer::FuzzySelect;
use dialoguer::console::{Term, truncate_str};
use dialoguer::theme::{SimpleTheme, Theme};
use fuzzy_matcher::skim::SkimMatcherV2;
use rustix::stdio;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::oneshot;

use crate::error::Error;
use crate::output::{Lines, visible};
use crate::process::{Signal, Signals};

/// Most rows of the list that are on the screen.
const ROWS: usize = 15;

/// Columns that an item does not have: the mark in front of it, and the last one, where a cursor may wrap.
const MARGIN: usize = 3;

/// Whether there is somebody to ask: stdin and stderr are a terminal that can move its cursor.
pub(crate) fn is_possible() -> bool {
    io::stdin().is_terminal()
        && io::stderr().is_terminal()
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Lets the user choose. Gives the index of the item, or `None` when the user left with Esc or Ctrl-C, for which the exit code is 130.
///
/// Only for a command that ends when this is given up: a thread waits for keys for as long as the process lives.
///
/// # Errors
///
/// [`Error::Left`] at another signal, [`Error::Usage`] where [`is_possible`] says no, and what the system says about the terminal.
pub(crate) async fn pick(prompt: &str, items: &[String]) -> Result<Option<usize>, Error> {
    if !is_possible() {
        return Err(Error::Usage("there is no terminal to choose on".into()));
    }
    let local = || Error::local("cannot use the terminal");
    let mut signals = Signals::take().map_err(local())?;
    let screen = Screen::new().map_err(local())?;
    let theme = Counting { lines: Arc::clone(&screen.lines) };
    let width = usize::from(Term::stderr().size().1).max(20);
    let prompt = truncate_str(&visible(prompt, Lines::Joined).to_string(), width / 2, "...").into_owned();
    let items = distinct(items.iter().map(|item| shown(item, width - MARGIN)));
    let (answer, answered) = oneshot::channel();
    let ask = move || {
        let select = FuzzySelect::with_theme(&theme).with_prompt(prompt).items(items).default(0);
        // What was chosen is for the command to tell.
        let chosen = select.max_length(ROWS).report(false).interact_on_opt(&Term::stderr());
        if chosen.is_ok() {
            theme.lines.store(0, Ordering::Relaxed);
        }
        // Nobody waits any more after a signal.
        let _ = answer.send(chosen);
    };
    thread::Builder::new().name("picker".into()).spawn(ask).map_err(local())?;
    tokio::select! {
        answer = answered => match answer {
            Ok(Ok(chosen)) => Ok(chosen),
            // How the library tells of Ctrl-C.
            Ok(Err(dialoguer::Error::IO(error))) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Ok(Err(dialoguer::Error::IO(source))) => Err(local()(source)),
            Err(_ended) => Err(local()(io::Error::other("the list has gone"))),
        },
        signal = signals.next() => match signal {
            Signal::Interrupt => Ok(None),
            other => Err(Error::Left(other)),
        },
    }
}

/// [`pick`] for a command that cannot go on without an answer: leaving is [`Error::Left`].
///
/// # Errors
///
/// As [`pick`].
pub(crate) async fn choose(prompt: &str, items: &[String]) -> Result<usize, Error> {
    pick(prompt, items).await?.ok_or(Error::Left(Signal::Interrupt))
}

/// [`choose`] where there is somebody to ask.
///
/// # Errors
///
/// As [`choose`]; elsewhere `said`, and what there is.
#[cfg(feature = "lookup")]
pub(crate) async fn one_of(prompt: &str, items: &[String], said: String) -> Result<usize, Error> {
    if is_possible() { choose(prompt, items).await } else { Err(Error::listed(said, items)) }
}

/// An item in one line that fits.
fn shown(item: &str, width: usize) -> String {
    truncate_str(&visible(item, Lines::Joined).to_string(), width, "...").into_owned()
}

/// The list tells which item was chosen by its text.
fn distinct(items: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut repeated = 1;
    let mut all = Vec::new();
    for mut item in items {
        while !seen.insert(item.clone()) {
            repeated += 1;
            // Writing to memory does not fail.
            let _ = write!(item, " ({repeated})");
        }
        all.push(item);
    }
    all
}

/// What the terminal was before. Dropping it takes the list away, shows the cursor and restores the mode, whatever the thread that
/// reads keys was doing.
struct Screen {
    mode: Termios,
    /// Lines that the list has on the screen.
    lines: Arc<AtomicUsize>,
}

impl Screen {
    fn new() -> io::Result<Self> {
        Ok(Self { mode: tcgetattr(stdio::stdin())?, lines: Arc::default() })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(stdio::stdin(), OptionalActions::Now, &self.mode);
        let lines = self.lines.swap(0, Ordering::Relaxed);
        let clear = if lines > 0 { format!("\r\x1b[{lines}A\x1b[J") } else { String::new() };
        let _ = io::stderr().write_all(format!("{clear}\x1b[?25h").as_bytes());
    }
}

/// The plain theme, which also counts the lines it has drawn: the library does not take them away when it is interrupted.
struct Counting {
    lines: Arc<AtomicUsize>,
}

impl Theme for Counting {
    fn format_fuzzy_select_prompt(
        &self,
        f: &mut dyn fmt::Write,
        prompt: &str,
        search_term: &str,
        bytes_pos: usize,
    ) -> fmt::Result {
        self.lines.store(1, Ordering::Relaxed);
        SimpleTheme.format_fuzzy_select_prompt(f, prompt, search_term, bytes_pos)
    }

    fn format_fuzzy_select_prompt_item(
        &self,
        f: &mut dyn fmt::Write,
        text: &str,
        active: bool,
        highlight_matches: bool,
        matcher: &SkimMatcherV2,
        search_term: &str,
    ) -> fmt::Result {
        self.lines.fetch_add(1, Ordering::Relaxed);
        SimpleTheme.format_fuzzy_select_prompt_item(f, text, active, highlight_matches, matcher, search_term)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_one_line_that_fits_and_cannot_paint() {
        assert_eq!(shown("a\x1b[2J\nb", 80), "a\\u{1b}[2J b");
        assert_eq!(shown(&"x".repeat(10_000), 20), format!("{}...", "x".repeat(17)));
        assert_eq!(shown("中文中文", 7), "中文...");
    }

    #[test]
    fn items_that_look_alike_stay_apart() {
        let items = distinct(["a", "b", "a", "a", "a (2)"].map(String::from).into_iter());
        assert_eq!(items.iter().collect::<BTreeSet<_>>().len(), 5, "{items:?}");
        assert_eq!(items[..3], ["a", "b", "a (2)"]);
    }
}
