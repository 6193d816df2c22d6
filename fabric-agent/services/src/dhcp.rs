//! DHCP: one socket for all guests of a VPC.
//!
//! A guest is known by the link that its request came in by and its MAC; nobody else is answered.

mod answer;
mod socket;

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Arc;

use dhcproto::v4::Message;
use dhcproto::{Decodable, Decoder, Encodable};
use weft_model::{LinkName, MacAddr, VpcId};

use crate::directory::{Directory, Lease, Seen};
use crate::refusals::{Refusals, Refused};
use answer::{Answer, Destination, answer};
pub(crate) use socket::link_name;
use socket::{LinkSocket, Received};

/// Where a client listens (RFC 2131, 4.1).
const CLIENT_PORT: u16 = 68;
/// `op`, `htype` and `hlen` of a request from an Ethernet client.
const ETHERNET_REQUEST: [u8; 3] = [1, 1, 6];

/// Where the options begin: after the fixed fields and the magic cookie (RFC 2131, 2 and 3).
const OPTIONS_AT: usize = 240;
/// Options without a length (RFC 2132, 3.1 and 3.2).
const PAD: u8 = 0;
const END: u8 = 255;
/// Codes and lengths of: requested address, message type, server (RFC 2132, 9).
const WANTED: [(u8, u8); 3] = [(50, 4), (53, 1), (54, 4)];

pub(crate) struct Server {
    socket: LinkSocket,
    vpc: VpcId,
    directory: Arc<dyn Directory>,
    refusals: Arc<Refusals>,
}

impl Server {
    pub(crate) fn new(
        socket: UdpSocket,
        vpc: VpcId,
        directory: Arc<dyn Directory>,
        refusals: Arc<Refusals>,
    ) -> std::io::Result<Self> {
        Ok(Self { socket: LinkSocket::new(socket)?, vpc, directory, refusals })
    }

    /// Answers until it is dropped.
    pub(crate) async fn run(self) {
        loop {
            match self.socket.receive().await {
                Ok(received) => self.take(&received).await,
                Err(error) => {
                    tracing::warn!(vpc.id = %self.vpc, %error, "cannot receive DHCP requests");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn take(&self, received: &Received) {
        let answer = respond(&received.datagram, &received.link, &self.vpc, &*self.directory);
        let (lease, answer) = match answer {
            Ok((lease, Some(answer))) => (lease, answer),
            Ok((_, None)) => return,
            Err(why) => return self.refusals.count(why, &received.link),
        };
        let Answer { message, to, gives_address } = answer;
        let Ok(datagram) = message.to_vec() else { return };
        let address = match to {
            Destination::Everybody => Ipv4Addr::BROADCAST,
            Destination::Guest(address) => address,
        };
        let to = SocketAddrV4::new(address, CLIENT_PORT);
        if let Err(error) = self.socket.send(&datagram, to, received.index, lease.server) {
            tracing::warn!(instance.id = %lease.instance_id, %error, "cannot send a DHCP answer");
            return;
        }
        let seen = if gives_address { Seen::Dhcp } else { Seen::DhcpAsked };
        self.directory.saw(&lease.instance_id, seen);
    }
}

/// What the guest behind `link` that sent `datagram` is to be told, if anything. Pure.
///
/// # Errors
/// No request, or one of nobody that is known behind the link.
pub(crate) fn respond(
    datagram: &[u8],
    link: &LinkName,
    vpc: &VpcId,
    directory: &dyn Directory,
) -> Result<(Lease, Option<Answer>), Refused> {
    let (mac, request) = parse(datagram).ok_or(Refused::DhcpMalformed)?;
    let lease = directory.lease(vpc, link, mac).ok_or(Refused::DhcpStranger)?;
    let answer = answer(&request, &lease);
    Ok((lease, answer))
}

/// A request of an Ethernet client and its MAC.
///
/// The library sees only what it can be trusted with: a wrong length of the hardware address or of
/// some options makes it panic (dhcproto 0.15), and guests are hostile.
fn parse(datagram: &[u8]) -> Option<(MacAddr, Message)> {
    if !datagram.starts_with(&ETHERNET_REQUEST) {
        return None;
    }
    let (fixed, options) = datagram.split_at_checked(OPTIONS_AT)?;
    let harmless = [fixed, &wanted_options(options)?].concat();
    let message = Message::decode(&mut Decoder::new(&harmless)).ok()?;
    let [a, b, c, d, e, f] = <[u8; 6]>::try_from(message.chaddr()).ok()?;
    let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}").parse().ok()?;
    Some((mac, message))
}

/// Those options that an answer depends on, and the end (RFC 2132, 2).
fn wanted_options(mut options: &[u8]) -> Option<Vec<u8>> {
    let mut wanted = Vec::new();
    loop {
        options = match options {
            [PAD, rest @ ..] => rest,
            [] | [END, ..] => break,
            [code, length, rest @ ..] => {
                let (value, rest) = rest.split_at_checked(usize::from(*length))?;
                if WANTED.contains(&(*code, *length)) {
                    wanted.extend([*code, *length]);
                    wanted.extend(value);
                }
                rest
            }
            [_] => return None,
        };
    }
    wanted.push(END);
    Some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_of_ethernet_clients_are_parsed() {
        let mac = [2, 0, 0, 0, 0, 9];
        let zero = Ipv4Addr::UNSPECIFIED;
        let request = Message::new_with_id(7, zero, zero, zero, zero, &mac).to_vec().unwrap();
        let (parsed, _) = parse(&request).unwrap();
        assert_eq!(parsed.octets(), mac);
        for (byte, value) in [(0, 2), (1, 6), (2, 17), (2, 255), (2, 5), (28, 1)] {
            let mut bad = request.clone();
            bad[byte] = value;
            assert!(parse(&bad).is_none(), "byte {byte} is {value}");
        }
        assert!(parse(&request[..100]).is_none(), "cut short");
    }
}
