//! The name that a guest gives itself.

use std::net::Ipv4Addr;

use weft_model::{address_label, dns_label};

/// The host name of an instance: its name, in lower case, where that is a DNS label, else what EC2
/// would call it by its address: `ip-172-31-0-5`. Its VPC's resolver knows it by the same label.
pub fn hostname(name: Option<&str>, address: Ipv4Addr) -> String {
    name.and_then(dns_label).unwrap_or_else(|| address_label(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_labels_become_host_names() {
        #[rustfmt::skip]
        let cases = [
            (Some("web"),          "web"),
            (Some("Web-1"),        "web-1"),
            (Some("my web"),       "ip-172-31-0-5"),
            (Some("ip-10-9-9-9"),  "ip-172-31-0-5"),
            (None,                 "ip-172-31-0-5"),
        ];
        for (name, want) in cases {
            assert_eq!(hostname(name, Ipv4Addr::new(172, 31, 0, 5)), want, "{name:?}");
        }
    }
}
