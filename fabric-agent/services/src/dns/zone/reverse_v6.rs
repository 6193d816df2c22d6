//! Reverse names of IPv6 addresses, below `ip6.arpa`: a label for each half of a byte, the last one
//! first (RFC 3596, 2.5). Those of the VPC's range are its own, and never asked of anybody else.

use std::net::Ipv6Addr;

use hickory_proto::op::Query;
use hickory_proto::rr::Record;
use ipnetwork::Ipv6Network;
use weft_model::VpcId;

use super::pointer;
use crate::directory::Names;

/// Labels of a whole address.
const NIBBLES: usize = 32;

/// All records of the name whose labels below `ip6.arpa` are `reversed`, and the zone that it is in,
/// where that is the VPC's own.
pub(super) fn find(
    query: &Query,
    reversed: &[&[u8]],
    vpc: &VpcId,
    names: &dyn Names,
) -> Option<(Option<Vec<Record>>, String)> {
    let range = names.range_v6(vpc)?;
    let nibbles: Vec<u8> =
        reversed.iter().rev().take(NIBBLES).map_while(|label| nibble(label)).collect();
    let exact = nibbles.len() == reversed.len();
    let address = (0..NIBBLES).fold(0, |sum, place| {
        sum << 4 | u128::from(nibbles.get(place).copied().unwrap_or_default())
    });
    let address = Ipv6Addr::from(address);
    let bits = 4 * nibbles.len();
    if bits < range.prefix().into() || !range.contains(address) {
        return None;
    }
    // Nothing but whole addresses has records; what is below one is nothing.
    let records = match (exact, nibbles.len()) {
        (false, _) => None,
        (true, NIBBLES) => names.label_v6(vpc, address).and_then(|label| pointer(query, &label)),
        (true, _) => Some(Vec::new()),
    };
    Some((records, origin(range)))
}

/// One digit, in lower case as the whole name is by now.
fn nibble(label: &[u8]) -> Option<u8> {
    let [digit] = label else { return None };
    char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The zone of reverse names that a range is in, cut at digits.
fn origin(range: Ipv6Network) -> String {
    let digits = format!("{:032x}", u128::from(range.network()));
    let kept = usize::from(range.prefix().div_ceil(4)).clamp(1, NIBBLES - 1);
    let labels: Vec<String> = digits.chars().take(kept).map(String::from).collect();
    let labels: Vec<&str> = labels.iter().rev().map(String::as_str).collect();
    format!("{}.ip6.arpa", labels.join("."))
}
