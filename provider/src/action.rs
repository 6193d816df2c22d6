//! Actions (Terraform 1.14 and later): what is done once and leaves nothing in a state.

mod power;
mod snapshot;

use std::sync::Arc;
use std::time::Duration;

use tfplugin::{Action, Attribute, Diagnostics, Schema, Validator, Value, timeouts};
use weft_model::{InstanceId, InstanceView, Problem};
use weft_proto::convert::instance_from_wire;

use crate::agent::reads::{self, Claim};
use crate::agent::{Agent, Connection};
use crate::instance::Instance;
use crate::{checks, problem};

/// Unless `timeout` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// All of them.
pub(crate) fn all(agent: &Arc<Agent>) -> Vec<Box<dyn Action>> {
    let power = power::Deed::ALL
        .into_iter()
        .map(|deed| -> Box<dyn Action> { Box::new(power::Power { agent: agent.clone(), deed }) });
    let snapshots = snapshot::Of::ALL
        .into_iter()
        .map(|of| -> Box<dyn Action> { Box::new(snapshot::Snapshot { agent: agent.clone(), of }) });
    power.chain(snapshots).collect()
}

fn instance_id(what: &str) -> Attribute {
    Attribute::string("instance_id", what)
        .required()
        .validate(checks::id::<InstanceId>(InstanceId::PREFIX, "an instance"))
}

fn timeout() -> Attribute {
    Attribute::string(
        "timeout",
        "How long it may take in all, such as `90s`; 10 minutes unless set.",
    )
    .validate(Validator::pattern("must be a duration such as \"90s\" or \"10m\"", |text| {
        timeouts::parse(text).is_some()
    }))
}

/// The instance as it is now.
async fn look(connection: &Arc<Connection>, id: &str) -> Result<InstanceView, Problem> {
    let found = reads::read::<Instance>(connection, id, Claim::No).await?;
    let gone = || {
        Problem::not_found(format!("instance {id} does not exist"))
            .at("id")
            .remedy("weft ls instances shows those that do")
    };
    instance_from_wire(found.ok_or_else(gone)?)
}

/// The id, with the name where it has one.
fn called(view: &InstanceView) -> String {
    match &view.object.spec.name {
        Some(name) => format!("{} ({name})", view.object.id),
        None => view.object.id.to_string(),
    }
}

/// `problem` with `doing`, such as "stop the instance".
fn fail(doing: &str, problem: Problem, schema: &Schema, config: &Value) -> Diagnostics {
    // What requests call `id` is an attribute of another name here.
    let problem = match problem.field.as_deref() {
        Some("id") => problem.at("instance_id"),
        _ => problem,
    };
    problem::diagnostic(format!("Cannot {doing}"), &problem, schema, config).into()
}
