//! Messages of ctnetlink: two that we send, and what of the answers is of use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_model::{Opening, Service, TrackedFlow};

/// `NFNL_SUBSYS_CTNETLINK << 8`, and the commands in it.
const SUBSYSTEM: u16 = 1 << 8;
const NEW: u16 = SUBSYSTEM;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
/// `nlmsghdr`, and `nfgenmsg` behind it.
const HEADER: usize = 16;
const FAMILY_HEADER: usize = 4;
/// `enum ctattr_type`.
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const ID: u16 = 12;
/// `enum ctattr_tuple`, `ctattr_ip` and `ctattr_l4proto`.
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const IP_SOURCES: [u16; 2] = [1, 3];
const PROTOCOL_NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const ICMP_TYPES: [u16; 2] = [5, 8];
const ICMP_CODES: [u16; 2] = [6, 9];
/// `IPS_EXPECTED`.
const EXPECTED: u32 = 1;
/// Two flags in an attribute's type: nested, and network byte order.
const TYPE_MASK: u16 = 0x3fff;
const NESTED: u16 = 0x8000;

/// One message of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Flow(TrackedFlow),
    /// Nothing that is of use here.
    Other,
    /// The list has ended.
    Done,
    /// An errno.
    Failed(i32),
}

/// Asks for every entry, of both families.
pub(super) fn list() -> Vec<u8> {
    request(GET, libc::NLM_F_DUMP, libc::AF_UNSPEC, &[])
}

/// Deletes exactly this entry, not one that has come in its place.
pub(super) fn delete(flow: &TrackedFlow) -> Vec<u8> {
    let family = match flow.opening.source {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    };
    let mut attributes = attribute(TUPLE_ORIGINAL | NESTED, &flow.tuple);
    attributes.extend(attribute(ID, &flow.id.to_be_bytes()));
    request(DELETE, libc::NLM_F_ACK, family, &attributes)
}

fn request(kind: u16, flags: i32, family: i32, attributes: &[u8]) -> Vec<u8> {
    let flags = u16::try_from(libc::NLM_F_REQUEST | flags).unwrap_or_default();
    let length = u32::try_from(HEADER + FAMILY_HEADER + attributes.len()).unwrap_or_default();
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence number and port: one request at a time, and the kernel fills in the port.
    message.extend([0; 8]);
    message.extend([u8::try_from(family).unwrap_or_default(), 0, 0, 0]);
    message.extend(attributes);
    message
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or_default();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// What a datagram of the kernel's says.
pub(super) fn answers(mut datagram: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let (Some(length), Some(kind)) = (ne_u32(datagram), ne_u16(datagram.get(4..))) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(message) = datagram.get(HEADER..length) else { break };
        answers.push(match i32::from(kind) {
            libc::NLMSG_DONE => Answer::Done,
            libc::NLMSG_ERROR => {
                match message.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)) {
                    Some(0) => Answer::Other,
                    Some(errno) => Answer::Failed(-errno),
                    None => Answer::Failed(libc::EBADMSG),
                }
            }
            _ if kind == NEW => {
                let attributes = message.get(FAMILY_HEADER..).unwrap_or_default();
                flow(attributes).map_or(Answer::Other, Answer::Flow)
            }
            _ => Answer::Other,
        });
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    answers
}

/// As the groups saw its first packet: with the source before translation and the destination
/// after it, which is where the answers come from.
fn flow(attributes: &[u8]) -> Option<TrackedFlow> {
    let status = u32::from_be_bytes(*find(attributes, &[STATUS])?.first_chunk()?);
    if status & EXPECTED != 0 {
        return None;
    }
    let tuple = find(attributes, &[TUPLE_ORIGINAL])?;
    let (original, reply) = (Tuple::of(tuple)?, Tuple::of(find(attributes, &[TUPLE_REPLY])?)?);
    let service = match original.protocol {
        6 => Service::Tcp(reply.source_port?),
        17 => Service::Udp(reply.source_port?),
        1 => Service::Icmp { kind: original.icmp?.0, code: original.icmp?.1 },
        58 => Service::Icmpv6 { kind: original.icmp?.0, code: original.icmp?.1 },
        other => Service::Other(other),
    };
    let opening = Opening { service, source: original.source, destination: reply.source };
    let id = u32::from_be_bytes(*find(attributes, &[ID])?.first_chunk()?);
    Some(TrackedFlow { id, tuple: tuple.to_vec(), opening })
}

struct Tuple {
    protocol: u8,
    source: IpAddr,
    source_port: Option<u16>,
    icmp: Option<(u8, u8)>,
}

impl Tuple {
    fn of(attributes: &[u8]) -> Option<Self> {
        let ip = find(attributes, &[TUPLE_IP])?;
        let above = find(attributes, &[TUPLE_PROTOCOL])?;
        let byte = |kinds: &[u16]| find(above, kinds).and_then(|bytes| bytes.first().copied());
        let source = find(ip, &IP_SOURCES)?;
        let source = match source.len() {
            4 => IpAddr::V4(Ipv4Addr::from(*source.first_chunk::<4>()?)),
            _ => IpAddr::V6(Ipv6Addr::from(*source.first_chunk::<16>()?)),
        };
        let port = find(above, &[SOURCE_PORT]).and_then(|bytes| bytes.first_chunk());
        Some(Self {
            protocol: byte(&[PROTOCOL_NUMBER])?,
            source,
            source_port: port.map(|bytes| u16::from_be_bytes(*bytes)),
            icmp: byte(&ICMP_TYPES).zip(byte(&ICMP_CODES)),
        })
    }
}

/// The value of the first attribute of one of these types.
fn find<'a>(mut attributes: &'a [u8], kinds: &[u16]) -> Option<&'a [u8]> {
    loop {
        let length = usize::from(ne_u16(Some(attributes))?);
        let kind = ne_u16(attributes.get(2..))? & TYPE_MASK;
        let value = attributes.get(4..length)?;
        if kinds.contains(&kind) {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn ne_u16(bytes: Option<&[u8]>) -> Option<u16> {
    bytes?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn ne_u32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_short_is_no_answer() {
        let whole = delete(&TrackedFlow {
            id: 7,
            tuple: vec![1, 2, 3, 4],
            opening: Opening {
                service: Service::Tcp(22),
                source: [10, 0, 0, 1].into(),
                destination: [10, 0, 0, 2].into(),
            },
        });
        for length in 0..whole.len() {
            assert_eq!(answers(whole.get(..length).unwrap()), [], "{length} bytes");
        }
        // A length of nothing would be looked at for ever.
        assert_eq!(answers(&[0; 64]), []);
        assert_eq!(find(&[0; 8], &[1]), None);
    }
}
