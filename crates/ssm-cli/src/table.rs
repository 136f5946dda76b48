//! Rows in columns, for people: on a terminal and in a pipe alike, without lines around them.

#[cfg(feature = "aws")]
use std::io::{self, IsTerminal};

use comfy_table::Cell;
use comfy_table::presets::NOTHING;
#[cfg(feature = "aws")]
use serde_json::Value;

#[cfg(feature = "aws")]
use crate::error::Error;
#[cfg(feature = "aws")]
use crate::output::{Json, Reader, print};
use crate::output::{Lines, visible};
#[cfg(feature = "aws")]
use crate::progress::Progress;

/// Spaces between two columns.
const GAP: u16 = 2;

/// A table of `N` columns. Nothing is written of one that has no row, its head included.
///
/// Cells are made visible: what AWS or a user says can neither paint the terminal nor make a line of its own.
#[derive(Debug)]
pub(crate) struct Table<const N: usize>(comfy_table::Table);

impl<const N: usize> Table<N> {
    /// A table whose first line names the columns.
    pub(crate) fn new(head: [&str; N]) -> Self {
        let mut table = Self::headless();
        table.0.set_header(head);
        table
    }

    /// A table without such a line.
    pub(crate) fn headless() -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING);
        Self(table)
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: [impl AsRef<str>; N]) {
        self.0.add_row(cells.map(|cell| Cell::new(visible(cell.as_ref(), Lines::Joined))));
    }

    /// The lines, in columns of the same width, without what is blank at their ends.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        if self.0.is_empty() {
            return Vec::new();
        }
        self.0.discover_columns();
        for column in self.0.column_iter_mut() {
            column.set_padding((0, GAP));
        }
        self.0.lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// The lines as one text, each with its line feed.
    pub(crate) fn text(&mut self) -> String {
        self.lines().iter().map(|line| format!("{line}\n")).collect()
    }
}

/// Rows of a table that [`Rows`] holds before they are written.
#[cfg(feature = "aws")]
const HELD: usize = 5_000;

/// Rows on stdout without end: a table for people or lines of JSON for programs, and a line on stderr that says how far it is.
///
/// Of a table, what there is is written after each [`HELD`] rows, and the widths of the columns are those of the rows that follow.
#[cfg(feature = "aws")]
pub(crate) struct Rows<const N: usize> {
    /// `None` for JSON.
    table: Option<Table<N>>,
    held: usize,
    progress: Progress,
}

#[cfg(feature = "aws")]
impl<const N: usize> Rows<N> {
    /// Rows of `what`, of which there are many; `head` names the columns of a table.
    pub(crate) fn new(head: [&str; N], form: Form, what: &'static str) -> Self {
        // Lines that come while it is shown would tear it.
        let progress = Progress::start_if(form == Form::Table || !io::stdout().is_terminal(), what);
        Self { table: (form == Form::Table).then(|| Table::new(head)), held: 0, progress }
    }

    /// Adds what `cells` shows in a table, or `json` to programs.
    pub(crate) fn add(
        &mut self,
        cells: impl FnOnce() -> [String; N],
        json: impl FnOnce() -> Value,
    ) -> Result<Reader, Error> {
        let Some(table) = &mut self.table else {
            return print(format!("{}\n", Json(json())));
        };
        table.row(cells());
        self.held += 1;
        if self.held < HELD { Ok(Reader::There) } else { self.write() }
    }

    /// Says that this many have been looked at.
    pub(crate) fn looked_at(&self, count: usize) {
        self.progress.set(count);
    }

    /// Takes the line that says so away while something else is said.
    #[cfg(feature = "lookup")]
    pub(crate) fn suspend(&self, say: impl FnOnce()) {
        self.progress.suspend(say);
    }

    /// Writes the rest.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        self.write().map(drop)
    }

    fn write(&mut self) -> Result<Reader, Error> {
        let Some(table) = &mut self.table else { return Ok(Reader::There) };
        let text = std::mem::replace(table, Table::headless()).text();
        self.held = 0;
        self.progress.suspend(|| print(text))
    }
}

/// Who rows are for.
#[cfg(feature = "aws")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Table,
    Json,
}

#[cfg(feature = "aws")]
impl Form {
    /// What `--json` means.
    pub(crate) fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::Table }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["ID", "NAME"]);
        table.row(["i-1", "größe"]);
        table.row(["i-22", ""]);
        table.row(["", "中文"]);
        assert_eq!(table.text(), "ID    NAME\ni-1   größe\ni-22\n      中文\n");
        let mut wide = Table::headless();
        wide.row(["中文", "x"]);
        wide.row(["ab", "y"]);
        assert_eq!(wide.text(), "中文  x\nab    y\n");
    }

    #[test]
    fn a_table_without_rows_is_empty() {
        assert_eq!(Table::new(["ID", "NAME"]).text(), "");
    }

    #[test]
    fn a_cell_is_one_line_that_cannot_paint() {
        let mut table = Table::headless();
        table.row(["a\x1b[2Jb\nc\td", "e"]);
        assert_eq!(table.text(), "a\\u{1b}[2Jb c d  e\n");
    }
}
