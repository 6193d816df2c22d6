//! `weft.v1.Hosts`.

mod room;

use std::collections::BTreeMap;

use tonic::{Request, Response, Status};
use weft_model::{HostId, HostView, Problem, VolumeId};
use weft_proto::convert::host_to_wire;
use weft_proto::v1;

use super::{Api, parse_id, refuse};
use crate::context::Context;
use crate::host::{Check, CheckResult};
use crate::tfstate::{self, LockRecord, StateName};

fn this_host(context: &Context) -> HostView {
    let facts = context.host.facts().clone();
    HostView {
        id: context.host_id.clone(),
        free_vcpus: facts.vcpus.saturating_sub(context.ledger.used_vcpus()),
        free_memory_mib: context.ledger.free_memory_mib(),
        facts,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        public_pool: context.public_pool.clone(),
        encrypts_volumes: Some(context.host.volume_keys().id().is_some()),
        availability_zone: context.availability_zone.clone(),
        storage_pools: context.host.pools().all().map(|(name, _)| name.clone()).collect(),
    }
}

/// The encrypted volumes that cannot be opened: those with one cause are one line.
fn locked_volumes(context: &Context) -> Vec<Check> {
    let keys = context.host.volume_keys();
    let mut locked: BTreeMap<(String, String), Vec<VolumeId>> = BTreeMap::new();
    for (id, volume) in &context.cache.read().volumes {
        let secret = volume.spec.secret.as_ref();
        if let Some(error) = secret.and_then(|secret| keys.unwrap(secret).err()) {
            locked.entry((error.to_string(), error.remedy())).or_default().push(id.clone());
        }
    }
    let check = |((why, remedy), ids): (_, Vec<VolumeId>)| {
        let which = match ids.as_slice() {
            [id] => id.to_string(),
            [first, others @ ..] => format!("{first} and {} more", others.len()),
            [] => String::new(),
        };
        let finding = format!("what is on encrypted volumes cannot be read ({which}): {why}");
        Check { name: "volume keys", result: CheckResult::Failed, finding, remedy }
    };
    locked.into_iter().map(check).collect()
}

/// What the doctor looks at: Terraform's states that the agent keeps.
const STATES: &str = "Terraform states";

fn unread(what: &str, problem: &Problem) -> Check {
    Check {
        name: STATES,
        result: CheckResult::Failed,
        finding: format!("{what}{problem}"),
        remedy: problem.remedy.clone().unwrap_or_default(),
    }
}

/// Locks of Terraform states whose holders may be gone. A store that does not answer is what doctor is
/// asked about.
async fn old_locks(context: &Context) -> Vec<Check> {
    let old = match context.states.old_locks().await {
        Ok(old) => old,
        Err(problem) => {
            return vec![unread("the locks of Terraform states cannot be read: ", &problem)];
        }
    };
    let check = |(name, lock): (StateName, LockRecord)| Check {
        name: STATES,
        result: CheckResult::Warning,
        finding: format!("the state {name} has been locked for long: {}", lock.holder()),
        remedy: format!("if nobody works on it: weft state unlock {name} --id {}", lock.info.id),
    };
    old.into_iter().map(check).collect()
}

/// Versions of Terraform's states that were put aside, as the store does not know them.
async fn states_aside(context: &Context) -> Option<Check> {
    let (aside, dir) = match context.states.aside().await {
        Ok((aside, _)) if aside.is_empty() => return None,
        Ok(found) => found,
        Err(problem) => return Some(unread("", &problem)),
    };
    let names: Vec<StateName> = aside.into_keys().collect();
    let finding = format!(
        "there are versions of {} that the agent's store does not know (it was an older copy, or the agent \
         died while they were stored): they were put aside",
        tfstate::few(&names)
    );
    let dir = dir.display();
    let remedy = format!(
        "look at what is in {dir}/NAME; terraform state push FILE makes one the latest; then rm -r {dir}/NAME"
    );
    Some(Check { name: STATES, result: CheckResult::Warning, finding, remedy })
}

#[tonic::async_trait]
impl v1::hosts_server::Hosts for Api {
    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::Host>, Status> {
        let id: HostId = parse_id(&request.into_inner().id)?;
        if id != self.context.host_id {
            let problem = Problem::not_found(format!("host {id} does not exist"));
            return Err(refuse(problem.at("id").remedy("weft ls hosts shows those that do")));
        }
        Ok(Response::new(host_to_wire(this_host(&self.context))))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::HostList>, Status> {
        let name = request.into_inner().name;
        let host = this_host(&self.context);
        let wanted = name.is_empty() || host.facts.name == name;
        let items = wanted.then(|| host_to_wire(host)).into_iter().collect();
        Ok(Response::new(v1::HostList { items }))
    }

    async fn doctor(
        &self,
        _request: Request<v1::DoctorRequest>,
    ) -> Result<Response<v1::DoctorResponse>, Status> {
        let mut checks = self.context.host.doctor().await;
        // Known to the running agent alone.
        checks.extend(self.context.reconciler.services.refused().map(|finding| Check {
            name: "guests' requests",
            result: CheckResult::Ok,
            finding,
            remedy: String::new(),
        }));
        let troubles = self.context.reconciler.merges.troubles().into_iter();
        checks.extend(troubles.map(|trouble| Check {
            name: "layers",
            result: CheckResult::Warning,
            finding: format!(
                "layers that no snapshot needs take room and are not merged: {}",
                trouble.why
            ),
            remedy: trouble.remedy(),
        }));
        checks.extend(locked_volumes(&self.context));
        checks.extend(old_locks(&self.context).await);
        checks.extend(states_aside(&self.context).await);
        let show = |check: Check| v1::DoctorCheck {
            name: check.name.to_owned(),
            result: check.result.as_str().to_owned(),
            finding: check.finding,
            remedy: check.remedy,
        };
        let checks = checks.into_iter().map(show).collect();
        Ok(Response::new(v1::DoctorResponse { checks }))
    }

    async fn check_placement(
        &self,
        request: Request<v1::CheckPlacementRequest>,
    ) -> Result<Response<v1::CheckPlacementResponse>, Status> {
        let answer = room::placement(&self.context, request.into_inner()).await;
        answer.map(Response::new).map_err(refuse)
    }

    async fn get_capacity(
        &self,
        _request: Request<v1::GetCapacityRequest>,
    ) -> Result<Response<v1::GetCapacityResponse>, Status> {
        room::capacity(&self.context).await.map(Response::new).map_err(refuse)
    }
}
