//! Connecting over TCP: real TLS on loopback, and every way in which it goes wrong.

#![expect(clippy::unwrap_used, reason = "a test's helper fails with the test")]

#[path = "tls/pki.rs"]
mod pki;
#[path = "tls/server.rs"]
mod server;

use pki::{Days, Pki};
use weft_model::{Problem, Reason};
use weft_proto::client::{Credentials, Endpoint, Pem, connect};
use weft_proto::version::API_VERSION;

use server::Server;

fn pem(text: &str) -> Option<Pem> {
    Some(Pem::new(text))
}

async fn try_connect(endpoint: &str, credentials: Credentials) -> Result<(), Problem> {
    let endpoint: Endpoint = endpoint.parse().unwrap();
    connect(&endpoint.with(credentials)).await.map(drop)
}

/// The whole text of a refusal, for comparing words.
#[track_caller]
fn refused(result: Result<(), Problem>, reason: Reason, field: &str, words: &[&str]) {
    let problem = result.unwrap_err();
    assert_eq!((problem.reason, problem.field.as_deref()), (reason, Some(field)), "{problem:?}");
    let remedy = problem.remedy.as_deref().unwrap();
    let text = format!("{}\n{remedy}", problem.message);
    for word in words {
        assert!(text.contains(word), "\"{word}\" is missing in:\n{text}\n{:?}", problem.evidence);
    }
}

#[tokio::test]
async fn a_client_with_the_right_certificates_gets_in_by_name_and_by_address() {
    let pki = Pki::new();
    let server = Server::agent(&pki, Days::VALID).await;
    for host in ["localhost", "127.0.0.1"] {
        try_connect(&server.endpoint(host), pki.client(Days::VALID)).await.unwrap();
    }
}

#[tokio::test]
async fn files_serve_as_well_as_text() {
    let pki = Pki::new();
    let server = Server::agent(&pki, Days::VALID).await;
    let folder = tempfile::tempdir().unwrap();
    let text = pki.client(Days::VALID);
    let file = |name: &str, pem: &Option<Pem>| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem.as_ref().unwrap().as_given().as_bytes()).unwrap();
        Some(Pem::File(path))
    };
    let files = Credentials {
        ca_cert: file("ca.crt", &text.ca_cert),
        client_cert: file("client.crt", &text.client_cert),
        client_key: file("client.key", &text.client_key),
    };
    let endpoint = server.endpoint("localhost");
    try_connect(&endpoint, files.clone()).await.unwrap();

    let missing =
        Credentials { client_cert: Some(Pem::File("/nonexistent/c.crt".into())), ..files.clone() };
    let words = ["cannot read client_cert /nonexistent/c.crt", "No such file"];
    refused(try_connect(&endpoint, missing).await, Reason::InvalidArgument, "client_cert", &words);
    let directory = Credentials { ca_cert: Some(Pem::File(folder.path().into())), ..files.clone() };
    let words = ["is a directory", "the file in it"];
    refused(try_connect(&endpoint, directory).await, Reason::InvalidArgument, "ca_cert", &words);
    let device = Credentials { client_key: Some(Pem::File("/dev/zero".into())), ..files };
    refused(
        try_connect(&endpoint, device).await,
        Reason::InvalidArgument,
        "client_key",
        &["not a PEM file"],
    );
}

#[tokio::test]
async fn what_is_wrong_with_the_clients_own_files_is_said_before_anything_is_sent() {
    let (pki, foreign) = (Pki::new(), Pki::new());
    let good = pki.client(Days::VALID);
    let other = pki.client(Days::VALID);
    // Nobody listens there: it is not asked.
    let endpoint = "https://localhost:1";
    let agent = pki.server(Days::VALID);
    #[rustfmt::skip]
    let cases: [(&str, Credentials, &[&str]); 9] = [
        ("ca_cert", Credentials::default(), &["ca_cert, client_cert and client_key are not set", "fabric-agent init"]),
        ("client_key", Credentials { client_key: None, ..good.clone() }, &["client_key is not set", "WEFT_CLIENT_KEY"]),
        ("client_cert", Credentials { client_cert: good.client_key.clone(), client_key: good.client_cert.clone(), ..good.clone() }, &["holds a private key", "swapped"]),
        ("client_key", Credentials { client_key: good.client_cert.clone(), ..good.clone() }, &["holds a certificate", "swapped"]),
        ("client_key", Credentials { client_key: other.client_key, ..good.clone() }, &["is not the key of client_cert"]),
        ("client_cert", Credentials { client_cert: pem("-----BEGIN X-----"), ..good.clone() }, &["holds no certificate"]),
        ("client_cert", foreign_client(&good, &foreign), &["is not signed by ca_cert"]),
        ("client_cert", pki.client(Days::ENDED), &["ended at 2001-01-01", "--renew --client alice"]),
        ("client_cert", Credentials { client_cert: pem(&agent.0), client_key: pem(&agent.1), ..good.clone() }, &["not a client's certificate"]),
    ];
    for (field, credentials, words) in cases {
        refused(try_connect(endpoint, credentials).await, Reason::InvalidArgument, field, words);
    }
}

