//! VPCs and subnets: what they may be, who uses them, and what comes and goes with them.

use std::collections::BTreeSet;

use futures::future::join_all;
use v1::wait_request::Until;
use weft_model::Reason;
use weft_proto::v1;

use crate::support::{
    Agent, Api, context, delete, get, instance_spec, ok, refused, subnet_spec, token,
    update_context, vpc_spec,
};

fn on_bridge(name: &str, cidr: &str, bridge: Option<&str>) -> v1::VpcSpec {
    let bridge_name = bridge.map(str::to_owned);
    v1::VpcSpec { mode: "bridge".to_owned(), bridge_name, ..vpc_spec(name, cidr) }
}

fn on_uplink(name: &str, cidr: &str, uplink: &str, vlan_id: Option<u32>) -> v1::VpcSpec {
    v1::VpcSpec { uplink: Some(uplink.to_owned()), vlan_id, ..on_bridge(name, cidr, None) }
}

/// The default VPC's id and that of its subnet.
async fn defaults(api: &Api) -> (String, String) {
    let vpcs = ok(api.vpcs.clone().list(v1::ListRequest::default()).await).items;
    let vpc = vpcs.into_iter().find(|vpc| vpc.is_default).unwrap();
    let subnets = ok(api.subnets.clone().list(v1::ListRequest::default()).await).items;
    let subnet = subnets.into_iter().find(|subnet| subnet.is_default).unwrap();
    (vpc.metadata.unwrap().id, subnet.metadata.unwrap().id)
}

#[tokio::test]
async fn a_vpc_brings_its_default_group_and_takes_it_away() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let vpc = ok(api.vpc(vpc_spec("lab", "10.0.0.0/16")).await);
    let spec = vpc.spec.unwrap();
    assert_eq!((spec.mode.as_str(), spec.bridge_name), ("routed", None));
    let group = ok(api.groups.clone().get(get(&vpc.default_security_group_id)).await);
    assert!(group.is_default && group.spec.unwrap().allow_all_egress);
    let of_group = v1::ListSecurityGroupRulesRequest {
        security_group_id: vpc.default_security_group_id.clone(),
    };
    let rules = ok(api.rules.clone().list(of_group.clone()).await).items;
    assert_eq!(rules.len(), 1, "in from its own members: {rules:?}");
    let id = vpc.metadata.unwrap().id;
    assert!(agent.things("network").iter().any(|(of, _)| *of == id), "its network was made");

    ok(api.vpcs.clone().delete(delete(&id)).await);
    let gone =
        crate::support::refusal(api.groups.clone().get(get(&of_group.security_group_id)).await);
    assert_eq!(gone.reason, Reason::NotFound);
    assert!(ok(api.rules.clone().list(of_group).await).items.is_empty());
    assert!(agent.things("network").iter().all(|(of, _)| *of != id), "and is gone with it");
}

