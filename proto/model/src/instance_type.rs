//! Named vCPU and memory sizes.

use serde::{Deserialize, Serialize};

/// A named size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceType {
    /// Such as `w1.small`.
    pub name: String,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
}

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

/// The built-in type called `name`.
pub fn find_type(name: &str) -> Option<InstanceType> {
    let (name, vcpus, memory_mib) = BUILT_IN_TYPES.iter().find(|(known, ..)| *known == name)?;
    Some(InstanceType { name: (*name).to_owned(), vcpus: *vcpus, memory_mib: *memory_mib })
}
