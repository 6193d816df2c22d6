//! What a DHCPv6 message is answered with (RFC 8415, 18.3). Pure.
//!
//! Who asks is known by link and MAC; the client's own identifier is only given back. Requests are
//! read by hand, as the library has panicked on hostile input in its other half (dhcproto 0.15).

use std::net::Ipv6Addr;

use dhcproto::Encodable as _;
use dhcproto::v6::{
    DhcpOption, DhcpOptions, IAAddr, IANA, Message, MessageType, Status, StatusCode,
};

use crate::directory::LeaseV6;

/// Seconds. The address is the guest's for its whole life anyway; it asks again twice an hour.
const VALID: u32 = 24 * 3600;
const PREFERRED: u32 = VALID / 2;
const RENEW: u32 = 1800;
const REBIND: u32 = 2880;
/// Option codes (RFC 8415, 21).
const CLIENT_ID: u16 = 1;
const SERVER_ID: u16 = 2;
const IA_NA: u16 = 3;
const IA_ADDRESS: u16 = 5;
const RAPID_COMMIT: u16 = 14;
/// The longest identifier (RFC 8415, 11.1), and more associations than any client has.
const MAX_ID: usize = 130;
const MAX_ASSOCIATIONS: usize = 8;

/// An answer as it goes on the wire.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) bytes: Vec<u8>,
    /// Whether the guest has its address now.
    pub(super) gives_address: bool,
}

/// What matters of a request.
#[derive(Debug, Default)]
struct Request {
    kind: u8,
    id: [u8; 3],
    client: Option<Vec<u8>>,
    server: Option<Vec<u8>>,
    /// Identity associations, each with the addresses that the client believes to have.
    associations: Vec<(u32, Vec<Ipv6Addr>)>,
    rapid: bool,
}

/// The answer to `bytes` of the guest that `lease` is for, if there is one; `router` is who
/// answers, by its MAC.
pub(super) fn answer(bytes: &[u8], lease: &LeaseV6, router: [u8; 6]) -> Option<Answer> {
    let request = parse(bytes)?;
    // DUID-LL of an Ethernet link (RFC 8415, 11.4): the same whenever the guest asks.
    let ours = [&[0, 3, 0, 1], &router[..]].concat();
    let for_us = request.server.as_ref() == Some(&ours);
    let for_all = request.server.is_none();
    let kind = MessageType::from(request.kind);
    let fits = match kind {
        MessageType::Solicit | MessageType::Confirm | MessageType::Rebind => for_all,
        MessageType::Request | MessageType::Renew | MessageType::Release | MessageType::Decline => {
            for_us
        }
        MessageType::InformationRequest => for_all || for_us,
        _ => false,
    };
    // Only who wants nothing for itself may stay unknown (RFC 8415, 16.12).
    if !fits || (request.client.is_none() && kind != MessageType::InformationRequest) {
        return None;
    }
    let offer = kind == MessageType::Solicit && !request.rapid;
    let reply = if offer { MessageType::Advertise } else { MessageType::Reply };
    let mut message = Message::new_with_id(reply, request.id);
    let options = message.opts_mut();
    options.insert(DhcpOption::ServerId(ours));
    if let Some(client) = &request.client {
        options.insert(DhcpOption::ClientId(client.clone()));
    }
    match kind {
        MessageType::Release | MessageType::Decline => options.insert(status(Status::Success)),
        MessageType::Confirm => {
            let mut claimed = request.associations.iter().flat_map(|(_, addresses)| addresses);
            let right = claimed.clone().all(|address| *address == lease.address);
            // Of a client without addresses nothing can be confirmed (RFC 8415, 18.3.3).
            claimed.next()?;
            options.insert(status(if right { Status::Success } else { Status::NotOnLink }));
        }
        MessageType::InformationRequest => {}
        _ => {
            for (n, (id, has)) in request.associations.iter().enumerate() {
                options.insert(association(*id, has, n == 0, lease));
            }
            if kind == MessageType::Solicit && request.rapid {
                options.insert(DhcpOption::RapidCommit);
            }
        }
    }
    let asks_for_address =
        matches!(kind, MessageType::Request | MessageType::Renew | MessageType::Rebind)
            || (kind == MessageType::Solicit && request.rapid);
    let gives_address = asks_for_address && !request.associations.is_empty();
    Some(Answer { bytes: message.to_vec().ok()?, gives_address })
}

