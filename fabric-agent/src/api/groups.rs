//! `weft.v1.SecurityGroups`.

use prost::Message as _;
use tonic::{Request, Response, Status};
use weft_model::{GroupId, GroupSpec, Interface, Object, Problem, Reason, Record, RulePeer, VpcId};
use weft_proto::convert::{
    Revision, creation_from_wire, group_order_from_wire, group_to_wire, revision_from_wire,
};
use weft_proto::v1;
use weft_store::Txn;

use super::{Api, parse_id, users};
use crate::context::Context;
use crate::creation::Outcome;
use crate::random;
use crate::repo::{Groups, Kind as _, Rules, Stored, Vpcs, missing, object_key};

/// What the log says when a change takes longer than a client waits.
pub(super) const NOT_YET: &str = "a change of security groups is not enforced yet";

type GroupRecord = Record<GroupId, GroupSpec>;

fn show(record: GroupRecord) -> v1::SecurityGroup {
    group_to_wire(Object::from(record))
}

/// The VPC that is named, or the default one, with the condition that it is still there.
async fn vpc(context: &Context, id: Option<VpcId>) -> Result<(VpcId, Txn), Problem> {
    let Some(id) = id else {
        let vpcs = context.repo.list::<Vpcs>().await?;
        let found = vpcs.into_iter().find(|vpc| vpc.spec.is_default);
        let problem = || Problem::not_found("there is no default VPC").at("vpc_id");
        return Ok((found.ok_or_else(problem)?.id, Txn::new()));
    };
    let stored = context.repo.find::<Vpcs>(&id).await?;
    let problem = || missing::<Vpcs>(&id, "vpc_id");
    let revision = stored.ok_or_else(problem)?.revision;
    let txn = Txn::new().when_at(object_key::<Vpcs>(&id), revision);
    Ok((id, txn))
}

async fn create(
    context: &Context,
    request: v1::CreateSecurityGroupRequest,
) -> Result<GroupRecord, Problem> {
    let v1::CreateSecurityGroupRequest { context: creation, spec } = request;
    let creation = creation_from_wire(creation)?;
    let bytes = spec.as_ref().map(v1::SecurityGroupSpec::encode_to_vec).unwrap_or_default();
    let order = group_order_from_wire(spec)?;
    let content = match context.known::<Groups>(&bytes, &creation).await? {
        Outcome::Known(record) => return Ok(record),
        Outcome::New(content) => content,
    };
    let _guard = context.references.read().await;
    let (vpc_id, txn) = vpc(context, order.vpc_id).await?;
    let spec = GroupSpec {
        name: order.name,
        description: order.description,
        vpc_id,
        allow_all_egress: order.allow_all_egress,
        revoke_now: order.revoke_now,
        is_default: false,
    };
    let id = Groups::new_id(random::bytes(), &spec);
    let record = context.new_record::<Groups>(id, spec, &creation, &content);
    context.store_new::<Groups>(&record, &creation, &content, txn).await?;
    Ok(record)
}

async fn update(
    context: &Context,
    request: v1::UpdateSecurityGroupRequest,
) -> Result<GroupRecord, Problem> {
    let v1::UpdateSecurityGroupRequest { context: update, spec } = request;
    let update: Revision<GroupId> = revision_from_wire(update)?;
    let order = group_order_from_wire(spec)?;
    let _turn = context.turns().object(update.id.as_str()).await;
    let before = context.fetch_for::<Groups>(&update).await?;
    if order.vpc_id.is_some_and(|vpc| vpc != before.value.spec.vpc_id) {
        return Err(Problem::invalid("vpc_id", "a security group cannot move to another VPC")
            .remedy("replace the group"));
    }
    let mut record = before.value.clone();
    record.tags = update.tags;
    record.client_data = update.client_data;
    record.spec.name = order.name;
    record.spec.description = order.description;
    record.spec.allow_all_egress = order.allow_all_egress;
    record.spec.revoke_now = order.revoke_now;
    let enforced = |spec: &GroupSpec| (spec.allow_all_egress, spec.revoke_now);
    let enforced = enforced(&record.spec) != enforced(&before.value.spec);
    let record = context.store_update::<Groups>(before, record, Txn::new()).await?;
    if enforced {
        context.settle_networks(NOT_YET).await;
    }
    Ok(record)
}

/// Refuses while somebody uses the group. The caller holds `references` for writing.
async fn check_unused(context: &Context, stored: &Stored<GroupRecord>) -> Result<(), Problem> {
    let id = &stored.value.id;
    let in_use = |message: String, remedy: &str| {
        Err(Problem::new(Reason::InUse, message).at("id").remedy(remedy))
    };
    if stored.value.spec.is_default {
        return in_use(
            format!("security group {id} is the default group of its VPC"),
            "it goes with its VPC",
        );
    }
    let is_member = |interface: &Interface| {
        interface.security_group_ids.as_ref().is_some_and(|groups| groups.contains(id))
    };
    let members = users::of_interfaces(context, is_member).await?;
    if !members.is_empty() {
        return in_use(
            format!("security group {id} is used by {}", members.join(", ")),
            "remove it from their security_group_ids, and apply that first: Terraform destroys \
             before it updates, unless the group has lifecycle { create_before_destroy = true }",
        );
    }
    let rules = context.repo.list::<Rules>().await?;
    let referring: Vec<String> = rules
        .iter()
        .filter(|rule| rule.spec.group_id != *id && rule.spec.peer == RulePeer::Group(id.clone()))
        .map(|rule| format!("{} of {}", rule.id, rule.spec.group_id))
        .collect();
    if !referring.is_empty() {
        return in_use(
            format!("security group {id} is referred to by {}", referring.join(", ")),
            "remove those rules first",
        );
    }
    Ok(())
}

async fn delete(context: &Context, id: &GroupId) -> Result<(), Problem> {
    let _guard = context.references.write().await;
    let _turn = context.turns().object(id.as_str()).await;
    let stored = context.repo.get::<Groups>(id).await?;
    check_unused(context, &stored).await?;
    // Its rules go with it, as in EC2: at once, so that no crash leaves half of them.
    let rules = context.repo.list::<Rules>().await?;
    let own = rules.iter().filter(|rule| rule.spec.group_id == *id);
    let txn = own.fold(Txn::new(), |txn, rule| txn.delete(object_key::<Rules>(&rule.id)));
    context.remove::<Groups>(&stored, txn).await
}

#[tonic::async_trait]
impl v1::security_groups_server::SecurityGroups for Api {
    async fn create(
        &self,
        request: Request<v1::CreateSecurityGroupRequest>,
    ) -> Result<Response<v1::SecurityGroup>, Status> {
        let record =
            self.whole(async move |context| create(&context, request.into_inner()).await).await?;
        Ok(Response::new(show(record)))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::SecurityGroup>, Status> {
        self.get_one::<Groups, _>(request, show).await
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::SecurityGroupList>, Status> {
        let items = self.get_many::<Groups, _>(request, show).await?;
        Ok(Response::new(v1::SecurityGroupList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::SecurityGroupList>, Status> {
        let items = self.get_listed::<Groups, _>(request, |spec| &spec.name, show).await?;
        Ok(Response::new(v1::SecurityGroupList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateSecurityGroupRequest>,
    ) -> Result<Response<v1::SecurityGroup>, Status> {
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
