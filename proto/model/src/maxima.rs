//! How big a guest is, and how far it may grow while it runs.

use serde::{Deserialize, Serialize};

use crate::{MEMORY_MIB, Problem, VCPUS};

/// The step that memory grows by while a guest runs, in MiB: what Linux takes online as one on x86-64
/// (`SECTION_SIZE_BITS` in its `arch/x86/include/asm/sparsemem.h`).
pub const MEMORY_STEP_MIB: u32 = 128;

/// How often the memory of a guest can grow before it is started again. Each time takes a slot of its
/// machine.
pub const MEMORY_SLOTS: u8 = 64;

/// How big a guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestSize {
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
}

impl GuestSize {
    /// Whether it is at least as big as `other`, in both.
    pub fn covers(self, other: Self) -> bool {
        self.vcpus >= other.vcpus && self.memory_mib >= other.memory_mib
    }
}

/// How far a guest may grow while it runs. What is unset cannot grow then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maxima {
    /// Virtual processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u32>,
    /// Memory in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
}

impl Maxima {
    /// Whether a guest has room to grow in anything.
    pub fn is_set(self) -> bool {
        self.vcpus.is_some() || self.memory_mib.is_some()
    }

    /// These maxima, where a guest of `size` can have them.
    ///
    /// # Errors
    /// A [`Problem`] at `max_vcpus` or `max_memory_mib`, or at `memory_mib` where that does not come in
    /// steps.
    pub fn check(self, size: GuestSize) -> Result<Self, Problem> {
        let GuestSize { vcpus, memory_mib } = size;
        let at_least = |of: &str, max: Option<u32>, has: u32, most: u32| {
            let Some(max) = max.filter(|max| !(has..=most).contains(max)) else { return Ok(()) };
            let field = format!("max_{of}");
            let message = match max < has {
                true => format!("{field} ({max}) is less than {of} ({has})"),
                false => format!("{field} ({max}) is more than an instance can have ({most})"),
            };
            let remedy = format!(
                "use {has} to {most}, or leave {field} out: growth restarts the instance then"
            );
            Err(Problem::invalid(field, message).remedy(remedy))
        };
        at_least("vcpus", self.vcpus, vcpus, *VCPUS.end())?;
        let most = *MEMORY_MIB.end();
        at_least("memory_mib", self.memory_mib, memory_mib, most)?;
        let Some(max) = self.memory_mib else { return Ok(self) };
        for (field, mib) in [("max_memory_mib", max), ("memory_mib", memory_mib)] {
            if mib % MEMORY_STEP_MIB != 0 {
                let up = mib.next_multiple_of(MEMORY_STEP_MIB);
                let remedy = match up - MEMORY_STEP_MIB {
                    0 => format!("use {up}"),
                    down => format!("use {down} or {up}"),
                };
                let message = format!(
                    "with max_memory_mib, memory comes in steps of {MEMORY_STEP_MIB} MiB, and {mib} is none"
                );
                return Err(Problem::invalid(field, message).remedy(remedy));
            }
        }
        Ok(self)
    }

    /// Whether a guest with these maxima goes from one size to the other while it runs: it grows, in
    /// nothing that it has no room in.
    pub fn lets_grow(self, from: GuestSize, to: GuestSize) -> bool {
        let grows = |has: u32, wanted: u32, max: Option<u32>| {
            wanted == has || (wanted > has && max.is_some_and(|max| wanted <= max))
        };
        grows(from.vcpus, to.vcpus, self.vcpus)
            && grows(from.memory_mib, to.memory_mib, self.memory_mib)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(vcpus: u32, memory_mib: u32) -> GuestSize {
        GuestSize { vcpus, memory_mib }
    }

    #[test]
    fn maxima_are_at_least_what_there_is_and_memory_comes_in_steps() {
        let most = *MEMORY_MIB.end();
        #[rustfmt::skip]
        let cases = [
            // size,         vCPUs,     MiB,            refused at,              what is said
            (size(2, 256),   None,      None,           None,                    ""),
            (size(2, 200),   Some(2),   None,           None,                    ""),
            (size(2, 256),   Some(256), Some(most),     None,                    ""),
            (size(2, 256),   Some(2),   Some(256),      None,                    ""),
            (size(2, 256),   Some(1),   None,           Some("max_vcpus"),       "use 2 to 256"),
            (size(2, 256),   Some(257), None,           Some("max_vcpus"),       "use 2 to 256"),
            (size(2, 256),   None,      Some(128),      Some("max_memory_mib"),  "use 256 to"),
            (size(2, 256),   None,      Some(most + 1), Some("max_memory_mib"),  "use 256 to"),
            (size(2, 256),   None,      Some(500),      Some("max_memory_mib"),  "use 384 or 512"),
            (size(2, 200),   None,      Some(512),      Some("memory_mib"),      "use 128 or 256"),
            (size(2, 64),    None,      Some(512),      Some("memory_mib"),      "use 128"),
        ];
        for (size, vcpus, memory_mib, field, said) in cases {
            let maxima = Maxima { vcpus, memory_mib };
            let problem = maxima.check(size).err();
            let at = problem.as_ref().and_then(|problem| problem.field.as_deref());
            assert_eq!(at, field, "{maxima:?} {problem:?}");
            let remedy = problem.and_then(|problem| problem.remedy).unwrap_or_default();
            assert!(remedy.contains(said), "{remedy}");
        }
    }

    #[test]
    fn a_maximum_that_cannot_be_is_told_beside_what_it_is_compared_with() {
        let said = |vcpus, memory_mib| {
            Maxima { vcpus, memory_mib }.check(size(2, 256)).unwrap_err().message
        };
        assert_eq!(said(Some(1), None), "max_vcpus (1) is less than vcpus (2)");
        assert_eq!(
            said(Some(999), None),
            "max_vcpus (999) is more than an instance can have (256)"
        );
        assert_eq!(said(None, Some(128)), "max_memory_mib (128) is less than memory_mib (256)");
    }

    #[test]
    fn a_guest_grows_where_it_has_room_and_never_shrinks() {
        #[rustfmt::skip]
        let cases = [
            // vCPUs,   MiB,       to,           live
            (None,      None,      size(2, 256), true),
            (None,      None,      size(3, 256), false),
            (Some(4),   None,      size(4, 256), true),
            (Some(4),   None,      size(5, 256), false),
            (Some(4),   None,      size(1, 256), false),
            (Some(4),   None,      size(4, 384), false),
            (None,      Some(512), size(2, 512), true),
            (None,      Some(512), size(2, 640), false),
            (None,      Some(512), size(2, 128), false),
            (Some(4),   Some(512), size(3, 384), true),
            (Some(4),   Some(512), size(3, 128), false),
            (Some(4),   Some(512), size(1, 384), false),
        ];
        for (vcpus, memory_mib, to, live) in cases {
            let maxima = Maxima { vcpus, memory_mib };
            assert_eq!(maxima.lets_grow(size(2, 256), to), live, "{maxima:?} {to:?}");
        }
    }
}
