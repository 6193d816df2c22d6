//! The stages of TCP: the name, the connection, TLS, authorisation.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{self, AlertDescription, CertificateError};
use weft_model::{Problem, Reason};

use super::Endpoint;
use super::endpoint::Server;
use crate::certificate::show_time;

/// How long each stage may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a client begins in HTTP/2: the preface and an empty SETTINGS frame (RFC 9113, 3.4 and 6.5).
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
/// Bytes of a frame's header; the fourth is its type, and a server's first one is SETTINGS.
const FRAME_HEADER_BYTES: usize = 9;
const FRAME_SETTINGS: u8 = 4;

/// Makes connections to one server.
#[derive(Clone)]
pub(super) struct Connector {
    /// The endpoint, for messages.
    shown: String,
    server: Server,
    tls: TlsConnector,
}

impl Connector {
    /// Reads and judges what the connection needs.
    pub(super) async fn new(endpoint: &Endpoint, server: &Server) -> Result<Self, Problem> {
        let config = match endpoint.is_by_token() {
            true => endpoint.credentials().tls_by_token().await?,
            false => endpoint.credentials().tls().await?,
        };
        let (shown, server) = (endpoint.to_string(), server.clone());
        Ok(Self { shown, server, tls: TlsConnector::from(Arc::new(config)) })
    }

    /// A connection over which TLS is established.
    pub(super) async fn connect(&self) -> Result<TlsStream<TcpStream>, Problem> {
        let tcp = self.connect_tcp(self.resolve().await?).await?;
        let handshake = self.tls.connect(self.server.name.clone(), tcp);
        match timeout(PATIENCE, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(self.explain_tls(&error)),
            Err(_elapsed) => Err(self
                .failed("TLS", "what listens there does not begin with TLS")
                .remedy(ANOTHER_PROGRAM)),
        }
    }

    /// Connects once and waits for the agent's first word: with TLS 1.3 a client learns only after
    /// its handshake that its certificate was refused.
    pub(super) async fn probe(&self) -> Result<(), Problem> {
        let mut stream = self.connect().await?;
        let mut header = [0; FRAME_HEADER_BYTES];
        let answer = async {
            stream.write_all(GREETING).await?;
            stream.flush().await?;
            stream.read_exact(&mut header).await
        };
        match timeout(PATIENCE, answer).await {
            Ok(Ok(_)) if header[3] == FRAME_SETTINGS => {}
            Ok(Ok(_)) => {
                return Err(self
                    .failed("HTTP/2", "what listens there speaks another protocol")
                    .remedy(ANOTHER_PROGRAM)
                    .evidence(format!("its first bytes: {}", header.escape_ascii())));
            }
            Ok(Err(error)) => return Err(self.explain_refusal(&error)),
            Err(_elapsed) => {
                return Err(self
                    .failed("HTTP/2", "what listens there says nothing")
                    .remedy(ANOTHER_PROGRAM));
            }
        }
        // The connection has served; whether it ends well does not matter.
        let _ = timeout(PATIENCE, stream.shutdown()).await;
        Ok(())
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, Problem> {
        let Server { host, port, .. } = &self.server;
        let unknown = |evidence: String| {
            self.failed("name", &format!("the name {host} is not known"))
                .remedy(
                    "see whether it is spelled right and in DNS or /etc/hosts, or use an address \
                     that the agent's certificate names",
                )
                .evidence(evidence)
        };
        match timeout(PATIENCE, tokio::net::lookup_host((host.as_str(), *port))).await {
            Ok(Ok(found)) => {
                let found: Vec<_> = found.collect();
                match found.is_empty() {
                    true => Err(unknown("no addresses".to_owned())),
                    false => Ok(found),
                }
            }
            Ok(Err(error)) => Err(unknown(error.to_string())),
            Err(_elapsed) => Err(unknown("no answer from the resolver within 10 s".to_owned())),
        }
    }

    async fn connect_tcp(&self, addresses: Vec<SocketAddr>) -> Result<TcpStream, Problem> {
        let mut seen = Vec::new();
        let mut refused = true;
        for address in addresses {
            match timeout(PATIENCE, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => {
                    refused &= error.kind() == std::io::ErrorKind::ConnectionRefused;
                    seen.push(format!("{address}: {error}"));
                }
                Err(_elapsed) => {
                    refused = false;
                    seen.push(format!("{address}: no answer within 10 s"));
                }
            }
        }
        let (what, remedy) = match refused {
            true => (
                "nobody listens there",
                "see whether fabric-agent serve runs with --listen, and with this port",
            ),
            false => (
                "no connection",
                "see whether the machine is up, and whether a firewall lets the port through",
            ),
        };
        Err(self.failed("connect", what).remedy(remedy).evidence(seen.join("\n")))
    }

    fn failed(&self, stage: &str, what: &str) -> Problem {
        let message = format!("cannot reach the agent at {} (stage {stage}): {what}", self.shown);
        Problem::new(Reason::Unavailable, message).at("endpoint")
    }

    /// What is wrong with the agent's side of TLS.
    fn explain_tls(&self, error: &std::io::Error) -> Problem {
        let failed = |what: &str| self.failed("TLS", what).evidence(error.to_string());
        let Some(tls) = rustls_error(error) else {
            return failed("the connection was closed in the middle of TLS").remedy(CLOSED);
        };
        let host = &self.server.host;
        match tls {
            rustls::Error::InvalidCertificate(reason) => match reason {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    failed("the agent's certificate is not signed by the CA in ca_cert").remedy(
                        "use the ca.crt of this agent (STATE-DIR/tls/ca.crt on its machine); is it \
                         the right agent?",
                    )
                }
                CertificateError::ExpiredContext { not_after, .. } => failed(&format!(
                    "the agent's certificate ended at {}",
                    show(not_after.as_secs())
                ))
                .remedy("on the agent's machine, run fabric-agent init --renew"),
                CertificateError::NotValidYetContext { not_before, .. } => failed(&format!(
                    "the agent's certificate is valid only from {} on",
                    show(not_before.as_secs())
                ))
                .remedy("set the clocks of this machine and of the agent's"),
                CertificateError::NotValidForNameContext { presented, .. } => {
                    let names: Vec<String> = presented.iter().map(|name| plain(name)).collect();
                    failed(&format!(
                        "the agent's certificate is not for {host} but for {}",
                        names.join(", ")
                    ))
                    .remedy(format!(
                        "use one of these names in the endpoint, or on the agent's machine run \
                         fabric-agent init --renew --server-name {host}"
                    ))
                }
                _ => failed("the agent's certificate cannot be used")
                    .remedy("on the agent's machine, run fabric-agent init --renew"),
            },
            rustls::Error::InvalidMessage(_) => {
                failed("what listens there does not speak TLS").remedy(ANOTHER_PROGRAM)
            }
            rustls::Error::AlertReceived(
                AlertDescription::NoApplicationProtocol | AlertDescription::ProtocolVersion,
            ) => failed("what listens there speaks TLS, but not as an agent does")
                .remedy(ANOTHER_PROGRAM),
            _ => failed("the handshake failed").remedy(ANOTHER_PROGRAM),
        }
    }

