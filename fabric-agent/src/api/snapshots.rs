//! `weft.v1.Snapshots`.

use std::sync::Arc;

use prost::Message as _;
use tonic::{Request, Response, Status};
use weft_model::{
    Architecture, Boots, Consistency, ImageBase, InstanceId, InstanceSpec, InstanceState, LayerId,
    Object, PowerState, Problem, Reason, Record, SnapshotId, SnapshotOrder, SnapshotSource,
    SnapshotSpec, SnapshotState, SnapshotView, VolumeId, VolumeSpec, check_depth,
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
use crate::reconcile::VolumeCondition;
use crate::repo::{Instances, Kind as _, Snapshots, Stored, Volumes};

type SnapshotRecord = Record<SnapshotId, SnapshotSpec>;

fn show(record: SnapshotRecord) -> v1::Snapshot {
    snapshot_to_wire(Object::from(record).map(SnapshotView::from))
}

/// Snapshots have no names.
fn name(_spec: &SnapshotSpec) -> &str {
    ""
}

impl Context {
    /// The instance, if its root disk can be snapshotted. The caller holds `references` for reading,
    /// and the instance's turn.
    pub(crate) async fn snapshotable(
        &self,
        id: &InstanceId,
        field: &str,
    ) -> Result<Stored<Record<InstanceId, InstanceSpec>>, Problem> {
        let missing = || {
            Problem::not_found(format!("instance {id} does not exist"))
                .at(field)
                .remedy("weft ls instances shows those that do")
        };
        let instance = self.repo.find::<Instances>(id).await?.ok_or_else(missing)?;
        if instance.value.deleting_since.is_some() {
            let message = format!("instance {id} is being terminated");
            return Err(Problem::new(Reason::FailedPrecondition, message).at(field));
        }
        let spec = &instance.value.spec;
        // The guest is not asked: a QEMU that hangs would hold up all who wait for `references`.
        let has_disk = self.host.has_root_disk(id).await.map_err(|error| error.problem())?;
        let has_run = self.repo.status(id).await?.is_some_and(|it| it.launched_at.is_some());
        match (has_disk, has_run, spec.power) {
            (true, ..) | (false, false, weft_model::PowerState::Running) => {}
            (false, false, weft_model::PowerState::Stopped) => {
                let message = format!("instance {id} has no root disk: it has never been started");
                return Err(Problem::new(Reason::FailedPrecondition, message)
                    .at(field)
                    .remedy(format!("start it first: weft start {id}")));
            }
            (false, true, _) => {
                let message = format!("the root disk of instance {id} is missing");
                return Err(Problem::new(Reason::FailedPrecondition, message).at(field).remedy(
                    format!(
                        "put {} back, or replace the instance",
                        self.host.root_disk_file(id).display()
                    ),
                ));
            }
        }
        let source = SnapshotSource::RootDisk(id.clone());
        self.check_layers(&source, field, spec.root_layers.len(), false)?;
        Ok(instance)
    }

    /// The disk of `source` over `layers` can get one more. Whoever makes a snapshot has the turn of
    /// its source until the cache has it.
    fn check_layers(
        &self,
        source: &SnapshotSource,
        field: &str,
        layers: usize,
        encrypted: bool,
    ) -> Result<(), Problem> {
        let world = self.cache.read();
        let is_of =
            |one: &&Arc<SnapshotRecord>| one.spec.is_pending() && one.spec.source == *source;
        let coming = world.snapshots.values().filter(is_of).count();
        check_depth(field, source, layers + coming, encrypted)
    }

    /// The volume, if it can be snapshotted. The caller holds `references` for reading, and the
    /// volume's turn.
    async fn snapshotable_volume(
        &self,
        id: &VolumeId,
        field: &str,
    ) -> Result<Record<VolumeId, VolumeSpec>, Problem> {
        let missing = || {
            Problem::not_found(format!("volume {id} does not exist"))
                .at(field)
                .remedy("weft ls volumes shows those that do")
        };
        let volume = self.repo.find::<Volumes>(id).await?.ok_or_else(missing)?.value;
        if volume.deleting_since.is_some() {
            let message = format!("volume {id} is being deleted");
            return Err(Problem::new(Reason::FailedPrecondition, message).at(field));
        }
        if let Some(VolumeCondition::Failed(why)) = self.reconciler.volumes.condition(id) {
            let message = format!("volume {id} cannot be used");
            return Err(Problem::new(Reason::FailedPrecondition, message)
                .at(field)
                .evidence(why)
                .remedy(format!("put that right first: weft get {id} tells when it is")));
        }
        self.check_key(&volume.spec, field)?;
        let source = SnapshotSource::Volume(id.clone());
        let (layers, encrypted) = (volume.spec.layers.len(), volume.spec.secret.is_some());
        self.check_layers(&source, field, layers, encrypted)?;
        Ok(volume)
    }
}

impl Context {
    /// The instance whose guest runs, or is to, and has to be frozen for a snapshot of `source`. The guest
    /// is not asked.
    ///
    /// # Errors
    /// A [`Problem`] at `consistency`: it is hibernated.
    pub(crate) async fn guest_to_freeze(
        &self,
        consistency: Consistency,
        source: &SnapshotSource,
    ) -> Result<Option<InstanceId>, Problem> {
        if consistency != Consistency::Frozen {
            return Ok(None);
        }
        let attached = |id| {
            let world = self.cache.read();
            world.attachment_of_volume(id).map(|it| it.spec.instance_id.clone())
        };
        let id = match source {
            SnapshotSource::RootDisk(id) => Some(id.clone()),
            SnapshotSource::Volume(id) => attached(id),
        };
        // A volume of nobody's is written by nobody.
        let Some(id) = id else { return Ok(None) };
        let missing =
            || Problem::not_found(format!("instance {id} does not exist")).at(source.field());
        let spec = self.repo.find::<Instances>(&id).await?.ok_or_else(missing)?.value.spec;
        if spec.hibernate {
            let message = format!(
                "instance {id} is hibernated: what its programs have not written yet is in its memory"
            );
            return Err(Problem::new(Reason::FailedPrecondition, message)
                .at("consistency")
                .remedy(format!("start it first (weft start {id}), or say \"crash\"")));
        }
        // One that has switched itself off has left its file systems clean.
        let status = self.repo.status(&id).await?;
        let is_off = status.is_some_and(|it| {
            it.ended_epoch >= spec.run_epoch && it.state == InstanceState::Stopped
        });
        Ok((spec.power == PowerState::Running && !is_off).then_some(id))
    }

    /// Refuses at once what nobody in the guest can do. The guest is asked: nobody may wait for who
    /// calls this.
    pub(crate) async fn check_freeze(
        &self,
        consistency: Consistency,
        source: &SnapshotSource,
    ) -> Result<(), Problem> {
        let Some(id) = self.guest_to_freeze(consistency, source).await? else { return Ok(()) };
        match self.host.can_freeze(&id).await {
            // It may be looked at later.
            Err(error) if !error.is_retryable() => Err(error.problem().at("consistency")),
            Err(_) | Ok(()) => Ok(()),
        }
    }
}

/// A snapshot of the root disk of `instance`, to be made.
pub(crate) fn of_root_disk(
    instance: &Record<InstanceId, InstanceSpec>,
    description: String,
) -> SnapshotSpec {
    let spec = &instance.spec;
    SnapshotSpec {
        source: SnapshotSource::RootDisk(instance.id.clone()),
        description,
        layer: LayerId::from_random(random::bytes()),
        size_bytes: spec.root_size_bytes(),
        base: Some(ImageBase { digest: spec.image.disk, format: spec.image.format }),
        boots: Some(Boots {
            boot_mode: spec.image.boot_mode,
            kernel: spec.image.kernel.clone(),
            architecture: Architecture::X86_64,
            default_user: spec.default_user.clone(),
        }),
        between_guests: false,
        consistency: Consistency::Crash,
        had_guest: false,
        for_image: None,
        secret: None,
        state: SnapshotState::Pending,
    }
}

/// A snapshot of `volume`, to be made.
fn of_volume(volume: &Record<VolumeId, VolumeSpec>, description: String) -> SnapshotSpec {
    SnapshotSpec {
        source: SnapshotSource::Volume(volume.id.clone()),
        description,
        layer: LayerId::from_random(random::bytes()),
        size_bytes: volume.spec.size_bytes(),
        base: volume.spec.base.clone(),
        boots: None,
        between_guests: false,
        consistency: Consistency::Crash,
        had_guest: false,
        for_image: None,
        secret: volume.spec.secret.clone(),
        state: SnapshotState::Pending,
    }
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
            of_root_disk(&context.snapshotable(id, source.field()).await?.value, description)
        }
        SnapshotSource::Volume(id) => {
            of_volume(&context.snapshotable_volume(id, source.field()).await?, description)
        }
    };
    let had_guest = context.guest_to_freeze(consistency, &source).await?.is_some();
    let spec = SnapshotSpec { consistency, had_guest, ..spec };
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
    if order.consistency != before.value.spec.consistency {
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