/// The first association gets the address; what the client has besides is not its own.
fn association(id: u32, has: &[Ipv6Addr], first: bool, lease: &LeaseV6) -> DhcpOption {
    let address = |addr, preferred_life, valid_life| {
        let opts = DhcpOptions::new();
        DhcpOption::IAAddr(IAAddr { addr, preferred_life, valid_life, opts })
    };
    let mut opts = DhcpOptions::new();
    if first {
        opts.insert(address(lease.address, PREFERRED, VALID));
    } else {
        opts.insert(status(Status::NoAddrsAvail));
    }
    for foreign in has.iter().filter(|one| !first || **one != lease.address) {
        opts.insert(address(*foreign, 0, 0));
    }
    DhcpOption::IANA(IANA { id, t1: RENEW, t2: REBIND, opts })
}

fn status(status: Status) -> DhcpOption {
    DhcpOption::StatusCode(StatusCode { status, msg: String::new() })
}

fn parse(bytes: &[u8]) -> Option<Request> {
    let (head, rest) = bytes.split_at_checked(4)?;
    let mut request =
        Request { kind: *head.first()?, id: head.get(1..)?.try_into().ok()?, ..Request::default() };
    for (code, value) in options(rest)? {
        match code {
            CLIENT_ID | SERVER_ID if value.is_empty() || value.len() > MAX_ID => return None,
            CLIENT_ID => request.client = Some(value.to_vec()),
            SERVER_ID => request.server = Some(value.to_vec()),
            RAPID_COMMIT => request.rapid = true,
            IA_NA if request.associations.len() < MAX_ASSOCIATIONS => {
                let id = u32::from_be_bytes(value.get(..4)?.try_into().ok()?);
                let inner = options(value.get(12..)?)?;
                let addresses = inner.into_iter().filter(|(code, _)| *code == IA_ADDRESS);
                let addresses = addresses.take(MAX_ASSOCIATIONS).map(|(_, value)| {
                    let octets: [u8; 16] = value.get(..16)?.try_into().ok()?;
                    Some(Ipv6Addr::from(octets))
                });
                request.associations.push((id, addresses.collect::<Option<_>>()?));
            }
            _ => {}
        }
    }
    Some(request)
}

/// Code and value of each option (RFC 8415, 21.1); `None` where one is longer than what there is.
fn options(mut bytes: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut found = Vec::new();
    while let [code_high, code_low, length_high, length_low, rest @ ..] = bytes {
        let length = u16::from_be_bytes([*length_high, *length_low]).into();
        let (value, rest) = rest.split_at_checked(length)?;
        found.push((u16::from_be_bytes([*code_high, *code_low]), value));
        bytes = rest;
    }
    bytes.is_empty().then_some(found)
}

#[cfg(test)]
mod tests {
    use dhcproto::{Decodable as _, Decoder};
    use proptest::prelude::*;

    use super::*;
    use crate::testing::lease_v6;

    const ROUTER: [u8; 6] = [0xfe, 0, 0, 0, 0, 9];
    const OURS: [u8; 10] = [0, 3, 0, 1, 0xfe, 0, 0, 0, 0, 9];

    fn option(code: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap().to_be_bytes();
        [&code.to_be_bytes()[..], &length, value].concat()
    }

    fn ia(id: u32, addresses: &[&str]) -> Vec<u8> {
        let mut value = [&id.to_be_bytes()[..], &[0; 8]].concat();
        for address in addresses {
            let octets = address.parse::<Ipv6Addr>().unwrap().octets();
            value.extend(option(IA_ADDRESS, &[&octets[..], &[0; 8]].concat()));
        }
        option(IA_NA, &value)
    }

    fn request(kind: u8, options: &[Vec<u8>]) -> Vec<u8> {
        [&[kind, 1, 2, 3][..], &options.concat()].concat()
    }

