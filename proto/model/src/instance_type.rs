//! Named vCPU and memory sizes: Weft's own, and those that operators make.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{InstanceTypeId, Object, Problem, check_network_mbps};

/// vCPUs that a guest can have at all; what fits on a host is judged there.
pub const VCPUS: RangeInclusive<u32> = 1..=256;
/// MiB of memory that a guest can have at all.
pub const MEMORY_MIB: RangeInclusive<u32> = 64..=(4 << 20);

/// Name, vCPUs, memory in MiB.
pub const BUILT_IN_TYPES: &[(&str, u32, u32)] = &[
    ("w1.nano", 1, 128),
    ("w1.micro", 1, 256),
    ("w1.small", 1, 512),
    ("w1.medium", 1, 1024),
    ("w1.large", 2, 2048),
    ("w1.xlarge", 4, 4096),
    ("w1.2xlarge", 8, 8192),
];

/// How many names a refusal suggests.
const SUGGESTIONS: usize = 5;

/// What an instance type is called: a family, a dot and a size, as in EC2's `c7i-flex.2xlarge`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeName(String);

/// Text that cannot be the name of an instance type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be the name of an instance type: use a family, a dot and a size such as \"c1.large\", of lowercase letters, digits and dashes, with at most 63 characters"
)]
pub struct InvalidTypeName(String);

impl TypeName {
    /// The longest one, in bytes.
    pub const MAX_LEN: usize = 63;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is of a family that belongs to Weft: `w` and a number. A later version may have
    /// a type of this name built in.
    pub fn is_reserved(&self) -> bool {
        let family = self.0.split('.').next().unwrap_or_default();
        family.strip_prefix('w').is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
        })
    }
}

impl FromStr for TypeName {
    type Err = InvalidTypeName;
    fn from_str(text: &str) -> Result<Self, InvalidTypeName> {
        let is_word = |word: &str| {
            let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            !word.is_empty()
                && word.bytes().all(good)
                && !word.starts_with('-')
                && !word.ends_with('-')
        };
        let parts = text.split_once('.');
        let valid = text.len() <= Self::MAX_LEN
            && parts.is_some_and(|(family, size)| is_word(family) && is_word(size));
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidTypeName(text.to_owned())) }
    }
}

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

crate::net::serde_as_text!(TypeName);

/// A named size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceTypeSpec {
    /// What instances refer to; unique.
    pub name: TypeName,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Mbit/s in each direction that each network interface is limited to; `None` is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_mbps: Option<u32>,
}

impl InstanceTypeSpec {
    /// Refuses names of Weft's own families, and sizes that no guest can have.
    ///
    /// # Errors
    /// A [`Problem`] at the field that is wrong.
    pub fn check(&self) -> Result<(), Problem> {
        if self.name.is_reserved() {
            let message = format!("\"{}\" is of a family that belongs to Weft", self.name);
            return Err(Problem::invalid("name", message)
                .remedy("choose a family other than w1, w2 and so on, such as \"c1\""));
        }
        check_size(self.vcpus, self.memory_mib)?;
        check_network_mbps(self.network_mbps)
    }
}

/// Refuses sizes that no guest can have.
///
/// # Errors
/// A [`Problem`] at `vcpus` or `memory_mib`.
pub fn check_size(vcpus: u32, memory_mib: u32) -> Result<(), Problem> {
    let within = |range: RangeInclusive<u32>| format!("use {} to {}", range.start(), range.end());
    if !VCPUS.contains(&vcpus) {
        return Err(Problem::invalid("vcpus", format!("{vcpus} vCPUs")).remedy(within(VCPUS)));
    }
    if !MEMORY_MIB.contains(&memory_mib) {
        let message = format!("{memory_mib} MiB of memory");
        return Err(Problem::invalid("memory_mib", message).remedy(within(MEMORY_MIB)));
    }
    Ok(())
}

/// An instance type as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceType {
    /// Weft's own: it has no id and is always there.
    BuiltIn(InstanceTypeSpec),
    /// Somebody made it.
    Own(Object<InstanceTypeId, InstanceTypeSpec>),
}

impl InstanceType {
    /// Its name and size.
    pub fn spec(&self) -> &InstanceTypeSpec {
        match self {
            Self::BuiltIn(spec) => spec,
            Self::Own(object) => &object.spec,
        }
    }
}

/// Weft's own types, from small to large.
pub fn built_in_types() -> impl Iterator<Item = InstanceTypeSpec> {
    BUILT_IN_TYPES.iter().map(|(name, vcpus, memory_mib)| InstanceTypeSpec {
        name: TypeName((*name).to_owned()),
        vcpus: *vcpus,
        memory_mib: *memory_mib,
        network_mbps: None,
    })
}

