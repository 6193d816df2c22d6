//! What rules have let through, and what they would.

use v1::reachability_end::End;
use v1::security_group_rule_spec::Peer;
use weft_model::Reason;
use weft_proto::v1;

use crate::support::{Agent, instance_spec, ok, refusal, rule_spec};

fn end(end: End) -> Option<v1::ReachabilityEnd> {
    Some(v1::ReachabilityEnd { end: Some(end) })
}

fn tcp(source: End, destination: End, port: i64) -> v1::ReachabilityRequest {
    v1::ReachabilityRequest {
        source: end(source),
        destination: end(destination),
        protocol: "tcp".to_owned(),
        port: Some(port),
        icmp_type: None,
        icmp_code: None,
    }
}

#[tokio::test]
async fn it_is_said_which_rules_let_one_instance_reach_another_also_when_it_is_off() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let group = api.group("web").await.metadata.unwrap().id;
    let mut spec = instance_spec("web", &image);
    spec.security_group_ids = Some(v1::SecurityGroupIds { ids: vec![group.clone()] });
    spec.power_state = Some("stopped".to_owned());
    let web = ok(api.create(spec).await).metadata.unwrap().id;
    let other = ok(api.create(instance_spec("other", &image)).await).metadata.unwrap().id;
    let ask = async |request| api.insights.clone().reachability(request).await;
    let (to, from) = (End::InstanceId(web.clone()), End::InstanceId(other.clone()));

    let closed = ok(ask(tcp(from.clone(), to.clone(), 22)).await);
    assert!(!closed.allowed && closed.ingress_rule_id.is_none(), "{closed:?}");
    assert!(closed.reason.contains(&group) && closed.reason.contains("tcp port 22"), "{closed:?}");

    let mut open = rule_spec(&group, 22);
    open.peer = Some(Peer::CidrIpv4("0.0.0.0/0".to_owned()));
    let rule = ok(api.rule(open).await).metadata.unwrap().id;
    let opened = ok(ask(tcp(from.clone(), to.clone(), 22)).await);
    assert!(opened.allowed, "{opened:?}");
    assert_eq!(opened.ingress_rule_id, Some(rule.clone()));
    assert_eq!(opened.egress_rule_id, None, "allow_all_egress lets it out");
    let outside = End::Address("198.51.100.9".to_owned());
    assert!(ok(ask(tcp(outside.clone(), to.clone(), 22)).await).allowed);

    #[rustfmt::skip]
    let cases = [
        (tcp(outside.clone(), outside.clone(), 22), Reason::InvalidArgument, "source_address"),
        (tcp(outside.clone(), End::Address("10.0.0.0/8".to_owned()), 22), Reason::InvalidArgument, "destination_address"),
        (tcp(outside.clone(), End::InstanceId("i-00000000000000000".to_owned()), 22), Reason::NotFound, "destination_instance_id"),
        (v1::ReachabilityRequest { port: None, ..tcp(outside.clone(), to.clone(), 22) }, Reason::InvalidArgument, "port"),
        (v1::ReachabilityRequest { protocol: "-1".to_owned(), port: None, ..tcp(outside, to, 22) }, Reason::InvalidArgument, "protocol"),
    ];
    for (request, reason, field) in cases {
        let problem = refusal(ask(request).await);
        assert_eq!(
            (problem.reason, problem.field.as_deref()),
            (reason, Some(field)),
            "{problem:?}"
        );
    }
}

#[tokio::test]
async fn each_rule_of_a_group_has_a_count() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let group = api.group("web").await.metadata.unwrap().id;
    let rule = ok(api.rule(rule_spec(&group, 22)).await).metadata.unwrap().id;
    let ask = async |id: &str| {
        let request = v1::SecurityGroupHitsRequest { security_group_id: id.to_owned() };
        api.insights.clone().security_group_hits(request).await
    };
    let hits = ok(ask(&group).await);
    let rules: Vec<_> = hits.rules.iter().map(|rule| &rule.security_group_rule_id).collect();
    assert_eq!(rules, [&rule]);
    assert_eq!(
        hits.rules[0].hits,
        Some(v1::HitCount::default()),
        "a simulated host has no packets"
    );
    assert_eq!(hits.all_egress, None, "the group has allow_all_egress = false");
    let missing = refusal(ask("sg-00000000000000000").await);
    assert_eq!(missing.reason, Reason::NotFound);
}
