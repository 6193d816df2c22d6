//! `weft.v1.Vpcs`.

use prost::Message as _;
use tonic::{Request, Response, Status};
use weft_model::{GroupId, Object, Problem, Reason, Record, VpcId, VpcOrder, VpcSpec};
use weft_proto::convert::{
    Revision, creation_from_wire, revision_from_wire, vpc_order_from_wire, vpc_to_wire,
};
use weft_proto::v1;
use weft_store::Txn;

use super::{Api, parse_id, users};
use crate::context::Context;
use crate::creation::Outcome;
use crate::default_network::put_default_group;
use crate::random;
use crate::repo::{Groups, RouteTables, Rules, Subnets, Vpcs, object_key};

type VpcRecord = Record<VpcId, VpcSpec>;

fn show(record: VpcRecord) -> v1::Vpc {
    vpc_to_wire(Object::from(record))
}

fn name(spec: &VpcSpec) -> &str {
    &spec.name
}

/// Refuses a second VPC that would take the same link, or give out the same addresses on the same
/// LAN.
fn check_lan(order: &VpcOrder, vpcs: &[VpcRecord]) -> Result<(), Problem> {
    let Some(lan) = order.lan() else { return Ok(()) };
    for vpc in vpcs {
        let Some(other) = vpc.spec.lan() else { continue };
        let (id, range) = (&vpc.id, vpc.spec.cidr_block);
        let refused = |message: String, remedy: &str| {
            let problem = Problem::new(Reason::AlreadyExists, message);
            Err(problem.at(lan.link.field()).remedy(remedy))
        };
        if lan.takes_from(&other) {
            let message = format!("VPC {id} ({}) has {other}", name(&vpc.spec));
            return refused(message, "make a subnet in that VPC, or name another link or VLAN");
        }
        if lan == other && range.overlaps(order.cidr_block) {
            let message =
                format!("VPC {id} ({}) gives out addresses of {range} on {lan}", name(&vpc.spec));
            return refused(message, "make a subnet in that VPC instead");
        }
    }
    Ok(())
}

fn lowest_free_uplink(vpcs: &[VpcRecord]) -> Result<u16, Problem> {
    let is_free = |index: &u16| vpcs.iter().all(|vpc| vpc.spec.uplink_index != *index);
    let usable = |index: &u16| *index != VpcSpec::SERVICES_UPLINK && is_free(index);
    (0..VpcSpec::UPLINKS).find(usable).ok_or_else(|| {
        let message = format!("this host has {} VPCs, the most that it can have", vpcs.len());
        Problem::new(Reason::ResourceExhausted, message).remedy("remove VPCs that nothing uses")
    })
}

async fn create(context: &Context, request: v1::CreateVpcRequest) -> Result<VpcRecord, Problem> {
    let v1::CreateVpcRequest { context: creation, spec } = request;
    let creation = creation_from_wire(creation)?;
    let bytes = spec.as_ref().map(v1::VpcSpec::encode_to_vec).unwrap_or_default();
    let order = vpc_order_from_wire(spec)?;
    order.check()?;
    context.public_pool.check_vpc(order.cidr_block, order.mode)?;
    let content = match context.known::<Vpcs>(&bytes, &creation).await? {
        Outcome::Known(record) => return Ok(record),
        Outcome::New(content) => content,
    };
    if let Some(lan) = order.lan() {
        check_lan(&order, &context.repo.list::<Vpcs>().await?)?;
        if let Some(fault) = context.host.lan_fault(&lan).await.map_err(|e| e.problem())? {
            return Err(fault);
        }
    }
    // For writing: choosing an uplink and storing it are one, so no two VPCs get the same.
    let guard = context.references.write().await;
    let vpcs = context.repo.list::<Vpcs>().await?;
    check_lan(&order, &vpcs)?;
    let id = VpcId::from_random(random::bytes());
    let default_group_id = GroupId::from_random(random::bytes());
    let txn = put_default_group(Txn::new(), default_group_id.clone(), &id, context.clock.now());
    let spec = VpcSpec {
        name: order.name,
        cidr_block: order.cidr_block,
        ipv6_cidr_block: order.ipv6_cidr_block,
        mode: order.mode,
        bridge_name: order.bridge_name,
        uplink: order.uplink,
        vlan_id: order.vlan_id,
        default_group_id,
        is_default: false,
        uplink_index: lowest_free_uplink(&vpcs)?,
    };
    let record = context.new_record::<Vpcs>(id, spec, &creation, &content);
    context.store_new::<Vpcs>(&record, &creation, &content, txn).await?;
    drop(guard);
    context.settle_networks("the network of a new VPC is not there yet").await;
    Ok(record)
}

