//! Rows in columns, for people: on a terminal and in a pipe alike, without lines around them.

use comfy_table::Cell;
use comfy_table::presets::NOTHING;

#[cfg(feature = "aws")]
use crate::error::Error;
#[cfg(feature = "aws")]
use crate::output::print;
use crate::output::{Lines, visible};

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

/// Rows a [`Listing`] holds before it is written.
#[cfg(feature = "aws")]
const HELD: usize = 5_000;

/// A table on stdout without end: after each [`HELD`] rows what there is is written, and the widths of the columns are those of the rows that
/// follow.
#[cfg(feature = "aws")]
#[derive(Debug)]
pub(crate) struct Listing<const N: usize> {
    table: Table<N>,
    held: usize,
}

#[cfg(feature = "aws")]
impl<const N: usize> Listing<N> {
    /// A table whose first line names the columns.
    pub(crate) fn new(head: [&str; N]) -> Self {
        Self { table: Table::new(head), held: 0 }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: [impl AsRef<str>; N]) -> Result<(), Error> {
        self.table.row(cells);
        self.held += 1;
        if self.held == HELD {
            self.write()?;
        }
        Ok(())
    }

    /// Writes the rest.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        self.write()
    }

    fn write(&mut self) -> Result<(), Error> {
        let text = std::mem::replace(&mut self.table, Table::headless()).text();
        self.held = 0;
        print(text)?;
        Ok(())
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
