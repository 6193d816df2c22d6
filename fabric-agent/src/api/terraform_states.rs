//! `weft.v1.TerraformStates`.

use std::io;
use std::sync::Arc;

use futures::StreamExt as _;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status};
use weft_model::{Problem, Reason};
use weft_proto::v1;

use super::{Answers, Api, refuse};
use crate::tfstate::{LockRecord, Refusal, Right, StateName, Version, Who, send, whole};
use crate::tls::listen::Peer;

/// Who asks, as the log has it.
fn who<T>(request: &Request<T>) -> Who {
    let extensions = request.extensions();
    if let Some(peer) = extensions.get::<Peer>() {
        return Who { client: peer.client.clone(), from: peer.address.to_string() };
    }
    let local = extensions.get::<UdsConnectInfo>().and_then(|local| local.peer_cred);
    let client = local.map_or_else(|| "unknown".to_owned(), |peer| format!("uid {}", peer.uid()));
    Who { client, from: "the agent's socket".to_owned() }
}

fn parse_name(text: &str) -> Result<StateName, Status> {
    text.parse().map_err(refuse)
}

fn refused(name: &StateName) -> impl Fn(Refusal) -> Status {
    |refusal| {
        let problem = refusal.into_problem(name);
        tracing::info!(reason = ?problem.reason, error = %problem, "refused");
        refuse(problem)
    }
}

fn broken_off(error: &io::Error) -> Problem {
    let reason = match error.kind() {
        io::ErrorKind::TimedOut => Reason::DeadlineExceeded,
        _ => Reason::Internal,
    };
    Problem::new(reason, "the state broke off: what has come is not all of it")
        .evidence(error.to_string())
        .remedy("try again")
}

fn version_to_wire(version: &Version) -> v1::TerraformStateVersion {
    let Version { number, at, by, bytes, sha256, md5: _, facts, restored_from } = version;
    v1::TerraformStateVersion {
        number: *number,
        at_unix_ms: at.as_millisecond(),
        client: by.client.clone(),
        client_address: by.from.clone(),
        bytes: *bytes,
        sha256: sha256.clone(),
        serial: facts.serial,
        lineage: facts.lineage.clone(),
        terraform_version: facts.terraform_version.clone(),
        resources: facts.resources,
        restored_from: *restored_from,
    }
}

fn lock_to_wire(lock: &LockRecord) -> v1::TerraformStateLock {
    let LockRecord { info, by, at } = lock;
    v1::TerraformStateLock {
        id: info.id.clone(),
        at_unix_ms: at.as_millisecond(),
        client: by.client.clone(),
        client_address: by.from.clone(),
        who: info.who.clone(),
        operation: info.operation.clone(),
    }
}

#[tonic::async_trait]
impl v1::terraform_states_server::TerraformStates for Api {
    type GetStream = Answers<v1::TerraformStateChunk>;

    async fn list(
        &self,
        _: Request<v1::ListTerraformStatesRequest>,
    ) -> Result<Response<v1::ListTerraformStatesResponse>, Status> {
        let views = self.context.states.list().await.map_err(refuse)?;
        let items = views.iter().map(|(name, view)| v1::TerraformState {
            name: name.to_string(),
            latest: view.record.latest().map(version_to_wire),
            versions: view.record.versions.len() as u64,
            bytes: view.record.versions.iter().map(|version| version.bytes).sum(),
            lock: view.lock.as_ref().map(lock_to_wire),
        });
        Ok(Response::new(v1::ListTerraformStatesResponse { items: items.collect() }))
    }

    async fn list_versions(
        &self,
        request: Request<v1::ListTerraformStateVersionsRequest>,
    ) -> Result<Response<v1::ListTerraformStateVersionsResponse>, Status> {
        let name = parse_name(&request.into_inner().name)?;
        let view = self.context.states.view(&name).await.map_err(refuse)?;
        let items = view.record.versions.iter().map(version_to_wire).collect();
        Ok(Response::new(v1::ListTerraformStateVersionsResponse { items }))
    }

    async fn get(
        &self,
        request: Request<v1::GetTerraformStateRequest>,
    ) -> Result<Response<Self::GetStream>, Status> {
        let v1::GetTerraformStateRequest { name, version } = request.into_inner();
        let name = parse_name(&name)?;
        let place = self.context.states.place().await.map_err(refuse)?;
        let found = self.context.states.open_version(&name, version).await.map_err(refuse)?;
        let (_, file) = found.ok_or_else(|| refuse(crate::tfstate::no_such(&name)))?;
        let chunks = send(file, place).map(|chunk| match chunk {
            Ok(data) => Ok(v1::TerraformStateChunk { data: data.into() }),
            Err(error) => Err(refuse(broken_off(&error))),
        });
        Ok(Response::new(chunks.boxed()))
    }

    async fn restore(
        &self,
        request: Request<v1::RestoreTerraformStateRequest>,
    ) -> Result<Response<v1::TerraformStateVersion>, Status> {
        let by = who(&request);
        let v1::RestoreTerraformStateRequest { name, version, force } = request.into_inner();
        let name = parse_name(&name)?;
        let right = if force { Right::Force } else { Right::Unlocked };
        let (states, of) = (Arc::clone(&self.context.states), name.clone());
        let restored = whole(async move { states.restore(&of, version, right, by).await }).await;
        Ok(Response::new(version_to_wire(&restored.map_err(refused(&name))?)))
    }

    async fn unlock(
        &self,
        request: Request<v1::UnlockTerraformStateRequest>,
    ) -> Result<Response<v1::UnlockTerraformStateResponse>, Status> {
        let v1::UnlockTerraformStateRequest { name, id } = request.into_inner();
        let name = parse_name(&name)?;
        let (states, of) = (Arc::clone(&self.context.states), name.clone());
        let id = (!id.is_empty()).then_some(id);
        let unlocked = whole(async move { states.unlock(&of, id.as_deref()).await }).await;
        let lock = unlocked.map_err(refused(&name))?.as_ref().map(lock_to_wire);
        Ok(Response::new(v1::UnlockTerraformStateResponse { lock }))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteTerraformStateRequest>,
    ) -> Result<Response<v1::DeleteTerraformStateResponse>, Status> {
        let v1::DeleteTerraformStateRequest { name, force } = request.into_inner();
        let name = parse_name(&name)?;
        let (states, of) = (Arc::clone(&self.context.states), name.clone());
        let removed = whole(async move { states.remove(&of, force).await }).await;
        removed.map_err(refused(&name))?;
        Ok(Response::new(v1::DeleteTerraformStateResponse {}))
    }
}
