use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use ipnetwork::{Ipv4Network, Ipv6Network};

use super::*;

/// Two webs, a database, one without a name; all in 10.0.0.0/RANGE of one VPC.
struct Known {
    prefix: Option<u8>,
}

const NAMES: [(&str, u8); 4] = [("web", 5), ("web", 6), ("db", 7), ("", 8)];

fn vpc(n: u8) -> VpcId {
    VpcId::from_random([n; 9])
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

/// Of fd00:1:2:3::/64.
fn address_v6(last: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 1, 2, 3, 0, 0, 0, last.into())
}

/// The reverse name of an address, or of the range of its first `nibbles` digits.
fn reverse_name(address: &str, nibbles: usize) -> String {
    let digits = format!("{:032x}", u128::from(address.parse::<Ipv6Addr>().unwrap()));
    let digits: Vec<char> = digits.chars().take(nibbles).collect();
    digits.iter().rev().map(|digit| format!("{digit}.")).collect::<String>() + "ip6.arpa."
}

impl Names for Known {
    fn addresses(&self, asked: &VpcId, label: &str) -> Vec<IpAddr> {
        let named = NAMES.iter().filter(|(name, _)| *name == label && *asked == vpc(1));
        named.map(|(_, last)| address(*last).into()).collect()
    }

    fn label(&self, asked: &VpcId, at: Ipv4Addr) -> Option<String> {
        let (name, _) = NAMES.iter().find(|(_, last)| address(*last) == at && *asked == vpc(1))?;
        let unique = *name == "db";
        Some(if unique { (*name).to_owned() } else { weft_model::address_label(at) })
    }

    fn label_v6(&self, asked: &VpcId, at: Ipv6Addr) -> Option<String> {
        let last = u8::try_from(at.segments()[7]).ok()?;
        (address_v6(last) == at).then(|| self.label(asked, address(last)))?
    }

    fn range(&self, _vpc: &VpcId) -> Option<Ipv4Network> {
        Some(Ipv4Network::new(address(0), self.prefix?).unwrap())
    }

    fn range_v6(&self, _vpc: &VpcId) -> Option<Ipv6Network> {
        self.prefix.map(|_| "fd00:1:2::/56".parse().unwrap())
    }
}

/// What is found, in a line.
fn ask(name: &str, kind: RecordType, vpc: &VpcId, prefix: Option<u8>) -> String {
    let query = Query::query(Name::from_ascii(name).unwrap(), kind);
    match find(&query, 0, vpc, &Known { prefix }) {
        Found::Records(records) => {
            assert!(records.iter().all(|record| record.name == *query.name() && record.ttl <= TTL));
            records.iter().map(|r| r.data.to_string()).collect::<Vec<_>>().join(" ")
        }
        Found::NoData(soa) => format!("nodata {}", soa.name),
        Found::NoName(soa) => format!("nxdomain {}", soa.name),
        other => format!("{other:?}").to_lowercase(),
    }
}

