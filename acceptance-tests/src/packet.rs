//! Frames byte by byte, also those that no honest machine would send.
//!
//! Nothing is filled in or mended behind the caller's back but lengths and checksums: a packet with
//! a wrong one would be dropped for that and prove nothing. Those who want one wrong change the
//! bytes.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A MAC.
pub type Mac = [u8; 6];

/// Everybody on the link.
pub const BROADCAST: Mac = [0xff; 6];

/// EtherTypes (IEEE 802 numbers of IANA).
pub mod ether_type {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// 802.1Q.
    pub const VLAN: u16 = 0x8100;
    /// 802.1ad.
    pub const QINQ: u16 = 0x88a8;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
}

/// Protocol numbers of IP (IANA).
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP.
    pub const IPIP: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 in IP.
    pub const IPV6: u8 = 41;
    /// GRE.
    pub const GRE: u8 = 47;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
}

/// An Ethernet frame.
pub fn ethernet(to: Mac, from: Mac, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&to[..], &from, &ether_type.to_be_bytes(), payload].concat();
    // The shortest there is, without the checksum that the link adds (IEEE 802.3).
    frame.resize(frame.len().max(60), 0);
    frame
}

/// The tag of a VLAN and what is in it: a payload for [`ether_type::VLAN`] or [`ether_type::QINQ`].
pub fn tagged(vlan: u16, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&vlan.to_be_bytes()[..], &ether_type.to_be_bytes(), payload].concat()
}

/// ARP for IPv4 over Ethernet (RFC 826).
#[derive(Clone, Copy, Debug)]
pub struct Arp {
    /// 1 asks, 2 answers.
    pub operation: u16,
    /// Who says so: its MAC.
    pub sender_mac: Mac,
    /// And its address.
    pub sender: Ipv4Addr,
    /// To whom: its MAC.
    pub target_mac: Mac,
    /// And its address.
    pub target: Ipv4Addr,
}

impl Arp {
    /// As a payload for [`ether_type::ARP`].
    pub fn bytes(&self) -> Vec<u8> {
        let kind = [0, 1, 8, 0, 6, 4];
        let operation = self.operation.to_be_bytes();
        let (sender, target) = (self.sender.octets(), self.target.octets());
        [&kind[..], &operation, &self.sender_mac, &sender, &self.target_mac, &target].concat()
    }
}

/// An IPv4 packet (RFC 791).
#[derive(Clone, Debug)]
pub struct Ipv4 {
    /// From whom.
    pub source: Ipv4Addr,
    /// To whom.
    pub destination: Ipv4Addr,
    /// What the payload is.
    pub protocol: u8,
    /// How many routers it may pass.
    pub ttl: u8,
    /// What fragments of one packet have in common.
    pub id: u16,
    /// Where a fragment's payload belongs, in units of eight bytes.
    pub offset: u16,
    /// Whether fragments follow.
    pub more: bool,
    /// Filled up to a multiple of four bytes.
    pub options: Vec<u8>,
    /// What is in it.
    pub payload: Vec<u8>,
}

impl Ipv4 {
    /// A whole packet without options.
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: Vec<u8>) -> Self {
        let (ttl, id, offset, more, options) = (64, 0, 0, false, Vec::new());
        Self { source, destination, protocol, ttl, id, offset, more, options, payload }
    }

    /// As a payload for [`ether_type::IPV4`].
    pub fn bytes(&self) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let words = low_byte(5 + options.len() / 4);
        let total = low_word(20 + options.len() + self.payload.len()).to_be_bytes();
        let fragment = (self.offset | if self.more { 0x2000 } else { 0 }).to_be_bytes();
        let mut header =
            [&[0x40 | words, 0][..], &total, &self.id.to_be_bytes(), &fragment].concat();
        header.extend([self.ttl, self.protocol, 0, 0]);
        header.extend(self.source.octets());
        header.extend(self.destination.octets());
        header.extend(options);
        let sum = checksum(&[&header]);
        header[10..12].copy_from_slice(&sum);
        header.extend(&self.payload);
        header
    }
}