#[tokio::test]
async fn what_no_network_can_be_is_refused_at_its_field() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    #[rustfmt::skip]
    let cases = [
        (vpc_spec("lab", "10.0.0.0/8"),                             "cidr_block",  "prefix length of 8"),
        (vpc_spec("lab", "10.0.0.0/29"),                            "cidr_block",  "prefix length of 29"),
        (vpc_spec("lab", "198.18.0.0/16"),                          "cidr_block",  "of the host's public pool"),
        (vpc_spec("lab", "169.254.0.0/17"),                         "cidr_block",  "169.254.0.0/16"),
        (vpc_spec("lab", "127.0.0.0/16"),                           "cidr_block",  "127.0.0.0/8"),
        (vpc_spec("lab", "239.0.0.0/16"),                           "cidr_block",  "224.0.0.0/4"),
        (v1::VpcSpec { mode: "switched".into(), ..vpc_spec("lab", "10.0.0.0/16") }, "mode", "switched"),
        (v1::VpcSpec { mode: "routed".into(), ..on_bridge("lab", "10.0.0.0/16", Some("br0")) }, "bridge_name", "routed"),
        (on_bridge("lab", "10.0.0.0/16", Some("a b")),              "bridge_name", "a b"),
        (on_uplink("lab", "10.0.0.0/16", "a b", None),              "uplink",      "a b"),
        (on_uplink("lab", "10.0.0.0/16", "eth1", Some(0)),          "vlan_id",     "0 is not the number"),
        (on_uplink("lab", "10.0.0.0/16", "eth1", Some(65_556)),     "vlan_id",     "65556 is not the number"),
        (v1::VpcSpec { uplink: Some("eth1".into()), ..on_bridge("lab", "10.0.0.0/16", Some("br0")) }, "uplink", "br0 and eth1"),
        (v1::VpcSpec { vlan_id: Some(20), ..on_bridge("lab", "10.0.0.0/16", None) }, "vlan_id", "no link"),
        (v1::VpcSpec { uplink: Some("eth1".into()), ..vpc_spec("lab", "10.0.0.0/16") }, "uplink", "routed"),
    ];
    for (spec, field, word) in cases {
        let message = refused(api.vpc(spec).await, Reason::InvalidArgument, field);
        assert!(message.contains(word), "{message}");
    }
    let vpc = ok(api.vpc(vpc_spec("lab", "10.0.0.0/16")).await).metadata.unwrap().id;
    ok(api.subnet(subnet_spec("a", &vpc, "10.0.1.0/24")).await);
    #[rustfmt::skip]
    let cases = [
        ("10.0.0.0/29",  Reason::InvalidArgument, "prefix length of 29"),
        ("10.1.0.0/24",  Reason::InvalidArgument, "not in the range 10.0.0.0/16"),
        ("10.0.1.0/24",  Reason::AlreadyExists,   "overlaps 10.0.1.0/24"),
        ("10.0.0.0/20",  Reason::AlreadyExists,   "overlaps 10.0.1.0/24"),
    ];
    for (cidr, reason, word) in cases {
        let answer = api.subnet(subnet_spec("b", &vpc, cidr)).await;
        let message = refused(answer, reason, "cidr_block");
        assert!(message.contains(word), "{message}");
    }
    let lan =
        ok(api.vpc(on_bridge("lan", "198.18.0.0/16", Some("br0"))).await).metadata.unwrap().id;
    let pooled = api.subnet(v1::SubnetSpec {
        gateway_ip: Some("198.18.9.1".to_owned()),
        ..subnet_spec("pooled", &lan, "198.18.0.0/25")
    });
    let message = refused(pooled.await, Reason::InvalidArgument, "cidr_block");
    assert!(message.contains("of the host's public pool"), "{message}");
    let nowhere = subnet_spec("b", "vpc-00000000000000000", "10.0.2.0/24");
    let problem = crate::support::refusal(api.subnet(nowhere).await);
    assert_eq!((problem.reason, problem.field.as_deref()), (Reason::NotFound, Some("vpc_id")));
    let outside = v1::SubnetSpec {
        gateway_ip: Some("10.0.2.9".to_owned()),
        ..subnet_spec("b", &vpc, "10.0.2.0/24")
    };
    refused(api.subnet(outside).await, Reason::InvalidArgument, "gateway_ip");
}

#[tokio::test]
async fn what_is_used_or_default_stays_and_the_refusal_names_the_users() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let vpc = ok(api.vpc(vpc_spec("lab", "10.0.0.0/16")).await).metadata.unwrap().id;
    let subnet = ok(api.subnet(subnet_spec("a", &vpc, "10.0.1.0/24")).await);
    let subnet = subnet.metadata.unwrap().id;
    let spec = v1::SecurityGroupSpec {
        name: "web".to_owned(),
        vpc_id: Some(vpc.clone()),
        ..v1::SecurityGroupSpec::default()
    };
    let request = v1::CreateSecurityGroupRequest { context: context(), spec: Some(spec) };
    let group = ok(api.groups.clone().create(request).await).metadata.unwrap().id;
    let mut spec = instance_spec("web", &image);
    spec.subnet_id = Some(subnet.clone());
    let instance = ok(api.create(spec).await).metadata.unwrap().id;

    let message = refused(api.subnets.clone().delete(delete(&subnet)).await, Reason::InUse, "id");
    assert!(message.contains(&instance), "{message}");
    let message = refused(api.vpcs.clone().delete(delete(&vpc)).await, Reason::InUse, "id");
    for user in [&instance, &subnet, &group] {
        assert!(message.contains(user.as_str()), "{user}: {message}");
    }
    api.remove(&instance).await;
    ok(api.subnets.clone().delete(delete(&subnet)).await);
    ok(api.groups.clone().delete(delete(&group)).await);
    ok(api.vpcs.clone().delete(delete(&vpc)).await);

    let (vpc, subnet) = defaults(&api).await;
    let message = refused(api.vpcs.clone().delete(delete(&vpc)).await, Reason::InUse, "id");
    assert!(message.contains("default VPC"), "{message}");
    let message = refused(api.subnets.clone().delete(delete(&subnet)).await, Reason::InUse, "id");
    assert!(message.contains("default subnet"), "{message}");
}

