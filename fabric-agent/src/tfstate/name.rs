//! What states are called.

use std::fmt;
use std::str::FromStr;

use weft_model::Problem;

/// The name of a state: a part of its address, of a key of the store and the name of a folder.
///
/// Invariant: 1 to [`StateName::MAX`] letters, digits, dots, dashes and underscores, the first a
/// letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StateName(String);

impl StateName {
    const MAX: usize = 64;

    pub(crate) fn is_one(text: &str) -> bool {
        text.parse::<Self>().is_ok()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StateName {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let valid = (1..=Self::MAX).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
        match valid {
            true => Ok(Self(text.to_owned())),
            false => {
                let shown: String = text.chars().take(Self::MAX).collect();
                let message = format!("\"{}\" is no name of a state", shown.escape_debug());
                Err(Problem::invalid("name", message).remedy(
                    "use up to 64 letters, digits, dots, dashes and underscores, a letter or a \
                     digit first: one state, one name, such as network-prod",
                ))
            }
        }
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere_but_to_its_own_folder() {
        let longest = "x".repeat(64);
        for good in ["a", "network-prod", "7", "A.b_c-9", &longest] {
            assert_eq!(good.parse::<StateName>().unwrap().as_str(), good);
        }
        let too_long = "x".repeat(65);
        for bad in ["", ".", "..", "../x", "a/b", ".incoming", "-a", "a b", "ä", "a\0", &too_long]
        {
            assert!(bad.parse::<StateName>().is_err(), "{bad}");
        }
    }
}
