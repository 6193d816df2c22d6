//! `weft.v1.Volumes`.

use std::time::Duration;

use prost::Message as _;
use tonic::{Request, Response, Status};
use weft_model::{
    Below, ImageBase, Object, Problem, Reason, Record, SnapshotState, VolumeId, VolumeOrder,
    VolumeSource, VolumeSpec, VolumeView, WrappedSecret, check_encryption, check_holds,
    check_no_shrink,
};
use weft_proto::convert::{
    Revision, creation_from_wire, revision_from_wire, volume_order_from_wire, volume_to_wire,
};
use weft_proto::v1;
use weft_store::Txn;

use super::{Api, attaching, parse_id};
use crate::admission::hibernated;
use crate::context::Context;
use crate::creation::Outcome;
use crate::random;
use crate::reconcile::VolumeCondition;
use crate::repo::{Images, Kind as _, Snapshots, Volumes, attached_volume_key};

type VolumeRecord = Record<VolumeId, VolumeSpec>;

/// How long a client waits for a volume's disk.
const MADE_WITHIN: Duration = Duration::from_secs(10);
/// How long it waits until nothing is left of one.
const GONE_WITHIN: Duration = Duration::from_secs(20);

fn show(context: &Context, record: VolumeRecord) -> v1::Volume {
    let attached = context.cache.read().attachment_of_volume(&record.id).cloned();
    let instance_id = attached.map(|attachment| attachment.spec.instance_id);
    let (state, reason) = context.reconciler.volumes.state(&record, instance_id.is_some());
    volume_to_wire(Object::from(record).map(|spec| VolumeView {
        order: VolumeOrder::from(spec),
        state,
        reason,
        instance_id,
    }))
}

fn name(spec: &VolumeSpec) -> &str {
    spec.name.as_ref().map(weft_model::Name::as_str).unwrap_or_default()
}

/// What a new volume is made from.
#[derive(Default)]
struct Origin {
    below: Below,
    /// What encrypts that.
    secret: Option<WrappedSecret>,
}

/// What a volume of `size_gib` is made from whose source this is. The caller holds `references` for
/// reading: nothing of it goes meanwhile.
async fn origin(
    context: &Context,
    source: &VolumeSource,
    size_gib: u32,
) -> Result<Origin, Problem> {
    let refused =
        |message: String, field: &str| Problem::new(Reason::FailedPrecondition, message).at(field);
    let field = source.field();
    let (bytes, origin) = match source {
        VolumeSource::Snapshot(id) => {
            let snapshot = context.repo.find::<Snapshots>(id).await?.ok_or_else(|| {
                Problem::not_found(format!("snapshot {id} does not exist"))
                    .at(field)
                    .remedy("weft ls snapshots shows those that do")
            })?;
            let spec = snapshot.value.spec;
            let layers = match spec.state {
                SnapshotState::Completed { layers, .. } => layers,
                SnapshotState::Pending => {
                    let message = format!("snapshot {id} is not made yet");
                    return Err(refused(message, field)
                        .remedy("wait until weft get says that it is completed"));
                }
                SnapshotState::Error { why } => {
                    let message = format!("snapshot {id} could not be made: {why}");
                    return Err(refused(message, field).remedy("make a new one"));
                }
            };
            let below = Below { base: spec.base, layers };
            (spec.size_bytes, Origin { below, secret: spec.secret })
        }
        VolumeSource::Image(id) => {
            let image = context.repo.find::<Images>(id).await?.ok_or_else(|| {
                Problem::not_found(format!("image {id} does not exist"))
                    .at(field)
                    .remedy("weft ls images shows those that do")
            })?;
            let content = image.value.spec.content;
            let base = ImageBase { digest: content.disk, format: content.format };
            let below = Below { base: Some(base), layers: Vec::new() };
            (content.virtual_size_bytes, Origin { below, secret: None })
        }
    };
    check_holds(source, bytes, size_gib)?;
    Ok(origin)
}

