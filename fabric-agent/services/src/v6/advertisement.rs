//! Router advertisements (RFC 4861, 4.2). Pure.
//!
//! The prefix is neither on the link nor to be made addresses of: guests send everything to the
//! router, and get their one address by DHCPv6.

use crate::directory::{LeaseV6, RouterV6};

const ROUTER_ADVERTISEMENT: u8 = 134;
/// What guests begin with: the default of RFC 1700's successor, as Linux has it.
const HOP_LIMIT: u8 = 64;
/// "Addresses by DHCPv6" and "the rest too".
const MANAGED_AND_OTHER: u8 = 0xc0;
/// Low preference (RFC 4191, 2.1): any other router is the better one.
const LOW: u8 = 0x18;
/// Seconds: the longest that there is (RFC 8319, 4), as guests must not lose their way out while
/// the agent is away.
const ROUTER_LIFETIME: u16 = u16::MAX;
/// Options (RFC 4861, 4.6): type, and length in units of 8 bytes.
const SOURCE_LINK_ADDRESS: [u8; 2] = [1, 1];
const PREFIX_INFORMATION: [u8; 2] = [3, 4];
/// For ever.
const INFINITE: [u8; 4] = [0xff; 4];

/// The message to the guest that `lease` is for, from the router with this MAC on its link; its
/// checksum is still zero. `None` where the router is another one.
pub(super) fn message(lease: &LeaseV6, router: [u8; 6]) -> Option<Vec<u8>> {
    let flags = match lease.router {
        RouterV6::First => MANAGED_AND_OTHER,
        RouterV6::Further => MANAGED_AND_OTHER | LOW,
        RouterV6::OfLan => return None,
    };
    let mut message = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, HOP_LIMIT, flags];
    message.extend(ROUTER_LIFETIME.to_be_bytes());
    // "Reachable" and "retransmit" as the guest likes.
    message.extend([0; 8]);
    message.extend(SOURCE_LINK_ADDRESS);
    message.extend(router);
    message.extend(PREFIX_INFORMATION);
    // Neither L nor A.
    message.extend([lease.subnet.prefix(), 0]);
    message.extend(INFINITE);
    message.extend(INFINITE);
    message.extend([0; 4]);
    message.extend(lease.subnet.network().octets());
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::lease_v6;

    #[test]
    fn an_advertisement_says_managed_and_gives_a_prefix_that_is_not_on_the_link() {
        let router = [0xfe, 0, 0, 0, 0, 9];
        let of = |router_v6| message(&LeaseV6 { router: router_v6, ..lease_v6() }, router);
        let message = of(RouterV6::First).unwrap();
        assert_eq!(message[..8], [134, 0, 0, 0, 64, 0xc0, 0xff, 0xff]);
        assert_eq!(message[16..24], [1, 1, 0xfe, 0, 0, 0, 0, 9]);
        assert_eq!(message[24..28], [3, 4, 64, 0], "a /64 without flags");
        assert_eq!(message[40..48], [0xfd, 0, 0, 1, 0, 2, 0, 3], "fd00:1:2:3::");
        assert_eq!(message.len(), 56);
        assert_eq!(of(RouterV6::Further).unwrap()[5], 0xd8, "another way out is better");
        assert_eq!(of(RouterV6::OfLan), None, "the LAN's router speaks for itself");
    }
}
