//! An error with all its causes, in one line: printed at the exits and nowhere else.

use std::error::Error;
use std::fmt;

/// Shows an error and its sources, separated by colons.
pub(crate) struct ErrorChain<'a>(pub(crate) &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        causes(self.0).skip(1).try_for_each(|error| write!(f, ": {error}"))
    }
}

/// An error, and what caused it, the deepest cause last.
pub(crate) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}
