//! How much room there is for guests, and whether those that are planned find some.

use std::collections::{BTreeMap, BTreeSet};

use weft_model::{InstanceId, InstanceTypeSpec, Problem, Reason, built_in_types};
use weft_proto::v1;

use crate::context::Context;
use crate::repo::InstanceTypes;

/// How many guests may be asked about at once: a plan has fewer.
const MAX_DEMANDS: usize = 100_000;

/// # Errors
/// An id is none, or there are too many demands.
pub(super) async fn placement(
    context: &Context,
    request: v1::CheckPlacementRequest,
) -> Result<v1::CheckPlacementResponse, Problem> {
    let v1::CheckPlacementRequest { demands, freed_instance_ids } = request;
    if demands.len() > MAX_DEMANDS {
        let message = format!("{} guests are too many to ask about at once", demands.len());
        return Err(Problem::new(Reason::InvalidArgument, message)
            .at("demands")
            .remedy(format!("ask about at most {MAX_DEMANDS}")));
    }
    let id = |text: &String| {
        let invalid = |error: weft_model::InvalidId| {
            Problem::invalid("freed_instance_ids", error.to_string())
        };
        text.parse::<InstanceId>().map_err(invalid)
    };
    let freed = freed_instance_ids.iter().map(id).collect::<Result<BTreeSet<_>, _>>()?;
    let types = all_types(context).await?;
    let types: BTreeMap<&str, u32> =
        types.iter().map(|kind| (kind.name.as_str(), kind.memory_mib)).collect();
    let memory = |demand: &v1::PlacementDemand| match &demand.instance_type {
        Some(name) => types.get(name.as_str()).copied(),
        None => demand.memory_mib,
    };
    let cost = |demand: &v1::PlacementDemand| {
        let memory = memory(demand)?;
        Some(context.host.memory_cost_mib(memory, demand.display))
    };
    let needed_memory_mib = demands.iter().filter_map(cost).sum();
    let room = room(context, context.ledger.free_memory_without(&freed));
    Ok(v1::CheckPlacementResponse {
        fits: needed_memory_mib <= room.free_memory_mib,
        needed_memory_mib,
        hosts: vec![room],
    })
}

/// # Errors
/// The store does not answer.
pub(super) async fn capacity(context: &Context) -> Result<v1::GetCapacityResponse, Problem> {
    let room = room(context, context.ledger.free_memory_mib());
    let mut types = all_types(context).await?;
    types.sort_by(|a, b| (a.vcpus, a.memory_mib, &a.name).cmp(&(b.vcpus, b.memory_mib, &b.name)));
    let capacity = |kind: InstanceTypeSpec| {
        let cost = context.host.memory_cost_mib(kind.memory_mib, false).max(1);
        v1::TypeCapacity {
            instance_type: kind.name.to_string(),
            vcpus: kind.vcpus,
            memory_mib: kind.memory_mib,
            available_instance_count: room.free_memory_mib / cost,
        }
    };
    let types = types.into_iter().map(capacity).collect();
    Ok(v1::GetCapacityResponse { types, hosts: vec![room] })
}

fn room(context: &Context, free_memory_mib: u64) -> v1::HostRoom {
    let facts = context.host.facts();
    v1::HostRoom {
        host_id: context.host_id.to_string(),
        name: facts.name.clone(),
        memory_mib: facts.memory_mib,
        free_memory_mib,
    }
}

/// Those built in, and the operator's own.
async fn all_types(context: &Context) -> Result<Vec<InstanceTypeSpec>, Problem> {
    let own = context.repo.list::<InstanceTypes>().await?;
    let own = own.into_iter().map(|record| record.spec.clone());
    Ok(built_in_types().chain(own).collect())
}
