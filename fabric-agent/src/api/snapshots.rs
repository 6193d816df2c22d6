//! `weft.v1.Snapshots`.

use prost::Message as _;
use tonic::{Request, Response, Status};
use weft_model::{
    Object, Problem, Record, SnapshotId, SnapshotOrder, SnapshotSource, SnapshotSpec, SnapshotView,
};
use weft_proto::convert::{
    Creation, Revision, creation_from_wire, revision_from_wire, snapshot_order_from_wire,
    snapshot_to_wire,
};
use weft_proto::v1;
use weft_store::Txn;

use super::{Api, parse_id};
use crate::context::Context;
use crate::creation::{Novelty, Outcome};
use crate::random;
use crate::repo::{Kind as _, Snapshots};
use crate::snapshotable::{of_root_disk, of_volume};

type SnapshotRecord = Record<SnapshotId, SnapshotSpec>;

fn show(record: SnapshotRecord) -> v1::Snapshot {
    snapshot_to_wire(Object::from(record).map(SnapshotView::from))
}

/// Snapshots have no names.
fn name(_spec: &SnapshotSpec) -> &str {
    ""
}

async fn create(
    context: &Context,
    request: v1::CreateSnapshotRequest,
) -> Result<SnapshotRecord, Problem> {
    let v1::CreateSnapshotRequest { context: creation, spec } = request;
    let creation = creation_from_wire(creation)?;
    let bytes = spec.as_ref().map(v1::SnapshotSpec::encode_to_vec).unwrap_or_default();
    let order = snapshot_order_from_wire(spec)?;
    // Whoever asks for a snapshot means the disk as it is now, not as it was when another client died.
    let known = context.known_where::<Snapshots>(&bytes, &creation, SnapshotSpec::is_pending);
    let content = match known.await? {
        Outcome::Known(record) => return Ok(record),
        Outcome::New(content) => content,
    };
    context.check_freeze(order.consistency, &order.source).await?;
    let record = take(context, order, &creation, &content).await?;
    // This client may have died meanwhile, too.
    let superseded = context.superseded::<Snapshots>(&content);
    for old in superseded.into_iter().filter(|old| *old != record.id) {
        tracing::info!(snapshot.id = %old, by = %record.id, "removing what a dead session had taken");
        if let Err(problem) = context.delete_snapshot(&old).await {
            tracing::warn!(snapshot.id = %old, error = %problem, "removing it failed");
        }
    }
    Ok(record)
}

async fn take(
    context: &Context,
    order: SnapshotOrder,
    creation: &Creation,
    content: &Novelty,
) -> Result<SnapshotRecord, Problem> {
    let SnapshotOrder { source, description, consistency } = order;
    let _guard = context.references.read().await;
    // What is forgotten meanwhile would leave the snapshot behind.
    let _turn = context.turns().object(source.id()).await;
    let spec = match &source {
        SnapshotSource::RootDisk(id) => {
            let instance = context.snapshotable(id, source.field()).await?.value;
            of_root_disk(&instance, description, context.taking(consistency, &source).await?)
        }
        SnapshotSource::Volume(id) => {
            let volume = context.snapshotable_volume(id, source.field()).await?;
            of_volume(&volume, description, context.taking(consistency, &source).await?)
        }
    };
    let id = Snapshots::new_id(random::bytes(), &spec);
    let record = context.new_record::<Snapshots>(id, spec, creation, content);
    context.store_new::<Snapshots>(&record, creation, content, Txn::new()).await?;
    Ok(record)
}

async fn update(
    context: &Context,
    request: v1::UpdateSnapshotRequest,
) -> Result<SnapshotRecord, Problem> {
    let v1::UpdateSnapshotRequest { context: update, spec } = request;
    let update: Revision<SnapshotId> = revision_from_wire(update)?;
    let order = snapshot_order_from_wire(spec)?;
    let _turn = context.turns().object(update.id.as_str()).await;
    let before = context.fetch_for::<Snapshots>(&update).await?;
    if order.source != before.value.spec.source {
        let message = "what a snapshot is of cannot change";
        let field = order.source.field();
        return Err(Problem::invalid(field, message).remedy("replace the snapshot"));
    }
    if order.consistency != before.value.spec.taking.consistency() {
        let message = "the consistency of a snapshot cannot change";
        return Err(Problem::invalid("consistency", message).remedy("replace the snapshot"));
    }
    let mut record = before.value.clone();
    record.spec.description = order.description;
    record.tags = update.tags;
    record.client_data = update.client_data;
    context.store_update::<Snapshots>(before, record, Txn::new()).await
}

impl Context {
    /// Removes a snapshot; one that is being made is carried to its end first, for the disk's sake.
    pub(crate) async fn delete_snapshot(&self, id: &SnapshotId) -> Result<(), Problem> {
        let _guard = self.references.write().await;
        let _turn = self.turns().object(id.as_str()).await;
        let stored = self.repo.get::<Snapshots>(id).await?;
        if !stored.value.spec.is_pending() {
            return self.remove::<Snapshots>(&stored, Txn::new()).await;
        }
        self.mark_deleting::<Snapshots>(stored).await
    }
}

#[tonic::async_trait]
impl v1::snapshots_server::Snapshots for Api {
    async fn create(
        &self,
        request: Request<v1::CreateSnapshotRequest>,
    ) -> Result<Response<v1::Snapshot>, Status> {
        let record =
            self.whole(async move |context| create(&context, request.into_inner()).await).await?;
        Ok(Response::new(show(record)))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::Snapshot>, Status> {
        self.get_one::<Snapshots, _>(request, show).await
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::SnapshotList>, Status> {
        let items = self.get_many::<Snapshots, _>(request, show).await?;
        Ok(Response::new(v1::SnapshotList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::SnapshotList>, Status> {
        let items = self.get_listed::<Snapshots, _>(request, name, show).await?;
        Ok(Response::new(v1::SnapshotList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateSnapshotRequest>,
    ) -> Result<Response<v1::Snapshot>, Status> {
        let record =
            self.whole(async move |context| update(&context, request.into_inner()).await).await?;
        Ok(Response::new(show(record)))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id: SnapshotId = parse_id(&request.into_inner().id)?;
        self.whole(async move |context| context.delete_snapshot(&id).await).await?;
        Ok(Response::new(v1::DeleteResponse {}))
    }
}
