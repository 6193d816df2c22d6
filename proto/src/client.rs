//! Reaching an agent: endpoints, and errors that name the stage that failed.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint as TonicEndpoint};
use weft_model::{Problem, Reason};

/// Where an agent listens when nobody says otherwise.
pub const DEFAULT_ENDPOINT: &str = "unix:///run/weft/agent.sock";
/// The environment variable that says otherwise.
pub const ENDPOINT_VARIABLE: &str = "WEFT_ENDPOINT";

/// Where an agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    socket: PathBuf,
}

impl Endpoint {
    /// The socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl FromStr for Endpoint {
    type Err = Problem;
    fn from_str(text: &str) -> Result<Self, Problem> {
        let invalid = |message: String, remedy: &str| {
            Err(Problem::invalid("endpoint", message).remedy(remedy))
        };
        match text.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => Ok(Self { socket: path.into() }),
            Some(_) => invalid(
                format!("endpoint \"{text}\" has no absolute path"),
                "write unix:// and an absolute path, such as unix:///run/weft/agent.sock",
            ),
            None if text.starts_with("https://") || text.starts_with("http://") => invalid(
                format!("endpoint \"{text}\": TCP is not supported yet"),
                "use the agent's unix socket, such as unix:///run/weft/agent.sock",
            ),
            None => invalid(
                format!("\"{text}\" is not an endpoint"),
                "write unix:// and an absolute path, such as unix:///run/weft/agent.sock",
            ),
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unix://{}", self.socket.display())
    }
}

/// Connects to the agent at `endpoint`.
///
/// # Errors
/// [`Reason::Unavailable`] that names the endpoint, the stage (socket, connect, HTTP/2) and a remedy.
pub async fn connect(endpoint: &Endpoint) -> Result<Channel, Problem> {
    // A first connection of our own tells the stages apart; tonic would fold them into one error.
    if let Err(error) = UnixStream::connect(endpoint.socket()).await {
        return Err(explain(endpoint, &error));
    }
    let socket = endpoint.socket().to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    // The URI is not used by the connector, but HTTP/2 wants an authority.
    TonicEndpoint::from_static("http://agent.weft").connect_with_connector(connector).await.map_err(
        |error| {
            let message = format!("cannot reach the agent at {endpoint}: HTTP/2 failed");
            Problem::new(Reason::Unavailable, message)
                .at("endpoint")
                .remedy("see whether a fabric-agent, and not another program, listens there")
                .evidence(error.to_string())
        },
    )
}

fn explain(endpoint: &Endpoint, error: &std::io::Error) -> Problem {
    use std::io::ErrorKind;
    let (stage, remedy) = match error.kind() {
        ErrorKind::NotFound => (
            "the socket does not exist",
            "start the agent (fabric-agent serve), or set endpoint or WEFT_ENDPOINT to where it listens",
        ),
        ErrorKind::PermissionDenied => (
            "connecting to the socket is not permitted",
            "run as root or as a member of the group weft",
        ),
        ErrorKind::ConnectionRefused => (
            "nobody listens on the socket",
            "the agent has ended: start it again (fabric-agent serve) and look at its log",
        ),
        _ => ("connecting to the socket failed", "look at the agent's log"),
    };
    Problem::new(Reason::Unavailable, format!("cannot reach the agent at {endpoint}: {stage}"))
        .at("endpoint")
        .remedy(remedy)
        .evidence(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_absolute_unix_paths() {
        let endpoint: Endpoint = DEFAULT_ENDPOINT.parse().unwrap();
        assert_eq!(endpoint.to_string(), DEFAULT_ENDPOINT);
        for text in ["", "unix://run/x", "https://weft.lan:7443", "/run/weft/agent.sock"] {
            let problem = text.parse::<Endpoint>().unwrap_err();
            assert!(problem.remedy.unwrap().contains("unix://"), "{text}");
        }
    }

    #[tokio::test]
    async fn the_stage_that_failed_is_named() {
        let missing: Endpoint = "unix:///nonexistent/agent.sock".parse().unwrap();
        let problem = connect(&missing).await.unwrap_err();
        assert!(problem.message.ends_with("the socket does not exist"), "{problem}");
    }
}
