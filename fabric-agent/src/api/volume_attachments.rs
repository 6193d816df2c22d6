//! `weft.v1.VolumeAttachments`.

use std::collections::BTreeSet;

use prost::Message as _;
use tonic::{Request, Response, Status};
use weft_model::{
    Object, Problem, Reason, Record, VolumeAttachmentId, VolumeAttachmentOrder,
    VolumeAttachmentSpec, place_for_volume,
};
use weft_proto::convert::{
    Revision, creation_from_wire, revision_from_wire, volume_attachment_order_from_wire,
    volume_attachment_to_wire,
};
use weft_proto::v1;
use weft_store::Txn;

use super::{Api, attaching, parse_id};
use crate::cache::World;
use crate::context::Context;
use crate::creation::Outcome;
use crate::random;
use crate::reconcile::VolumeCondition;
use crate::repo::{
    Kind as _, VolumeAttachments, Volumes, attached_volume_key, missing, object_key,
};

type AttachmentRecord = Record<VolumeAttachmentId, VolumeAttachmentSpec>;

/// How often it is begun anew where the volume's record has changed meanwhile.
const MAX_TRIES: u8 = 8;

fn show(record: AttachmentRecord) -> v1::VolumeAttachment {
    volume_attachment_to_wire(Object::from(record).map(VolumeAttachmentOrder::from))
}

/// Attachments have no names.
fn name(_spec: &VolumeAttachmentSpec) -> &str {
    ""
}

/// Both ends exist and are free. The caller holds `references` for reading, and the instance's turn.
async fn place(
    context: &Context,
    order: VolumeAttachmentOrder,
) -> Result<(VolumeAttachmentSpec, Txn), Problem> {
    let VolumeAttachmentOrder { instance_id, volume_id, delete_on_termination } = order;
    attaching::attachable(context, &instance_id).await?;
    let volume = context.repo.find::<Volumes>(&volume_id).await?;
    let volume = volume.ok_or_else(|| missing::<Volumes>(&volume_id, "volume_id"))?;
    if volume.value.deleting_since.is_some() {
        let message = format!("volume {volume_id} is being deleted");
        return Err(Problem::new(Reason::FailedPrecondition, message).at("volume_id"));
    }
    if let Some(VolumeCondition::Failed(why)) = context.reconciler.volumes.condition(&volume_id) {
        let message = format!("volume {volume_id} is in error and no guest could be given it");
        return Err(Problem::new(Reason::FailedPrecondition, message)
            .at("volume_id")
            .remedy(format!("put right what its reason says, or replace it: weft get {volume_id}"))
            .evidence(why));
    }
    context.check_key(&volume.value.spec, "volume_id")?;
    let attachments = context.repo.list::<VolumeAttachments>().await?;
    if let Some(other) = attachments.iter().find(|one| one.spec.volume_id == volume_id) {
        return Err(attached_already(context, other));
    }
    let of_instance = attachments.iter().filter(|one| one.spec.instance_id == instance_id);
    let taken: BTreeSet<u8> = of_instance.map(|one| one.spec.place).collect();
    let place = place_for_volume(&instance_id, &taken)?;
    let key = attached_volume_key(&volume_id);
    let txn = Txn::new()
        // Its instance may be going, and take it along, at this moment.
        .when_at(object_key::<Volumes>(&volume_id), volume.revision)
        .when_absent(&key)
        .put(key, instance_id.as_str());
    Ok((VolumeAttachmentSpec { instance_id, volume_id, place, delete_on_termination }, txn))
}

fn attached_already(context: &Context, other: &AttachmentRecord) -> Problem {
    let VolumeAttachmentSpec { instance_id, volume_id, .. } = &other.spec;
    if other.deleting_since.is_some() {
        let message = format!("{volume_id} is still being detached from {instance_id}");
        return Problem::new(Reason::FailedPrecondition, message).at("volume_id").remedy(format!(
            "its guest has not let go of it yet; at the latest it does when it is stopped: weft \
             stop {instance_id}"
        ));
    }
    let world = context.cache.read();
    let name = world.instances.get(instance_id).and_then(|record| record.spec.name.as_ref());
    let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
    let message = format!("{volume_id} is attached to {instance_id}{name} already");
    Problem::new(Reason::AlreadyExists, message)
        .at("volume_id")
        .remedy(format!("detach it first (weft rm {}), or import it", other.id))
}

