//! Ethernet frames with router solicitations and DHCPv6 requests, read and written. Pure.

use std::net::Ipv6Addr;

use weft_model::{MacAddr, ROUTER_V6 as ROUTER};

/// Ethernet's header, IPv6's (RFC 8200, 3) and UDP's.
const ETHERNET: usize = 14;
const IPV6: usize = 40;
const UDP: usize = 8;
const ETHER_TYPE: [u8; 2] = [0x86, 0xdd];
/// `Next Header` (RFC 8200, RFC 4443).
const NEXT_UDP: u8 = 17;
const NEXT_ICMP: u8 = 58;
/// RFC 4861, 4.1.
const ROUTER_SOLICITATION: u8 = 133;
/// What neighbour discovery is sent with, and nothing that was forwarded has (RFC 4861, 6.1.1).
const HOP_LIMIT: u8 = 255;
/// RFC 8415, 7.2.
const CLIENT_PORT: u16 = 546;
const SERVER_PORT: u16 = 547;

/// What a guest asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) mac: MacAddr,
    pub(super) source: Ipv6Addr,
    pub(super) asked: Asked,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Who is the router?
    Router,
    /// A DHCPv6 message.
    Dhcp(Vec<u8>),
}

/// A question that a guest may ask, with a source that fits. Extension headers and fragments are
/// not looked through: no client sends these messages with any (RFC 6980 forbids it for the first).
pub(super) fn parse(frame: &[u8]) -> Option<Question> {
    let (ethernet, packet) = frame.split_at_checked(ETHERNET)?;
    let (header, rest) = packet.split_at_checked(IPV6)?;
    let length = usize::from(u16::from_be_bytes([*header.get(4)?, *header.get(5)?]));
    let payload = rest.get(..length)?;
    if ethernet.get(12..)? != ETHER_TYPE || header.first()? >> 4 != 6 {
        return None;
    }
    let source = Ipv6Addr::from(<[u8; 16]>::try_from(header.get(8..24)?).ok()?);
    let mac = MacAddr::from_octets(<[u8; 6]>::try_from(ethernet.get(6..12)?).ok()?)?;
    let asked = match *header.get(6)? {
        NEXT_ICMP => {
            let is_solicitation = payload.starts_with(&[ROUTER_SOLICITATION, 0])
                && payload.len() >= 8
                && header.get(7) == Some(&HOP_LIMIT);
            is_solicitation.then_some(Asked::Router)?
        }
        NEXT_UDP => {
            let (udp, message) = payload.split_at_checked(UDP)?;
            let ports = [CLIENT_PORT.to_be_bytes(), SERVER_PORT.to_be_bytes()].concat();
            // An answer goes to a link-local address (RFC 8415, 7.1), or nowhere.
            let fits = udp.starts_with(&ports) && source.is_unicast_link_local();
            fits.then(|| Asked::Dhcp(message.to_vec()))?
        }
        _ => return None,
    };
    Some(Question { mac, source, asked })
}

/// An ICMPv6 message from the router, whose checksum is filled in.
pub(super) fn icmp(from: [u8; 6], (mac, to): (MacAddr, Ipv6Addr), mut message: Vec<u8>) -> Vec<u8> {
    let sum = checksum(to, NEXT_ICMP, &message);
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    packet(from, (mac, to), NEXT_ICMP, HOP_LIMIT, &message)
}

/// A DHCPv6 message from the router to a client.
pub(super) fn dhcp(from: [u8; 6], (mac, to): (MacAddr, Ipv6Addr), message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(UDP + message.len()).unwrap_or(u16::MAX);
    let mut datagram = Vec::with_capacity(UDP + message.len());
    for field in [SERVER_PORT, CLIENT_PORT, length, 0] {
        datagram.extend(field.to_be_bytes());
    }
    datagram.extend(message);
    // Zero means "none", which IPv6 does not have (RFC 8200, 8.1).
    let sum = match checksum(to, NEXT_UDP, &datagram) {
        0 => u16::MAX,
        sum => sum,
    };
    if let Some(field) = datagram.get_mut(6..8) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    packet(from, (mac, to), NEXT_UDP, 1, &datagram)
}

fn packet(
    from: [u8; 6],
    (mac, to): (MacAddr, Ipv6Addr),
    next_header: u8,
    hop_limit: u8,
    payload: &[u8],
) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    let header = [0x60, 0, 0, 0, length[0], length[1], next_header, hop_limit];
    let ethernet = [&mac.octets()[..], &from, &ETHER_TYPE].concat();
    [&ethernet[..], &header, &ROUTER.octets(), &to.octets(), payload].concat()
}

