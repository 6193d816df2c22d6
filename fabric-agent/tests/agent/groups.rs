//! Security groups and their rules.

use futures::future::join_all;
use v1::security_group_rule_spec::Peer;
use weft_model::Reason;
use weft_proto::v1;

use crate::support::{Agent, delete, instance_spec, ok, refused, rule_spec, update_context};

fn of_group(id: &str) -> v1::ListSecurityGroupRulesRequest {
    v1::ListSecurityGroupRulesRequest { security_group_id: id.to_owned() }
}

#[tokio::test]
async fn a_group_in_use_is_kept_and_the_refusal_lists_its_users() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let group = api.group("web").await.metadata.unwrap().id;
    let mut spec = instance_spec("web", &image);
    spec.security_group_ids = Some(v1::SecurityGroupIds { ids: vec![group.clone()] });
    let users = [ok(api.create(spec.clone()).await), ok(api.create(spec).await)]
        .map(|instance| instance.metadata.unwrap().id);
    let message = refused(api.groups.clone().delete(delete(&group)).await, Reason::InUse, "id");
    assert!(users.iter().all(|id| message.contains(id)), "{message}");
    for id in &users {
        api.remove(id).await;
    }

    // A rule of another group that refers to it is a user as well; one of its own is not.
    let other = api.group("db").await.metadata.unwrap().id;
    let mut spec = rule_spec(&other, 5432);
    spec.peer = Some(Peer::ReferencedSecurityGroupId(group.clone()));
    let rule = ok(api.rule(spec.clone()).await).metadata.unwrap().id;
    spec.security_group_id = group.clone();
    ok(api.rule(spec).await);
    let message = refused(api.groups.clone().delete(delete(&group)).await, Reason::InUse, "id");
    assert!(message.contains(&rule) && message.contains(&other), "{message}");
    ok(api.rules.clone().delete(delete(&rule)).await);
    ok(api.groups.clone().delete(delete(&group)).await);
    assert!(ok(api.rules.clone().list(of_group(&group)).await).items.is_empty());
    let gone = crate::support::refusal(api.groups.clone().delete(delete(&group)).await);
    assert_eq!(gone.reason, Reason::NotFound);
}

#[tokio::test]
async fn the_default_group_stays() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let vpcs = ok(api.vpcs.clone().list(v1::ListRequest::default()).await);
    let id = &vpcs.items[0].default_security_group_id;
    let message = refused(api.groups.clone().delete(delete(id)).await, Reason::InUse, "id");
    assert!(message.contains("default group"), "{message}");
}

#[tokio::test]
async fn the_sixty_first_rule_is_refused_also_when_many_are_made_at_once() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let group = api.group("web").await.metadata.unwrap().id;
    let creates = (0..80).map(|n| api.rule(rule_spec(&group, 1000 + n)));
    let (made, refusals): (Vec<_>, Vec<_>) =
        join_all(creates).await.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refusals.len()), (60, 20));
    for answer in refusals {
        let message = refused(answer, Reason::ResourceExhausted, "security_group_id");
        assert!(message.contains("60 ingress rules"), "{message}");
    }
    // IPv6 has its own sixty; a rule that names a group counts for both, so it fits no more.
    let mut v6 = rule_spec(&group, 22);
    v6.peer = Some(Peer::CidrIpv6("::/0".to_owned()));
    let v6 = ok(api.rule(v6).await);
    let mut members = rule_spec(&group, 22);
    members.peer = Some(Peer::ReferencedSecurityGroupId(group.clone()));
    let refusal = crate::support::refusal(api.rule(members).await);
    assert!(refusal.message.contains("for IPv4 already"), "{refusal:?}");
    let there = refusal.evidence.unwrap();
    assert_eq!(there.lines().filter(|id| id.starts_with("sgr-")).count(), 60, "{there}");
    let context = update_context(v6.metadata.as_ref());
    let request = v1::UpdateSecurityGroupRuleRequest { context, spec: Some(rule_spec(&group, 22)) };
    let moved = api.rules.clone().update(request).await;
    refused(moved, Reason::ResourceExhausted, "security_group_id");
    // The other direction has its own sixty.
    let mut egress = rule_spec(&group, 53);
    egress.direction = v1::RuleDirection::Egress.into();
    ok(api.rule(egress).await);
    ok(api.groups.clone().delete(delete(&group)).await);
    assert!(ok(api.rules.clone().list(of_group(&group)).await).items.is_empty());
}

#[tokio::test]
async fn equal_rules_and_equal_names_are_allowed() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let group = api.group("web").await.metadata.unwrap().id;
    assert_ne!(api.group("web").await.metadata.unwrap().id, group);
    let first = ok(api.rule(rule_spec(&group, 22)).await).metadata.unwrap().id;
    let second = ok(api.rule(rule_spec(&group, 22)).await).metadata.unwrap().id;
    assert_ne!(first, second);
    ok(api.rules.clone().delete(delete(&first)).await);
    let left = ok(api.rules.clone().list(of_group(&group)).await).items;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].metadata.as_ref().unwrap().id, second);
}

#[tokio::test]
async fn a_rule_changes_in_place_but_for_its_group_and_direction() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let group = api.group("web").await.metadata.unwrap().id;
    let other = api.group("db").await.metadata.unwrap().id;
    let rule = ok(api.rule(rule_spec(&group, 22)).await);
    let update = async |spec| {
        let context = update_context(rule.metadata.as_ref());
        let request = v1::UpdateSecurityGroupRuleRequest { context, spec: Some(spec) };
        api.rules.clone().update(request).await
    };
    let moved = update(rule_spec(&other, 22)).await;
    refused(moved, Reason::InvalidArgument, "security_group_id");
    let mut turned = rule_spec(&group, 22);
    turned.direction = v1::RuleDirection::Egress.into();
    refused(update(turned).await, Reason::InvalidArgument, "direction");
    let mut missing = rule_spec(&group, 22);
    missing.peer = Some(Peer::ReferencedSecurityGroupId("sg-00000000000000000".to_owned()));
    let problem = crate::support::refusal(update(missing).await);
    assert_eq!(problem.field.as_deref(), Some("referenced_security_group_id"), "{problem:?}");
    let changed = ok(update(rule_spec(&group, 2222)).await);
    assert_eq!(changed.metadata.unwrap().generation, 2);
    assert_eq!(changed.spec.unwrap().from_port, Some(2222));
}

#[tokio::test]
async fn a_rule_is_enforced_when_its_create_returns() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    api.running("web", &image).await;
    let group = api.group("web").await.metadata.unwrap().id;
    let rule = ok(api.rule(rule_spec(&group, 22)).await).metadata.unwrap().id;
    let enforced = || agent.things("firewall")[0].1.to_string();
    assert!(enforced().contains(&rule), "{}", enforced());
    ok(api.rules.clone().delete(delete(&rule)).await);
    assert!(!enforced().contains(&rule), "{}", enforced());
}