/// What encrypts a new volume: the secret of what it is made from, or one of its own.
fn secret_of(
    context: &Context,
    order: &VolumeOrder,
    below: Option<WrappedSecret>,
) -> Result<Option<WrappedSecret>, Problem> {
    let keys = context.host.volume_keys();
    check_encryption(order.encrypted, order.source.as_ref(), below.is_some())?;
    match below {
        Some(secret) => {
            keys.unwrap(&secret).map_err(|error| Problem::from(error).at("snapshot_id"))?;
            Ok(Some(secret))
        }
        None if order.encrypted == Some(true) => keys.new_secret().map(Some),
        None => Ok(None),
    }
}

async fn create(
    context: &Context,
    request: v1::CreateVolumeRequest,
) -> Result<VolumeRecord, Problem> {
    let v1::CreateVolumeRequest { context: creation, spec } = request;
    let creation = creation_from_wire(creation)?;
    let bytes = spec.as_ref().map(v1::VolumeSpec::encode_to_vec).unwrap_or_default();
    let order = volume_order_from_wire(spec)?;
    let content = match context.known::<Volumes>(&bytes, &creation).await? {
        Outcome::Known(record) => return Ok(record),
        Outcome::New(content) => content,
    };
    let volume_type = order.volume_type.clone().unwrap_or_default();
    context.host.pools().check(&volume_type)?;
    let record = {
        let _guard = context.references.read().await;
        let Origin { below: Below { base, layers }, secret } = match &order.source {
            Some(source) => origin(context, source, order.size_gib).await?,
            None => Origin::default(),
        };
        let secret = secret_of(context, &order, secret)?;
        let VolumeOrder { name, size_gib, volume_type: _, source, limits, encrypted: _ } = order;
        let spec = VolumeSpec { name, size_gib, volume_type, source, base, layers, limits, secret };
        let id = Volumes::new_id(random::bytes(), &spec);
        let record = context.new_record::<Volumes>(id, spec, &creation, &content);
        context.store_new::<Volumes>(&record, &creation, &content, Txn::new()).await?;
        record
    };
    let looked_at = context.reconciler.volumes.looked_at(&record.id);
    if tokio::time::timeout(MADE_WITHIN, looked_at).await.is_err() {
        tracing::warn!(volume.id = %record.id, "the disk of a new volume is not there yet");
    }
    Ok(record)
}

async fn update(
    context: &Context,
    request: v1::UpdateVolumeRequest,
) -> Result<VolumeRecord, Problem> {
    let v1::UpdateVolumeRequest { context: update, spec } = request;
    let update: Revision<VolumeId> = revision_from_wire(update)?;
    let order = volume_order_from_wire(spec)?;
    let turn = context.turns().object(update.id.as_str()).await;
    let before = context.fetch_for::<Volumes>(&update).await?;
    let old = &before.value.spec;
    if order.volume_type.is_some_and(|wanted| wanted != old.volume_type) {
        let message = format!("volume {} is of type \"{}\"", update.id, old.volume_type);
        return Err(Problem::invalid("type", message)
            .remedy("the type of a volume cannot change: replace it"));
    }
    if order.source != old.source {
        let source = order.source.as_ref().or(old.source.as_ref());
        let field = source.map_or("snapshot_id", VolumeSource::field);
        let message = format!("what volume {} was made from cannot change", update.id);
        return Err(Problem::invalid(field, message).remedy("replace the volume"));
    }
    if order.encrypted.is_some_and(|wanted| wanted != old.secret.is_some()) {
        let is = if old.secret.is_some() { "is encrypted" } else { "is not encrypted" };
        let message = format!("volume {} {is}, and that cannot change", update.id);
        return Err(Problem::invalid("encrypted", message)
            .remedy("make another volume and copy what is on this one"));
    }
    check_no_shrink("size_gib", &format!("volume {}", update.id), old.size_gib, order.size_gib)?;
    let grows = order.size_gib > old.size_gib;
    if grows {
        context.check_key(old, "size_gib")?;
        check_seen_growing(context, &update.id)?;
    }
    let is_limited_anew = order.limits != old.limits;
    let mut record = before.value.clone();
    record.tags = update.tags;
    record.client_data = update.client_data;
    record.spec.name = order.name;
    record.spec.size_gib = order.size_gib;
    record.spec.limits = order.limits;
    let record = context.store_update::<Volumes>(before, record, Txn::new()).await?;
    drop(turn);
    if grows {
        let grown = context.reconciler.volumes.grown(&record.id, record.spec.size_bytes());
        if tokio::time::timeout(MADE_WITHIN, grown).await.is_err() {
            tracing::warn!(volume.id = %record.id, "a volume has not grown yet");
        }
    }
    let attached = context.cache.read().attachment_of_volume(&record.id).cloned();
    if let Some(attached) = attached.filter(|_| is_limited_anew) {
        let (instance, volume) = (attached.id.first(), attached.id.second());
        attaching::limited(context, instance, Some(volume), record.spec.limits).await;
    }
    Ok(record)
}