/// RFC 8200, 8.1: of the pseudo-header and `payload`, whose own field is zero.
fn checksum(to: Ipv6Addr, next_header: u8, payload: &[u8]) -> u16 {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let ends = [ROUTER.octets(), to.octets()].concat();
    let whole = [&ends[..], &length, &[0, 0, 0, next_header], payload].concat();
    let words = whole.chunks(2).map(|pair| {
        let [high, low] = [0, 1].map(|n| pair.get(n).copied().unwrap_or_default());
        u64::from(u16::from_be_bytes([high, low]))
    });
    let mut sum: u64 = words.sum();
    while sum > u64::from(u16::MAX) {
        sum = (sum & u64::from(u16::MAX)) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mac() -> MacAddr {
        "02:00:00:00:00:09".parse().unwrap()
    }

    /// A frame as a guest sends it.
    fn from_guest(source: &str, next_header: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame =
            packet([2, 0, 0, 0, 0, 9], (mac(), ROUTER), next_header, hop_limit, payload);
        frame[22..38].copy_from_slice(&source.parse::<Ipv6Addr>().unwrap().octets());
        frame
    }

    #[test]
    fn only_questions_are_understood() {
        let solicit = [133, 0, 0, 0, 0, 0, 0, 0];
        let dhcp = [&[2, 34, 2, 35, 0, 12, 0, 0][..], b"abcd"].concat();
        let wrong_port = [&[2, 34, 2, 34, 0, 12, 0, 0][..], b"abcd"].concat();
        #[rustfmt::skip]
        let cases = [
            ("a solicitation",          from_guest("fe80::9", 58, 255, &solicit),     Some(Asked::Router)),
            ("from nobody yet",         from_guest("::", 58, 255, &solicit),          Some(Asked::Router)),
            ("from farther away",       from_guest("fe80::9", 58, 254, &solicit),     None),
            ("an advertisement",        from_guest("fe80::9", 58, 255, &[134, 0, 0, 0, 0, 0, 0, 0]), None),
            ("cut short",               from_guest("fe80::9", 58, 255, &solicit[..4]), None),
            ("a DHCPv6 message",        from_guest("fe80::9", 17, 1, &dhcp),          Some(Asked::Dhcp(b"abcd".to_vec()))),
            ("from a global address",   from_guest("fd00::9", 17, 1, &dhcp),          None),
            ("to another port",         from_guest("fe80::9", 17, 1, &wrong_port),    None),
            ("TCP",                     from_guest("fe80::9", 6, 1, &dhcp),           None),
        ];
        for (what, frame, want) in cases {
            assert_eq!(parse(&frame).map(|question| question.asked), want, "{what}");
        }
    }

    #[test]
    fn the_checksum_of_what_is_sent_is_right() {
        let frame = icmp(
            [0xfe, 0, 0, 0, 0, 9],
            (mac(), "ff02::1".parse().unwrap()),
            [134, 0, 0, 0, 1, 2, 3, 4].into(),
        );
        // With its own checksum in it, a message sums up to nothing (RFC 1071).
        assert_eq!(checksum("ff02::1".parse().unwrap(), NEXT_ICMP, &frame[54..]), 0);
        let frame = dhcp([0xfe, 0, 0, 0, 0, 9], (mac(), "fe80::9".parse().unwrap()), b"odd");
        assert_eq!(checksum("fe80::9".parse().unwrap(), NEXT_UDP, &frame[54..]), 0);
    }

    mod fuzz {
        use super::*;

        #[test]
        fn no_frame_makes_it_panic() {
            let input = (prop::collection::vec(any::<u8>(), 0..200), 0..3);
            weft_fuzz::fuzz(2000, input, |(mut frame, kind)| {
                if frame.len() > 60 && kind > 0 {
                    frame[12..14].copy_from_slice(&ETHER_TYPE);
                    frame[14] = 0x60;
                    frame[18..20].copy_from_slice(&[0, 40]);
                    frame[20] = if kind == 1 { NEXT_ICMP } else { NEXT_UDP };
                }
                let _ = parse(&frame);
                Ok(())
            });
        }

        #[test]
        fn no_spoiled_frame_makes_it_panic() {
            let solicit = [133, 0, 0, 0, 0, 0, 0, 0];
            let dhcp = [&[2, 34, 2, 35, 0, 12, 0, 0][..], b"abcd"].concat();
            let good = vec![
                from_guest("fe80::9", NEXT_ICMP, 255, &solicit),
                from_guest("fe80::9", NEXT_UDP, 64, &dhcp),
            ];
            weft_fuzz::fuzz(2000, weft_fuzz::hostile(good), |frame| {
                let _ = parse(&frame);
                Ok(())
            });
        }
    }
}