#[test]
fn names_of_the_vpc_are_answered_and_nothing_of_its_zones_goes_elsewhere() {
    use RecordType::{A, AAAA, ANY, AXFR, MX, PTR, SOA, TXT};
    #[rustfmt::skip]
    let cases = [
        ("web.default.weft.internal.",             A,    "10.0.0.5 10.0.0.6"),
        ("WEB.Default.weft.INTERNAL.",             A,    "10.0.0.5 10.0.0.6"),
        ("db.default.weft.internal.",              ANY,  "10.0.0.7"),
        ("db.default.weft.internal.",              AAAA, "nodata weft.internal."),
        ("db.default.weft.internal.",              MX,   "nodata weft.internal."),
        ("db.default.weft.internal.",              AXFR, "refused"),
        ("ip-10-0-0-8.default.weft.internal.",     A,    "10.0.0.8"),
        ("ip-10-0-0-8.default.weft.internal.",     AAAA, "nodata weft.internal."),
        ("ip-10-0-0-9.default.weft.internal.",     A,    "nxdomain weft.internal."),
        ("ip-10-0-0-08.default.weft.internal.",    A,    "nxdomain weft.internal."),
        ("nobody.default.weft.internal.",          A,    "nxdomain weft.internal."),
        ("nobody.default.weft.internal.",          TXT,  "nxdomain weft.internal."),
        ("web.other.weft.internal.",               A,    "nxdomain weft.internal."),
        ("web.weft.internal.",                     A,    "nxdomain weft.internal."),
        ("a.web.default.weft.internal.",           A,    "nxdomain weft.internal."),
        ("default.weft.internal.",                 A,    "nodata weft.internal."),
        ("weft.internal.",                         A,    "nodata weft.internal."),
        ("weft.internal.",                         SOA,
         "ns.weft.internal. hostmaster.weft.internal. 1 3600 600 86400 5"),
        ("internal.",                              A,    "elsewhere"),
        ("aweft.internal.",                        A,    "elsewhere"),
        ("weft.internal.example.com.",             A,    "elsewhere"),
        ("web.",                                   A,    "elsewhere"),
        (".",                                      A,    "elsewhere"),
        ("5.0.0.10.in-addr.arpa.",                 PTR,  "ip-10-0-0-5.default.weft.internal."),
        ("7.0.0.10.in-addr.arpa.",                 PTR,  "db.default.weft.internal."),
        ("7.0.0.10.IN-ADDR.arpa.",                 ANY,  "db.default.weft.internal."),
        ("7.0.0.10.in-addr.arpa.",                 A,    "nodata 0.10.in-addr.arpa."),
        ("9.0.0.10.in-addr.arpa.",                 PTR,  "nxdomain 0.10.in-addr.arpa."),
        ("9.9.0.10.in-addr.arpa.",                 PTR,  "nxdomain 0.10.in-addr.arpa."),
        ("07.0.0.10.in-addr.arpa.",                PTR,  "nxdomain 0.10.in-addr.arpa."),
        ("x.7.0.0.10.in-addr.arpa.",               PTR,  "nxdomain 0.10.in-addr.arpa."),
        ("x.0.10.in-addr.arpa.",                   PTR,  "nxdomain 0.10.in-addr.arpa."),
        ("0.0.10.in-addr.arpa.",                   PTR,  "nodata 0.10.in-addr.arpa."),
        ("0.10.in-addr.arpa.",                     AXFR, "refused"),
        ("10.in-addr.arpa.",                       PTR,  "elsewhere"),
        ("5.0.1.10.in-addr.arpa.",                 PTR,  "elsewhere"),
        ("1.1.1.1.in-addr.arpa.",                  PTR,  "elsewhere"),
        ("in-addr.arpa.",                          PTR,  "elsewhere"),
    ];
    for (name, kind, want) in cases {
        assert_eq!(ask(name, kind, &vpc(1), Some(16)), want, "{name} {kind}");
    }
}

#[test]
fn other_vpcs_names_are_no_names() {
    for (name, kind) in [
        ("web.default.weft.internal.", RecordType::A),
        ("ip-10-0-0-5.default.weft.internal.", RecordType::A),
        ("5.0.0.10.in-addr.arpa.", RecordType::PTR),
    ] {
        assert!(ask(name, kind, &vpc(2), Some(16)).starts_with("nxdomain"), "{name}");
    }
}

#[test]
fn reverse_zones_end_where_the_vpc_does() {
    #[rustfmt::skip]
    let cases = [
        (Some(18), "9.63.0.10.in-addr.arpa.", "nxdomain 0.0.10.in-addr.arpa."),
        (Some(18), "9.64.0.10.in-addr.arpa.", "elsewhere"),
        (Some(18), "0.10.in-addr.arpa.",      "elsewhere"),
        (Some(28), "15.0.0.10.in-addr.arpa.", "nxdomain 0.0.10.in-addr.arpa."),
        (Some(28), "16.0.0.10.in-addr.arpa.", "elsewhere"),
        (Some(28), "0.0.10.in-addr.arpa.",    "elsewhere"),
        // On a bridge: guests are answered for, their neighbours on the LAN are not.
        (None,     "7.0.0.10.in-addr.arpa.",  "db.default.weft.internal."),
        (None,     "9.0.0.10.in-addr.arpa.",  "elsewhere"),
        (None,     "0.0.10.in-addr.arpa.",    "elsewhere"),
    ];
    for (prefix, name, want) in cases {
        assert_eq!(ask(name, RecordType::PTR, &vpc(1), prefix), want, "{name} in /{prefix:?}");
    }
}

