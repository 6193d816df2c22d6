//! Diagnostics: what the user reads when something is wrong.
//!
//! A title, then the cause, then the remedy, and the attribute that it is about.

use std::fmt;

use crate::{
    cty::{DecodeError, Path, Step},
    proto,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Warning,
    Error,
}

/// One message to the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// The title, one line.
    pub summary: String,
    /// Cause and remedy, one paragraph each.
    pub detail: String,
    pub path: Option<Path>,
}

impl Diagnostic {
    pub fn error(summary: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            summary: summary.into(),
            detail: String::new(),
            path: None,
        }
    }

    pub fn warning(summary: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(summary) }
    }

    /// Why it happened; becomes a sentence of the detail.
    #[must_use]
    pub fn cause(self, cause: impl AsRef<str>) -> Self {
        self.paragraph(&sentence(cause.as_ref()))
    }

    /// What the user can do; becomes a sentence of the detail.
    #[must_use]
    pub fn remedy(self, remedy: impl AsRef<str>) -> Self {
        self.paragraph(&sentence(remedy.as_ref()))
    }

    #[must_use]
    pub fn at(mut self, path: impl Into<Path>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// The error is a mistake of the provider itself, not of the user.
    pub(crate) fn provider_bug(summary: impl Into<String>, cause: impl AsRef<str>) -> Self {
        Self::error(summary)
            .cause(cause)
            .remedy("This is a mistake in the provider; please report it to its developers")
    }

    pub(crate) fn undecodable(what: &str, error: &DecodeError) -> Self {
        Self::error(format!("The {what} does not fit the schema"))
            .cause(error.to_string())
            .remedy(
                "Use the provider version that the configuration and the state were written for",
            )
            .at(error.path.clone())
    }

    fn paragraph(mut self, text: &str) -> Self {
        if !self.detail.is_empty() {
            self.detail.push_str("\n\n");
        }
        self.detail.push_str(text);
        self
    }
}

/// Programs that messages begin with where they say what to type. Only what is no word of English: the
/// names with a dash are known by that.
const COMMANDS: &[&str] = &[
    "apt",
    "chmod",
    "fsfreeze",
    "ip",
    "journalctl",
    "modprobe",
    "nft",
    "qemu",
    "sysctl",
    "systemctl",
    "terraform",
    "weft",
];

/// `text` with a capital first letter and a full stop, as Terraform's own messages have.
fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return String::new() };
    // A first word such as `nics[1]` or `vm.size` is a name and keeps its case, as a command does.
    let word = text.split_whitespace().next().unwrap_or_default();
    let is_name = COMMANDS.contains(&word)
        || word.trim_end_matches(',').contains(|c: char| !c.is_alphabetic() && c != '\'');
    let mut out: String = if is_name { first.to_string() } else { first.to_uppercase().collect() };
    out.push_str(chars.as_str());
    if !out.ends_with(['.', '!', '?', ':', '\n', '`']) {
        out.push('.');
    }
    out
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: {}", self.summary)?;
        if let Some(path) = &self.path {
            write!(f, " (at {path})")?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail.replace("\n\n", " "))?;
        }
        Ok(())
    }
}

