//! TCP with certificates: `init`, `serve --listen`, and who is let in.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weft_model::Reason;
use weft_proto::client::{Credentials, Endpoint, Pem, connect};

use crate::support::{Agent, Api, eventually, ok};

fn init(agent: &Agent, arguments: &[&str]) -> Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_fabric-agent"));
    command.arg("init").arg("--state-dir").arg(agent.state_dir()).args(arguments);
    command.output().unwrap()
}

pub(crate) fn made(agent: &Agent, arguments: &[&str]) -> String {
    let output = init(agent, arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn folder(agent: &Agent, client: &str) -> PathBuf {
    agent.state_dir().join("tls/clients").join(client)
}

pub(crate) fn credentials(folder: &Path) -> Credentials {
    let file = |name: &str| Some(Pem::File(folder.join(name)));
    Credentials {
        ca_cert: file("ca.crt"),
        client_cert: file("client.crt"),
        client_key: file("client.key"),
    }
}

/// The port that the agent was given, as it says in its log.
pub(crate) fn port(agent: &Agent) -> u16 {
    let log = agent.log();
    let line = log.lines().rev().find(|line| line.contains("listening on TCP")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    line["address"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap()
}

fn endpoint(agent: &Agent, client: &str) -> Endpoint {
    let endpoint: Endpoint = format!("https://localhost:{}", port(agent)).parse().unwrap();
    endpoint.with(credentials(&folder(agent, client)))
}

/// An agent that listens on a port of loopback, with the client "admin".
async fn started() -> Agent {
    let mut agent = Agent::not_started(&["--listen", "127.0.0.1:0"]);
    made(&agent, &[]);
    agent.start_again().await;
    agent
}

#[tokio::test]
async fn without_certificates_tcp_is_refused_at_the_start() {
    let agent = Agent::not_started(&["--listen", "127.0.0.1:0"]);
    let output = agent.serve_command().output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    for part in
        ["cannot listen on TCP 127.0.0.1:0", "no certificates", "fabric-agent init --state-dir"]
    {
        assert!(said.contains(part), "{part} is missing: {said}");
    }
}

#[tokio::test]
async fn a_clients_name_stands_beside_what_it_changes() {
    let agent = started().await;
    made(&agent, &["--client", "alice"]);
    let api = Api::new(connect(&endpoint(&agent, "alice")).await.unwrap());
    api.group("web").await;
    let log = agent.log();
    let line = log.lines().find(|line| line.contains("\"created\"")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["span"]["client.name"], "alice", "{line}");
    assert!(line["span"]["client.address"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    assert_eq!(line["span"]["rpc"], "/weft.v1.SecurityGroups/Create", "{line}");
}

#[tokio::test]
async fn the_unix_socket_stays_and_its_users_are_named_too() {
    let agent = started().await;
    let api = agent.api().await;
    ok(api.key_pair("me").await);
    let log = agent.log();
    let line = log.lines().find(|line| line.contains("\"created\"")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["span"]["client.uid"], nix::unistd::geteuid().as_raw(), "{line}");
}

#[tokio::test]
async fn strangers_are_not_let_in() {
    let agent = started().await;
    let other = Agent::not_started(&[]);
    made(&other, &[]);
    // A foreign client that trusts our CA: what it shows is from another.
    let foreign = Credentials {
        ca_cert: credentials(&folder(&agent, "admin")).ca_cert,
        ..credentials(&folder(&other, "admin"))
    };
    let address: Endpoint = format!("https://localhost:{}", port(&agent)).parse().unwrap();
    let problem = connect(&address.clone().with(foreign)).await.unwrap_err();
    assert_eq!(problem.field.as_deref(), Some("client_cert"), "{problem:?}");
    let problem = connect(&address.with(credentials(&folder(&other, "admin")))).await.unwrap_err();
    assert_eq!(problem.reason, Reason::Unavailable);
    assert!(problem.message.contains("not signed by the CA"), "{problem}");
}

#[tokio::test]
async fn peers_that_say_nothing_keep_nobody_out() {
    let agent = started().await;
    let port = port(&agent);
    // More than there are places, and all of one machine.
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    let mut garbage = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let _ = garbage.write_all(&[0xff; 4096]).await;
    // The agent hangs up on those that are too many.
    let mut last = silent.pop().unwrap();
    let ended = last.read(&mut [0; 1]).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    // On its socket nobody notices; and when they are gone, the others get in.
    agent.api().await;
    drop(silent);
    let endpoint = endpoint(&agent, "admin");
    eventually("a client gets in", async || connect(&endpoint).await.ok()).await;
}

#[tokio::test]
async fn renewed_certificates_are_used_without_a_restart() {
    let agent = started().await;
    let admin = endpoint(&agent, "admin");
    connect(&admin).await.unwrap();
    made(&agent, &["--renew", "--server-name", "weft.lan"]);
    connect(&admin).await.unwrap();
    assert!(agent.log().contains("the certificates have changed and are in use"));
    // What does not fit is not taken.
    std::fs::write(agent.state_dir().join("tls/agent.crt"), "nonsense").unwrap();
    connect(&admin).await.unwrap();
    assert!(agent.log().contains("the former ones stay"));
}

#[tokio::test]
async fn an_end_that_is_near_is_said_in_the_log() {
    let mut agent = Agent::not_started(&["--listen", "127.0.0.1:0"]);
    made(&agent, &["--valid-days", "3"]);
    agent.start_again().await;
    eventually("the log says so", async || {
        agent.log().contains("the agent's certificate ends soon").then_some(())
    })
    .await;
    assert!(agent.log().contains("--renew"));
}

#[tokio::test]
async fn the_end_of_the_agent_waits_for_no_client() {
    let mut agent = started().await;
    let _open = connect(&endpoint(&agent, "admin")).await.unwrap();
    let _silent = TcpStream::connect(("127.0.0.1", port(&agent))).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(30), agent.end()).await.unwrap();
    assert!(ended.success());
}

#[tokio::test]
async fn purge_removes_the_certificates() {
    let mut agent = started().await;
    agent.end().await;
    let purged = agent.purge();
    assert!(purged.status.success(), "{purged:?}");
    assert!(!agent.state_dir().exists());
}
