//! What is dropped for what it says of its sender, counted by reason: `nft list counters` in a VPC's
//! namespace tells them. The counters survive every change of the rules.

use super::RuleBody;
use crate::json::Statement;

/// A source address that is not the sender's.
pub(super) const SPOOFED_SOURCE: &str = "spoofed_source";
/// A MAC that is not that of the link's guest.
pub(super) const SPOOFED_MAC: &str = "spoofed_mac";
/// From the host's side, with a source of the VPC's.
pub(super) const FORGED_OUTSIDE: &str = "forged_outside";
/// With a way of its own choice (loose and strict source route).
pub(super) const SOURCE_ROUTE: &str = "source_route";
/// To a group of hosts: there are none.
pub(super) const MULTICAST: &str = "multicast";
/// Answers of a DHCP server that is not ours.
pub(super) const DHCP_SERVER: &str = "dhcp_server";
/// To the router itself, which has no such service.
pub(super) const NOT_A_SERVICE: &str = "not_a_service";
/// Part of no connection, and no beginning of one.
pub(super) const INVALID: &str = "invalid";
/// More to the VPC's services than anybody gets.
pub(super) const ASKED_TOO_OFTEN: &str = "asked_too_often";
/// In ARP, anything but a guest's own name.
pub(super) const ARP_CLAIM: &str = "arp_claim";

/// Drops what fulfils the conditions, and counts it.
pub(super) fn refused(counter: &'static str, mut conditions: Vec<Statement>) -> RuleBody {
    conditions.extend([Statement::CountIn(counter.to_owned()), Statement::Drop(())]);
    RuleBody::new(counter, conditions)
}