/// The built-in type called `name`.
pub fn find_type(name: &str) -> Option<InstanceTypeSpec> {
    built_in_types().find(|known| known.name.as_str() == name)
}

/// The refusal of an instance type that is neither built in nor among `own`.
pub fn no_such_type<'a>(name: &str, own: impl IntoIterator<Item = &'a TypeName>) -> Problem {
    let built_in = BUILT_IN_TYPES.iter().map(|(name, ..)| *name);
    let mut known: Vec<&str> = built_in.chain(own.into_iter().map(TypeName::as_str)).collect();
    // Stable: of names that are as near as each other, the smaller built-in ones come first.
    known.sort_by_key(|candidate| strsim::osa_distance(name, candidate));
    let count = known.len();
    known.truncate(SUGGESTIONS);
    let nearest = known.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    Problem::not_found(format!("there is no instance type \"{name}\"")).at("instance_type").remedy(
        format!(
            "use one of the {count} that exist (the nearest are {nearest}; weft ls types shows all), or make it as weft_instance_type and refer to weft_instance_type.NAME.name"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reason;

    #[test]
    fn names_are_a_family_and_a_size() {
        for text in ["c1.large", "m7i-flex.2xlarge", "a.b", &format!("{}.b", "a".repeat(61))] {
            assert_eq!(text.parse::<TypeName>().unwrap().as_str(), text);
        }
        let long = format!("{}.b", "a".repeat(62));
        #[rustfmt::skip]
        let bad = [
            "", "large", ".large", "c1.", "c1.large.metal", "C1.large", "c1.Large", "c1 .large", "c_1.large",
            "ç1.large", "-c1.large", "c1-.large", "c1.-large", "c1.large-", "c1.large\n", "c1/large", &long,
        ];
        for text in bad {
            let error = text.parse::<TypeName>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?} cannot be")), "{error}");
        }
    }

    #[test]
    fn what_is_built_in_is_a_size_of_a_reserved_family() {
        let mut count = 0;
        for kind in built_in_types() {
            let text = kind.name.to_string();
            assert_eq!(text.parse().as_ref(), Ok(&kind.name));
            assert_eq!(find_type(&text), Some(kind.clone()));
            assert!(check_size(kind.vcpus, kind.memory_mib).is_ok(), "{text}");
            assert_eq!(kind.check().unwrap_err().field.as_deref(), Some("name"), "{text}");
            count += 1;
        }
        assert_eq!(count, BUILT_IN_TYPES.len());
    }

    #[test]
    fn only_families_of_w_and_a_number_are_reserved() {
        #[rustfmt::skip]
        let cases = [
            ("w1.huge", true), ("w9.nano", true), ("w12.nano", true),
            ("w.nano", false), ("web.small", false), ("w1-flex.nano", false), ("c1.w1", false),
        ];
        for (text, reserved) in cases {
            assert_eq!(text.parse::<TypeName>().unwrap().is_reserved(), reserved, "{text}");
        }
    }

    #[test]
    fn sizes_are_those_that_guests_can_have() {
        #[rustfmt::skip]
        let cases = [
            (1, 64, None), (256, 4 << 20, None),
            (0, 64, Some("vcpus")), (257, 64, Some("vcpus")),
            (1, 63, Some("memory_mib")), (1, (4 << 20) + 1, Some("memory_mib")),
        ];
        for (vcpus, memory_mib, field) in cases {
            let name = "c1.x".parse().unwrap();
            let spec = InstanceTypeSpec { name, vcpus, memory_mib, network_mbps: None };
            let found = spec.check().err().and_then(|problem| problem.field);
            assert_eq!(found.as_deref(), field, "{vcpus} {memory_mib}");
        }
    }

    #[test]
    fn an_unknown_name_is_told_the_nearest_ones() {
        let own: Vec<TypeName> =
            ["c1.large", "gpu.huge"].iter().map(|text| text.parse().unwrap()).collect();
        for (asked, first) in
            [("w1.smal", "w1.small"), ("c1.lagre", "c1.large"), ("gpu", "gpu.huge")]
        {
            let problem = no_such_type(asked, &own);
            assert_eq!(problem.reason, Reason::NotFound);
            assert_eq!(problem.field.as_deref(), Some("instance_type"));
            let remedy = problem.remedy.unwrap();
            assert!(remedy.contains(&format!("the nearest are \"{first}\", ")), "{remedy}");
            assert!(remedy.contains("one of the 9 that exist"), "{remedy}");
        }
    }
}