#[tokio::test]
async fn two_vpcs_with_the_same_range_give_out_the_same_addresses() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let mut instances = Vec::new();
    let mut groups = Vec::new();
    for name in ["a", "b"] {
        let vpc = ok(api.vpc(vpc_spec(name, "10.0.0.0/16")).await);
        let id = vpc.metadata.unwrap().id;
        let subnet = ok(api.subnet(subnet_spec(name, &id, "10.0.1.0/24")).await);
        assert_eq!(subnet.spec.unwrap().gateway_ip.as_deref(), Some("10.0.1.1"));
        let mut spec = instance_spec(name, &image);
        spec.subnet_id = Some(subnet.metadata.unwrap().id);
        let made = ok(api.create(spec).await);
        assert_eq!(made.assigned.as_ref().unwrap().vpc_id, id);
        groups.push(vpc.default_security_group_id);
        instances.push(made);
    }
    for instance in &instances {
        assert_eq!(instance.spec.as_ref().unwrap().private_ip.as_deref(), Some("10.0.1.4"));
        let id = &instance.metadata.as_ref().unwrap().id;
        api.wait(id, Until::WaitFor("ssh".to_owned())).await.unwrap();
    }
    // A group of the other VPC is none of this one's.
    let mut spec = instance_spec("c", &image);
    spec.subnet_id = instances[0].spec.as_ref().unwrap().subnet_id.clone();
    spec.security_group_ids = Some(v1::SecurityGroupIds { ids: vec![groups[1].clone()] });
    let message =
        refused(api.create(spec.clone()).await, Reason::InvalidArgument, "security_group_ids");
    assert!(message.contains("the subnet is of"), "{message}");
    spec.security_group_ids = Some(v1::SecurityGroupIds { ids: vec![groups[0].clone()] });
    ok(api.create(spec).await);
}

#[tokio::test]
async fn vpcs_that_are_made_at_once_have_ways_out_of_their_own() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let creates = (0..30).map(|n| api.vpc(vpc_spec(&format!("vpc-{n}"), "10.0.0.0/16")));
    let made: Vec<v1::Vpc> = join_all(creates).await.into_iter().map(ok).collect();
    let links = || -> BTreeSet<String> {
        let networks = agent.things("network");
        let link =
            |network: &serde_json::Value| network["uplink"]["link"].as_str().map(str::to_owned);
        networks.iter().filter_map(|(_, network)| link(network)).collect()
    };
    crate::support::eventually("every VPC has its way out", async || {
        (links().len() == 31).then_some(())
    })
    .await;
    // What one had is given to the next.
    let first = made[0].metadata.as_ref().unwrap().id.clone();
    ok(api.vpcs.clone().delete(delete(&first)).await);
    let before = links();
    assert_eq!(before.len(), 30);
    ok(api.vpc(vpc_spec("next", "10.0.0.0/16")).await);
    crate::support::eventually("the next one has a way out", async || {
        let now = links();
        (now.len() == 31 && now.is_superset(&before)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn names_tags_and_name_servers_change_in_place_and_nothing_else_does() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let vpc = ok(api.vpc(vpc_spec("lab", "10.0.0.0/16")).await);
    let vpc_id = vpc.metadata.clone().unwrap().id;
    let subnet = ok(api.subnet(subnet_spec("a", &vpc_id, "10.0.1.0/24")).await);
    let update = async |spec| {
        let context = update_context(vpc.metadata.as_ref());
        api.vpcs.clone().update(v1::UpdateVpcRequest { context, spec: Some(spec) }).await
    };
    let other = vpc_spec("lab", "10.0.0.0/17");
    refused(update(other).await, Reason::InvalidArgument, "cidr_block");
    let other = on_bridge("lab", "10.0.0.0/16", None);
    refused(update(other).await, Reason::InvalidArgument, "mode");
    let renamed = ok(update(vpc_spec("renamed", "10.0.0.0/16")).await);
    assert_eq!(renamed.spec.unwrap().name, "renamed");

    let update = async |spec| {
        let context = update_context(subnet.metadata.as_ref());
        api.subnets.clone().update(v1::UpdateSubnetRequest { context, spec: Some(spec) }).await
    };
    let good = subnet_spec("a", &vpc_id, "10.0.1.0/24");
    let (default_vpc, _) = defaults(&api).await;
    #[rustfmt::skip]
    let cases = [
        (v1::SubnetSpec { vpc_id: default_vpc, ..good.clone() },                  "vpc_id"),
        (v1::SubnetSpec { cidr_block: "10.0.1.0/25".into(), ..good.clone() },     "cidr_block"),
        (v1::SubnetSpec { gateway_ip: Some("10.0.1.2".into()), ..good.clone() },  "gateway_ip"),
    ];
    for (spec, field) in cases {
        refused(update(spec).await, Reason::InvalidArgument, field);
    }
    let dns_servers = vec!["10.0.1.53".to_owned()];
    let spec = v1::SubnetSpec { name: "b".into(), dns_servers: dns_servers.clone(), ..good };
    let changed = ok(update(spec).await).spec.unwrap();
    assert_eq!((changed.name.as_str(), changed.dns_servers), ("b", dns_servers));
    assert_eq!(changed.gateway_ip.as_deref(), Some("10.0.1.1"));
}

#[tokio::test]
async fn on_a_bridge_the_lans_router_keeps_its_address() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let spec = on_bridge("office", "192.168.1.0/24", Some("br0"));
    let vpc = ok(api.vpc(spec.clone()).await).metadata.unwrap().id;
    let message = refused(
        api.vpc(on_bridge("again", "192.168.1.0/25", Some("br0"))).await,
        Reason::AlreadyExists,
        "bridge_name",
    );
    assert!(message.contains(&vpc), "{message}");
    // Without a bridge of the host, or on another one, it is another LAN.
    ok(api.vpc(on_bridge("isolated", "192.168.1.0/24", None)).await);
    ok(api.vpc(on_bridge("other", "192.168.1.0/24", Some("br1"))).await);

    let spec = v1::SubnetSpec {
        gateway_ip: Some("192.168.1.20".to_owned()),
        ..subnet_spec("desks", &vpc, "192.168.1.16/28")
    };
    let subnet = ok(api.subnet(spec).await).metadata.unwrap().id;
    let at = |address: Option<&str>| {
        let mut spec = instance_spec("web", &image);
        spec.subnet_id = Some(subnet.clone());
        spec.private_ip = address.map(str::to_owned);
        spec
    };
    let answer = api.create(at(Some("192.168.1.20"))).await;
    let message = refused(answer, Reason::InvalidArgument, "private_ip");
    assert!(message.contains("router"), "{message}");
    let made = ok(api.create(at(None)).await);
    assert_eq!(made.spec.unwrap().private_ip.as_deref(), Some("192.168.1.21"));
    // A router of another subnet cannot be where an instance is.
    let spec = v1::SubnetSpec {
        gateway_ip: Some("192.168.1.21".to_owned()),
        ..subnet_spec("more", &vpc, "192.168.1.32/28")
    };
    refused(api.subnet(spec).await, Reason::AlreadyExists, "gateway_ip");
}

#[tokio::test]
async fn a_link_of_the_host_is_taken_once_or_vlan_by_vlan() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let at = |name: &str, uplink: &str, vlan_id| on_uplink(name, "10.7.0.0/16", uplink, vlan_id);
    let whole = ok(api.vpc(at("whole", "eth1", None)).await).metadata.unwrap().id;
    for vlan_id in [None, Some(20)] {
        let message =
            refused(api.vpc(at("again", "eth1", vlan_id)).await, Reason::AlreadyExists, "uplink");
        assert!(message.contains(&whole), "{message}");
    }
    ok(api.vpc(at("tagged", "eth2", Some(20))).await);
    ok(api.vpc(at("tagged too", "eth2", Some(30))).await);
    refused(api.vpc(at("same tag", "eth2", Some(20))).await, Reason::AlreadyExists, "uplink");
    ok(api.vpcs.clone().delete(delete(&whole)).await);
    ok(api.vpc(at("again", "eth1", None)).await);
    // On a bridge there is room for many, and the same range is another LAN in another VLAN.
    ok(api.vpc(on_bridge("plain", "10.8.0.0/16", Some("br0"))).await);
    let tagged =
        v1::VpcSpec { vlan_id: Some(20), ..on_bridge("tagged", "10.8.0.0/16", Some("br0")) };
    ok(api.vpc(tagged.clone()).await);
    let message = refused(api.vpc(tagged).await, Reason::AlreadyExists, "bridge_name");
    assert!(message.contains("VLAN 20 of br0"), "{message}");
}

