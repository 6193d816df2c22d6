//! Whether the type that an instance asks for exists, as far as a plan can tell.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tfplugin::{Diagnostic, PlanContext};
use weft_model::{Problem, TypeName, find_type, no_such_type};
use weft_proto::convert::instance_type_from_wire;
use weft_proto::v1;

use crate::agent::{Connection, PlanChecks};
use crate::kind::wire::Wire as _;
use crate::problem;

/// The types that this run has planned: an apply makes them before the instances that refer to
/// them, and Terraform plans in the same order.
#[derive(Debug, Default)]
pub(crate) struct PlannedTypes(Mutex<BTreeSet<String>>);

impl PlannedTypes {
    pub(crate) fn add(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }

    fn has(&self, name: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }
}

/// What `plan_checks` has to say of a type that does not exist. It is asked of the agent only where
/// the type is neither built in nor planned in this run.
pub(super) async fn check(connection: &Connection, ctx: &PlanContext) -> Option<Diagnostic> {
    let settings = &connection.settings;
    // Unknown settings of the provider: there is nobody to ask yet.
    settings.endpoint.as_ref()?;
    if !(ctx.is_create() || ctx.changes("instance_type")) {
        return None;
    }
    let name = ctx.plan.get("instance_type").as_str()?;
    if find_type(name).is_some() || connection.planned_types.has(name) {
        return None;
    }
    if settings.plan_checks == PlanChecks::Off {
        return None;
    }
    let (summary, problem) = match own_types(connection).await {
        Ok(names) if names.iter().any(|known| known.as_str() == name) => return None,
        Ok(names) => ("Unknown instance type", no_such_type(name, &names)),
        Err(problem) => ("The instance type could not be looked up", problem),
    };
    settings.plan_checks.told(problem::plain(summary, &problem).at("instance_type"))
}

async fn own_types(connection: &Connection) -> Result<Vec<TypeName>, Problem> {
    let list = connection
        .call(|channel| async move {
            v1::InstanceType::client(channel).list(v1::ListRequest::default()).await
        })
        .await?;
    let mut names = Vec::new();
    for wire in list.items {
        if let weft_model::InstanceType::Own(object) = instance_type_from_wire(wire)? {
            names.push(object.spec.name);
        }
    }
    Ok(names)
}
