//! Waiting for an instance.

use weft_model::{InstanceId, Problem, Reason};
use weft_proto::v1::{WaitRequest, wait_request::Until};

use crate::agent::Agent;
use crate::failure::Failure;

/// Waits until the agent says that `until` holds; the answer is the state then.
pub(super) async fn wait(
    agent: &Agent,
    id: &InstanceId,
    until: Until,
    timeout_seconds: u32,
) -> Result<String, Failure> {
    let request = WaitRequest { id: id.to_string(), until: Some(until), timeout_seconds };
    let mut events = agent.instances().wait(request).await?.into_inner();
    while let Some(event) = events.message().await? {
        if event.done {
            return Ok(event.state);
        }
    }
    let message = format!("the agent stopped waiting for {id} without a result");
    Err(Problem::new(Reason::Unavailable, message).remedy("look at weft get and try again").into())
}