#[tokio::test]
async fn a_retried_create_makes_one_vpc_and_one_subnet() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let context = |token: &str| {
        Some(v1::CreateContext { client_token: token.to_owned(), ..Default::default() })
    };
    let (for_vpc, for_subnet) = (token(), token());
    let mut vpcs = BTreeSet::new();
    let mut subnets = BTreeSet::new();
    for _ in 0..3 {
        let spec = Some(vpc_spec("lab", "10.0.0.0/16"));
        let request = v1::CreateVpcRequest { context: context(&for_vpc), spec };
        let vpc = ok(api.vpcs.clone().create(request).await).metadata.unwrap().id;
        let spec = Some(subnet_spec("a", &vpc, "10.0.1.0/24"));
        let request = v1::CreateSubnetRequest { context: context(&for_subnet), spec };
        subnets.insert(ok(api.subnets.clone().create(request).await).metadata.unwrap().id);
        vpcs.insert(vpc);
    }
    assert_eq!((vpcs.len(), subnets.len()), (1, 1));
    let many = v1::BatchGetRequest { ids: vpcs.into_iter().collect(), claim: false };
    assert_eq!(ok(api.vpcs.clone().batch_get(many).await).items.len(), 1);
    let many = v1::BatchGetRequest { ids: subnets.into_iter().collect(), claim: false };
    assert_eq!(ok(api.subnets.clone().batch_get(many).await).items.len(), 1);
}
