//! What a guest says of itself: how cloud-init ended, and whether it does what it was made for.
//!
//! Guests are hostile: what they send is shown to people, so it is cut to size and holds no
//! control characters, whoever made it.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::image::words;

/// Errors of one report that are kept.
const MAX_ERRORS: usize = 10;
/// Characters of one text that are kept.
const MAX_CHARS: usize = 1000;

words! {
    /// How cloud-init ended.
    CloudInitOutcome {
        /// Everything that it was told worked.
        Done = "done",
        /// It ended, with warnings that it recovered from.
        Degraded = "degraded",
        /// Something that it was told failed.
        Error = "error",
    }
}

/// What a guest says of cloud-init's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudInitReport {
    /// How it ended.
    pub outcome: CloudInitOutcome,
    /// cloud-init's own words for what failed, one for each failure.
    pub errors: Vec<String>,
    /// More, such as the data source that it used.
    pub detail: String,
    /// When the report came.
    pub at: Timestamp,
}

impl CloudInitReport {
    /// A report with texts of any length and content.
    pub fn new(
        outcome: CloudInitOutcome,
        errors: impl IntoIterator<Item = String>,
        detail: &str,
        at: Timestamp,
    ) -> Self {
        let errors = errors.into_iter().map(|error| tame(&error)).filter(|text| !text.is_empty());
        Self { outcome, errors: errors.take(MAX_ERRORS).collect(), detail: tame(detail), at }
    }
}

words! {
    /// What a guest signals.
    SignalOutcome {
        /// It does what it was made for.
        Success = "success",
        /// It does not, and will not.
        Failure = "failure",
    }
}

/// A guest's signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// What it signals.
    pub outcome: SignalOutcome,
    /// Why; may be empty.
    pub reason: String,
    /// When it came.
    pub at: Timestamp,
}

impl Signal {
    /// A signal with a reason of any length and content.
    pub fn new(outcome: SignalOutcome, reason: &str, at: Timestamp) -> Self {
        Self { outcome, reason: tame(reason), at }
    }
}

/// At most [`MAX_CHARS`] characters that do nothing to a terminal; lines stay lines.
fn tame(text: &str) -> String {
    let clean = |c: &char| *c == '\n' || shows_itself(*c);
    let mut tamed: String =
        text.trim().chars().map(|c| if c == '\t' { ' ' } else { c }).filter(clean).collect();
    if let Some((end, _)) = tamed.char_indices().nth(MAX_CHARS) {
        tamed.truncate(end);
        tamed.push('…');
    }
    tamed
}

/// Whether a character of a guest's text does nothing to a terminal but show itself.
pub fn shows_itself(c: char) -> bool {
    !(c.is_control() || is_invisible(c))
}

/// What changes the order of the characters around it, or shows nothing at all: Unicode's
/// `Bidi_Control`, zero-width characters and the byte order mark.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_guests_read_as_they_are_written() {
        let reason = "disk \u{202e}lluf\u{202c} is\u{200b} full";
        let signal = Signal::new(SignalOutcome::Failure, reason, Timestamp::UNIX_EPOCH);
        assert_eq!(signal.reason, "disk lluf is full");
    }

    #[test]
    fn texts_of_guests_are_bounded_and_harmless() {
        let many = (0..100).map(|n| format!(" \u{1b}[31merror\u{7} {n}\n"));
        let report = CloudInitReport::new(
            CloudInitOutcome::Error,
            many.chain([String::new()]),
            &"ü".repeat(5000),
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(report.errors.len(), MAX_ERRORS);
        assert_eq!(report.errors[3], "[31merror 3");
        assert_eq!(report.detail.chars().count(), MAX_CHARS + 1);
        let signal = Signal::new(SignalOutcome::Failure, "two\nlines\r", Timestamp::UNIX_EPOCH);
        assert_eq!(signal.reason, "two\nlines");
    }
}
