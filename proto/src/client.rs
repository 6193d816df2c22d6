//! Reaching an agent: endpoints, and errors that name the stage that failed.
//!
//! The stages are: the name, the connection, TLS, authorisation, HTTP/2, the API's version. tonic
//! would fold them into one error, so a first connection of our own goes through them one by one;
//! the channel that is used then connects (and connects again) by itself.

mod credentials;
mod endpoint;
mod tls;
mod unix;

use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint as TonicEndpoint};
use weft_model::{Problem, Reason};

pub use credentials::{Credentials, Pem};
pub use endpoint::Endpoint;
use endpoint::Place;

/// Where an agent listens when nobody says otherwise.
pub const DEFAULT_ENDPOINT: &str = "unix:///run/weft/agent.sock";
/// The TCP port of an agent, where an endpoint names none.
pub const DEFAULT_PORT: u16 = 7443;
/// The environment variable that says otherwise.
pub const ENDPOINT_VARIABLE: &str = "WEFT_ENDPOINT";
/// The certificate of the CA that signed the agent's: a path, or PEM text.
pub const CA_CERT_VARIABLE: &str = "WEFT_CA_CERT";
/// The client's certificate: a path, or PEM text.
pub const CLIENT_CERT_VARIABLE: &str = "WEFT_CLIENT_CERT";
/// The private key of the client's certificate: a path, or PEM text.
pub const CLIENT_KEY_VARIABLE: &str = "WEFT_CLIENT_KEY";

/// How often a connection without traffic is tried, and how long an answer may take: a network
/// that went away must not keep a session half alive.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Connects to the agent at `endpoint`.
///
/// # Errors
/// [`Reason::Unavailable`] that names the endpoint, the stage and a remedy;
/// [`Reason::InvalidArgument`] at the setting that is wrong (`ca_cert`, `client_cert`,
/// `client_key`); [`Reason::FailedPrecondition`] where the agent speaks another API version.
pub async fn connect(endpoint: &Endpoint) -> Result<Channel, Problem> {
    // The URI is not used by the connectors, but HTTP/2 wants an authority.
    let tonic = TonicEndpoint::from_static("http://agent.weft");
    let connected = match endpoint.place() {
        Place::Unix(socket) => {
            unix::probe(endpoint, socket).await?;
            let socket = socket.clone();
            let connector = tower::service_fn(move |_| {
                let socket = socket.clone();
                async move { UnixStream::connect(socket).await.map(TokioIo::new) }
            });
            tonic.connect_with_connector(connector).await
        }
        Place::Tcp(server) => {
            let connector = tls::Connector::new(endpoint, server).await?;
            connector.probe().await?;
            let service = tower::service_fn(move |_| {
                let connector = connector.clone();
                async move { connector.connect().await.map(TokioIo::new) }
            });
            tonic
                .http2_keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
                .keep_alive_while_idle(true)
                .connect_with_connector(service)
                .await
        }
    };
    let channel = connected.map_err(|error| {
        let message = format!("cannot reach the agent at {endpoint}: HTTP/2 failed");
        Problem::new(Reason::Unavailable, message)
            .at("endpoint")
            .remedy("see whether a fabric-agent, and not another program, listens there")
            .evidence(error.to_string())
    })?;
    crate::version::check(&channel, &endpoint.to_string()).await?;
    Ok(channel)
}