/// An IPv6 packet (RFC 8200).
#[derive(Clone, Debug)]
pub struct Ipv6 {
    /// From whom.
    pub source: Ipv6Addr,
    /// To whom.
    pub destination: Ipv6Addr,
    /// What the payload is: a protocol, or an extension header.
    pub next_header: u8,
    /// How many routers it may pass.
    pub hop_limit: u8,
    /// What is in it, extension headers first.
    pub payload: Vec<u8>,
}

impl Ipv6 {
    /// As a payload for [`ether_type::IPV6`].
    pub fn bytes(&self) -> Vec<u8> {
        let length = low_word(self.payload.len()).to_be_bytes();
        let head = [&[0x60, 0, 0, 0][..], &length, &[self.next_header, self.hop_limit]].concat();
        let (source, destination) = (self.source.octets(), self.destination.octets());
        [&head[..], &source, &destination, &self.payload].concat()
    }
}

/// The ends of a datagram, which checksums cover (RFC 768, RFC 8200 8.1).
#[derive(Clone, Copy, Debug)]
pub enum Ends {
    /// From the first to the second.
    V4(Ipv4Addr, Ipv4Addr),
    /// From the first to the second.
    V6(Ipv6Addr, Ipv6Addr),
}

impl Ends {
    fn pseudo_header(self, protocol: u8, length: usize) -> Vec<u8> {
        let tail = [&[0, 0][..], &low_word(length).to_be_bytes(), &[0, 0, 0, protocol]].concat();
        match self {
            Self::V4(from, to) => [&from.octets()[..], &to.octets(), &tail].concat(),
            Self::V6(from, to) => [&from.octets()[..], &to.octets(), &tail].concat(),
        }
    }

    fn sum(self, protocol: u8, at: usize, mut segment: Vec<u8>) -> Vec<u8> {
        let sum = checksum(&[&self.pseudo_header(protocol, segment.len()), &segment]);
        segment[at..at + 2].copy_from_slice(&sum);
        segment
    }

    /// A UDP datagram (RFC 768).
    pub fn udp(self, from: u16, to: u16, data: &[u8]) -> Vec<u8> {
        let ports = [from.to_be_bytes(), to.to_be_bytes(), low_word(8 + data.len()).to_be_bytes()];
        let whole = [&ports.concat()[..], &[0, 0], data].concat();
        self.sum(protocol::UDP, 6, whole)
    }

    /// A TCP segment that opens a connection (RFC 9293), and may carry data.
    pub fn syn(self, from: u16, to: u16, data: &[u8]) -> Vec<u8> {
        let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
        // Sequence and acknowledged numbers, five words of header, SYN, a window, no urgency.
        let rest = [0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, 2, 0xff, 0xff, 0, 0, 0, 0];
        self.sum(protocol::TCP, 16, [&ports, &rest[..], data].concat())
    }

    /// A message of ICMPv6 (RFC 4443); `body` is all after the checksum.
    pub fn icmpv6(self, kind: u8, code: u8, body: &[u8]) -> Vec<u8> {
        self.sum(protocol::ICMPV6, 2, [&[kind, code, 0, 0], body].concat())
    }
}

/// A message of ICMP (RFC 792); `body` is all after the checksum.
pub fn icmp(kind: u8, code: u8, body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0], body].concat();
    let sum = checksum(&[&message]);
    message[2..4].copy_from_slice(&sum);
    message
}

/// Of DHCP (RFC 2131, 2), with the magic cookie; 1 asks, 2 answers. `options` without the end.
pub fn dhcp(operation: u8, id: u32, client: Mac, yours: Ipv4Addr, options: &[u8]) -> Vec<u8> {
    let mut message = vec![operation, 1, 6, 0];
    message.extend(id.to_be_bytes());
    message.resize(16, 0);
    message.extend(yours.octets());
    message.resize(28, 0);
    message.extend(client);
    message.resize(236, 0);
    message.extend([99, 130, 83, 99]);
    message.extend(options);
    message.push(255);
    // What a relay's older kin expect of a whole message (RFC 1542, 2.1).
    message.resize(message.len().max(300), 0);
    message
}

