//! What a request is answered with (RFC 2131, 4.3). Pure.

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode};
use hickory_proto::rr::Name;
use ipnetwork::Ipv4Network;

use crate::directory::Lease;

/// How long an address is lent, as in EC2. It is the guest's for its whole life anyway.
const LEASE_SECONDS: u32 = 3600;

/// Where an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// The guest has no address yet.
    Everybody,
    /// The guest uses this address.
    Guest(Ipv4Addr),
}

/// An answer and how it is sent.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) message: Message,
    pub(crate) to: Destination,
    /// Whether the guest has its address now.
    pub(crate) gives_address: bool,
}

/// The answer to `request` of the guest that `lease` is for, if there is one.
pub(super) fn answer(request: &Message, lease: &Lease) -> Option<Answer> {
    // Relays are no guests.
    if request.opcode() != Opcode::BootRequest || request.giaddr() != Ipv4Addr::UNSPECIFIED {
        return None;
    }
    let asked_in_use = request.ciaddr();
    match request.opts().msg_type()? {
        MessageType::Discover => {
            let message = reply(request, lease, MessageType::Offer, true);
            Some(Answer { message, to: Destination::Everybody, gives_address: false })
        }
        MessageType::Request => {
            let server = request.opts().get(OptionCode::ServerIdentifier);
            if let Some(DhcpOption::ServerIdentifier(server)) = server
                && *server != lease.server
            {
                // It takes another server's offer.
                return None;
            }
            let wanted = match request.opts().get(OptionCode::RequestedIpAddress) {
                Some(DhcpOption::RequestedIpAddress(wanted)) => *wanted,
                _ => asked_in_use,
            };
            // What is decided here is final: nobody else lends addresses.
            if wanted != lease.address {
                let message = reply(request, lease, MessageType::Nak, false);
                return Some(Answer { message, to: Destination::Everybody, gives_address: false });
            }
            let to = match asked_in_use {
                Ipv4Addr::UNSPECIFIED => Destination::Everybody,
                in_use => Destination::Guest(in_use),
            };
            let message = reply(request, lease, MessageType::Ack, true);
            Some(Answer { message, to, gives_address: true })
        }
        // It has an address and wants the rest.
        MessageType::Inform if asked_in_use == lease.address => {
            let mut message = reply(request, lease, MessageType::Ack, true);
            message.set_yiaddr(Ipv4Addr::UNSPECIFIED);
            for lent in [OptionCode::AddressLeaseTime, OptionCode::Renewal, OptionCode::Rebinding] {
                message.opts_mut().remove(lent);
            }
            let to = Destination::Guest(asked_in_use);
            Some(Answer { message, to, gives_address: false })
        }
        // A released address stays the guest's, and one that it declines is taken by nobody else.
        _ => None,
    }
}

fn reply(request: &Message, lease: &Lease, kind: MessageType, with_lease: bool) -> Message {
    let mut message = Message::default();
    message
        .set_opcode(Opcode::BootReply)
        .set_htype(request.htype())
        .set_xid(request.xid())
        .set_flags(request.flags())
        .set_chaddr(request.chaddr());
    if kind == MessageType::Ack {
        message.set_ciaddr(request.ciaddr());
    }
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(lease.server));
    if with_lease {
        insert_lease(options, lease);
        message.set_yiaddr(lease.address);
    }
    message
}

fn insert_lease(options: &mut dhcproto::v4::DhcpOptions, lease: &Lease) {
    let mask = Ipv4Network::new(lease.router, lease.prefix_len)
        .map_or(Ipv4Addr::BROADCAST, |network| network.mask());
    options.insert(DhcpOption::SubnetMask(mask));
    options.insert(DhcpOption::Router(vec![lease.router]));
    if !lease.dns_servers.is_empty() {
        options.insert(DhcpOption::DomainNameServer(lease.dns_servers.clone()));
    }
    if let Some(domain) = lease.search {
        options.insert(DhcpOption::DomainName(domain.to_owned()));
        // It is one of ours, and a name.
        if let Ok(domain) = Name::from_ascii(domain) {
            options.insert(DhcpOption::DomainSearch(vec![domain]));
        }
    }
    options.insert(DhcpOption::Hostname(lease.hostname.clone()));
    if let Some(mtu) = lease.mtu {
        options.insert(DhcpOption::InterfaceMtu(mtu));
    }
    options.insert(DhcpOption::AddressLeaseTime(LEASE_SECONDS));
    options.insert(DhcpOption::Renewal(LEASE_SECONDS / 2));
    options.insert(DhcpOption::Rebinding(LEASE_SECONDS / 8 * 7));
}

