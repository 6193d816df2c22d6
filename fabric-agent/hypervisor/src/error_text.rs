//! Errors in words, where text is all that goes on: an observation carries no error, and a holder has no log
//! but its standard error.

use std::error::Error;

/// An error with all its causes, in one line.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(&format!(": {source}"));
        next = source.source();
    }
    text
}