    /// Why the agent hung up on a client that had finished its handshake.
    fn explain_refusal(&self, error: &std::io::Error) -> Problem {
        let failed = |what: &str| {
            self.failed("authorisation", what).at("client_cert").evidence(error.to_string())
        };
        match rustls_error(error) {
            Some(rustls::Error::AlertReceived(alert)) => match alert {
                AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                    failed("the agent did not sign this client certificate").remedy(
                        "on the agent's machine, run fabric-agent init --client NAME, and copy \
                         the folder",
                    )
                }
                AlertDescription::CertificateExpired => {
                    failed("for the agent, this client certificate has ended or not begun")
                        .remedy("set the clocks of both machines, or renew the certificate: fabric-agent init --renew --client NAME")
                }
                AlertDescription::CertificateRequired => {
                    failed("the agent got no client certificate")
                        .remedy("set client_cert and client_key")
                }
                _ => failed("the agent refused this client certificate")
                    .remedy("look at the agent's log"),
            },
            Some(_) => self
                .failed("HTTP/2", "TLS failed after the handshake")
                .remedy(ANOTHER_PROGRAM)
                .evidence(error.to_string()),
            None => self
                .failed("HTTP/2", "the connection was closed after TLS")
                .remedy(CLOSED)
                .evidence(error.to_string()),
        }
    }
}

const ANOTHER_PROGRAM: &str = "see whether a fabric-agent, and not another program, listens on this \
                               port (an agent's is 7443 unless --listen says otherwise)";
const CLOSED: &str = "look at the agent's log: it may have too many connections, or be ending";

fn rustls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn show(unix_seconds: u64) -> String {
    show_time(SystemTime::UNIX_EPOCH + Duration::from_secs(unix_seconds))
}

/// webpki shows names as `DnsName("weft.lan")` and `IpAddress(127.0.0.1)`.
fn plain(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"').to_owned()
}
