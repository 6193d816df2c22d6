//! Console tokens: what their holders can do, and what nobody else can.

use std::sync::Arc;

use futures::StreamExt as _;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{self, RootCertStore};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::Service as _;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use weft_model::Reason;
use weft_proto::client::{Endpoint, connect};
use weft_proto::v1::agents_client::AgentsClient;
use weft_proto::v1::console_access_client::ConsoleAccessClient;
use weft_proto::v1::console_tokens_client::ConsoleTokensClient;
use weft_proto::v1::{self, ByteChunk, ConsoleInput};

use crate::support::{Agent, Api, eventually, id_of, ok, refusal};
use crate::tcp::{credentials, folder, made};

const FLAGS: [&str; 4] = ["--listen", "127.0.0.1:0", "--console-listen", "127.0.0.1:0"];

async fn started() -> Agent {
    let mut agent = Agent::not_started(&FLAGS);
    made(&agent, &[]);
    agent.start_again().await;
    agent
}

fn port(agent: &Agent) -> u16 {
    let log = agent.log();
    let line = log.lines().rev().find(|line| line.contains("serving consoles on TCP")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    line["address"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap()
}

/// Knows the CA, and has no certificate.
async fn stranger(agent: &Agent) -> Channel {
    let endpoint: Endpoint = format!("https://localhost:{}", port(agent)).parse().unwrap();
    let endpoint = endpoint.with(credentials(&folder(agent, "admin"))).by_token();
    eventually("a stranger gets in", async || connect(&endpoint).await.ok()).await
}

/// Only TLS, without a certificate.
async fn tls(agent: &Agent) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    let ca = agent.state_dir().join("tls/ca.crt");
    for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(crypto)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(("127.0.0.1", port(agent))).await.unwrap();
    let name = "localhost".try_into().unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
}

async fn mint(agent: &Agent, instance_id: &str) -> v1::ConsoleToken {
    let request =
        v1::CreateConsoleTokenRequest { instance_id: instance_id.to_owned(), lifetime_seconds: 60 };
    ok(ConsoleTokensClient::new(agent.channel().await).create(request).await)
}

async fn revoke(agent: &Agent, id: &str) {
    let request = v1::RevokeConsoleTokenRequest { id: id.to_owned() };
    ok(ConsoleTokensClient::new(agent.channel().await).revoke(request).await);
}

struct Console {
    input: tokio::sync::mpsc::Sender<ConsoleInput>,
    output: Streaming<ByteChunk>,
}

async fn attach(channel: &Channel, bearer: Option<&str>, id: &str) -> Result<Console, Status> {
    let (input, receiver) = tokio::sync::mpsc::channel(4);
    input.send(ConsoleInput { id: id.to_owned(), data: b"hi".to_vec() }).await.unwrap();
    let mut request = Request::new(ReceiverStream::new(receiver));
    if let Some(bearer) = bearer {
        request.metadata_mut().insert("authorization", bearer.parse().unwrap());
    }
    let output = ConsoleAccessClient::new(channel.clone()).attach(request).await?.into_inner();
    Ok(Console { input, output })
}

async fn refused(channel: &Channel, bearer: Option<&str>, id: &str) -> Code {
    match attach(channel, bearer, id).await {
        Ok(_) => panic!("{bearer:?} was let in"),
        Err(status) => status.code(),
    }
}

async fn instances(agent: &Agent) -> (String, String) {
    let api = agent.api().await;
    let image = api.image_id().await;
    let (one, other) = (api.running("one", &image).await, api.running("other", &image).await);
    (id_of(one.metadata.as_ref()), id_of(other.metadata.as_ref()))
}

/// All that comes until `text` has come.
async fn hears(console: &mut Console, text: &str) {
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains(text) {
        heard.extend(console.output.message().await.unwrap().unwrap().data);
    }
}

#[tokio::test]
async fn a_holder_reads_and_types_until_the_token_is_revoked() {
    let agent = started().await;
    let (id, _) = instances(&agent).await;
    let token = mint(&agent, &id).await;
    assert_eq!(token.port, u32::from(port(&agent)));
    let channel = stranger(&agent).await;
    let bearer = format!("Bearer {}", token.token);
    let mut console = attach(&channel, Some(&bearer), &id).await.unwrap();
    hears(&mut console, "hi").await;
    // Also without the id, which the token knows.
    let mut other = attach(&channel, Some(&bearer), "").await.unwrap();
    hears(&mut other, &format!("simulated console of {id}")).await;

    revoke(&agent, &token.id).await;
    for mut console in [console, other] {
        let why = loop {
            match console.output.message().await {
                Ok(chunk) => drop(chunk.expect("it ends as if the console had")),
                Err(status) => break weft_proto::problem_from_status(&status),
            }
        };
        assert!(why.message.starts_with("the console token was revoked"), "{why}");
        assert!(why.remedy.unwrap().contains("WEFT_CONSOLE_TOKEN"));
    }
    assert_eq!(refused(&channel, Some(&bearer), &id).await, Code::Unauthenticated);
    // Again is no error.
    revoke(&agent, &token.id).await;

    let log = agent.log();
    for said in ["was made", "attaches to a console", "was revoked", "ends with its token"] {
        let line = log.lines().find(|line| line.contains(said));
        assert!(line.is_some_and(|line| line.contains(&token.id)), "{said}: {log}");
    }
    let secret = token.token.split_once('.').unwrap().1;
    assert!(!log.contains(secret), "the log has the secret");
}

#[tokio::test]
async fn who_has_no_valid_token_gets_nothing() {
    let agent = started().await;
    let (id, other) = instances(&agent).await;
    let token = mint(&agent, &id).await;
    let channel = stranger(&agent).await;
    let of_other_id = token.token.replacen(&token.id, "0123456789abcdef", 1);
    let cases: [Option<String>; 7] = [
        None,
        Some(token.token.clone()),
        Some("Bearer ".to_owned()),
        Some(format!("Bearer {}", token.id)),
        Some(format!("Bearer {}0", token.token)),
        Some(format!("Bearer {of_other_id}")),
        Some(format!("Basic {}", token.token)),
    ];
    for case in &cases {
        let code = refused(&channel, case.as_deref(), &id).await;
        assert_eq!(code, Code::Unauthenticated, "{case:?}");
    }
    let good = format!("Bearer {}", token.token);
    assert_eq!(refused(&channel, Some(&good), &other).await, Code::PermissionDenied);
    assert_eq!(refused(&channel, Some(&good), "no id").await, Code::InvalidArgument);
    assert!(attach(&channel, Some(&good), &id).await.is_ok());
}

#[tokio::test]
async fn on_that_port_there_is_nothing_but_consoles() {
    let agent = started().await;
    let (id, _) = instances(&agent).await;
    let token = mint(&agent, &id).await;
    let channel = stranger(&agent).await;
    let api = Api::new(channel.clone());
    let get = || v1::GetRequest { id: id.clone(), claim: false };
    let bearer = || {
        let mut request = Request::new(get());
        let value = format!("Bearer {}", token.token).parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        request
    };
    let refused = [
        api.instances.clone().get(get()).await.map(drop),
        api.instances.clone().get(bearer()).await.map(drop),
        api.instances
            .clone()
            .stop(v1::StopRequest { id: id.clone(), ..Default::default() })
            .await
            .map(drop),
        api.instances.clone().list(v1::ListRequest::default()).await.map(drop),
        api.instances.clone().attach_console(futures::stream::empty()).await.map(drop),
        ConsoleTokensClient::new(channel)
            .create(v1::CreateConsoleTokenRequest { instance_id: id.clone(), lifetime_seconds: 60 })
            .await
            .map(drop),
    ]
    .map(|answer| answer.unwrap_err());
    for refused in refused {
        assert_eq!(refused.code(), Code::Unimplemented);
        assert!(refused.message().contains("at the port of --listen"), "{refused}");
    }
    // Nor room for more than a client says of itself.
    let long = v1::HandshakeRequest { client: "x".repeat(4096), api_version: 1 };
    let refused = AgentsClient::new(stranger(&agent).await).handshake(long).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    // And the port for clients lets nobody in without a certificate, token or not.
    let clients: Endpoint =
        format!("https://localhost:{}", crate::tcp::port(&agent)).parse().unwrap();
    let clients = clients.with(credentials(&folder(&agent, "admin"))).by_token();
    assert!(connect(&clients).await.is_err());
}

#[tokio::test]
async fn who_attaches_nothing_is_hung_up_on_and_keeps_nobody_out() {
    let agent = started().await;
    let (id, _) = instances(&agent).await;
    let token = mint(&agent, &id).await;
    let bearer = format!("Bearer {}", token.token);
    let mut attached = attach(&stranger(&agent).await, Some(&bearer), &id).await.unwrap();
    hears(&mut attached, "hi").await;
    // All places of this address, silent.
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(("127.0.0.1", port(&agent))).await.unwrap());
    }
    let mut last = silent.pop().unwrap();
    assert!(matches!(last.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    drop(silent);
    let idle = stranger(&agent).await;
    assert_eq!(refused(&idle, None, &id).await, Code::Unauthenticated);
    agent.api().await;
    // One that says nothing over TLS is hung up on, and the one that is attached outlives that.
    let mut mute = tls(&agent).await;
    while matches!(mute.read(&mut [0; 64]).await, Ok(1..)) {}
    attached.input.send(ConsoleInput { id: String::new(), data: b"still".to_vec() }).await.unwrap();
    hears(&mut attached, "still").await;
}

#[tokio::test]
async fn one_token_attaches_a_few_consoles_and_no_more() {
    let agent = started().await;
    let (id, _) = instances(&agent).await;
    let token = mint(&agent, &id).await;
    let bearer = format!("Bearer {}", token.token);
    let (one, other, third) =
        (stranger(&agent).await, stranger(&agent).await, stranger(&agent).await);
    let mut attached = Vec::new();
    for channel in [&one, &one, &other, &other] {
        attached.push(attach(channel, Some(&bearer), "").await.unwrap());
    }
    let refused = attach(&third, Some(&bearer), "").await.map(|_| tonic::Response::new(()));
    let problem = refusal(refused);
    assert_eq!(problem.reason, Reason::ResourceExhausted, "{problem:?}");
    assert!(problem.message.contains("4 consoles are attached with this"), "{problem}");
    // Those who are attached with a certificate are not among them.
    let hello = ConsoleInput { id: id.clone(), data: Vec::new() };
    let hello = futures::stream::once(async { hello }).chain(futures::stream::pending());
    let mut operator = ok(agent.api().await.instances.clone().attach_console(hello).await);
    assert!(operator.message().await.unwrap().is_some());
    attached.pop();
    let again = async || attach(&third, Some(&bearer), "").await.ok();
    let mut again = eventually("a place is free again", again).await;
    hears(&mut again, "hi").await;
    let lines = agent.log().matches("attaches to a console").count();
    assert!((1..6).contains(&lines), "{lines} lines of five that are attached and the operator");
}

#[tokio::test]
async fn tokens_are_made_within_bounds_and_for_what_there_is() {
    let agent = started().await;
    let (id, _) = instances(&agent).await;
    let mut tokens = ConsoleTokensClient::new(agent.channel().await);
    for (instance_id, lifetime_seconds, field) in [
        (id.as_str(), 59, Some("lifetime_seconds")),
        (id.as_str(), 3601, Some("lifetime_seconds")),
        ("web", 60, Some("instance_id")),
        ("i-00000000000000000", 60, None),
    ] {
        let instance_id = instance_id.to_owned();
        let request = v1::CreateConsoleTokenRequest { instance_id, lifetime_seconds };
        let problem = refusal(tokens.create(request).await);
        if field.is_some() {
            assert_eq!(problem.field.as_deref(), field, "{problem:?}");
        } else {
            assert_eq!(problem.reason, Reason::NotFound, "{problem:?}");
        }
    }
    let gone = v1::RenewConsoleTokenRequest { id: "none".to_owned(), lifetime_seconds: 60 };
    assert_eq!(refusal(tokens.renew(gone).await).reason, Reason::NotFound);

    let closed = Agent::start().await;
    let (id, _) = instances(&closed).await;
    let request = v1::CreateConsoleTokenRequest { instance_id: id, lifetime_seconds: 60 };
    let refused = refusal(ConsoleTokensClient::new(closed.channel().await).create(request).await);
    assert_eq!(refused.reason, Reason::FailedPrecondition);
    assert!(refused.remedy.unwrap().contains("--console-listen"));
}

#[tokio::test]
async fn a_state_that_is_sent_to_the_port_of_consoles_is_not_taken_for_stored() {
    let agent = started().await;
    let mut channel = stranger(&agent).await;
    for method in ["GET", "POST", "LOCK", "UNLOCK"] {
        let request = tonic::codegen::http::Request::builder()
            .method(method)
            .uri("/state/web")
            .body(tonic::body::Body::empty())
            .unwrap();
        std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
        let answer = channel.call(request).await.unwrap();
        assert_eq!(answer.status().as_u16(), 400, "{method}");
    }
}
