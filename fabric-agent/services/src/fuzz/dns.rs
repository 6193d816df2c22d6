//! DNS questions.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use proptest::prelude::*;
use weft_model::VpcId;

use super::{fuzz, hostile};
use crate::directory::Guest;
use crate::dns::upstream::Transport;
use crate::dns::{Forwarder, Resolvers};
use crate::guests::HostLimit;
use crate::testing::{Known, guest, other_guest};

/// Of another VPC, with a name of its own.
fn stranger() -> Guest {
    Guest {
        hostname: "vault".to_owned(),
        vpc_id: VpcId::from_random([99; 9]),
        address: Ipv4Addr::new(172, 31, 0, 77),
        ..guest()
    }
}

fn questions() -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for (name, kind) in [
        ("web.default.weft.internal.", RecordType::A),
        ("db.default.weft.internal.", RecordType::ANY),
        ("vault.default.weft.internal.", RecordType::A),
        ("ip-172-31-0-77.default.weft.internal.", RecordType::A),
        ("5.0.31.172.in-addr.arpa.", RecordType::PTR),
        ("77.0.31.172.in-addr.arpa.", RecordType::PTR),
        ("example.com.", RecordType::TXT),
    ] {
        for edns in [None, Some(512), Some(4096)] {
            let mut message = Message::query();
            message.metadata.id = 0x1234;
            message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
            if let Some(payload) = edns {
                let mut edns = Edns::new();
                edns.set_max_payload(payload);
                message.set_edns(edns);
            }
            packets.push(message.to_vec().unwrap());
        }
    }
    packets
}

fn forwarder() -> Forwarder {
    let directory = Arc::new(Known::new([guest(), other_guest(), stranger()]));
    // Without resolvers nothing leaves.
    let resolvers = Arc::new(Resolvers::from_file(Path::new("/dev/null")));
    Forwarder::new(guest().vpc_id, directory, resolvers, Arc::default(), &HostLimit::new(9))
}

fn ask(forwarder: &Forwarder, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(forwarder.answer(guest().address, question, transport))
}

fn is_harmless(question: &[u8], answer: &[u8], room: usize) -> Result<(), TestCaseError> {
    prop_assert!(answer.len() <= room, "{} bytes for {}", answer.len(), room);
    let asked = Message::from_vec(question).unwrap();
    let answer = Message::from_vec(answer).unwrap();
    prop_assert_eq!(answer.metadata.id, asked.metadata.id);
    prop_assert_eq!(answer.metadata.message_type, MessageType::Response);
    let own = [guest().address, other_guest().address];
    for record in answer.all_sections() {
        match &record.data {
            RData::A(address) => prop_assert!(own.contains(&address.0), "{}", address),
            RData::PTR(name) => prop_assert!(!name.to_string().contains("vault"), "{}", name),
            RData::SOA(_) => {}
            other => prop_assert!(false, "{:?} is no record of ours", other),
        }
    }
    Ok(())
}

#[test]
fn the_questions_that_are_spoiled_are_good_ones() {
    let forwarder = forwarder();
    let with_records = questions().into_iter().filter(|question| {
        let answer = ask(&forwarder, question, Transport::Udp).unwrap();
        !Message::from_vec(&answer).unwrap().answers.is_empty()
    });
    assert_eq!(with_records.count(), 9, "two names and one address, each asked in three ways");
}

#[test]
fn no_dns_question_panics_or_is_told_of_other_vpcs() {
    fuzz(20_000, (hostile(questions()), any::<bool>()), |(question, tcp)| {
        let (transport, room) = match tcp {
            true => (Transport::Tcp, 65_535),
            false => (Transport::Udp, 4096),
        };
        match ask(&forwarder(), &question, transport) {
            Some(answer) => is_harmless(&question, &answer, room),
            None => Ok(()),
        }
    });
}
