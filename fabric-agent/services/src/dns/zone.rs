//! What a VPC itself knows of a name: the zone `weft.internal`, and the reverse names of the VPC's
//! addresses. Pure; nothing of either is ever asked of the host's resolvers.

mod reverse_v6;

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::Query;
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use weft_model::{DNS_PROJECT, DNS_ZONE, VpcId, labelled_address};

use crate::directory::Names;

/// Seconds that an answer may be kept: an instance that was replaced is found soon.
const TTL: u32 = 10;
/// Seconds that "there is none" may be kept (RFC 2308): who waits for a name asks often.
const NEGATIVE_TTL: u32 = 5;
/// Records of one answer. Which ones changes with the question's id, so that all are found.
const MAX_RECORDS: usize = 64;

/// What the VPC knows of a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The name is not one of the VPC's: others may know it.
    Elsewhere,
    /// Not answered to anybody.
    Refused,
    /// These records; at least one.
    Records(Vec<Record>),
    /// The name exists without records of the type; the zone's SOA (RFC 2308, 2.2).
    NoData(Record),
    /// There is no such name; the zone's SOA (RFC 2308, 2.1).
    NoName(Record),
}

/// What `vpc` knows of `query`, the question with this id.
pub(super) fn find(query: &Query, id: u16, vpc: &VpcId, names: &dyn Names) -> Found {
    // The host's resolvers are not asked for their version either (class CH).
    if query.query_class() != DNSClass::IN {
        return Found::Refused;
    }
    let lower = query.name().to_lowercase();
    let labels: Vec<&[u8]> = lower.iter().collect();
    let zone: Vec<&[u8]> = DNS_ZONE.split('.').map(str::as_bytes).collect();
    let found = if let Some(below) = labels.strip_suffix(zone.as_slice()) {
        Some((forward(query, below, id, vpc, names), DNS_ZONE.to_owned()))
    } else if let Some(reversed) = labels.strip_suffix([b"in-addr".as_slice(), b"arpa"].as_slice())
    {
        reverse(query, reversed, vpc, names)
    } else if let Some(reversed) = labels.strip_suffix([b"ip6".as_slice(), b"arpa"].as_slice()) {
        reverse_v6::find(query, reversed, vpc, names)
    } else {
        None
    };
    let Some((known, origin)) = found else { return Found::Elsewhere };
    // Zones are not handed out as a whole.
    if matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR) {
        return Found::Refused;
    }
    let Some(soa) = soa(&origin) else { return Found::Refused };
    match known {
        None => Found::NoName(soa),
        Some(mut records) => {
            if query.name().to_lowercase() == soa.name {
                records.push(soa.clone());
            }
            // ANY gets what there is, which is of one type but at the top (RFC 8482, 4.1).
            let asked = query.query_type();
            records.retain(|record| asked == RecordType::ANY || record.record_type() == asked);
            if records.is_empty() { Found::NoData(soa) } else { Found::Records(records) }
        }
    }
}

/// All records of the name that is `below` the zone, or `None` where there is no such name.
fn forward(
    query: &Query,
    below: &[&[u8]],
    id: u16,
    vpc: &VpcId,
    names: &dyn Names,
) -> Option<Vec<Record>> {
    let (label, project) = match below {
        [] => return Some(Vec::new()),
        [project] => (None, project),
        [label, project] => (Some(std::str::from_utf8(label).ok()?), project),
        _ => return None,
    };
    if *project != DNS_PROJECT.as_bytes() {
        return None;
    }
    let Some(label) = label else { return Some(Vec::new()) };
    let mut addresses = match labelled_address(label) {
        Some(address) => {
            names.label(vpc, address)?;
            vec![IpAddr::V4(address)]
        }
        None => names.addresses(vpc, label),
    };
    if addresses.is_empty() {
        return None;
    }
    let start = usize::from(id) % addresses.len();
    addresses.rotate_left(start);
    let record = |address| {
        let data = match address {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        };
        Record::from_rdata(query.name().clone(), TTL, data)
    };
    // Of each family: a family without records would be said to have none.
    let of = |v4: bool| addresses.iter().filter(move |a| a.is_ipv4() == v4).take(MAX_RECORDS);
    Some(of(true).chain(of(false)).copied().map(record).collect())
}

/// All records of a name below `in-addr.arpa` (RFC 1035, 3.5) and the zone that it is in, where
/// that is the VPC's own.
fn reverse(
    query: &Query,
    reversed: &[&[u8]],
    vpc: &VpcId,
    names: &dyn Names,
) -> Option<(Option<Vec<Record>>, String)> {
    let octets: Vec<u8> = reversed.iter().rev().take(4).map_while(|label| octet(label)).collect();
    let exact = octets.len() == reversed.len();
    let mut bytes = [0; 4];
    for (byte, octet) in bytes.iter_mut().zip(&octets) {
        *byte = *octet;
    }
    let address = Ipv4Addr::from(bytes);
    let bits = u8::try_from(8 * octets.len()).ok()?;
    let range = names.range(vpc);
    let own = range.is_some_and(|range| bits >= range.prefix() && range.contains(address));
    if bits < 32 || !exact {
        // Nothing but whole addresses has records; what is below one is nothing.
        let range = range.filter(|_| own)?;
        return Some((exact.then(Vec::new), origin(range.ip(), range.prefix())));
    }
    let label = names.label(vpc, address);
    let range = match range.filter(|_| own) {
        Some(range) => (range.ip(), range.prefix()),
        // On a bridge only guests' addresses are ours.
        None => label.is_some().then_some((address, 24))?,
    };
    Some((label.and_then(|label| pointer(query, &label)), origin(range.0, range.1)))
}

/// That the name in question is an instance's.
fn pointer(query: &Query, label: &str) -> Option<Vec<Record>> {
    let name = Name::from_ascii(format!("{label}.{DNS_PROJECT}.{DNS_ZONE}.")).ok()?;
    Some(vec![Record::from_rdata(query.name().clone(), TTL, RData::PTR(PTR(name)))])
}

/// A label as a part of an address: without leading zeros, which would be other names of it.
fn octet(label: &[u8]) -> Option<u8> {
    let number: u8 = std::str::from_utf8(label).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == label).then_some(number)
}

/// The zone of reverse names that a range is in, cut at octets.
fn origin(address: Ipv4Addr, prefix: u8) -> String {
    let octets = usize::from(prefix.div_ceil(8).clamp(1, 3));
    let parts: Vec<String> =
        address.octets().iter().take(octets).rev().map(ToString::to_string).collect();
    format!("{}.in-addr.arpa", parts.join("."))
}

/// `None` is a defect: the names are ours.
fn soa(origin: &str) -> Option<Record> {
    let name = |text: String| Name::from_ascii(text).ok();
    let server = name(format!("ns.{DNS_ZONE}."))?;
    let people = name(format!("hostmaster.{DNS_ZONE}."))?;
    // Nobody transfers the zone, so its number and the times for that say nothing.
    let data = SOA::new(server, people, 1, 3600, 600, 86_400, NEGATIVE_TTL);
    Some(Record::from_rdata(name(format!("{origin}."))?, NEGATIVE_TTL, RData::SOA(data)))
}

#[cfg(test)]
#[path = "zone/tests.rs"]
mod tests;