/// # Errors
/// A saved memory knows the volume: who goes on with that would not hear that it has grown.
fn check_seen_growing(context: &Context, id: &VolumeId) -> Result<(), Problem> {
    let world = context.cache.read();
    let instance = world.attachment_of_volume(id).map(|attachment| attachment.id.first().clone());
    let Some(record) = instance.and_then(|id| world.instances.get(&id).cloned()) else {
        return Ok(());
    };
    match record.spec.is_hibernated() {
        true => Err(hibernated(&record.id, "no volume of it can grow").at("size_gib")),
        false => Ok(()),
    }
}

async fn delete(context: &Context, id: &VolumeId) -> Result<(), Problem> {
    {
        // For writing: nobody attaches it meanwhile.
        let _guard = context.references.write().await;
        let _turn = context.turns().object(id.as_str()).await;
        let before = context.repo.get::<Volumes>(id).await?;
        if let Some(instance) = context.repo.read_text(&attached_volume_key(id)).await? {
            return Err(in_use(context, id, &instance));
        }
        context.mark_deleting::<Volumes>(before).await?;
    }
    context.reconciler.volumes.look_at(id.clone());
    let gone = context.cache.until(|world| !world.volumes.contains_key(id));
    if tokio::time::timeout(GONE_WITHIN, gone).await.is_ok() {
        return Ok(());
    }
    let problem = Problem::new(Reason::FailedPrecondition, format!("{id} cannot be removed yet"))
        .at("id")
        .remedy("the agent goes on trying; see its log");
    let condition = context.reconciler.volumes.condition(id);
    Err(match condition.as_ref().and_then(VolumeCondition::why) {
        Some(why) => problem.evidence(why),
        None => problem,
    })
}

/// Named by people's words, where the instance has a name.
fn in_use(context: &Context, id: &VolumeId, instance: &str) -> Problem {
    let named = instance.parse().ok().and_then(|id| {
        context.cache.read().instances.get(&id).and_then(|record| record.spec.name.clone())
    });
    let named = named.map(|name| format!(" ({name})")).unwrap_or_default();
    Problem::new(Reason::InUse, format!("volume {id} is attached to {instance}{named}"))
        .at("id")
        .remedy(format!("detach it first: weft rm {instance}/{id}"))
}

#[tonic::async_trait]
impl v1::volumes_server::Volumes for Api {
    async fn create(
        &self,
        request: Request<v1::CreateVolumeRequest>,
    ) -> Result<Response<v1::Volume>, Status> {
        let record =
            self.whole(async move |context| create(&context, request.into_inner()).await).await?;
        Ok(Response::new(show(&self.context, record)))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::Volume>, Status> {
        self.get_one::<Volumes, _>(request, |record| show(&self.context, record)).await
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::VolumeList>, Status> {
        let show = |record| show(&self.context, record);
        let items = self.get_many::<Volumes, _>(request, show).await?;
        Ok(Response::new(v1::VolumeList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::VolumeList>, Status> {
        let show = |record| show(&self.context, record);
        let items = self.get_listed::<Volumes, _>(request, name, show).await?;
        Ok(Response::new(v1::VolumeList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateVolumeRequest>,
    ) -> Result<Response<v1::Volume>, Status> {
        let record =
            self.whole(async move |context| update(&context, request.into_inner()).await).await?;
        Ok(Response::new(show(&self.context, record)))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id = parse_id(&request.into_inner().id)?;
        self.whole(async move |context| delete(&context, &id).await).await?;
        Ok(Response::new(v1::DeleteResponse {}))
    }
}
