//! Where in a value: `nics[1].network`.

use std::fmt;

/// One step of a [`Path`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// An attribute of an object.
    Attribute(String),
    /// A key of a map.
    Key(String),
    /// An index of a list; for a set, the position in its sorted order.
    Index(usize),
}

/// A place inside a value, from its top. Made from text: `Path::from("nics[1].network")`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Vec<Step>);

impl Path {
    pub fn root() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn attribute(&self, name: impl Into<String>) -> Self {
        self.with(Step::Attribute(name.into()))
    }

    #[must_use]
    pub fn key(&self, key: impl Into<String>) -> Self {
        self.with(Step::Key(key.into()))
    }

    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    /// `self`, then `rest`.
    #[must_use]
    pub fn join(&self, rest: &Path) -> Self {
        Self(self.0.iter().chain(&rest.0).cloned().collect())
    }

    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `self` is `other` or lies inside it.
    pub fn starts_with(&self, other: &Path) -> bool {
        self.0.starts_with(&other.0)
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl FromIterator<Step> for Path {
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Self {
        Self(steps.into_iter().collect())
    }
}

/// Attributes are separated by dots, `[3]` is an index and `["k"]` a key.
/// Text that does not follow this is taken as attribute names.
impl From<&str> for Path {
    fn from(text: &str) -> Self {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(step) = rest.strip_prefix("[\"").and_then(|r| r.split_once("\"]")) {
                steps.push(Step::Key(step.0.to_owned()));
                rest = step.1;
            } else if let Some((index, after)) = bracketed_index(rest) {
                steps.push(Step::Index(index));
                rest = after;
            } else {
                rest = rest.strip_prefix('.').unwrap_or(rest);
                let end = rest.find(['.', '[']).filter(|end| *end > 0).unwrap_or(rest.len());
                steps.push(Step::Attribute(rest[..end].to_owned()));
                rest = &rest[end..];
            }
        }
        Self(steps)
    }
}

fn bracketed_index(text: &str) -> Option<(usize, &str)> {
    let (index, after) = text.strip_prefix('[')?.split_once(']')?;
    Some((index.parse().ok()?, after))
}

impl From<String> for Path {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&Path> for Path {
    fn from(path: &Path) -> Self {
        path.clone()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Attribute(name) if position == 0 => f.write_str(name)?,
                Step::Attribute(name) => write!(f, ".{name}")?,
                Step::Key(key) => write!(f, "[{key:?}]")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_back_as_it_is_written() {
        for text in ["name", "nics[1].network", "tags[\"a.b\"]", "root_volume.size_gib", ""] {
            assert_eq!(Path::from(text).to_string(), text);
        }
        let want = Path::root().attribute("nics").index(1).attribute("network");
        assert_eq!(Path::from("nics[1].network"), want);
    }
}
