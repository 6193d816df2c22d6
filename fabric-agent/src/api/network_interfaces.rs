//! `weft.v1.NetworkInterfaces`.

use prost::Message as _;
use tonic::{Request, Response, Status};
use weft_model::{
    InterfaceId, NetworkInterfaceOrder, NetworkInterfaceSpec, NetworkInterfaceView, Object,
    Problem, Reason, Record, Target,
};
use weft_proto::convert::{
    Revision, creation_from_wire, interface_order_from_wire, interface_to_wire, revision_from_wire,
};
use weft_proto::v1;
use weft_store::Txn;

use super::groups::NOT_YET;
use super::{Api, parse_id};
use crate::admission::{InterfaceOrder, seat_keys};
use crate::context::Context;
use crate::creation::Outcome;
use crate::random;
use crate::repo::{Associations, NetworkInterfaces, PortForwards, attached_key};

type InterfaceRecord = Record<InterfaceId, NetworkInterfaceSpec>;

fn show(record: InterfaceRecord) -> v1::NetworkInterface {
    interface_to_wire(Object::from(record).map(NetworkInterfaceView::from))
}

fn name(spec: &NetworkInterfaceSpec) -> &str {
    &spec.name
}

async fn create(
    context: &Context,
    request: v1::CreateNetworkInterfaceRequest,
) -> Result<InterfaceRecord, Problem> {
    let v1::CreateNetworkInterfaceRequest { context: creation, spec } = request;
    let creation = creation_from_wire(creation)?;
    let bytes = spec.as_ref().map(v1::NetworkInterfaceSpec::encode_to_vec).unwrap_or_default();
    let order = interface_order_from_wire(spec)?;
    let content = match context.known::<NetworkInterfaces>(&bytes, &creation).await? {
        Outcome::Known(record) => return Ok(record),
        Outcome::New(content) => content,
    };
    let guard = context.references.read().await;
    let NetworkInterfaceOrder { name, subnet_id, private_ip, security_group_ids, .. } = order;
    let place = context.place(subnet_id.as_ref()).await?;
    let id = InterfaceId::from_random(random::bytes());
    let wanted = InterfaceOrder {
        id: id.clone(),
        owner: id.as_str(),
        link: context.link_name(id.digits())?,
        private_ip,
        security_group_ids,
        source_dest_check: order.source_dest_check,
        network_mbps: order.network_mbps,
    };
    let (interface, reservation, txn) = context.seat(place, wanted).await?;
    let spec = NetworkInterfaceSpec { name, interface };
    let record = context.new_record::<NetworkInterfaces>(id, spec, &creation, &content);
    context.store_new::<NetworkInterfaces>(&record, &creation, &content, txn).await?;
    reservation.keep();
    drop(guard);
    Ok(record)
}

async fn update(
    context: &Context,
    request: v1::UpdateNetworkInterfaceRequest,
) -> Result<InterfaceRecord, Problem> {
    let v1::UpdateNetworkInterfaceRequest { context: update, spec } = request;
    let update: Revision<InterfaceId> = revision_from_wire(update)?;
    let order = interface_order_from_wire(spec)?;
    let guard = context.references.read().await;
    let turn = context.turns().object(update.id.as_str()).await;
    let before = context.fetch_for::<NetworkInterfaces>(&update).await?;
    let old = &before.value.spec.interface;
    for (field, changed) in [
        ("subnet_id", order.subnet_id.is_some_and(|id| id != old.subnet_id)),
        ("private_ip", order.private_ip.is_some_and(|address| address != old.private_ip)),
    ] {
        if changed {
            let message = format!("{field} of a network interface cannot change");
            return Err(Problem::invalid(field, message).remedy("replace the network interface"));
        }
    }
    if order.security_group_ids != old.security_group_ids {
        context.check_groups(order.security_group_ids.as_ref(), &old.vpc_id).await?;
    }
    if order.source_dest_check != old.source_dest_check {
        context.check_source_dest(order.source_dest_check, &old.vpc_id).await?;
    }
    let changes_network = order.security_group_ids != old.security_group_ids
        || order.source_dest_check != old.source_dest_check
        || order.network_mbps != old.network_mbps;
    let mut record = before.value.clone();
    record.tags = update.tags;
    record.client_data = update.client_data;
    record.spec.name = order.name;
    record.spec.interface.security_group_ids = order.security_group_ids;
    record.spec.interface.source_dest_check = order.source_dest_check;
    record.spec.interface.network_mbps = order.network_mbps;
    let record = context.store_update::<NetworkInterfaces>(before, record, Txn::new()).await?;
    drop(turn);
    drop(guard);
    if changes_network {
        context.settle_networks(NOT_YET).await;
    }
    Ok(record)
}

async fn delete(context: &Context, id: &InterfaceId) -> Result<(), Problem> {
    // For writing: nobody attaches it meanwhile.
    let _guard = context.references.write().await;
    let _turn = context.turns().object(id.as_str()).await;
    let stored = context.repo.get::<NetworkInterfaces>(id).await?;
    if let Some(instance) = context.repo.read_text(&attached_key(id)).await? {
        let message = format!("network interface {id} is attached to {instance}");
        return Err(Problem::new(Reason::InUse, message)
            .at("id")
            .remedy(format!("detach it first: weft rm {instance}/{id}")));
    }
    let target = Target::Interface(id.clone());
    let associations = context.repo.list::<Associations>().await?;
    let associations = associations.iter().filter(|one| one.spec.target == target);
    let forwards = context.repo.list::<PortForwards>().await?;
    let forwards = forwards.iter().filter(|one| one.spec.target == target);
    let users: Vec<String> = associations
        .map(|one| one.id.to_string())
        .chain(forwards.map(|one| one.id.to_string()))
        .collect();
    if !users.is_empty() {
        let message = format!("network interface {id} is used by {}", users.join(", "));
        return Err(Problem::new(Reason::InUse, message)
            .at("id")
            .remedy("remove them first; weft rm takes their ids"));
    }
    let keys = seat_keys(&stored.value.spec.interface);
    let txn = keys.into_iter().fold(Txn::new(), Txn::delete);
    context.remove::<NetworkInterfaces>(&stored, txn).await?;
    context.ledger.seats.release(id);
    Ok(())
}

#[tonic::async_trait]
impl v1::network_interfaces_server::NetworkInterfaces for Api {
    async fn create(
        &self,
        request: Request<v1::CreateNetworkInterfaceRequest>,
    ) -> Result<Response<v1::NetworkInterface>, Status> {
        let record =
            self.whole(async move |context| create(&context, request.into_inner()).await).await?;
        Ok(Response::new(show(record)))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::NetworkInterface>, Status> {
        self.get_one::<NetworkInterfaces, _>(request, show).await
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::NetworkInterfaceList>, Status> {
        let items = self.get_many::<NetworkInterfaces, _>(request, show).await?;
        Ok(Response::new(v1::NetworkInterfaceList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::NetworkInterfaceList>, Status> {
        let items = self.get_listed::<NetworkInterfaces, _>(request, name, show).await?;
        Ok(Response::new(v1::NetworkInterfaceList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateNetworkInterfaceRequest>,
    ) -> Result<Response<v1::NetworkInterface>, Status> {
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
