//! `weft.v1.SecurityGroupRules`.

use std::collections::BTreeMap;

use prost::Message as _;
use tonic::{Request, Response, Status};
use weft_model::{
    AddressFamily, Direction, GroupId, IpProtocol, MAX_RULES_PER_GROUP, Object, PrefixListId,
    Problem, Reason, Record, RuleId, RulePeer, RuleSpec, VpcId,
};
use weft_proto::convert::{
    Revision, creation_from_wire, revision_from_wire, rule_spec_from_wire, rule_to_wire,
};
use weft_proto::v1;
use weft_store::Txn;

use super::groups::NOT_YET;
use super::{Api, parse_id, refuse};
use crate::context::Context;
use crate::creation::Outcome;
use crate::random;
use crate::repo::{Groups, Kind as _, PrefixLists, Rules, missing};

type RuleRecord = Record<RuleId, RuleSpec>;

fn show(record: RuleRecord) -> v1::SecurityGroupRule {
    rule_to_wire(Object::from(record))
}

/// The group's VPC.
async fn vpc_of(context: &Context, id: &GroupId, field: &str) -> Result<VpcId, Problem> {
    let stored = context.repo.find::<Groups>(id).await?;
    let stored = stored.ok_or_else(|| missing::<Groups>(id, field))?;
    Ok(stored.value.spec.vpc_id)
}

/// Refuses groups that do not exist or do not fit together. The caller holds `references` for
/// reading, so they stay until the rule is stored.
async fn check_references(context: &Context, spec: &RuleSpec) -> Result<(), Problem> {
    let vpc = vpc_of(context, &spec.group_id, "security_group_id").await?;
    if let RulePeer::PrefixList(id) = &spec.peer {
        return check_prefix_list(context, spec, id).await;
    }
    let RulePeer::Group(peer) = &spec.peer else { return Ok(()) };
    if *peer == spec.group_id {
        return Ok(());
    }
    let field = "referenced_security_group_id";
    let peer_vpc = vpc_of(context, peer, field).await?;
    if peer_vpc != vpc {
        return Err(Problem::invalid(field, format!("{peer} is of another VPC ({peer_vpc})"))
            .remedy("refer to a group of the same VPC, or use cidr_ipv4"));
    }
    Ok(())
}

/// Refuses a list that does not exist, and ICMP of the other family.
async fn check_prefix_list(
    context: &Context,
    spec: &RuleSpec,
    id: &PrefixListId,
) -> Result<(), Problem> {
    let list = context.repo.find::<PrefixLists>(id).await?;
    let list = list.ok_or_else(|| missing::<PrefixLists>(id, "prefix_list_id"))?;
    let family = list.value.spec.address_family;
    let other = match (spec.protocol, family) {
        (IpProtocol::Icmp, AddressFamily::Ipv6) => "icmpv6",
        (IpProtocol::Icmpv6, AddressFamily::Ipv4) => "icmp",
        _ => return Ok(()),
    };
    let message = format!("{} with a list of {family} ranges matches no packet", spec.protocol);
    Err(Problem::invalid("prefix_list_id", message)
        .remedy(format!("set ip_protocol = \"{other}\", or use a list of the other family")))
}

/// Of each prefix list.
struct Families(BTreeMap<PrefixListId, AddressFamily>);

impl Families {
    async fn of_lists(context: &Context) -> Result<Self, Problem> {
        let lists = context.repo.list::<PrefixLists>().await?.into_iter();
        Ok(Self(lists.map(|list| (list.id, list.spec.address_family)).collect()))
    }

    fn of(&self, peer: &RulePeer) -> &'static [AddressFamily] {
        peer.families(|id| self.0.get(id).copied())
    }
}

/// Refuses the 61st rule of a group in one direction and family. `id` is that of a rule that
/// changes: it is not counted beside itself.
async fn check_count(
    context: &Context,
    spec: &RuleSpec,
    id: Option<&RuleId>,
) -> Result<(), Problem> {
    let rules = context.repo.list::<Rules>().await?;
    let others = rules.iter().filter(|rule| {
        let same = rule.spec.group_id == spec.group_id && rule.spec.direction == spec.direction;
        same && Some(&rule.id) != id
    });
    let others: Vec<&RuleRecord> = others.collect();
    let families = Families::of_lists(context).await?;
    for family in families.of(&spec.peer) {
        let beside = others.iter().filter(|rule| families.of(&rule.spec.peer).contains(family));
        let beside: Vec<&RuleId> = beside.map(|rule| &rule.id).collect();
        if beside.len() >= MAX_RULES_PER_GROUP {
            return Err(too_many(spec, *family, &beside));
        }
    }
    Ok(())
}

