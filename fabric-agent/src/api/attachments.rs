//! `weft.v1.NetworkInterfaceAttachments`.

use std::collections::BTreeSet;

use prost::Message as _;
use tonic::{Request, Response, Status};
use weft_model::{
    AttachmentId, AttachmentOrder, AttachmentSpec, Interface, Object, Problem, Reason, Record,
    place_for,
};
use weft_proto::convert::{
    Revision, attachment_order_from_wire, attachment_to_wire, creation_from_wire,
    revision_from_wire,
};
use weft_proto::v1;
use weft_store::Txn;

use super::{Api, attaching, parse_id};
use crate::cache::World;
use crate::context::Context;
use crate::creation::Outcome;
use crate::random;
use crate::repo::{Attachments, Kind as _, NetworkInterfaces, attached_key};

type AttachmentRecord = Record<AttachmentId, AttachmentSpec>;

fn show(record: AttachmentRecord) -> v1::NetworkInterfaceAttachment {
    attachment_to_wire(Object::from(record))
}

/// Attachments have no names.
fn name(_spec: &AttachmentSpec) -> &str {
    ""
}

/// Both ends exist and fit. The caller holds `references` for reading, and the instance's turn.
async fn place(context: &Context, order: AttachmentOrder) -> Result<AttachmentSpec, Problem> {
    let AttachmentOrder { instance_id, network_interface_id, device_index } = order;
    let instance = attaching::attachable(context, &instance_id).await?;
    let interface = context.repo.find::<NetworkInterfaces>(&network_interface_id).await?;
    let interface = interface.ok_or_else(|| {
        let message = format!("network interface {network_interface_id} does not exist");
        Problem::not_found(message)
            .at("network_interface_id")
            .remedy("the interface that an instance was made with cannot be attached")
    })?;
    check_vpc(&instance.value.spec.interface, &interface.value.spec.interface)?;
    let attachments = context.repo.list::<Attachments>().await?;
    if let Some(other) =
        attachments.iter().find(|one| one.spec.network_interface_id == network_interface_id)
    {
        return Err(attached_already(other));
    }
    let of_instance = attachments.iter().filter(|one| one.spec.instance_id == instance_id);
    let taken: BTreeSet<u8> = of_instance.map(|one| one.spec.device_index).collect();
    let device_index = place_for(&instance_id, device_index, &taken)?;
    Ok(AttachmentSpec { instance_id, network_interface_id, device_index })
}

fn check_vpc(instance: &Interface, interface: &Interface) -> Result<(), Problem> {
    if instance.vpc_id == interface.vpc_id {
        return Ok(());
    }
    let message = format!(
        "network interface {} is in {}, the instance in {}",
        interface.id, interface.vpc_id, instance.vpc_id
    );
    Err(Problem::invalid("network_interface_id", message)
        .remedy("make the network interface in a subnet of the instance's VPC"))
}

fn attached_already(other: &AttachmentRecord) -> Problem {
    let AttachmentSpec { instance_id, network_interface_id, device_index } = &other.spec;
    if other.deleting_since.is_some() {
        let message = format!("{network_interface_id} is still being detached from {instance_id}");
        return Problem::new(Reason::FailedPrecondition, message)
            .at("network_interface_id")
            .remedy(format!(
                "its guest has not let go of it yet; at the latest it does when it is stopped: \
                 weft stop {instance_id}"
            ));
    }
    let message = format!(
        "{network_interface_id} is attached to {instance_id} already, as device {device_index}"
    );
    Problem::new(Reason::AlreadyExists, message)
        .at("network_interface_id")
        .remedy(format!("detach it first (weft rm {}), or import it", other.id))
}

