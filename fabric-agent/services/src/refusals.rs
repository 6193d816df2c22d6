//! What came to the services and was not served, counted by its reason.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why something that a guest sent was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No DHCP request of an Ethernet client.
    DhcpMalformed,
    /// A DHCP request with a MAC that is not the guest's: an attempt to get more addresses.
    DhcpStranger,
    /// No DNS question.
    DnsMalformed,
    /// A DNS question from an address that no guest of the VPC has.
    DnsStranger,
    /// A DNS question beyond what a guest, a VPC or the host may have open.
    DnsTooMany,
    /// A connection for metadata beyond what a guest, a VPC or the host may have.
    MetadataTooMany,
    /// A connection for metadata that brought no HTTP, or not in time.
    MetadataMalformed,
    /// A request for metadata from an address that no guest of the VPC has.
    MetadataStranger,
    /// A request for metadata that a proxy passed on.
    MetadataForwarded,
    /// A request for metadata without a token of the guest's own.
    MetadataNoToken,
    /// A request for metadata of an instance that has them switched off.
    MetadataDisabled,
}

impl Refused {
    /// Every reason.
    pub const ALL: [Self; 11] = [
        Self::DhcpMalformed,
        Self::DhcpStranger,
        Self::DnsMalformed,
        Self::DnsStranger,
        Self::DnsTooMany,
        Self::MetadataTooMany,
        Self::MetadataMalformed,
        Self::MetadataStranger,
        Self::MetadataForwarded,
        Self::MetadataNoToken,
        Self::MetadataDisabled,
    ];

    /// The counter's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DhcpMalformed => "dhcp_malformed",
            Self::DhcpStranger => "dhcp_stranger",
            Self::DnsMalformed => "dns_malformed",
            Self::DnsStranger => "dns_stranger",
            Self::DnsTooMany => "dns_too_many",
            Self::MetadataTooMany => "metadata_too_many",
            Self::MetadataMalformed => "metadata_malformed",
            Self::MetadataStranger => "metadata_stranger",
            Self::MetadataForwarded => "metadata_forwarded",
            Self::MetadataNoToken => "metadata_no_token",
            Self::MetadataDisabled => "metadata_disabled",
        }
    }
}

/// Counters of all VPCs of a host, since the agent's start.
#[derive(Debug, Default)]
pub struct Refusals([AtomicU64; Refused::ALL.len()]);

impl Refusals {
    /// Counts one. A guest must not fill the log: powers of two are enough to see that it goes on.
    pub(crate) fn count(&self, why: Refused, whose: &dyn std::fmt::Display) {
        let Some(counter) = self.0.get(why as usize) else { return };
        let count = counter.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_power_of_two() {
            tracing::info!(
                reason = why.as_str(),
                count,
                guest = %whose,
                "a guest's request is not served"
            );
        }
    }

    /// How many of each reason there were; those that never were are left out.
    pub fn counted(&self) -> Vec<(Refused, u64)> {
        let counts = self.0.iter().map(|counter| counter.load(Ordering::Relaxed));
        Refused::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        let refusals = Refusals::default();
        for (n, why) in (1..).zip(Refused::ALL) {
            (0..n).for_each(|_| refusals.count(why, &"a guest"));
        }
        let want: Vec<_> = Refused::ALL.into_iter().zip(1..).collect();
        assert_eq!(refusals.counted(), want);
        let names: std::collections::BTreeSet<_> =
            Refused::ALL.iter().map(|why| why.as_str()).collect();
        assert_eq!(names.len(), Refused::ALL.len());
    }
}
