//! DHCP requests.

use std::net::Ipv4Addr;

use dhcproto::Encodable as _;
use dhcproto::v4::{DhcpOption, Message, MessageType};
use proptest::prelude::*;

use super::{fuzz, hostile};
use crate::dhcp::respond;
use crate::directory::Guest;
use crate::testing::{Known, guest, other_guest};

/// Every kind of request, of both guests.
fn requests() -> Vec<Vec<u8>> {
    let zero = Ipv4Addr::UNSPECIFIED;
    let kinds = [
        MessageType::Discover,
        MessageType::Request,
        MessageType::Inform,
        MessageType::Release,
        MessageType::Decline,
    ];
    let mut packets = Vec::new();
    for it in [guest(), other_guest()] {
        for kind in kinds {
            for in_use in [zero, it.address] {
                let mac = it.mac.octets();
                let mut message = Message::new_with_id(7, in_use, zero, zero, zero, &mac);
                let options = message.opts_mut();
                options.insert(DhcpOption::MessageType(kind));
                options.insert(DhcpOption::RequestedIpAddress(it.address));
                options.insert(DhcpOption::Hostname("evil".to_owned()));
                packets.push(message.to_vec().unwrap());
            }
        }
    }
    packets
}

/// Whoever is behind `tap5` gets what is the guest's there, or nothing.
fn is_harmless(datagram: &[u8], own: &Guest, directory: &Known) -> Result<(), TestCaseError> {
    let link = "tap5".parse().unwrap();
    let Ok((lease, answer)) = respond(datagram, &link, &own.vpc_id, directory) else {
        return Ok(());
    };
    let mac = own.mac.octets();
    prop_assert_eq!(&lease.instance_id, &own.instance_id);
    prop_assert_eq!(datagram.get(28..34), Some(mac.as_slice()));
    let Some(answer) = answer else { return Ok(()) };
    let given = answer.message.yiaddr();
    prop_assert!(given.is_unspecified() || given == own.address, "{} was given", given);
    prop_assert_eq!(answer.message.chaddr(), mac.as_slice());
    prop_assert!(answer.message.to_vec().unwrap().len() < 1400);
    Ok(())
}

#[test]
fn the_packets_that_are_spoiled_are_good_ones() {
    let (own, link) = (guest(), "tap5".parse().unwrap());
    let directory = Known::new([guest(), other_guest()]);
    let answered = requests().into_iter().filter(|packet| {
        matches!(respond(packet, &link, &own.vpc_id, &directory), Ok((_, Some(_))))
    });
    assert_eq!(answered.count(), 5, "discover and request twice, inform with an address");
}

#[test]
fn no_dhcp_request_panics_or_gets_another_guests_address() {
    let directory = Known::new([guest(), other_guest()]);
    fuzz(20_000, hostile(requests()), |datagram| is_harmless(&datagram, &guest(), &directory));
}