#[tokio::test]
async fn a_private_key_that_lost_its_first_line_is_not_shown() {
    let good = Pki::new().client(Days::VALID);
    let Some(Pem::Text(key)) = &good.client_key else { panic!("the key is text") };
    let lines: Vec<&str> = key.lines().collect();
    let (body, rest) = (lines[1..lines.len() - 1].concat(), lines[1..].join("\n"));
    let misspelt = key.replace("BEGIN PRIVATE", "BEGIN  PRIVATE");
    for (text, words) in [
        (body.as_str(), "characters that look like no path"),
        (rest.as_str(), "characters that look like no path"),
        (misspelt.as_str(), "END line"),
    ] {
        let credentials = Credentials { client_key: Some(Pem::new(text)), ..good.clone() };
        let problem = try_connect("https://localhost:1", credentials).await.unwrap_err();
        let said = format!("{problem} {:?} {:?}", problem.remedy, problem.evidence);
        assert!(said.contains(words), "{said}");
        for shown in [&lines[1][..24], "[32, 80"] {
            assert!(!said.contains(shown), "{said}");
        }
    }
}

fn foreign_client(good: &Credentials, foreign: &Pki) -> Credentials {
    Credentials { ca_cert: good.ca_cert.clone(), ..foreign.client(Days::VALID) }
}

#[tokio::test]
async fn what_is_wrong_with_the_agents_certificate_is_told_apart() {
    let (pki, foreign) = (Pki::new(), Pki::new());
    #[rustfmt::skip]
    let cases: [(Server, &str, &[&str]); 4] = [
        (Server::agent(&pki, Days::ENDED).await, "localhost", &["stage TLS", "the agent's certificate ended at 2001-01-01", "fabric-agent init --renew"]),
        (Server::agent(&pki, Days::FUTURE).await, "localhost", &["stage TLS", "valid only from 2100", "clock"]),
        (Server::agent(&foreign, Days::VALID).await, "localhost", &["stage TLS", "not signed by the CA in ca_cert", "ca.crt"]),
        (Server::agent(&pki, Days::VALID).await, "127.0.0.2", &["is not for 127.0.0.2 but for localhost, 127.0.0.1", "--server-name 127.0.0.2"]),
    ];
    for (server, host, words) in cases {
        let result = try_connect(&server.endpoint(host), pki.client(Days::VALID)).await;
        refused(result, Reason::Unavailable, "endpoint", words);
    }
}

#[tokio::test]
async fn an_agent_that_does_not_know_the_client_is_the_stage_authorisation() {
    let (pki, foreign) = (Pki::new(), Pki::new());
    // Its own certificate is right; clients it wants from another CA.
    let server = Server::agent_of_two(&pki, &foreign).await;
    let result = try_connect(&server.endpoint("localhost"), pki.client(Days::VALID)).await;
    let words = ["stage authorisation", "did not sign this client certificate", "init --client"];
    refused(result, Reason::Unavailable, "client_cert", &words);
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_the_stage_connect() {
    let result = try_connect("https://127.0.0.1:1", Pki::new().client(Days::VALID)).await;
    let words = ["stage connect", "nobody listens", "--listen"];
    refused(result, Reason::Unavailable, "endpoint", &words);
}

#[test]
fn a_name_that_is_not_known_is_the_stage_name() {
    // Without a network nobody is asked for it: no packet leaves the machine.
    if nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).is_err() {
        eprintln!("SKIPPED: a network namespace needs root");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = Pki::new().client(Days::VALID);
    let result = runtime.block_on(try_connect("https://no-such-host.invalid", client));
    let words = ["stage name", "no-such-host.invalid is not known"];
    refused(result, Reason::Unavailable, "endpoint", &words);
}

#[tokio::test]
async fn other_programs_on_the_port_are_recognised() {
    let pki = Pki::new();
    #[rustfmt::skip]
    let cases: [(Server, &[&str]); 4] = [
        (Server::plain(b"HTTP/1.1 400 Bad Request\r\n\r\n").await, &["stage TLS", "does not speak TLS", "another program"]),
        (Server::plain(b"SSH-2.0-OpenSSH_9.9\r\n").await, &["stage TLS", "does not speak TLS"]),
        (Server::plain(b"").await, &["stage TLS", "closed in the middle"]),
        (Server::https(&pki).await, &["stage HTTP/2", "another protocol"]),
    ];
    for (server, words) in cases {
        let result = try_connect(&server.endpoint("localhost"), pki.client(Days::VALID)).await;
        refused(result, Reason::Unavailable, "endpoint", words);
    }
}

#[tokio::test]
async fn an_agent_of_another_version_is_refused_with_both_versions() {
    let pki = Pki::new();
    let newer = Server::agent_of_version(&pki, API_VERSION + 1, API_VERSION + 2).await;
    let older = Server::agent_of_version(&pki, 0, API_VERSION - 1).await;
    let oldest = Server::agent_without_handshake(&pki).await;
    let (next, this) = (API_VERSION + 2, API_VERSION);
    #[rustfmt::skip]
    let cases = [
        (newer, vec![format!("speaks API version {next}"), format!("version {this}"), "upgrade the Terraform provider and weft".to_owned()]),
        (older, vec![format!("speaks API version {}", this - 1), "upgrade fabric-agent".to_owned()]),
        (oldest, vec!["older than API version".to_owned(), "upgrade fabric-agent".to_owned()]),
    ];
    for (server, words) in cases {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let result = try_connect(&server.endpoint("localhost"), pki.client(Days::VALID)).await;
        refused(result, Reason::FailedPrecondition, "endpoint", &words);
    }
}
