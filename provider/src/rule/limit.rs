//! The 61st rule of a group, as far as a plan can tell: what the group has, and what the same run
//! plans for it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use weft_model::{
    AddressFamily, Direction, MAX_RULES_PER_GROUP, PrefixListId, Problem, Reason, RuleId, RulePeer,
    RuleSpec,
};
use weft_proto::convert::{prefix_list_from_wire, rule_from_wire};
use weft_proto::v1;

use crate::agent::Connection;
use crate::kind::wire::{Listed as _, Wire as _};

/// The rules that this run has planned to make or to change; those that are there by their ids.
#[derive(Debug, Default)]
pub(crate) struct PlannedRules(Mutex<Vec<(Option<RuleId>, RuleSpec)>>);

impl PlannedRules {
    /// Takes one in; those before it of the same group and direction.
    fn add(&self, id: Option<RuleId>, spec: &RuleSpec) -> Vec<(Option<RuleId>, RuleSpec)> {
        let mut planned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let one = (id, spec.clone());
        // An apply plans again what it makes: what is alike in all is taken for the same.
        let beside = planned.iter().filter(|other| **other != one && is_beside(&other.1, spec));
        let beside = beside.cloned().collect();
        if !planned.contains(&one) {
            planned.push(one);
        }
        beside
    }
}

fn is_beside(one: &RuleSpec, other: &RuleSpec) -> bool {
    one.group_id == other.group_id && one.direction == other.direction
}

/// Refuses what would be one too many in a family. `id` is that of a rule that changes.
///
/// # Errors
/// At `security_group_id`. Where the agent does not answer, only the plan is counted.
pub(super) async fn check(
    connection: &Connection,
    id: Option<RuleId>,
    spec: &RuleSpec,
) -> Result<(), Problem> {
    let planned = connection.planned_rules.add(id.clone(), spec);
    let existing = existing(connection, spec).await;
    // What changes counts as what it becomes, and what is made by now not twice.
    let counts = |(of, one): &&(RuleId, RuleSpec)| {
        let becomes =
            |(other, spec): &(Option<RuleId>, RuleSpec)| other.as_ref() == Some(of) || spec == one;
        is_beside(one, spec)
            && one != spec
            && Some(of) != id.as_ref()
            && !planned.iter().any(becomes)
    };
    let others: Vec<&RulePeer> = existing
        .iter()
        .filter(counts)
        .map(|(_, one)| &one.peer)
        .chain(planned.iter().map(|(_, one)| &one.peer))
        .collect();
    if others.len() < MAX_RULES_PER_GROUP {
        return Ok(());
    }
    let lists = lists(connection).await;
    let families = |peer: &RulePeer| peer.families(|list| lists.get(list).copied());
    for family in families(&spec.peer) {
        let beside = others.iter().filter(|peer| families(peer).contains(family)).count();
        if beside >= MAX_RULES_PER_GROUP {
            return Err(too_many(spec, *family, beside + 1));
        }
    }
    Ok(())
}

async fn existing(connection: &Connection, spec: &RuleSpec) -> Vec<(RuleId, RuleSpec)> {
    let request =
        v1::ListSecurityGroupRulesRequest { security_group_id: spec.group_id.to_string() };
    let list = connection.call(|channel| {
        let request = request.clone();
        async move { v1::SecurityGroupRule::client(channel).list(request).await }
    });
    let items = list.await.map(|list| list.items).unwrap_or_default();
    let rules = items.into_iter().filter_map(|wire| rule_from_wire(wire).ok());
    rules.map(|rule| (rule.id, rule.spec)).collect()
}

/// Which family each prefix list has.
async fn lists(connection: &Connection) -> BTreeMap<PrefixListId, AddressFamily> {
    let request = v1::ListRequest::default;
    let listed = connection.call(|channel| v1::PrefixList::list(channel, request())).await;
    let lists = listed.unwrap_or_default().into_iter();
    let lists = lists.filter_map(|wire| prefix_list_from_wire(wire).ok());
    lists.map(|list| (list.id, list.spec.address_family)).collect()
}

fn too_many(spec: &RuleSpec, family: AddressFamily, count: usize) -> Problem {
    let direction = match spec.direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    let message = format!(
        "security group {} would have {count} {direction} rules for {family}, and \
         {MAX_RULES_PER_GROUP} are the limit; a rule that names a group counts for both families",
        spec.group_id,
    );
    Problem::new(Reason::ResourceExhausted, message).at("security_group_id").remedy(
        "use wider ranges, or a second group; a rule that is to go still counts: apply its removal \
         first",
    )
}
