//! Names and addresses that the kernel and the guests share.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// A name the kernel accepts for a network interface.
///
/// Invariant: 1 to 15 bytes, none of `/`, `:` or whitespace, not `.` or `..`.
/// Source: `dev_valid_name` in Linux `net/core/dev.c`; `IFNAMSIZ` counts the NUL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkName(String);

/// Text that the kernel would refuse as an interface name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not an interface name: use 1 to 15 bytes without slash, colon or space")]
pub struct InvalidLinkName(String);

impl LinkName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LinkName {
    type Err = InvalidLinkName;
    fn from_str(text: &str) -> Result<Self, InvalidLinkName> {
        let forbidden = |c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0';
        let valid = (1..=15).contains(&text.len())
            && !matches!(text, "." | "..")
            && !text.contains(forbidden);
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidLinkName(text.to_owned())) }
    }
}

/// A unicast Ethernet address; shown as `02:00:00:00:00:01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr([u8; 6]);

/// Text that is not a unicast Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a unicast MAC address such as 02:00:00:00:00:01")]
pub struct InvalidMacAddr(String);

impl MacAddr {
    /// A locally administered unicast address from five random bytes.
    pub fn from_random(random: [u8; 5]) -> Self {
        let [a, b, c, d, e] = random;
        Self([0x02, a, b, c, d, e])
    }

    /// The address with these bytes in wire order; `None` for one that no interface has.
    pub fn from_octets(octets: [u8; 6]) -> Option<Self> {
        let multicast = octets[0] & 1 == 1;
        (!multicast && octets != [0; 6]).then_some(Self(octets))
    }

    /// The six bytes in wire order.
    pub fn octets(&self) -> [u8; 6] {
        self.0
    }

    /// The IPv6 address that an interface makes of its MAC in the /64 that `network` begins (RFC
    /// 4291, appendix A: modified EUI-64).
    pub fn address_in(&self, network: Ipv6Addr) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let identifier = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        let upper = network.to_bits() >> 64 << 64;
        Ipv6Addr::from_bits(upper | u128::from(identifier))
    }
}

impl FromStr for MacAddr {
    type Err = InvalidMacAddr;
    fn from_str(text: &str) -> Result<Self, InvalidMacAddr> {
        let invalid = || InvalidMacAddr(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(invalid)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        if parts.next().is_some() {
            return Err(invalid());
        }
        Self::from_octets(octets).ok_or_else(invalid)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! serde_as_text {
    ($($name:ty),*) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
pub(crate) use serde_as_text;

serde_as_text!(LinkName, MacAddr);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_mac_is_that_of_rfc_4291() {
        let mac: MacAddr = "36:56:78:9a:bc:de".parse().unwrap();
        for (network, want) in [
            ("fe80::", "fe80::3456:78ff:fe9a:bcde"),
            ("fd00:1:2:3::9", "fd00:1:2:3:3456:78ff:fe9a:bcde"),
        ] {
            let got = mac.address_in(network.parse().unwrap());
            assert_eq!(got, want.parse::<Ipv6Addr>().unwrap());
        }
    }

    #[test]
    fn link_names_follow_the_kernel() {
        for name in ["t0", "weft-0123456789", "a.b"] {
            assert_eq!(name.parse::<LinkName>().unwrap().as_str(), name);
        }
        for name in ["", ".", "..", "a/b", "a:b", "a b", "sixteen-bytes-xx"] {
            assert!(name.parse::<LinkName>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn mac_addresses_round_trip_and_multicast_is_refused() {
        let mac = MacAddr::from_random([1, 2, 3, 4, 0xff]);
        assert_eq!(mac.to_string(), "02:01:02:03:04:ff");
        assert_eq!(mac.to_string().parse::<MacAddr>().unwrap(), mac);
        for text in ["01:00:00:00:00:01", "02:00:00:00:00", "02:00:00:00:00:01:02", "zz:0:0:0:0:0"]
        {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
    }
}