    /// Type, addresses with whether they are the guest's, and status codes of an answer.
    fn show(bytes: &[u8]) -> String {
        let Some(answer) = answer(bytes, &lease_v6(), ROUTER) else { return "-".to_owned() };
        let message = Message::decode(&mut Decoder::new(&answer.bytes)).unwrap();
        assert_eq!(message.xid(), [1, 2, 3]);
        let mut words = Vec::new();
        let mut add = |option: &DhcpOption| match option {
            DhcpOption::StatusCode(code) => words.push(format!(" {:?}", code.status)),
            DhcpOption::IAAddr(one) => words.push(format!(" {}/{}", one.addr, one.valid_life)),
            DhcpOption::RapidCommit => words.push(" rapid".to_owned()),
            _ => {}
        };
        for option in message.opts().iter() {
            match option {
                DhcpOption::IANA(ia) => ia.opts.iter().for_each(&mut add),
                other => add(other),
            }
        }
        words.sort();
        let given = if answer.gives_address { " given" } else { "" };
        format!("{:?}{}{given}", message.msg_type(), words.concat())
    }

    #[test]
    fn a_guest_is_given_its_one_address() {
        let client = option(CLIENT_ID, b"me");
        let server = option(SERVER_ID, &OURS);
        let other = option(SERVER_ID, b"other");
        let rapid = option(RAPID_COMMIT, b"");
        let mine = "fd00:1:2:3::5";
        #[rustfmt::skip]
        let cases = [
            ("solicit",              request(1, &[client.clone(), ia(7, &[])]),                        "Advertise fd00:1:2:3::5/86400"),
            ("rapid",                request(1, &[client.clone(), rapid, ia(7, &[])]),                 "Reply fd00:1:2:3::5/86400 rapid given"),
            ("no identifier",        request(1, &[ia(7, &[])]),                                        "-"),
            ("request",              request(3, &[client.clone(), server.clone(), ia(7, &[mine])]),    "Reply fd00:1:2:3::5/86400 given"),
            ("of another server",    request(3, &[client.clone(), other, ia(7, &[mine])]),             "-"),
            ("renew",                request(5, &[client.clone(), server.clone(), ia(7, &[mine])]),    "Reply fd00:1:2:3::5/86400 given"),
            ("rebind a foreign one", request(6, &[client.clone(), ia(7, &["fd00::9"])]),               "Reply fd00:1:2:3::5/86400 fd00::9/0 given"),
            ("two associations",     request(1, &[client.clone(), ia(7, &[]), ia(8, &[])]),            "Advertise NoAddrsAvail fd00:1:2:3::5/86400"),
            ("confirm",              request(4, &[client.clone(), ia(7, &[mine])]),                    "Reply Success"),
            ("confirm a foreign one",request(4, &[client.clone(), ia(7, &["fd00::9"])]),               "Reply NotOnLink"),
            ("confirm nothing",      request(4, &[client.clone(), ia(7, &[])]),                        "-"),
            ("release",              request(8, &[client.clone(), server, ia(7, &[mine])]),            "Reply Success"),
            ("information",          request(11, &[]),                                                 "Reply"),
            ("an advertisement",     request(2, std::slice::from_ref(&client)),                                    "-"),
            ("a relay",              request(12, std::slice::from_ref(&client)),                                   "-"),
            ("cut short",            request(1, &[client])[..9].to_vec(),                              "-"),
        ];
        for (what, bytes, want) in cases {
            assert_eq!(show(&bytes), want, "{what}");
        }
    }

    mod fuzz {
        use super::*;

        #[test]
        fn no_message_makes_it_panic() {
            let input = (
                0..14_u8,
                prop::collection::vec(any::<u8>(), 0..300),
                prop::collection::vec(any::<u8>(), 0..60),
            );
            weft_fuzz::fuzz(2000, input, |(kind, rest, inner)| {
                let _ = answer(&[&[kind], &rest[..]].concat(), &lease_v6(), ROUTER);
                let options = [option(CLIENT_ID, b"me"), option(IA_NA, &inner), rest];
                let _ = answer(&request(kind, &options), &lease_v6(), ROUTER);
                Ok(())
            });
        }
    }
}
