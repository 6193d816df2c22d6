//! Frames, byte by byte, and who saw them.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use weft_model::MacAddr;
use weft_network::Namespace;

pub(crate) const BROADCAST: [u8; 6] = [0xff; 6];

pub(crate) fn ethernet(to: [u8; 6], from: MacAddr, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&to[..], &from.octets(), &kind.to_be_bytes(), payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// A datagram without a checksum, which UDP over IPv4 allows.
pub(crate) fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let total = (20 + length).to_be_bytes();
    let mut packet = vec![0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(from.0.octets());
    packet.extend(to.0.octets());
    let sum = super::guest::checksum(&packet).to_be_bytes();
    packet[10..12].copy_from_slice(&sum);
    for field in [from.1, to.1, length, 0] {
        packet.extend(field.to_be_bytes());
    }
    packet.extend(payload);
    packet
}

/// "`sender` is at `mac`; who has `target`?" Also an announcement, if both are the same.
pub(crate) fn arp(mac: MacAddr, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
    packet.extend(mac.octets());
    packet.extend(sender.octets());
    packet.extend([0; 6]);
    packet.extend(target.octets());
    packet
}

/// Counts what comes in at a link, before anything else sees it.
pub(crate) struct Watch {
    namespace: Namespace,
}

impl Watch {
    /// Counts frames at `link` that match `what`, an expression of nft.
    pub(crate) fn new(namespace: &Namespace, link: &str, what: &str) -> Self {
        let this = Self { namespace: namespace.clone() };
        this.nft("add table netdev watch; delete table netdev watch; add table netdev watch");
        this.nft(&format!(
            "add chain netdev watch seen {{ type filter hook ingress device {link} priority 0; }}"
        ));
        this.nft(&format!("add rule netdev watch seen {what} counter"));
        this
    }

    fn nft(&self, command: &str) -> String {
        let run = || Command::new("nft").arg(command).output().unwrap();
        let output = self.namespace.enter(run).unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "nft {command}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// How many were seen, once `enough` were or nothing more is to be expected.
    pub(crate) fn count(&self, enough: u64) -> u64 {
        let deadline = Instant::now() + Duration::from_millis(400);
        loop {
            let count = counted(&self.nft("list chain netdev watch seen"), "counter");
            if count >= enough || Instant::now() >= deadline {
                return count;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The packets counted by the first rule of a listing that contains `what`.
pub(crate) fn counted(listing: &str, what: &str) -> u64 {
    let rule = listing.lines().find(|line| line.contains(what)).unwrap();
    let mut words = rule.split(' ').skip_while(|word| *word != "packets");
    words.nth(1).unwrap().parse().unwrap()
}