fn too_many(spec: &RuleSpec, family: AddressFamily, beside: &[&RuleId]) -> Problem {
    let direction = match spec.direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    let message = format!(
        "security group {} has {} {direction} rules for {family} already, and {MAX_RULES_PER_GROUP} \
         are the limit; a rule that names a group counts for both families",
        spec.group_id,
        beside.len(),
    );
    let ids: Vec<&str> = beside.iter().map(|id| id.as_str()).collect();
    Problem::new(Reason::ResourceExhausted, message)
        .at("security_group_id")
        .evidence(ids.join("\n"))
        .remedy("use wider ranges, or a second group")
}

async fn create(
    context: &Context,
    request: v1::CreateSecurityGroupRuleRequest,
) -> Result<RuleRecord, Problem> {
    let v1::CreateSecurityGroupRuleRequest { context: creation, spec } = request;
    let creation = creation_from_wire(creation)?;
    let bytes = spec.as_ref().map(v1::SecurityGroupRuleSpec::encode_to_vec).unwrap_or_default();
    let spec = rule_spec_from_wire(spec)?;
    let content = match context.known::<Rules>(&bytes, &creation).await? {
        Outcome::Known(record) => return Ok(record),
        Outcome::New(content) => content,
    };
    let guard = context.references.read().await;
    // Counting and storing are one: creates at once must not pass the limit together.
    let turn = context.turns().count(spec.group_id.as_str()).await;
    check_count(context, &spec, None).await?;
    check_references(context, &spec).await?;
    let id = Rules::new_id(random::bytes(), &spec);
    let record = context.new_record::<Rules>(id, spec, &creation, &content);
    context.store_new::<Rules>(&record, &creation, &content, Txn::new()).await?;
    drop(turn);
    drop(guard);
    context.settle_networks(NOT_YET).await;
    Ok(record)
}

async fn update(
    context: &Context,
    request: v1::UpdateSecurityGroupRuleRequest,
) -> Result<RuleRecord, Problem> {
    let v1::UpdateSecurityGroupRuleRequest { context: update, spec } = request;
    let update: Revision<RuleId> = revision_from_wire(update)?;
    let spec = rule_spec_from_wire(spec)?;
    let guard = context.references.read().await;
    let turn = context.turns().object(update.id.as_str()).await;
    let before = context.fetch_for::<Rules>(&update).await?;
    for (field, changed) in [
        ("security_group_id", spec.group_id != before.value.spec.group_id),
        ("direction", spec.direction != before.value.spec.direction),
    ] {
        if changed {
            return Err(Problem::invalid(field, format!("{field} of a rule cannot change"))
                .remedy("replace the rule"));
        }
    }
    check_references(context, &spec).await?;
    // Another family may be full. One that was not counted there before counts with the creates.
    let counted = context.turns().count(spec.group_id.as_str()).await;
    if spec.peer != before.value.spec.peer {
        check_count(context, &spec, Some(&update.id)).await?;
    }
    let enforced = spec != before.value.spec;
    let record = RuleRecord {
        spec,
        tags: update.tags,
        client_data: update.client_data,
        ..before.value.clone()
    };
    let record = context.store_update::<Rules>(before, record, Txn::new()).await?;
    drop(counted);
    drop(turn);
    drop(guard);
    if enforced {
        context.settle_networks(NOT_YET).await;
    }
    Ok(record)
}

async fn delete(context: &Context, id: &RuleId) -> Result<(), Problem> {
    let _turn = context.turns().object(id.as_str()).await;
    let stored = context.repo.get::<Rules>(id).await?;
    context.remove::<Rules>(&stored, Txn::new()).await
}

#[tonic::async_trait]
impl v1::security_group_rules_server::SecurityGroupRules for Api {
    async fn create(
        &self,
        request: Request<v1::CreateSecurityGroupRuleRequest>,
    ) -> Result<Response<v1::SecurityGroupRule>, Status> {
        let record =
            self.whole(async move |context| create(&context, request.into_inner()).await).await?;
        Ok(Response::new(show(record)))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::SecurityGroupRule>, Status> {
        self.get_one::<Rules, _>(request, show).await
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::SecurityGroupRuleList>, Status> {
        let items = self.get_many::<Rules, _>(request, show).await?;
        Ok(Response::new(v1::SecurityGroupRuleList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListSecurityGroupRulesRequest>,
    ) -> Result<Response<v1::SecurityGroupRuleList>, Status> {
        let group = request.into_inner().security_group_id;
        let records = self.context.repo.list::<Rules>().await.map_err(refuse)?;
        let wanted = |rule: &RuleRecord| group.is_empty() || rule.spec.group_id.as_str() == group;
        let items = records.into_iter().filter(wanted).map(show).collect();
        Ok(Response::new(v1::SecurityGroupRuleList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateSecurityGroupRuleRequest>,
    ) -> Result<Response<v1::SecurityGroupRule>, Status> {
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
        self.context.settle_networks(NOT_YET).await;
        Ok(Response::new(v1::DeleteResponse {}))
    }
}
