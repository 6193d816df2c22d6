//! The stages of a unix socket.

use std::path::Path;

use tokio::net::UnixStream;
use weft_model::{Problem, Reason};

use super::Endpoint;

/// Connects once.
pub(super) async fn probe(endpoint: &Endpoint, socket: &Path) -> Result<(), Problem> {
    UnixStream::connect(socket).await.map(drop).map_err(|error| explain(endpoint, &error))
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
    #[tokio::test]
    async fn the_stage_that_failed_is_named() {
        let missing = "unix:///nonexistent/agent.sock".parse().unwrap();
        let problem = super::super::connect(&missing).await.unwrap_err();
        assert!(problem.message.ends_with("the socket does not exist"), "{problem}");
    }
}
