//! Snapshots of the fake agent.

use tonic::{Request, Response, Status};
use weft_model::SnapshotSource;
use weft_proto::convert::{snapshot_order_from_wire, snapshot_order_to_wire};
use weft_proto::v1;

use super::Shared;
use super::world::{batch, begin_update, get, missing, named, refused};

#[tonic::async_trait]
impl v1::snapshots_server::Snapshots for Shared {
    async fn create(
        &self,
        request: Request<v1::CreateSnapshotRequest>,
    ) -> Result<Response<v1::Snapshot>, Status> {
        let v1::CreateSnapshotRequest { context, spec } = request.into_inner();
        let spec = snapshot_order_from_wire(spec).map_err(refused)?;
        let mut world = self.lock();
        let metadata = match world.begin_create("Snapshots.Create", "snap-", context)? {
            Ok(metadata) => metadata,
            Err(id) => return get(&world.snapshots, &id).map(Response::new),
        };
        let id = metadata.id.clone();
        let volume = match &spec.source {
            SnapshotSource::Volume(id) => world.volumes.get(id.as_str()),
            SnapshotSource::RootDisk(_) => None,
        };
        let encrypted = volume.and_then(|it| it.spec.as_ref()?.encrypted).unwrap_or_default();
        let spec = Some(snapshot_order_to_wire(spec));
        // It is made by the time of the second look.
        let wire = v1::Snapshot {
            metadata: Some(metadata),
            spec,
            state: "pending".to_owned(),
            reason: String::new(),
            size_bytes: 3 << 30,
            completed_at_unix_ms: None,
            encrypted,
        };
        world.snapshots.insert(id, wire.clone());
        Ok(Response::new(wire))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::Snapshot>, Status> {
        get(&self.lock().snapshots, &request.into_inner().id).map(Response::new)
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::SnapshotList>, Status> {
        let mut world = self.lock();
        world.calls.push("Snapshots.BatchGet");
        let items = batch(&world.snapshots, &request.into_inner().ids);
        let failure = world.snapshots_fail.clone();
        let mut settled = Vec::new();
        for (id, snapshot) in world.snapshots.iter_mut().filter(|(_, it)| it.state == "pending") {
            settled.push(id.clone());
            snapshot.completed_at_unix_ms = Some(1_700_000_000_000);
            let state = if failure.is_some() { "error" } else { "completed" };
            snapshot.state = state.to_owned();
            snapshot.reason = failure.clone().unwrap_or_default();
        }
        for id in settled {
            // Somebody else's is another matter.
            world.tell("snapshots", "snap-fffffffffffffffff");
            world.tell("snapshots", &id);
        }
        Ok(Response::new(v1::SnapshotList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::SnapshotList>, Status> {
        let items = named(&self.lock().snapshots, &request.into_inner(), |_| None);
        Ok(Response::new(v1::SnapshotList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateSnapshotRequest>,
    ) -> Result<Response<v1::Snapshot>, Status> {
        let v1::UpdateSnapshotRequest { context, spec } = request.into_inner();
        let spec = snapshot_order_from_wire(spec).map_err(refused)?;
        let context = context.unwrap();
        let mut world = self.lock();
        world.calls.push("Snapshots.Update");
        let wire = world.snapshots.get_mut(&context.id).ok_or_else(|| missing(&context.id))?;
        begin_update(wire.metadata.as_mut().unwrap(), &context)?;
        wire.spec = Some(snapshot_order_to_wire(spec));
        Ok(Response::new(wire.clone()))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id = request.into_inner().id;
        self.lock().snapshots.remove(&id).ok_or_else(|| missing(&id))?;
        Ok(Response::new(v1::DeleteResponse {}))
    }
}
