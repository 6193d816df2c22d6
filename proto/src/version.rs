//! The version of the API, and the handshake that compares it.
//!
//! A number of its own, since releases that differ may speak one API. It rises with a change that
//! an older peer would misunderstand; what is merely added leaves it as it is.

use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use weft_model::{Problem, Reason};

use crate::v1::agents_client::AgentsClient;
use crate::v1::agents_server::{Agents, AgentsServer};
use crate::v1::{HandshakeRequest, HandshakeResponse};
use crate::{is_of_the_transport, problem_from_status};

/// The version of the API that is spoken here.
pub const API_VERSION: u32 = 1;
/// The oldest one that is understood here.
pub const OLDEST_API_VERSION: u32 = 1;

/// How long an agent may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an agent says of itself.
#[derive(Clone, Debug)]
pub struct Handshake {
    answer: HandshakeResponse,
}

impl Handshake {
    /// The service of an agent of the release `agent_version`.
    pub fn service(agent_version: &str) -> AgentsServer<Self> {
        Self::of(agent_version, OLDEST_API_VERSION, API_VERSION)
    }

    /// The service of an agent that speaks the API versions from `oldest` to `newest`.
    pub fn of(agent_version: &str, oldest: u32, newest: u32) -> AgentsServer<Self> {
        let answer = HandshakeResponse {
            agent_version: agent_version.to_owned(),
            api_version: newest,
            oldest_api_version: oldest,
        };
        AgentsServer::new(Self { answer })
    }
}

#[tonic::async_trait]
impl Agents for Handshake {
    async fn handshake(
        &self,
        request: Request<HandshakeRequest>,
    ) -> Result<Response<HandshakeResponse>, Status> {
        let HandshakeRequest { client, api_version } = request.into_inner();
        tracing::debug!(client, api_version, "handshake");
        Ok(Response::new(self.answer.clone()))
    }
}

/// Asks the agent at `endpoint` for its version, and judges it.
///
/// # Errors
/// [`Reason::FailedPrecondition`] where there is no version that both speak;
/// [`Reason::Unavailable`] where the agent was gone before it answered; what it answered otherwise.
pub(crate) async fn check(channel: &Channel, endpoint: &str) -> Result<(), Problem> {
    let request = HandshakeRequest {
        client: concat!("weft ", env!("CARGO_PKG_VERSION")).to_owned(),
        api_version: API_VERSION,
    };
    let mut agents = AgentsClient::new(channel.clone());
    match tokio::time::timeout(PATIENCE, agents.handshake(request)).await {
        Ok(Ok(answer)) => judge(endpoint, &answer.into_inner()),
        Ok(Err(status)) if status.code() == Code::Unimplemented => {
            Err(too_old(endpoint)
                .evidence("it does not answer weft.v1.Agents/Handshake".to_owned()))
        }
        Ok(Err(status)) if is_of_the_transport(&status) => Err(Problem::new(
            Reason::Unavailable,
            format!("the agent at {endpoint} ended the connection before it told its version"),
        )
        .at("endpoint")
        .remedy("see whether it was restarted just now, and look at its log")
        .evidence(status.message().to_owned())),
        Ok(Err(status)) => Err(problem_from_status(&status)),
        Err(_elapsed) => Err(Problem::new(
            Reason::Unavailable,
            format!(
                "the agent at {endpoint} did not tell its version within {} s",
                PATIENCE.as_secs()
            ),
        )
        .at("endpoint")
        .remedy("look at the agent's log")),
    }
}

fn judge(endpoint: &str, answer: &HandshakeResponse) -> Result<(), Problem> {
    let HandshakeResponse { agent_version, api_version, oldest_api_version } = answer;
    let differ = |which: &str| {
        let message = format!(
            "the agent at {endpoint} (release {agent_version}) speaks API version {api_version}, \
             this client (release {}) version {API_VERSION}",
            env!("CARGO_PKG_VERSION")
        );
        Problem::new(Reason::FailedPrecondition, message)
            .at("endpoint")
            .remedy(format!("upgrade {which}"))
    };
    if *api_version < OLDEST_API_VERSION {
        Err(differ("fabric-agent on the agent's machine"))
    } else if *oldest_api_version > API_VERSION {
        Err(differ("the Terraform provider and weft on this machine"))
    } else {
        Ok(())
    }
}

fn too_old(endpoint: &str) -> Problem {
    let message = format!(
        "the agent at {endpoint} does not know the handshake: it is older than API version \
         {OLDEST_API_VERSION}, the oldest that this client (release {}) speaks",
        env!("CARGO_PKG_VERSION")
    );
    Problem::new(Reason::FailedPrecondition, message)
        .at("endpoint")
        .remedy("upgrade fabric-agent on the agent's machine")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_overlap_are_no_problem_and_the_older_side_is_told_to_upgrade() {
        #[rustfmt::skip]
        let cases = [
            // the agent's oldest and newest, who has to be upgraded
            (API_VERSION, API_VERSION,         None),
            (API_VERSION, API_VERSION + 3,     None),
            (0, OLDEST_API_VERSION - 1,        Some("fabric-agent")),
            (API_VERSION + 1, API_VERSION + 2, Some("provider")),
        ];
        for (oldest_api_version, api_version, want) in cases {
            let agent_version = "9.8.7".to_owned();
            let answer = HandshakeResponse { agent_version, api_version, oldest_api_version };
            let problem = judge("unix:///x", &answer).err();
            assert_eq!(problem.is_some(), want.is_some(), "{answer:?}");
            if let (Some(problem), Some(word)) = (problem, want) {
                assert!(problem.remedy.unwrap().contains(word), "{answer:?}");
                assert!(problem.message.contains("9.8.7"), "{answer:?}");
                assert!(problem.message.contains(&api_version.to_string()), "{answer:?}");
            }
        }
    }
}
