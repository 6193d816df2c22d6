//! The table of budgets and what was measured.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// What was measured.
    pub(crate) what: String,
    /// In words, as the design names it.
    pub(crate) budget: String,
    /// The figure that the budget is about.
    pub(crate) figure: String,
    /// What stands beside it: the floor, the spread.
    pub(crate) beside: String,
    pub(crate) verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Kept,
    Missed,
    /// A figure that stands beside another one.
    NoBudget,
}

impl Verdict {
    pub(crate) fn of(kept: bool) -> Self {
        if kept { Self::Kept } else { Self::Missed }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Missed => "**missed**",
            Self::NoBudget => "-",
        }
    }
}

/// The lines so far; each is printed as soon as it is known.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Line>);

impl Report {
    #[expect(clippy::print_stdout, reason = "the report is what the program is for")]
    pub(crate) fn add(&mut self, line: Line) {
        println!(
            "{}\n    {} [{}] {}\n    {}",
            line.what,
            line.figure,
            line.budget,
            line.verdict.word(),
            line.beside
        );
        self.0.push(line);
    }

    pub(crate) fn missed(&self) -> usize {
        self.0.iter().filter(|line| line.verdict == Verdict::Missed).count()
    }

    fn markdown(&self, machine: &str) -> String {
        let mut text = format!(
            "# Benchmarks\n\nWritten by `make bench`; each ratio is of two things measured in the \
             same run, in turns. {machine}\n\n| what | budget | measured | | beside it |\n\
             |---|---|---|---|---|\n"
        );
        for line in &self.0 {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} |",
                line.what,
                line.budget,
                line.figure,
                line.verdict.word(),
                line.beside
            );
        }
        text
    }

    /// Writes the table.
    pub(crate) fn write(&self, path: &Path, machine: &str) -> Result<()> {
        std::fs::write(path, self.markdown(machine))
            .with_context(|| format!("write {}", path.display()))
    }
}
