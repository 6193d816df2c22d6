//! Availability zones: labels of hosts that fail together, and others without them.

use std::fmt;
use std::str::FromStr;

use crate::text::is_short_label;

/// What a zone is called: 1 to 32 lowercase letters, digits and dashes, a letter first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZoneName(String);

/// Text that cannot name a zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot name a zone: use 1 to 32 lowercase letters, digits and dashes, a letter first"
)]
pub struct InvalidZoneName(String);

impl ZoneName {
    /// Of hosts that nothing was said of.
    pub const DEFAULT: &'static str = "default";

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ZoneName {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl FromStr for ZoneName {
    type Err = InvalidZoneName;
    fn from_str(text: &str) -> Result<Self, InvalidZoneName> {
        if is_short_label(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidZoneName(text.to_owned()))
        }
    }
}

impl fmt::Display for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_a_short_label() {
        for good in ["default", "rack-2", "a"] {
            assert_eq!(good.parse::<ZoneName>().unwrap().as_str(), good);
        }
        for bad in ["", "2nd", "Rack", "a_b", "-a", &"a".repeat(33)] {
            let said = bad.parse::<ZoneName>().unwrap_err().to_string();
            assert!(said.contains("cannot name a zone"), "{said}");
        }
    }
}