/// Messages collected on the way; an error type as well, so that `?` works.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }

    pub fn append(&mut self, mut other: Diagnostics) {
        self.0.append(&mut other.0);
    }

    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// `Err(self)` when there is an error among them; else the warnings.
    pub fn into_result(self) -> Result<Diagnostics, Diagnostics> {
        if self.has_errors() { Err(self) } else { Ok(self) }
    }

    pub(crate) fn into_proto(self) -> Vec<proto::Diagnostic> {
        self.0.into_iter().map(to_proto).collect()
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

impl FromIterator<Diagnostic> for Diagnostics {
    fn from_iter<I: IntoIterator<Item = Diagnostic>>(diagnostics: I) -> Self {
        Self(diagnostics.into_iter().collect())
    }
}

impl Extend<Diagnostic> for Diagnostics {
    fn extend<I: IntoIterator<Item = Diagnostic>>(&mut self, diagnostics: I) {
        self.0.extend(diagnostics);
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            write!(f, "{}{diagnostic}", if index > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// Terraform highlights `attr` and `attr[index]`; a path that goes deeper falls back to the
/// resource's first line (`internal/tfdiags/contextual.go`). So the path is cut to what it can
/// show, and the whole path goes into the detail.
fn to_proto(diagnostic: Diagnostic) -> proto::Diagnostic {
    let Diagnostic { severity, summary, mut detail, path } = diagnostic;
    let path = path.filter(|path| !path.is_empty());
    let attribute = path.map(|path| {
        let shown = highlightable(&path);
        if shown.steps().len() < path.steps().len() {
            let gap = if detail.is_empty() { "" } else { "\n\n" };
            detail = format!("{detail}{gap}Attribute: {path}");
        }
        path_to_proto(&shown)
    });
    proto::Diagnostic {
        severity: match severity {
            Severity::Error => proto::diagnostic::Severity::Error.into(),
            Severity::Warning => proto::diagnostic::Severity::Warning.into(),
        },
        summary,
        detail,
        attribute,
    }
}

fn highlightable(path: &Path) -> Path {
    let is_element = |step: &Step| matches!(step, Step::Key(_) | Step::Index(_));
    let keep = if path.steps().get(1).is_some_and(is_element) { 2 } else { 1 };
    path.steps().iter().take(keep).cloned().collect()
}

pub(crate) fn path_to_proto(path: &Path) -> proto::AttributePath {
    use proto::attribute_path::{Step as Out, step::Selector};
    let steps = path.steps().iter().map(|step| Out {
        selector: Some(match step {
            Step::Attribute(name) => Selector::AttributeName(name.clone()),
            Step::Key(key) => Selector::ElementKeyString(key.clone()),
            Step::Index(index) => {
                Selector::ElementKeyInt(i64::try_from(*index).unwrap_or(i64::MAX))
            }
        }),
    });
    proto::AttributePath { steps: steps.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_path_is_cut_to_what_terraform_highlights() {
        let cases = [
            ("name", 1, false),
            ("nics[1]", 2, false),
            ("nics[1].network", 2, true),
            ("root_volume.size_gib", 1, true),
            ("tags[\"a\"]", 2, false),
        ];
        for (path, steps, in_detail) in cases {
            let out = to_proto(Diagnostic::error("x").cause("y").at(path));
            assert_eq!(out.attribute.unwrap().steps.len(), steps, "{path}");
            assert_eq!(out.detail.contains(&format!("Attribute: {path}")), in_detail, "{path}");
        }
    }

    #[test]
    fn cause_and_remedy_become_sentences() {
        let diagnostic =
            Diagnostic::error("No memory").cause("the host is full").remedy("stop a guest");
        assert_eq!(diagnostic.detail, "The host is full.\n\nStop a guest.");
        assert_eq!(
            Diagnostic::error("x").cause("root_volume is too small").detail,
            "root_volume is too small."
        );
    }

    #[test]
    fn what_is_typed_stays_as_it_is_typed() {
        #[rustfmt::skip]
        let cases = [
            ("weft ls volumes shows those that do", "weft ls volumes shows those that do."),
            ("fabric-agent volume-key makes one",   "fabric-agent volume-key makes one."),
            ("chmod 0600 /root.key",                "chmod 0600 /root.key."),
            ("weftless is no command",              "Weftless is no command."),
            ("run weft ls",                         "Run weft ls."),
        ];
        for (text, want) in cases {
            assert_eq!(Diagnostic::error("x").remedy(text).detail, want);
        }
    }

    #[test]
    fn warnings_are_no_error() {
        let mut diagnostics = Diagnostics::from(Diagnostic::warning("careful"));
        assert!(diagnostics.clone().into_result().is_ok());
        diagnostics.push(Diagnostic::error("no"));
        assert!(diagnostics.into_result().is_err());
    }
}