#[test]
fn reverse_names_of_ipv6_are_answered_in_the_vpcs_range_and_go_elsewhere_beyond_it() {
    let zone = "0.0.2.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa.";
    let (none, nothing) = (format!("nxdomain {zone}"), format!("nodata {zone}"));
    #[rustfmt::skip]
    let cases = [
        ("fd00:1:2:3::7",   32, "db.default.weft.internal."),
        ("fd00:1:2:3::5",   32, "ip-10-0-0-5.default.weft.internal."),
        ("fd00:1:2:3::9",   32, none.as_str()),
        ("fd00:1:2:9::7",   32, none.as_str()),
        ("fd00:1:2:3::",    16, nothing.as_str()),
        ("fd00:1:2::",      14, nothing.as_str()),
        ("fd00:1:2::",      13, "elsewhere"),
        ("fd00:1:2:100::7", 32, "elsewhere"),
        ("2001:db8::7",     32, "elsewhere"),
        ("::",              0,  "elsewhere"),
    ];
    for (address, nibbles, want) in cases {
        let name = reverse_name(address, nibbles);
        assert_eq!(ask(&name, RecordType::PTR, &vpc(1), Some(16)), want, "{address} {nibbles}");
        assert_eq!(ask(&name.to_uppercase(), RecordType::PTR, &vpc(1), Some(16)), want, "upper");
    }
    let seven = reverse_name("fd00:1:2:3::7", 32);
    assert_eq!(ask(&seven, RecordType::A, &vpc(1), Some(16)), nothing);
    assert_eq!(ask(&seven, RecordType::PTR, &vpc(2), Some(16)), none, "another VPC's");
    assert_eq!(ask(&format!("x.{seven}"), RecordType::PTR, &vpc(1), Some(16)), none, "below one");
    assert_eq!(ask(&format!("07{}", &seven[1..]), RecordType::PTR, &vpc(1), Some(16)), none);
    assert_eq!(ask(&seven, RecordType::PTR, &vpc(1), None), "elsewhere", "a VPC without IPv6");
}

#[test]
fn other_classes_are_refused_wherever_the_name_is() {
    for name in ["web.default.weft.internal.", "version.bind."] {
        let mut query = Query::query(Name::from_ascii(name).unwrap(), RecordType::TXT);
        query.set_query_class(DNSClass::CH);
        assert_eq!(find(&query, 0, &vpc(1), &Known { prefix: None }), Found::Refused, "{name}");
    }
}

/// As many instances of one name as a VPC may have.
struct Many;

impl Names for Many {
    fn addresses(&self, _vpc: &VpcId, _label: &str) -> Vec<IpAddr> {
        (0..1000_u32).map(|n| Ipv4Addr::from(0x0a00_0000 + n).into()).collect()
    }

    fn label(&self, _vpc: &VpcId, _address: Ipv4Addr) -> Option<String> {
        None
    }

    fn label_v6(&self, _vpc: &VpcId, _address: Ipv6Addr) -> Option<String> {
        None
    }

    fn range(&self, _vpc: &VpcId) -> Option<Ipv4Network> {
        None
    }

    fn range_v6(&self, _vpc: &VpcId) -> Option<Ipv6Network> {
        None
    }
}

#[test]
fn of_a_thousand_equal_names_each_is_found_some_time() {
    let query =
        Query::query(Name::from_ascii("web.default.weft.internal.").unwrap(), RecordType::A);
    let mut seen = BTreeMap::new();
    for id in (0..1000).step_by(50) {
        let Found::Records(records) = find(&query, id, &vpc(1), &Many) else { panic!("none") };
        assert_eq!(records.len(), MAX_RECORDS);
        for record in records {
            *seen.entry(record.data.to_string()).or_insert(0) += 1;
        }
    }
    assert_eq!(seen.len(), 1000);
}
