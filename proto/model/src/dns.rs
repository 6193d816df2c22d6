//! The names that a VPC's own resolver knows: `web.default.weft.internal` for the instance that is
//! called so, `ip-10-0-0-5.default.weft.internal` for each address.

use std::net::Ipv4Addr;

use crate::DNS_ADDRESS;

/// The zone, without the root's dot. `internal` is reserved for private use (ICANN, 2024-07-29).
pub const DNS_ZONE: &str = "weft.internal";
/// The project of everything while there are no projects.
pub const DNS_PROJECT: &str = "default";
/// What a guest appends to a name without a dot.
const SEARCH_DOMAIN: &str = "default.weft.internal";
/// Longest label in bytes (RFC 1035, 2.3.4); below Linux' `HOST_NAME_MAX` of 64.
const MAX_LABEL: usize = 63;

/// The label of an instance's name, where the name can be one (RFC 1123, 2.1: letters, digits and
/// inner hyphens). Labels of the form `ip-10-0-0-5` are the addresses' own: a guest that is called
/// so must not be taken for the one that has the address.
pub fn dns_label(name: &str) -> Option<String> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let fits = (1..=MAX_LABEL).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-');
    let label = name.to_ascii_lowercase();
    (fits && labelled_address(&label).is_none()).then_some(label)
}

/// What EC2 calls an instance by its address: `ip-10-0-0-5`.
pub fn address_label(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("ip-{a}-{b}-{c}-{d}")
}

/// The address in a label of the form of [`address_label`], in lower case.
pub fn labelled_address(label: &str) -> Option<Ipv4Addr> {
    let address = label.strip_prefix("ip-")?.replace('-', ".").parse().ok()?;
    // One form for each address.
    (address_label(address) == label).then_some(address)
}

/// The domain in which a guest with these resolvers looks for short names; `None` where it asks
/// others than its VPC, who know nothing of the zone.
pub fn search_domain(resolvers: &[Ipv4Addr], gateway: Ipv4Addr) -> Option<&'static str> {
    let own = |resolver: &Ipv4Addr| *resolver == DNS_ADDRESS || *resolver == gateway;
    resolvers.iter().any(own).then_some(SEARCH_DOMAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_labels_are_names_in_the_zone() {
        let (longest, too_long) = ("a".repeat(63), "a".repeat(64));
        #[rustfmt::skip]
        let cases = [
            ("web",              Some("web")),
            ("Web-1",            Some("web-1")),
            ("1",                Some("1")),
            (longest.as_str(),   Some(longest.as_str())),
            ("ip-10-0-0",        Some("ip-10-0-0")),
            ("ip-10-0-0-256",    Some("ip-10-0-0-256")),
            (too_long.as_str(),  None),
            ("my web",           None),
            ("a.b",              None),
            ("a_b",              None),
            ("-a",               None),
            ("a-",               None),
            ("bücher",           None),
            ("",                 None),
            ("ip-10-0-0-5",      None),
            ("IP-10-0-0-5",      None),
        ];
        for (name, want) in cases {
            assert_eq!(dns_label(name).as_deref(), want, "{name:?}");
        }
    }

    #[test]
    fn an_address_has_one_label() {
        let address = Ipv4Addr::new(10, 0, 0, 5);
        assert_eq!(address_label(address), "ip-10-0-0-5");
        assert_eq!(labelled_address("ip-10-0-0-5"), Some(address));
        for other in ["ip-10-0-0-05", "ip-10-0-0.5", "ip-10-0-0", "ip-10-0-0-5-", "10-0-0-5", "ip-"]
        {
            assert_eq!(labelled_address(other), None, "{other}");
        }
    }

    #[test]
    fn who_asks_other_resolvers_searches_elsewhere() {
        let (gateway, other) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(192, 0, 2, 53));
        assert_eq!(SEARCH_DOMAIN, format!("{DNS_PROJECT}.{DNS_ZONE}"));
        for (resolvers, found) in [
            (vec![DNS_ADDRESS], true),
            (vec![gateway], true),
            (vec![other, DNS_ADDRESS], true),
            (vec![other], false),
            (vec![], false),
        ] {
            assert_eq!(search_domain(&resolvers, gateway).is_some(), found, "{resolvers:?}");
        }
    }
}