/// The Internet checksum (RFC 1071) of all parts; each but the last has an even length.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words
        .map(|word| (u32::from(word[0]) << 8) | u32::from(word.get(1).copied().unwrap_or_default()))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [_, _, high, low] = (!sum).to_be_bytes();
    [high, low]
}

/// Lengths of what fits into a frame; longer ones are cut, as in a packet that lies.
fn low_word(length: usize) -> u16 {
    u16::try_from(length & 0xffff).unwrap_or(u16::MAX)
}

fn low_byte(length: usize) -> u8 {
    u8::try_from(length & 0xf).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 1071, 3.
    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), [0x22, 0x0d]);
        assert_eq!(checksum(&[&[0xff]]), [0x00, 0xff]);
    }

    #[test]
    fn a_checksum_over_itself_is_nothing() {
        let (a, b) = (Ipv4Addr::new(10, 0, 1, 4), Ipv4Addr::new(10, 0, 1, 5));
        let packet =
            Ipv4 { options: vec![7, 7, 4, 0, 0, 0, 0], ..Ipv4::new(a, b, 17, vec![1, 2, 3]) };
        let bytes = packet.bytes();
        assert_eq!(bytes[0], 0x47, "five words and two of options");
        assert_eq!(bytes[2..4], [0, 31], "the whole length");
        assert_eq!(checksum(&[&bytes[..28]]), [0, 0]);
        for ends in [Ends::V4(a, b), Ends::V6(a.to_ipv6_mapped(), b.to_ipv6_mapped())] {
            let udp = ends.udp(67, 68, b"odd");
            assert_eq!(checksum(&[&ends.pseudo_header(17, udp.len()), &udp]), [0, 0]);
            let syn = ends.syn(1, 2, b"");
            assert_eq!((syn.len(), syn[13]), (20, 2));
            assert_eq!(checksum(&[&ends.pseudo_header(6, 20), &syn]), [0, 0]);
            let echo = ends.icmpv6(128, 0, &[0; 4]);
            assert_eq!(checksum(&[&ends.pseudo_header(58, echo.len()), &echo]), [0, 0]);
        }
        assert_eq!(checksum(&[&icmp(8, 0, &[0, 1, 0, 2])]), [0, 0]);
    }

    #[test]
    fn a_fragment_says_where_it_belongs() {
        let whole = Ipv4::new(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, 17, vec![0; 8]);
        let first = Ipv4 { more: true, ..whole.clone() }.bytes();
        assert_eq!(first[6..8], [0x20, 0]);
        assert_eq!(Ipv4 { offset: 3, ..whole }.bytes()[6..8], [0, 3]);
    }

    #[test]
    fn frames_have_their_shortest_length() {
        let arp = Arp {
            operation: 1,
            sender_mac: [2; 6],
            sender: Ipv4Addr::new(1, 2, 3, 4),
            target_mac: [0; 6],
            target: Ipv4Addr::new(5, 6, 7, 8),
        };
        let frame = ethernet(BROADCAST, [2; 6], ether_type::ARP, &arp.bytes());
        assert_eq!(frame.len(), 60);
        assert_eq!(frame[12..22], [8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(frame[28..32], [1, 2, 3, 4]);
        assert_eq!(frame[38..42], [5, 6, 7, 8]);
        assert_eq!(tagged(7, ether_type::IPV4, &[9]), [0, 7, 8, 0, 9]);
    }

    #[test]
    fn a_dhcp_message_has_its_fields_at_their_places() {
        let message =
            dhcp(2, 0x0102_0304, [2, 0, 0, 0, 0, 9], Ipv4Addr::new(10, 0, 0, 9), &[53, 1, 2]);
        assert_eq!(message[..8], [2, 1, 6, 0, 1, 2, 3, 4]);
        assert_eq!(message[16..20], [10, 0, 0, 9]);
        assert_eq!(message[28..34], [2, 0, 0, 0, 0, 9]);
        assert_eq!(message[236..244], [99, 130, 83, 99, 53, 1, 2, 255]);
    }
}
