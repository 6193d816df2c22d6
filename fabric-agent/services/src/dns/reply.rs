//! Answers of our own, as messages.

use hickory_proto::op::{Edns, Message, ResponseCode};

use super::upstream::Transport;
use super::zone::Found;

/// Bytes of an answer over UDP where the guest does not say more (RFC 1035, 4.2.1).
const MIN_UDP: u16 = 512;
/// The most that we send over UDP: what passes any link in one piece (DNS flag day 2020).
const MAX_UDP: u16 = 1232;
/// The version of EDNS that we speak (RFC 6891, 6.1.3).
const EDNS_VERSION: u8 = 0;

/// An answer without records.
pub(super) fn refuse(asked: &Message, code: ResponseCode) -> Option<Vec<u8>> {
    empty(asked, code).to_vec().ok()
}

/// The answer to `asked`, unless others are to be asked.
pub(super) fn reply(asked: &Message, found: Found, transport: Transport) -> Option<Vec<u8>> {
    let mut message = empty(asked, ResponseCode::NoError);
    message.metadata.authoritative = true;
    match found {
        Found::Elsewhere => return None,
        Found::Refused => return refuse(asked, ResponseCode::Refused),
        Found::Records(records) => message.answers = records,
        Found::NoData(soa) => message.authorities = vec![soa],
        Found::NoName(soa) => {
            message.metadata.response_code = ResponseCode::NXDomain;
            message.authorities = vec![soa];
        }
    }
    let whole = message.to_vec().ok()?;
    let room = match transport {
        Transport::Tcp => usize::from(u16::MAX),
        Transport::Udp => asked.max_payload().clamp(MIN_UDP, MAX_UDP).into(),
    };
    if whole.len() <= room {
        return Some(whole);
    }
    // Nothing of it is better than some: the guest asks again over TCP (RFC 2181, 9).
    message.answers.clear();
    message.metadata.truncation = true;
    message.to_vec().ok()
}

/// Whether the question's EDNS is of a version that nobody has.
pub(super) fn is_of_unknown_edns(asked: &Message) -> bool {
    asked.edns.as_ref().is_some_and(|edns| edns.version() > EDNS_VERSION)
}

fn empty(asked: &Message, code: ResponseCode) -> Message {
    let (id, op_code) = (asked.metadata.id, asked.metadata.op_code);
    let mut message = Message::error_msg(id, op_code, code);
    message.metadata.recursion_desired = asked.metadata.recursion_desired;
    message.metadata.recursion_available = true;
    message.add_queries(asked.queries.iter().cloned());
    if asked.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_version(EDNS_VERSION).set_max_payload(MAX_UDP);
        message.set_edns(edns);
    }
    message
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::op::Query;
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, RData, Record, RecordType};

    use super::*;

    fn asked(edns: Option<(u8, u16)>) -> Message {
        let mut message = Message::query();
        message.metadata.id = 7;
        message.metadata.recursion_desired = true;
        let name = Name::from_ascii("Web.default.weft.internal.").unwrap();
        message.add_query(Query::query(name, RecordType::A));
        if let Some((version, payload)) = edns {
            let mut edns = Edns::new();
            edns.set_version(version).set_max_payload(payload);
            message.set_edns(edns);
        }
        message
    }

    fn records(count: u8) -> Found {
        let name = Name::from_ascii("Web.default.weft.internal.").unwrap();
        let data = |n| RData::A(A(Ipv4Addr::new(10, 0, 0, n)));
        Found::Records((0..count).map(|n| Record::from_rdata(name.clone(), 10, data(n))).collect())
    }

    #[test]
    fn an_answer_is_as_long_as_the_guest_can_take_it() {
        use Transport::{Tcp, Udp};
        #[rustfmt::skip]
        let cases = [
            (None,             Udp, 20, 20, false),
            (None,             Udp, 64, 0,  true),
            (Some((0, 4096)),  Udp, 64, 64, false),
            (Some((0, 600)),   Udp, 64, 0,  true),
            (Some((0, 1)),     Udp, 20, 20, false),
            (Some((0, 65535)), Udp, 80, 0,  true),
            (None,             Tcp, 80, 80, false),
        ];
        for (edns, transport, there, given, truncated) in cases {
            let asked = asked(edns);
            let answer = reply(&asked, records(there), transport).unwrap();
            let answer = Message::from_vec(&answer).unwrap();
            let what = format!("{there} records over {transport:?} with {edns:?}");
            assert_eq!(answer.answers.len(), given, "{what}");
            assert_eq!(answer.metadata.truncation, truncated, "{what}");
            assert_eq!(answer.edns.is_some(), edns.is_some(), "{what}");
            assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
            assert_eq!((answer.metadata.id, &answer.queries), (7, &asked.queries), "{what}");
        }
    }

    #[test]
    fn a_later_edns_is_told_our_version() {
        assert!(!is_of_unknown_edns(&asked(None)) && !is_of_unknown_edns(&asked(Some((0, 512)))));
        let asked = asked(Some((1, 512)));
        assert!(is_of_unknown_edns(&asked));
        let answer = refuse(&asked, ResponseCode::BADVERS).unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        let code: u16 = answer.metadata.response_code.into();
        assert_eq!((code, answer.version()), (16, 0));
    }
}
