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
    /// What is known of why it is missed where it is, and what was tried; may be empty.
    pub(crate) why: &'static str,
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
             same run. {machine}\n\n| what | budget | measured | | beside it |\n\
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
        let missed = self.0.iter().filter(|line| line.verdict == Verdict::Missed);
        let explained: Vec<&Line> = missed.filter(|line| !line.why.is_empty()).collect();
        if !explained.is_empty() {
            text.push_str("\n## What is missed, and why\n");
        }
        for line in explained {
            let _ = write!(text, "\n**{}**: {}\n", line.what, line.why);
        }
        text
    }

    /// Writes the table.
    pub(crate) fn write(&self, path: &Path, machine: &str) -> Result<()> {
        std::fs::write(path, self.markdown(machine))
            .with_context(|| format!("write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(what: &str, verdict: Verdict) -> Line {
        Line {
            what: what.to_owned(),
            budget: "at most 1".to_owned(),
            figure: "2".to_owned(),
            beside: "n = 3".to_owned(),
            verdict,
            why: "it is hard",
        }
    }

    #[test]
    fn what_is_missed_is_explained_and_what_is_kept_is_not() {
        let report =
            Report(vec![line("kept one", Verdict::Kept), line("lost one", Verdict::Missed)]);
        let text = report.markdown("A machine.");
        assert!(text.contains("| lost one | at most 1 | 2 | **missed** | n = 3 |"), "{text}");
        assert!(
            text.ends_with("## What is missed, and why\n\n**lost one**: it is hard\n"),
            "{text}"
        );
        assert!(!text.contains("**kept one**"), "{text}");
        assert_eq!(report.missed(), 1);
    }
}