#[cfg(test)]
mod tests {
    use weft_model::InstanceId;

    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 5);
    const ROUTER: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 1);
    const SERVER: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 2);
    const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
    const OTHER: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 9);

    fn lease() -> Lease {
        Lease {
            instance_id: InstanceId::from_random([1; 9]),
            address: ADDRESS,
            prefix_len: 18,
            router: ROUTER,
            server: SERVER,
            dns_servers: vec![Ipv4Addr::new(169, 254, 169, 253)],
            search: Some("default.weft.internal"),
            hostname: "web".to_owned(),
            mtu: Some(1450),
            ipv6: None,
        }
    }

    fn request(kind: MessageType, in_use: Ipv4Addr, options: &[DhcpOption]) -> Message {
        let mac = [2, 0, 0, 0, 0, 1];
        let mut message = Message::new_with_id(42, in_use, NOBODY, NOBODY, NOBODY, &mac);
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        for option in options {
            message.opts_mut().insert(option.clone());
        }
        message
    }

    #[test]
    fn requests_are_answered_as_the_standard_says() {
        use Destination::{Everybody, Guest};
        use MessageType::{Ack, Decline, Discover, Inform, Nak, Offer, Release, Request};
        let wants = |address| DhcpOption::RequestedIpAddress(address);
        let server = |address| DhcpOption::ServerIdentifier(address);
        #[rustfmt::skip]
        let cases = [
            ("discover",              Discover, NOBODY,  vec![],                               Some((Offer, Everybody))),
            ("discover, wants other", Discover, NOBODY,  vec![wants(OTHER)],                   Some((Offer, Everybody))),
            ("selecting",             Request,  NOBODY,  vec![wants(ADDRESS), server(SERVER)], Some((Ack, Everybody))),
            ("selecting another",     Request,  NOBODY,  vec![wants(ADDRESS), server(OTHER)],  None),
            ("selecting, forged",     Request,  NOBODY,  vec![wants(OTHER), server(SERVER)],   Some((Nak, Everybody))),
            ("after a reboot",        Request,  NOBODY,  vec![wants(ADDRESS)],                 Some((Ack, Everybody))),
            ("after a move",          Request,  NOBODY,  vec![wants(OTHER)],                   Some((Nak, Everybody))),
            ("renewing",              Request,  ADDRESS, vec![],                               Some((Ack, Guest(ADDRESS)))),
            ("renewing another's",    Request,  OTHER,   vec![],                               Some((Nak, Everybody))),
            ("inform",                Inform,   ADDRESS, vec![],                               Some((Ack, Guest(ADDRESS)))),
            ("inform of another's",   Inform,   OTHER,   vec![],                               None),
            ("release",               Release,  ADDRESS, vec![],                               None),
            ("decline",               Decline,  NOBODY,  vec![wants(ADDRESS)],                 None),
        ];
        for (name, kind, in_use, options, want) in cases {
            let answer = answer(&request(kind, in_use, &options), &lease());
            let got = answer.as_ref().map(|a| (a.message.opts().msg_type().unwrap(), a.to));
            assert_eq!(got, want, "{name}");
            let Some(answer) = answer else { continue };
            assert_eq!(answer.message.xid(), 42, "{name}");
            assert_eq!(answer.message.chaddr(), [2, 0, 0, 0, 0, 1], "{name}");
            let lent = matches!(want, Some((Offer | Ack, _))) && kind != Inform;
            let yours = if lent { ADDRESS } else { NOBODY };
            assert_eq!(answer.message.yiaddr(), yours, "{name}");
            let time = answer.message.opts().contains(OptionCode::AddressLeaseTime);
            assert_eq!(time, lent, "{name}");
        }
    }

    #[test]
    fn an_offer_holds_what_the_guest_needs() {
        let offer = answer(&request(MessageType::Discover, NOBODY, &[]), &lease()).unwrap();
        let option = |code| offer.message.opts().get(code).cloned();
        let mask = Ipv4Addr::new(255, 255, 192, 0);
        assert_eq!(option(OptionCode::SubnetMask), Some(DhcpOption::SubnetMask(mask)));
        assert_eq!(option(OptionCode::Router), Some(DhcpOption::Router(vec![ROUTER])));
        let dns = DhcpOption::DomainNameServer(lease().dns_servers);
        assert_eq!(option(OptionCode::DomainNameServer), Some(dns));
        let domain = "default.weft.internal";
        let name = Some(DhcpOption::DomainName(domain.to_owned()));
        assert_eq!(option(OptionCode::DomainName), name);
        let search = Some(DhcpOption::DomainSearch(vec![Name::from_ascii(domain).unwrap()]));
        assert_eq!(option(OptionCode::DomainSearch), search);
        assert_eq!(option(OptionCode::Hostname), Some(DhcpOption::Hostname("web".to_owned())));
        assert_eq!(option(OptionCode::InterfaceMtu), Some(DhcpOption::InterfaceMtu(1450)));
        assert_eq!(
            option(OptionCode::ServerIdentifier),
            Some(DhcpOption::ServerIdentifier(SERVER))
        );
    }

    #[test]
    fn relays_and_answers_are_not_answered() {
        let mut relayed = request(MessageType::Discover, NOBODY, &[]);
        relayed.set_giaddr(OTHER);
        assert!(answer(&relayed, &lease()).is_none());
        let mut reply = request(MessageType::Discover, NOBODY, &[]);
        reply.set_opcode(Opcode::BootReply);
        assert!(answer(&reply, &lease()).is_none());
    }
}
