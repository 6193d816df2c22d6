//! The IPv6 switches of a VPC's namespace: of one with IPv6, and of one that knows none.
//!
//! Source: Linux `Documentation/networking/ip-sysctl.rst`, below "proc/sys/net/ipv6".

use weft_model::LinkName;

use crate::sysctl::Switch;

/// Of the namespace as a whole. With IPv6 it routes; it believes no router, makes no address by
/// itself (`addr_gen_mode` 1), and what links come later begin like that.
pub(crate) fn for_namespace(on: bool) -> Vec<Switch> {
    let switches: &[(&str, &'static str)] = match on {
        false => &[("all/disable_ipv6", "1"), ("default/disable_ipv6", "1")],
        true => &[
            ("default/addr_gen_mode", "1"),
            ("default/accept_ra", "0"),
            ("default/autoconf", "0"),
            ("default/accept_redirects", "0"),
            ("all/accept_redirects", "0"),
            ("all/forwarding", "1"),
            ("all/disable_ipv6", "0"),
            ("default/disable_ipv6", "0"),
        ],
    };
    let switch = |(file, value): &(&str, &'static str)| (format!("ipv6/conf/{file}"), *value);
    switches.iter().map(switch).collect()
}

/// Of a link inside, or of the uplink's end outside: its addresses are those that we give it.
pub(crate) fn for_link(link: &LinkName, on: bool) -> Vec<Switch> {
    let switches: &[(&str, &'static str)] = match on {
        false => &[("disable_ipv6", "1")],
        true => &[
            ("addr_gen_mode", "1"),
            ("accept_ra", "0"),
            ("autoconf", "0"),
            ("accept_redirects", "0"),
            ("disable_ipv6", "0"),
        ],
    };
    let switch =
        |(file, value): &(&str, &'static str)| (format!("ipv6/conf/{link}/{file}"), *value);
    switches.iter().map(switch).collect()
}