async fn update(context: &Context, request: v1::UpdateVpcRequest) -> Result<VpcRecord, Problem> {
    let v1::UpdateVpcRequest { context: update, spec } = request;
    let update: Revision<VpcId> = revision_from_wire(update)?;
    let order = vpc_order_from_wire(spec)?;
    let _turn = context.turns().object(update.id.as_str()).await;
    let before = context.fetch_for::<Vpcs>(&update).await?;
    let old = &before.value.spec;
    for (field, changed) in [
        ("cidr_block", order.cidr_block != old.cidr_block),
        ("ipv6_cidr_block", order.ipv6_cidr_block != old.ipv6_cidr_block),
        ("mode", order.mode != old.mode),
        ("bridge_name", order.bridge_name != old.bridge_name),
        ("uplink", order.uplink != old.uplink),
        ("vlan_id", order.vlan_id != old.vlan_id),
    ] {
        if changed {
            return Err(Problem::invalid(field, format!("{field} of a VPC cannot change"))
                .remedy("replace the VPC"));
        }
    }
    let mut record = before.value.clone();
    record.tags = update.tags;
    record.client_data = update.client_data;
    record.spec.name = order.name;
    context.store_update::<Vpcs>(before, record, Txn::new()).await
}

/// What is in the VPC besides its default group, in words.
async fn users_of(context: &Context, id: &VpcId) -> Result<Vec<String>, Problem> {
    let interfaces = users::of_interfaces(context, |interface| interface.vpc_id == *id).await?;
    let subnets = context.repo.list::<Subnets>().await?;
    let subnets = subnets.iter().filter(|one| one.spec.vpc_id == *id);
    let groups = context.repo.list::<Groups>().await?;
    let groups = groups.iter().filter(|one| one.spec.vpc_id == *id && !one.spec.is_default);
    let tables = context.repo.list::<RouteTables>().await?;
    let tables = tables.iter().filter(|one| one.spec.vpc_id == *id);
    Ok(interfaces
        .into_iter()
        .chain(subnets.map(|one| format!("{} ({})", one.id, one.spec.name)))
        .chain(groups.map(|one| format!("{} ({})", one.id, one.spec.name)))
        .chain(tables.map(|one| format!("{} ({})", one.id, one.spec.name)))
        .collect())
}

async fn delete(context: &Context, id: &VpcId) -> Result<(), Problem> {
    let guard = context.references.write().await;
    let turn = context.turns().object(id.as_str()).await;
    let stored = context.repo.get::<Vpcs>(id).await?;
    let in_use = |message: String, remedy: &str| {
        Err(Problem::new(Reason::InUse, message).at("id").remedy(remedy))
    };
    if stored.value.spec.is_default {
        return in_use(format!("VPC {id} is the default VPC"), "it stays as long as the agent");
    }
    let users = users_of(context, id).await?;
    if !users.is_empty() {
        return in_use(
            format!("VPC {id} is used by {}", users.join(", ")),
            "remove them first; weft rm takes their ids",
        );
    }
    // Its default group goes with it, with all rules: at once, so that no crash leaves half of it.
    let group = &stored.value.spec.default_group_id;
    let rules = context.repo.list::<Rules>().await?;
    let txn = rules
        .iter()
        .filter(|rule| rule.spec.group_id == *group)
        .fold(Txn::new(), |txn, rule| txn.delete(object_key::<Rules>(&rule.id)))
        .delete(object_key::<Groups>(group));
    context.remove::<Vpcs>(&stored, txn).await?;
    drop(turn);
    drop(guard);
    context.settle_networks("the network of a VPC that was removed is still there").await;
    Ok(())
}

#[tonic::async_trait]
impl v1::vpcs_server::Vpcs for Api {
    async fn create(
        &self,
        request: Request<v1::CreateVpcRequest>,
    ) -> Result<Response<v1::Vpc>, Status> {
        let record =
            self.whole(async move |context| create(&context, request.into_inner()).await).await?;
        Ok(Response::new(show(record)))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::Vpc>, Status> {
        self.get_one::<Vpcs, _>(request, show).await
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::VpcList>, Status> {
        let items = self.get_many::<Vpcs, _>(request, show).await?;
        Ok(Response::new(v1::VpcList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::VpcList>, Status> {
        let items = self.get_listed::<Vpcs, _>(request, name, show).await?;
        Ok(Response::new(v1::VpcList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateVpcRequest>,
    ) -> Result<Response<v1::Vpc>, Status> {
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
