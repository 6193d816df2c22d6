//! IPv6 configuration of guests: router advertisements and DHCPv6, one packet socket for all guests
//! of a VPC.
//!
//! A guest is known by the link that its frame came in by and its MAC; nobody else is answered.
//! Frames are read before the packet filter, which then drops them, and answers go straight to the
//! guest's MAC: nothing of this makes entries in the kernel's neighbour table.

mod advertisement;
mod dhcp;
mod frame;
mod socket;

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use weft_model::{LinkName, MacAddr, VpcId};

use crate::directory::{Directory, LeaseV6, Seen};
use frame::{Asked, Question};
pub(crate) use socket::{FrameSocket, open};

/// Between two advertisements that nobody asked for: `MinRtrAdvInterval` of RFC 4861, 6.2.1, for a
/// maximum of 600 s. Guests ask when they start.
const ADVERTISE_EVERY: Duration = Duration::from_secs(200);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

pub(crate) struct Server {
    socket: FrameSocket,
    vpc: VpcId,
    directory: Arc<dyn Directory>,
}

impl Server {
    pub(crate) fn new(
        socket: std::os::fd::OwnedFd,
        vpc: VpcId,
        directory: Arc<dyn Directory>,
    ) -> std::io::Result<Self> {
        Ok(Self { socket: FrameSocket::new(socket)?, vpc, directory })
    }

    /// Answers, and advertises, until it is dropped.
    pub(crate) async fn run(self) {
        let mut tick = tokio::time::interval(ADVERTISE_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Both are cancel safe.
            tokio::select! {
                received = self.socket.receive() => match received {
                    Ok((frame, link)) => self.take(&frame, &link),
                    Err(error) => {
                        tracing::warn!(vpc.id = %self.vpc, %error, "cannot receive IPv6 requests");
                        tokio::time::sleep(crate::sockets::PAUSE).await;
                    }
                },
                _ = tick.tick() => self.advertise_to_all(),
            }
        }
    }

    fn take(&self, bytes: &[u8], link: &LinkName) {
        let Some(Question { mac, source, asked }) = frame::parse(bytes) else { return };
        let lease = self.directory.lease(&self.vpc, link, mac);
        let Some((instance_id, lease)) = lease.and_then(|one| Some((one.instance_id, one.ipv6?)))
        else {
            tracing::debug!(vpc.id = %self.vpc, link.name = %link, %mac, "not a guest with IPv6: no answer");
            return;
        };
        match asked {
            Asked::Router => self.advertise(link, mac, &lease),
            Asked::Dhcp(request) => {
                let Some(answer) = dhcp::answer(&request, &lease, router_mac(mac)) else { return };
                let to = (mac, source);
                self.send(link, &frame::dhcp(router_mac(mac), to, &answer.bytes));
                let seen = if answer.gives_address { Seen::Dhcp } else { Seen::DhcpAsked };
                self.directory.saw(&instance_id, seen);
            }
        }
    }

    fn advertise_to_all(&self) {
        for (link, mac) in self.directory.links(&self.vpc) {
            let lease = self.directory.lease(&self.vpc, &link, mac);
            if let Some(lease) = lease.and_then(|lease| lease.ipv6) {
                self.advertise(&link, mac, &lease);
            }
        }
    }

    fn advertise(&self, link: &LinkName, mac: MacAddr, lease: &LeaseV6) {
        let Some(message) = advertisement::message(lease, router_mac(mac)) else { return };
        self.send(link, &frame::icmp(router_mac(mac), (mac, ALL_NODES), message));
    }

    fn send(&self, link: &LinkName, frame: &[u8]) {
        if let Err(error) = self.socket.send(frame, link) {
            // A guest that is off has no link; one that starts asks by itself.
            tracing::debug!(vpc.id = %self.vpc, link.name = %link, %error, "cannot send over IPv6");
        }
    }
}

/// The MAC of the router on the link of the guest with `mac`: the tap's own.
fn router_mac(mac: MacAddr) -> [u8; 6] {
    let [_, b, c, d, e, f] = mac.octets();
    [0xfe, b, c, d, e, f]
}
