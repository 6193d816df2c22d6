//! Validators of single attributes. They see only known values that are not null.

use std::{fmt, ops::RangeInclusive, sync::Arc};

use crate::cty::Value;

type Check = dyn Fn(&Value) -> Result<(), String> + Send + Sync;

/// A rule for one attribute. Its rule text is shown to the user as the remedy and in the docs.
#[derive(Clone)]
pub struct Validator {
    rule: String,
    check: Arc<Check>,
}

impl Validator {
    /// `rule` tells what is right ("must be a DNS label"); `check` says what is wrong.
    pub fn new(
        rule: impl Into<String>,
        check: impl Fn(&Value) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self { rule: rule.into(), check: Arc::new(check) }
    }

    /// One of these strings.
    pub fn one_of(words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let words: Vec<String> = words.into_iter().map(Into::into).collect();
        let quoted: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
        Self::new(format!("must be one of {}", quoted.join(", ")), move |value| {
            match value.as_str() {
                Some(text) if !words.iter().any(|word| word == text) => {
                    Err(format!("{text:?} is not accepted"))
                }
                _ => Ok(()),
            }
        })
    }

    /// A whole number in this range.
    pub fn range(range: RangeInclusive<i64>) -> Self {
        let rule = format!("must be a whole number from {} to {}", range.start(), range.end());
        Self::new(rule, move |value| match value.as_i64() {
            Some(int) if range.contains(&int) => Ok(()),
            _ => Err(format!("{value} is not accepted")),
        })
    }

    /// A string of this many characters, or a collection of this many elements.
    pub fn length(range: RangeInclusive<usize>) -> Self {
        let rule = match (*range.start(), *range.end()) {
            (least, usize::MAX) => format!("must have a length of at least {least}"),
            (least, most) => format!("must have a length from {least} to {most}"),
        };
        Self::new(rule, move |value| {
            let length = match value {
                Value::String(text) => text.chars().count(),
                Value::List(elements) => elements.len(),
                Value::Map(entries) => entries.len(),
                _ => return Ok(()),
            };
            if range.contains(&length) { Ok(()) } else { Err(format!("the length is {length}")) }
        })
    }

    /// A string for which `matches` holds, such as a parser that succeeds.
    pub fn pattern(
        rule: impl Into<String>,
        matches: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::new(rule, move |value| match value.as_str() {
            Some(text) if !matches(text) => Err(format!("{text:?} is not accepted")),
            _ => Ok(()),
        })
    }

    /// `inner` holds for each element of a list, set or map.
    pub fn each(inner: Validator) -> Self {
        let rule = format!("each element {}", inner.rule);
        Self::new(rule, move |value| {
            let elements: Vec<&Value> = match value {
                Value::List(elements) => elements.iter().collect(),
                Value::Map(entries) => entries.values().collect(),
                _ => return Ok(()),
            };
            elements.into_iter().filter(|element| element.is_set()).try_for_each(|e| inner.run(e))
        })
    }

    pub fn rule(&self) -> &str {
        &self.rule
    }

    pub(crate) fn run(&self, value: &Value) -> Result<(), String> {
        (self.check)(value)
    }
}

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Validator").field(&self.rule).finish()
    }
}
