//! Requests for metadata, and the reports in them.

use std::sync::Arc;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::net::{TcpListener, TcpStream};
use weft_model::Timestamp;

use super::{fuzz, hostile};
use crate::metadata::{Metadata, Reach, TokenKey, reports, serve_on, service};
use crate::testing::{Known, guest, other_guest};

const KEY: [u8; 32] = [7; 32];

fn token(instance: &weft_model::InstanceId) -> String {
    TokenKey::new(KEY).issue(instance, i64::MAX)
}

fn requests() -> Vec<Vec<u8>> {
    let (own, others) = (token(&guest().instance_id), token(&other_guest().instance_id));
    let signal = r#"{"status":"failure","reason":"no disk"}"#;
    let mut packets = Vec::new();
    for token in [&own, &others] {
        let show = format!("X-aws-ec2-metadata-token: {token}\r\n");
        for path in ["instance-id", "local-ipv4", "", "public-keys/0/openssh-key"] {
            packets.push(format!("GET /latest/meta-data/{path} HTTP/1.1\r\nHost: x\r\n{show}\r\n"));
        }
        packets.push(format!(
            "GET /weft/v1/authorized-keys?wait_for_change=true&last_etag=00&timeout_sec=0 \
             HTTP/1.1\r\nHost: x\r\n{show}\r\n"
        ));
        packets.push(format!("GET /latest/user-data HTTP/1.0\r\n{show}\r\n"));
        packets.push(format!(
            "PUT /weft/v1/signal HTTP/1.1\r\nHost: x\r\n{show}Content-Length: {}\r\n\r\n{signal}",
            signal.len()
        ));
        packets.push(format!(
            "PUT /weft/v1/signal HTTP/1.1\r\nHost: x\r\n{show}Transfer-Encoding: chunked\r\n\r\n\
             {:x}\r\n{signal}\r\n0\r\n\r\n",
            signal.len()
        ));
    }
    packets.push(
        "PUT /latest/api/token HTTP/1.1\r\nHost: x\r\n\
         X-aws-ec2-metadata-token-ttl-seconds: 60\r\nConnection: close\r\n\r\n"
            .to_owned(),
    );
    packets.into_iter().map(String::into_bytes).collect()
}

/// All that the first guest's connection is answered when it says `request` and no more, and the
/// reports that were taken.
fn ask(request: &[u8]) -> (Vec<u8>, Arc<Known>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let reach = Reach::of(&stream).unwrap();
        let directory = Arc::new(Known::new([guest(), other_guest()]));
        let known = Arc::clone(&directory);
        let metadata = Metadata::new(guest().vpc_id, directory, TokenKey::new(KEY), Arc::default());
        let router = service::router(Arc::new(metadata), guest().address, reach);
        let (mut client, server) = duplex(1 << 20);
        client.write_all(request).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let (served, read) =
            tokio::join!(serve_on(server, router), client.read_to_end(&mut answer));
        drop(served);
        read.unwrap();
        (answer, known)
    })
}

fn has(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|part| part == needle.as_bytes())
}

fn is_harmless(request: &[u8]) -> Result<(), TestCaseError> {
    let (answer, directory) = ask(request);
    let (own, other) = (guest(), other_guest());
    for secret in [other.instance_id.as_str(), &other.address.to_string()] {
        prop_assert!(!has(&answer, secret), "{} was told", secret);
    }
    let shown = has(request, &token(&own.instance_id));
    let told = has(&answer, own.instance_id.as_str()) || has(&answer, "AAAA alice");
    prop_assert!(shown || !told, "told without a token");
    for (instance, _) in directory.reports.lock().unwrap().iter() {
        prop_assert!(shown && *instance == own.instance_id, "reported without a token");
    }
    Ok(())
}

#[test]
fn the_requests_that_are_spoiled_are_good_ones() {
    let answered = requests().into_iter().filter(|request| {
        let (answer, _) = ask(request);
        answer.starts_with(b"HTTP/1.1 200 ") || answer.starts_with(b"HTTP/1.0 200 ")
    });
    assert_eq!(answered.count(), 9, "all with a token of the guest's own, and the token");
}

#[test]
fn no_request_for_metadata_panics_or_is_told_anything_without_the_guests_own_token() {
    fuzz(4_000, hostile(requests()), |request| is_harmless(&request));
}

#[test]
fn no_report_panics() {
    let reports = vec![
        br#"{"status":"error - done","errors":["a","b"],"detail":"x \u001b[1m"}"#.to_vec(),
        br#"{"status":"failure","reason":"no disk"}"#.to_vec(),
        b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[".to_vec(),
    ];
    fuzz(20_000, hostile(reports), |body| {
        let _ = reports::cloud_init(&body, Timestamp::UNIX_EPOCH);
        let _ = reports::signal(&body, Timestamp::UNIX_EPOCH);
        Ok(())
    });
}