async fn create(
    context: &Context,
    request: v1::CreateNetworkInterfaceAttachmentRequest,
) -> Result<AttachmentRecord, Problem> {
    let v1::CreateNetworkInterfaceAttachmentRequest { context: creation, spec } = request;
    let creation = creation_from_wire(creation)?;
    let bytes =
        spec.as_ref().map(v1::NetworkInterfaceAttachmentSpec::encode_to_vec).unwrap_or_default();
    let order = attachment_order_from_wire(spec)?;
    let content = match context.known::<Attachments>(&bytes, &creation).await? {
        Outcome::Known(record) => return Ok(record),
        Outcome::New(content) => content,
    };
    let guard = context.references.read().await;
    // Choosing an index and storing it are one.
    let turn = context.turns().object(order.instance_id.as_str()).await;
    let spec = place(context, order).await?;
    let key = attached_key(&spec.network_interface_id);
    let txn = Txn::new().when_absent(&key).put(key, spec.instance_id.as_str());
    let id = Attachments::new_id(random::bytes(), &spec);
    let record = context.new_record::<Attachments>(id, spec, &creation, &content);
    context.store_new::<Attachments>(&record, &creation, &content, txn).await?;
    drop(turn);
    drop(guard);
    until_taken_in(context, &record.spec).await;
    Ok(record)
}

/// Where a guest runs, it has the interface now, or there is a line in the log.
async fn until_taken_in(context: &Context, spec: &AttachmentSpec) {
    let AttachmentSpec { instance_id, network_interface_id, .. } = spec;
    let plugged = &context.reconciler.plugged;
    if !attaching::taken_in(context, instance_id, plugged, network_interface_id).await {
        tracing::warn!(
            instance.id = %instance_id,
            interface.id = %network_interface_id,
            "a guest that runs does not have a network interface that was attached to it yet"
        );
    }
}

async fn update(
    context: &Context,
    request: v1::UpdateNetworkInterfaceAttachmentRequest,
) -> Result<AttachmentRecord, Problem> {
    let v1::UpdateNetworkInterfaceAttachmentRequest { context: update, spec } = request;
    let update: Revision<AttachmentId> = revision_from_wire(update)?;
    let order = attachment_order_from_wire(spec)?;
    let _turn = context.turns().object(update.id.first().as_str()).await;
    let before = context.fetch_for::<Attachments>(&update).await?;
    let old = &before.value.spec;
    for (field, changed) in [
        ("instance_id", order.instance_id != old.instance_id),
        ("network_interface_id", order.network_interface_id != old.network_interface_id),
        ("device_index", order.device_index.is_some_and(|index| index != old.device_index)),
    ] {
        if changed {
            let message = format!("{field} of an attachment cannot change");
            return Err(Problem::invalid(field, message).remedy("replace the attachment"));
        }
    }
    let mut record = before.value.clone();
    record.tags = update.tags;
    record.client_data = update.client_data;
    context.store_update::<Attachments>(before, record, Txn::new()).await
}

async fn delete(context: &Context, id: &AttachmentId) -> Result<(), Problem> {
    let is_there = |world: &World| world.attachments.contains_key(id);
    let advice = format!(
        "the agent goes on asking; at the latest it goes when the guest is stopped (weft stop {}); \
         then repeat this",
        id.first()
    );
    attaching::detach::<Attachments, _, _>(context, id, is_there, &advice).await
}

#[tonic::async_trait]
impl v1::network_interface_attachments_server::NetworkInterfaceAttachments for Api {
    async fn create(
        &self,
        request: Request<v1::CreateNetworkInterfaceAttachmentRequest>,
    ) -> Result<Response<v1::NetworkInterfaceAttachment>, Status> {
        let record =
            self.whole(async move |context| create(&context, request.into_inner()).await).await?;
        Ok(Response::new(show(record)))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::NetworkInterfaceAttachment>, Status> {
        self.get_one::<Attachments, _>(request, show).await
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::NetworkInterfaceAttachmentList>, Status> {
        let items = self.get_many::<Attachments, _>(request, show).await?;
        Ok(Response::new(v1::NetworkInterfaceAttachmentList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::NetworkInterfaceAttachmentList>, Status> {
        let items = self.get_listed::<Attachments, _>(request, name, show).await?;
        Ok(Response::new(v1::NetworkInterfaceAttachmentList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateNetworkInterfaceAttachmentRequest>,
    ) -> Result<Response<v1::NetworkInterfaceAttachment>, Status> {
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
