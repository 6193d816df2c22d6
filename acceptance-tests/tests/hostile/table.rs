//! What came of each attack.

use std::fmt;

/// One attack, or one proof that its method sees success.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) family: &'static str,
    pub(crate) name: String,
    pub(crate) sent: u64,
    /// Frames that arrived where they must not, or answers that must not be given.
    pub(crate) passed: u64,
    pub(crate) verdict: Verdict,
    /// All that was counted meanwhile.
    pub(crate) moved: String,
}

#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// Each must be counted, by the counter of this name.
    Dropped { counter: String, counted: u64 },
    /// None is dropped, nor counted: what comes of it is harmless.
    Harmless { why: &'static str },
    /// What is allowed, on purpose: as many must arrive.
    Passed { why: &'static str, expected: u64 },
}

impl Row {
    pub(crate) fn is_right(&self) -> bool {
        match self.verdict {
            Verdict::Dropped { counted, .. } => {
                self.sent > 0 && self.passed == 0 && counted >= self.sent
            }
            Verdict::Harmless { .. } => self.sent > 0 && self.passed == 0,
            Verdict::Passed { expected, .. } => expected > 0 && self.passed == expected,
        }
    }
}

/// As Markdown.
pub(crate) struct Table<'a>(pub(crate) &'a [Row]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| attack | sent | passed | counted | counter |")?;
        writeln!(f, "|---|---:|---:|---:|---|")?;
        self.0.iter().try_for_each(|row| row.fmt(f))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, name, sent, passed, .. } = self;
        write!(f, "| {family}: {name} | {sent} | {passed} | ")?;
        match &self.verdict {
            Verdict::Dropped { counter, counted } => writeln!(f, "{counted} | `{counter}` |"),
            Verdict::Harmless { why } | Verdict::Passed { why, .. } => writeln!(f, "- | {why} |"),
        }
    }
}
