//! One of several: the user chooses, where there is a terminal for it.

use std::fmt::Write as _;

use crate::error::Error;
use crate::output::{Lines, visible};
use crate::picker;

/// The index of what the user chooses.
///
/// # Errors
///
/// Where there is nobody to ask: `said`, and what there is.
pub(super) async fn one_of(prompt: &str, items: &[String], said: &str) -> Result<usize, Error> {
    if picker::is_possible() {
        return picker::choose(prompt, items).await;
    }
    Err(Error::Database(listed(said, items)))
}

/// A text with one item in each line behind it.
pub(super) fn listed(said: &str, items: &[String]) -> String {
    let mut text = visible(said, Lines::Joined).to_string();
    for item in items {
        // Writing to memory does not fail.
        let _ = write!(text, "\n  {}", visible(item, Lines::Joined));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_one_line_whatever_it_is_called() {
        assert_eq!(listed("two:", &["a\nb".into(), "c\x1b[2J".into()]), "two:\n  a b\n  c\\u{1b}[2J");
    }
}
