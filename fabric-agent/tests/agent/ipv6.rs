//! IPv6 in routed VPCs, as the API has it.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use futures::future::join_all;
use weft_model::Reason;
use weft_proto::v1;

use crate::support::{Agent, instance_spec, ok, refused, subnet_spec, vpc_spec};

const RANGE: &str = "fd12:3456:789a:100::/56";

fn dual(name: &str, range: &str) -> v1::VpcSpec {
    v1::VpcSpec { ipv6_cidr_block: Some(range.to_owned()), ..vpc_spec(name, "10.0.0.0/16") }
}

#[tokio::test]
async fn every_interface_of_a_dual_stack_subnet_has_an_ipv6_address_of_its_own() {
    let mut agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let vpc = ok(api.vpc(dual("lab", RANGE)).await).metadata.unwrap().id;
    let with = |name: &str, cidr: &str, range: Option<&str>| v1::SubnetSpec {
        ipv6_cidr_block: range.map(str::to_owned),
        ..subnet_spec(name, &vpc, cidr)
    };
    let both = with("both", "10.0.0.0/24", Some("fd12:3456:789a:1ff::/64"));
    let both = ok(api.subnet(both).await).metadata.unwrap().id;
    let plain = ok(api.subnet(with("plain", "10.0.1.0/24", None)).await).metadata.unwrap().id;
    let create = |subnet: &str, n: u8| {
        let mut spec = instance_spec(&format!("web-{n}"), &image);
        spec.subnet_id = Some(subnet.to_owned());
        api.create(spec)
    };
    let made: Vec<v1::Instance> =
        join_all((0..20).map(|n| create(&both, n))).await.into_iter().map(ok).collect();
    let range: ipnetwork::Ipv6Network = "fd12:3456:789a:1ff::/64".parse().unwrap();
    let mut addresses = BTreeSet::new();
    for instance in &made {
        let [address] = &instance.assigned.as_ref().unwrap().ipv6_addresses[..] else {
            panic!("not one address: {instance:?}");
        };
        let address: Ipv6Addr = address.parse().unwrap();
        assert!(range.contains(address), "{address}");
        addresses.insert(address);
    }
    assert_eq!(addresses.len(), made.len());
    let alone = ok(create(&plain, 99).await);
    assert!(alone.assigned.unwrap().ipv6_addresses.is_empty());
    let alone = alone.metadata.unwrap().id;

    // The tap leads to it, and the address is the instance's as long as it lives.
    let id = made[0].metadata.as_ref().unwrap().id.clone();
    let before = made[0].assigned.as_ref().unwrap().ipv6_addresses.clone();
    for id in [&id, &alone] {
        api.wait(id, v1::wait_request::Until::WaitFor("running".to_owned())).await.unwrap();
    }
    assert_eq!(api.instance(&id).await.assigned.unwrap().ipv6_addresses, before);
    agent.end().await;
    let taps = agent.things("tap");
    let routed =
        |tap: &serde_json::Value| tap["ipv6"]["routes"].as_array().is_some_and(|r| !r.is_empty());
    assert!(taps.iter().any(|(_, tap)| tap["ipv6"]["routes"][0] == before[0].as_str()), "{taps:?}");
    assert!(taps.iter().any(|(_, tap)| !routed(tap)), "the plain one has none: {taps:?}");
}

