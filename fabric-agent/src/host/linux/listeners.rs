//! Which ports of the agent's namespace somebody listens on, as `/proc/net` has it.
//!
//! Format: Linux `Documentation/networking/proc_net_tcp.rst`. Addresses are 32-bit words in the
//! machine's order, ports numbers, both in hexadecimal.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use weft_model::TransportProtocol;

use crate::host::HostError;

/// `TCP_LISTEN`, and what UDP sockets without a peer are in (`TCP_CLOSE`), of Linux
/// `net/tcp_states.h`.
const LISTEN: &str = "0A";
const UNCONNECTED: &str = "07";

/// Where somebody listens on `port`, if packets to `address` (`None`: to any of the host's but
/// 127.0.0.0/8) would come there.
pub(super) fn find(
    protocol: TransportProtocol,
    port: u16,
    address: Option<Ipv4Addr>,
) -> Result<Option<SocketAddr>, HostError> {
    let state = match protocol {
        TransportProtocol::Tcp => LISTEN,
        TransportProtocol::Udp => UNCONNECTED,
    };
    for suffix in ["", "6"] {
        let file = format!("/proc/thread-self/net/{protocol}{suffix}");
        let table = match std::fs::read_to_string(&file) {
            Ok(table) => table,
            // A kernel without IPv6.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(HostError::new(format!("read {file}"), true).caused_by(error)),
        };
        let mut listening = table.lines().skip(1).filter_map(|line| socket(line, state));
        let found = listening.find(|socket| socket.port() == port && meets(socket.ip(), address));
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Whether what is sent to `asked` comes to a socket that is bound to `bound`.
fn meets(bound: IpAddr, asked: Option<Ipv4Addr>) -> bool {
    match (bound.to_canonical(), asked) {
        (bound, _) if bound.is_unspecified() => true,
        (IpAddr::V4(bound), Some(asked)) => bound == asked,
        (IpAddr::V4(bound), None) => !bound.is_loopback(),
        (IpAddr::V6(_), _) => false,
    }
}

/// The local address of a line, where the socket is in `state`.
fn socket(line: &str, state: &str) -> Option<SocketAddr> {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    if fields.nth(1)? != state {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<u8>> = address
        .as_bytes()
        .chunks(8)
        .map(|word| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok())
        .try_fold(Vec::new(), |mut bytes, word| {
            bytes.extend(word?.to_ne_bytes());
            Some(bytes)
        });
    let words = words?;
    let address = match words.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(words.as_slice()).ok()?),
        16 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(words.as_slice()).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn a_listener_is_found_where_packets_would_reach_it() {
        use TransportProtocol::{Tcp, Udp};
        let everywhere = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap();
        let held = TcpListener::bind(everywhere).unwrap();
        let port = held.local_addr().unwrap().port();
        let elsewhere = Some(Ipv4Addr::new(192, 0, 2, 1));
        assert!(find(Tcp, port, None).unwrap().is_some());
        assert!(find(Tcp, port, elsewhere).unwrap().is_some());

        let local = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = local.local_addr().unwrap().port();
        assert_eq!(find(Tcp, port, None).unwrap(), None, "a forward leaves 127.0.0.1 alone");
        assert_eq!(find(Tcp, port, elsewhere).unwrap(), None);
        assert_eq!(find(Udp, port, None).unwrap(), None);

        let dual = UdpSocket::bind("[::]:0").unwrap();
        let port = dual.local_addr().unwrap().port();
        assert!(find(Udp, port, None).unwrap().is_some(), "IPv6 sockets take IPv4 too");
    }
}
