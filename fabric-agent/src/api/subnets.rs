//! `weft.v1.Subnets`.

use prost::Message as _;
use tonic::{Request, Response, Status};
use weft_model::{
    Interface, Object, Problem, Reason, Record, SubnetId, SubnetOrder, SubnetSpec,
    check_map_public_ip,
};
use weft_proto::convert::{
    Revision, creation_from_wire, revision_from_wire, subnet_order_from_wire, subnet_to_wire,
};
use weft_proto::v1;
use weft_store::Txn;

use super::{Api, parse_id, users};
use crate::context::Context;
use crate::creation::Outcome;
use crate::random;
use crate::repo::{Kind as _, RouteTableAssociations, Subnets, Vpcs, missing};

type SubnetRecord = Record<SubnetId, SubnetSpec>;

fn show(record: SubnetRecord) -> v1::Subnet {
    subnet_to_wire(Object::from(record))
}

fn name(spec: &SubnetSpec) -> &str {
    &spec.name
}

/// The subnet in its VPC, beside those that are there. The caller holds `references` for writing:
/// nothing comes into the VPC meanwhile.
async fn place(context: &Context, order: SubnetOrder) -> Result<SubnetSpec, Problem> {
    let vpc = context.repo.find::<Vpcs>(&order.vpc_id).await?;
    let vpc = vpc.ok_or_else(|| missing::<Vpcs>(&order.vpc_id, "vpc_id"))?;
    let vpc_id = order.vpc_id.clone();
    let subnets = context.repo.list::<Subnets>().await?;
    let others = subnets.iter().filter(|other| other.spec.vpc_id == vpc_id);
    let subnet = order.place(&vpc.value.spec, others.map(|other| (&other.id, &other.spec)))?;
    // A bridge's LAN may have both, but no address is anybody else's too.
    context.public_pool.check_subnet(subnet.cidr_block)?;
    // On a bridge the router may be in another subnet, where instances have addresses already.
    let has_its_address = |interface: &Interface| {
        interface.vpc_id == vpc_id && interface.private_ip == subnet.gateway
    };
    match users::of_interfaces(context, has_its_address).await?.first() {
        None => Ok(subnet),
        Some(user) => {
            let message = format!("{} is the address of {user}", subnet.gateway);
            Err(Problem::new(Reason::AlreadyExists, message)
                .at("gateway_ip")
                .remedy("use the address of the LAN's router"))
        }
    }
}

async fn create(
    context: &Context,
    request: v1::CreateSubnetRequest,
) -> Result<SubnetRecord, Problem> {
    let v1::CreateSubnetRequest { context: creation, spec } = request;
    let creation = creation_from_wire(creation)?;
    let bytes = spec.as_ref().map(v1::SubnetSpec::encode_to_vec).unwrap_or_default();
    let order = subnet_order_from_wire(spec)?;
    let content = match context.known::<Subnets>(&bytes, &creation).await? {
        Outcome::Known(record) => return Ok(record),
        Outcome::New(content) => content,
    };
    let _guard = context.references.write().await;
    let spec = place(context, order).await?;
    let id = Subnets::new_id(random::bytes(), &spec);
    let record = context.new_record::<Subnets>(id, spec, &creation, &content);
    context.store_new::<Subnets>(&record, &creation, &content, Txn::new()).await?;
    Ok(record)
}

async fn update(
    context: &Context,
    request: v1::UpdateSubnetRequest,
) -> Result<SubnetRecord, Problem> {
    let v1::UpdateSubnetRequest { context: update, spec } = request;
    let update: Revision<SubnetId> = revision_from_wire(update)?;
    let order = subnet_order_from_wire(spec)?;
    let _turn = context.turns().object(update.id.as_str()).await;
    let before = context.fetch_for::<Subnets>(&update).await?;
    let old = &before.value.spec;
    for (field, changed) in [
        ("vpc_id", order.vpc_id != old.vpc_id),
        ("cidr_block", order.cidr_block != old.cidr_block),
        ("ipv6_cidr_block", order.ipv6_cidr_block != old.ipv6_cidr_block),
        ("gateway_ip", order.gateway.is_some_and(|gateway| gateway != old.gateway)),
    ] {
        if changed {
            return Err(Problem::invalid(field, format!("{field} of a subnet cannot change"))
                .remedy("replace the subnet"));
        }
    }
    let mut record = before.value.clone();
    record.tags = update.tags;
    record.client_data = update.client_data;
    record.spec.name = order.name;
    record.spec.dns_servers = order.dns_servers;
    if order.map_public_ip && !old.map_public_ip {
        let vpc = context.repo.get::<Vpcs>(&old.vpc_id).await?;
        check_map_public_ip(true, vpc.value.spec.mode)?;
    }
    record.spec.map_public_ip = order.map_public_ip;
    context.store_update::<Subnets>(before, record, Txn::new()).await
}

async fn delete(context: &Context, id: &SubnetId) -> Result<(), Problem> {
    let _guard = context.references.write().await;
    let _turn = context.turns().object(id.as_str()).await;
    let stored = context.repo.get::<Subnets>(id).await?;
    let in_use = |message: String, remedy: &str| {
        Err(Problem::new(Reason::InUse, message).at("id").remedy(remedy))
    };
    if stored.value.spec.is_default {
        let message = format!("subnet {id} is the default subnet");
        return in_use(message, "it stays as long as the agent");
    }
    let users = users::of_interfaces(context, |interface| interface.subnet_id == *id).await?;
    let associations = context.repo.list::<RouteTableAssociations>().await?;
    if let Some(one) = associations.iter().find(|one| one.spec.subnet_id == *id) {
        return in_use(
            format!("subnet {id} uses the route table {}", one.spec.route_table_id),
            "remove the association first",
        );
    }
    if !users.is_empty() {
        return in_use(
            format!("subnet {id} is used by {}", users.join(", ")),
            "remove them first; weft rm takes their ids",
        );
    }
    context.remove::<Subnets>(&stored, Txn::new()).await
}

#[tonic::async_trait]
impl v1::subnets_server::Subnets for Api {
    async fn create(
        &self,
        request: Request<v1::CreateSubnetRequest>,
    ) -> Result<Response<v1::Subnet>, Status> {
        let record =
            self.whole(async move |context| create(&context, request.into_inner()).await).await?;
        Ok(Response::new(show(record)))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::Subnet>, Status> {
        self.get_one::<Subnets, _>(request, show).await
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::SubnetList>, Status> {
        let items = self.get_many::<Subnets, _>(request, show).await?;
        Ok(Response::new(v1::SubnetList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::SubnetList>, Status> {
        let items = self.get_listed::<Subnets, _>(request, name, show).await?;
        Ok(Response::new(v1::SubnetList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateSubnetRequest>,
    ) -> Result<Response<v1::Subnet>, Status> {
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