async fn create(
    context: &Context,
    request: v1::CreateVolumeAttachmentRequest,
) -> Result<AttachmentRecord, Problem> {
    let v1::CreateVolumeAttachmentRequest { context: creation, spec } = request;
    let creation = creation_from_wire(creation)?;
    let bytes = spec.as_ref().map(v1::VolumeAttachmentSpec::encode_to_vec).unwrap_or_default();
    let order = volume_attachment_order_from_wire(spec)?;
    let content = match context.known::<VolumeAttachments>(&bytes, &creation).await? {
        Outcome::Known(record) => return Ok(record),
        Outcome::New(content) => content,
    };
    let guard = context.references.read().await;
    // Choosing a place and storing it are one.
    let turn = context.turns().object(order.instance_id.as_str()).await;
    let mut tries = 0..MAX_TRIES;
    let record = loop {
        let (spec, txn) = place(context, order.clone()).await?;
        let id = VolumeAttachments::new_id(random::bytes(), &spec);
        let record = context.new_record::<VolumeAttachments>(id, spec, &creation, &content);
        match context.store_new::<VolumeAttachments>(&record, &creation, &content, txn).await {
            Ok(_) => break record,
            // A snapshot of the volume was made at this moment.
            Err(problem) if problem.reason == Reason::StaleGeneration && tries.next().is_some() => {
            }
            Err(problem) => return Err(problem),
        }
    };
    drop(turn);
    drop(guard);
    until_taken_in(context, &record.spec).await;
    Ok(record)
}

/// Where a guest runs, it has the volume now, or there is a line in the log.
async fn until_taken_in(context: &Context, spec: &VolumeAttachmentSpec) {
    let VolumeAttachmentSpec { instance_id, volume_id, .. } = spec;
    let plugged = &context.reconciler.plugged_volumes;
    if !attaching::taken_in(context, instance_id, plugged, volume_id).await {
        tracing::warn!(
            instance.id = %instance_id,
            volume.id = %volume_id,
            "a guest that runs does not have a volume that was attached to it yet"
        );
    }
}

async fn update(
    context: &Context,
    request: v1::UpdateVolumeAttachmentRequest,
) -> Result<AttachmentRecord, Problem> {
    let v1::UpdateVolumeAttachmentRequest { context: update, spec } = request;
    let update: Revision<VolumeAttachmentId> = revision_from_wire(update)?;
    let order = volume_attachment_order_from_wire(spec)?;
    let _turn = context.turns().object(update.id.first().as_str()).await;
    let before = context.fetch_for::<VolumeAttachments>(&update).await?;
    let old = &before.value.spec;
    for (field, changed) in [
        ("instance_id", order.instance_id != old.instance_id),
        ("volume_id", order.volume_id != old.volume_id),
    ] {
        if changed {
            let message = format!("{field} of an attachment cannot change");
            return Err(Problem::invalid(field, message).remedy("replace the attachment"));
        }
    }
    let mut record = before.value.clone();
    record.tags = update.tags;
    record.client_data = update.client_data;
    record.spec.delete_on_termination = order.delete_on_termination;
    context.store_update::<VolumeAttachments>(before, record, Txn::new()).await
}

async fn delete(context: &Context, id: &VolumeAttachmentId) -> Result<(), Problem> {
    let is_there = |world: &World| world.volume_attachments.contains_key(id);
    let advice = format!(
        "unmount it in the guest; the agent goes on asking, and at the latest it goes when the guest \
         is stopped (weft stop {}); then repeat this",
        id.first()
    );
    attaching::detach::<VolumeAttachments, _, _>(context, id, is_there, &advice).await
}

#[tonic::async_trait]
impl v1::volume_attachments_server::VolumeAttachments for Api {
    async fn create(
        &self,
        request: Request<v1::CreateVolumeAttachmentRequest>,
    ) -> Result<Response<v1::VolumeAttachment>, Status> {
        let record =
            self.whole(async move |context| create(&context, request.into_inner()).await).await?;
        Ok(Response::new(show(record)))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::VolumeAttachment>, Status> {
        self.get_one::<VolumeAttachments, _>(request, show).await
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::VolumeAttachmentList>, Status> {
        let items = self.get_many::<VolumeAttachments, _>(request, show).await?;
        Ok(Response::new(v1::VolumeAttachmentList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::VolumeAttachmentList>, Status> {
        let items = self.get_listed::<VolumeAttachments, _>(request, name, show).await?;
        Ok(Response::new(v1::VolumeAttachmentList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateVolumeAttachmentRequest>,
    ) -> Result<Response<v1::VolumeAttachment>, Status> {
        let record =
            self.whole(async move |context| update(&context, request.into_inner()).await).await?;
        Ok(Response::new(show(record)))
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
