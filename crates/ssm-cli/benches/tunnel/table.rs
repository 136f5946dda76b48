//! Samples of several runs, and how they are printed.

/// The samples of one number.
#[derive(Debug, Default, Clone)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, sample: f64) {
        self.0.push(sample);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle one; 0 without samples.
    pub(crate) fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// The smallest sample that this share of all does not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100);
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// Median, smallest and largest, with `digits` behind the point.
    pub(crate) fn shown(&self, digits: usize) -> String {
        let (first, last) = (self.percentile(0), self.percentile(100));
        format!("{:.digits$} ({first:.digits$}-{last:.digits$})", self.median())
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(samples: I) -> Self {
        let mut samples = Self(samples.into_iter().collect());
        samples.0.sort_by(f64::total_cmp);
        samples
    }
}

/// Prints rows as a Markdown table whose columns stand below each other.
pub(crate) fn print(title: &str, head: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(String::len);
        cells.chain(head.get(column).map(|cell| cell.len())).max().unwrap_or_default()
    };
    let line = |cells: &[String]| {
        let padded =
            cells.iter().enumerate().map(|(column, cell)| format!("{cell:<width$}", width = width(column)));
        println!("| {} |", padded.collect::<Vec<_>>().join(" | "));
    };
    println!("\n{title}\n");
    line(&head.iter().map(ToString::to_string).collect::<Vec<_>>());
    line(&(0..head.len()).map(|column| "-".repeat(width(column))).collect::<Vec<_>>());
    rows.iter().for_each(|row| line(row));
}
