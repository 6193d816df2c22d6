//! The name that a guest gives itself.

use std::net::Ipv4Addr;

/// Longest DNS label, in bytes (RFC 1035, 2.3.4); below Linux' `HOST_NAME_MAX` of 64.
const MAX_LABEL: usize = 63;

/// The host name of an instance: its name, in lower case, where that is a DNS label, else what EC2
/// would call it by its address: `ip-172-31-0-5`.
pub fn hostname(name: Option<&str>, address: Ipv4Addr) -> String {
    if let Some(name) = name
        && is_label(name)
    {
        return name.to_ascii_lowercase();
    }
    let [a, b, c, d] = address.octets();
    format!("ip-{a}-{b}-{c}-{d}")
}

/// RFC 1123, 2.1: letters, digits and inner hyphens.
fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=MAX_LABEL).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_labels_become_host_names() {
        let (longest, too_long) = ("a".repeat(63), "a".repeat(64));
        #[rustfmt::skip]
        let cases = [
            (Some("web"),             "web"),
            (Some("Web-1"),           "web-1"),
            (Some("1"),               "1"),
            (Some(longest.as_str()),  longest.as_str()),
            (Some(too_long.as_str()), "ip-172-31-0-5"),
            (Some("my web"),          "ip-172-31-0-5"),
            (Some("a.b"),             "ip-172-31-0-5"),
            (Some("a_b"),             "ip-172-31-0-5"),
            (Some("-a"),              "ip-172-31-0-5"),
            (Some("a-"),              "ip-172-31-0-5"),
            (Some("bücher"),          "ip-172-31-0-5"),
            (Some(""),                "ip-172-31-0-5"),
            (None,                    "ip-172-31-0-5"),
        ];
        for (name, want) in cases {
            assert_eq!(hostname(name, Ipv4Addr::new(172, 31, 0, 5)), want, "{name:?}");
        }
    }
}