#[tokio::test]
async fn ranges_that_cannot_be_are_refused_with_a_reason() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    for range in ["fe80::/64", "fd12::/32", "10.0.0.0/16", "fd12::1/64"] {
        refused(api.vpc(dual("lab", range)).await, Reason::InvalidArgument, "ipv6_cidr_block");
    }
    let vpc = ok(api.vpc(dual("lab", RANGE)).await).metadata.unwrap().id;
    let with = |cidr: &str, range: &str| v1::SubnetSpec {
        ipv6_cidr_block: Some(range.to_owned()),
        ..subnet_spec("a", &vpc, cidr)
    };
    ok(api.subnet(with("10.0.0.0/24", "fd12:3456:789a:100::/64")).await);
    #[rustfmt::skip]
    let cases = [
        ("fd12:3456:789a:100::/64", Reason::AlreadyExists,   "is the IPv6 range of subnet"),
        ("fd12:3456:789a:200::/64", Reason::InvalidArgument, "is not in the VPC's"),
        ("fd12:3456:789a:110::/60", Reason::InvalidArgument, "prefix length of 60"),
    ];
    for (range, reason, want) in cases {
        let message =
            refused(api.subnet(with("10.0.1.0/24", range)).await, reason, "ipv6_cidr_block");
        assert!(message.contains(want), "{range}: {message}");
    }
}

#[tokio::test]
async fn an_interface_of_its_own_has_an_ipv6_address_too_and_brings_it_to_its_guest() {
    let mut agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let vpc = ok(api.vpc(dual("lab", RANGE)).await).metadata.unwrap().id;
    let range = "fd12:3456:789a:1ff::/64";
    let both = v1::SubnetSpec {
        ipv6_cidr_block: Some(range.to_owned()),
        ..subnet_spec("both", &vpc, "10.0.0.0/24")
    };
    let both = ok(api.subnet(both).await).metadata.unwrap().id;
    let plain = ok(api.subnet(subnet_spec("plain", &vpc, "10.0.1.0/24")).await);
    let spec = |name: &str, subnet: &str| v1::NetworkInterfaceSpec {
        name: name.to_owned(),
        subnet_id: Some(subnet.to_owned()),
        ..v1::NetworkInterfaceSpec::default()
    };
    let alone = ok(api.interface(spec("plain", &plain.metadata.unwrap().id)).await);
    assert!(alone.ipv6_addresses.is_empty(), "{alone:?}");
    let made = ok(api.interface(spec("second", &both)).await);
    let [address] = &made.ipv6_addresses[..] else { panic!("not one address: {made:?}") };
    let range: ipnetwork::Ipv6Network = range.parse().unwrap();
    assert!(range.contains(address.parse().unwrap()), "{address}");

    let web = v1::InstanceSpec { subnet_id: Some(both), ..instance_spec("web", &image) };
    let web = ok(api.create(web).await).metadata.unwrap().id;
    api.wait(&web, v1::wait_request::Until::WaitFor("running".to_owned())).await.unwrap();
    ok(api.attach(&web, &made.metadata.unwrap().id, None).await);
    agent.end().await;
    let leads = |tap: &serde_json::Value| tap["ipv6"]["routes"][0] == address.as_str();
    let taps = agent.things("tap");
    assert!(taps.iter().any(|(_, tap)| leads(tap)), "{taps:?}");
}

#[tokio::test]
async fn an_interface_on_a_bridge_has_the_address_that_it_would_make_of_its_mac() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let lan = "fd12:3456:789a:100::/64";
    let bridge = v1::VpcSpec { mode: "bridge".to_owned(), ..dual("lan", lan) };
    let vpc = ok(api.vpc(bridge).await).metadata.unwrap().id;
    let subnet = v1::SubnetSpec {
        ipv6_cidr_block: Some(lan.to_owned()),
        ..subnet_spec("lan", &vpc, "10.0.0.0/24")
    };
    let subnet = ok(api.subnet(subnet).await).metadata.unwrap().id;
    let spec = v1::NetworkInterfaceSpec {
        name: "desk".to_owned(),
        subnet_id: Some(subnet),
        ..v1::NetworkInterfaceSpec::default()
    };
    let made = ok(api.interface(spec).await);
    let mac: weft_model::MacAddr = made.mac_address.parse().unwrap();
    let own = mac.address_in("fd12:3456:789a:100::".parse().unwrap());
    assert_eq!(made.ipv6_addresses, [own.to_string()]);
}
