//! Clients that talk nonsense harm nobody but themselves.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use weft_proto::v1;

use crate::support::{Agent, context};

/// What every HTTP/2 client says first (RFC 9113, 3.4), and an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test]
async fn random_bytes_and_half_open_streams_do_not_harm_the_agent() {
    let mut agent = Agent::start().await;
    let mut open = Vec::new();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for n in 0..60_usize {
        let bytes: Vec<u8> = (0..n * 37)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                (seed >> 32) as u8
            })
            .collect();
        let mut stream = UnixStream::connect(agent.socket()).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        // It may hang up on us before we have said it all.
        match n % 3 {
            0 => drop(stream.write_all(&bytes)),
            1 => drop(stream.write_all(&[PREFACE, &bytes].concat())),
            _ => drop(stream.write_all(&PREFACE[..n.min(PREFACE.len())])),
        }
        open.push(stream);
    }
    let api = agent.api().await;
    api.group("with all of them open").await;
    drop(open);
    api.group("with all of them gone").await;
    assert!(agent.is_running());
    let log = agent.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn a_huge_message_is_refused_and_the_next_one_is_not() {
    let mut agent = Agent::start().await;
    let api = agent.api().await;
    let mut context = context();
    context.as_mut().unwrap().client_data = "x".repeat(20 << 20);
    let spec = Some(v1::SecurityGroupSpec { name: "huge".to_owned(), ..Default::default() });
    let request = v1::CreateSecurityGroupRequest { context, spec };
    api.groups.clone().create(request).await.unwrap_err();
    api.group("small").await;
    assert!(agent.is_running());
}

#[tokio::test]
async fn streams_that_begin_and_say_nothing_do_not_hold_up_the_end() {
    let mut agent = Agent::start().await;
    let api = agent.api().await;
    let mut open = Vec::new();
    for _ in 0..20 {
        let (mut sessions, mut images) = (api.sessions.clone(), api.images.clone());
        let (mut ports, mut consoles) = (api.instances.clone(), api.instances.clone());
        open.push(tokio::spawn(async move {
            let _ = tokio::join!(
                sessions.open(futures::stream::pending()),
                images.upload(futures::stream::pending()),
                ports.open_port(futures::stream::pending()),
                consoles.attach_console(futures::stream::pending()),
            );
        }));
    }
    api.group("among them").await;
    assert!(agent.end().await.success(), "{}", agent.log());
    for task in open {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn ids_of_another_kind_and_ids_that_are_none_are_refused_at_id() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    for id in ["", "i-", "sg-00000000000000", "../../etc/passwd", "i-\u{1f511}", &"i".repeat(9999)]
    {
        let request = v1::GetRequest { id: id.to_owned(), claim: false };
        let problem = crate::support::refusal(api.instances.clone().get(request).await);
        assert_eq!(problem.field.as_deref(), Some("id"), "{problem:?}");
        assert_eq!(problem.reason, weft_model::Reason::InvalidArgument, "{problem:?}");
    }
}
