use std::sync::Arc;

use weft_model::{IpProtocol, RulePeer, RulePorts, RuleSpec};

use super::*;
use crate::reconcile::firewall_of;
use crate::testing::{group, group_id, instance, record, subnet, vpc, vpc_id};

const WEB: u8 = 5;
const DATABASE: u8 = 6;

/// Two VPCs; in the first a web server (4) and a database (5) that lets in the web servers.
fn world() -> World {
    let mut world = World::default();
    for n in [0, 1] {
        world.vpcs.insert(vpc_id(n), Arc::new(vpc(n)));
        let subnet = subnet(n);
        world.subnets.insert(subnet.id.clone(), Arc::new(subnet));
    }
    for (n, of) in [(0, 0), (1, 1), (WEB, 0), (DATABASE, 0)] {
        let mut group = group(n, of);
        group.spec.allow_all_egress = n != DATABASE;
        world.groups.insert(group_id(n), Arc::new(group));
    }
    let spec = RuleSpec {
        group_id: group_id(DATABASE),
        direction: Direction::Ingress,
        protocol: IpProtocol::Tcp,
        ports: RulePorts::Range { from: 5432, to: 5432 },
        peer: RulePeer::Group(group_id(WEB)),
        description: String::new(),
    };
    world.rules.insert(rule(), Arc::new(record(rule(), spec)));
    for instance in
        [instance(4, 0, Some(&[WEB])), instance(5, 0, Some(&[DATABASE])), instance(6, 1, None)]
    {
        world.instances.insert(instance.id.clone(), Arc::new(instance));
    }
    world
}

fn rule() -> RuleId {
    RuleId::from_random([9; 9])
}

fn guest(n: u8) -> Named {
    Named::Instance(InstanceId::from_random([n; 9]))
}

fn address(text: &str) -> Named {
    Named::Address(text.parse().unwrap())
}

fn asked(source: &Named, destination: &Named, service: Service) -> Verdict {
    let world = world();
    match find(&world, source, destination).unwrap() {
        Ends::Apart(reason) => Verdict { reason, ..Verdict::default() },
        Ends::In { vpc_id, source, destination } => {
            let firewall = firewall_of(&world, &vpc_id, "weft").unwrap();
            judge(&firewall, &source, &destination, service)
        }
    }
}

#[test]
fn the_answer_names_the_rules_or_what_is_missing() {
    let psql = Service::Tcp(5432);
    #[rustfmt::skip]
    let cases = [
        ("the web server asks",       guest(4), guest(5), psql,             true,  "the ingress rule sgr-"),
        ("by its address",            address("10.0.0.4"), guest(5), psql,  true,  "allow_all_egress of sg-"),
        ("another port",              guest(4), guest(5), Service::Tcp(22), false, "no ingress rule of i-05050505050505050's groups (sg-06060606060606060) admits tcp port 22 from 10.0.0.4"),
        ("from outside",              address("192.0.2.1"), guest(5), psql, false, "192.0.2.1 is not in the VPC"),
        ("to outside",                guest(4), address("192.0.2.1"), psql, true,  "192.0.2.1 is not in the VPC"),
        ("the database opens nothing",guest(5), guest(4), psql,             false, "no egress rule of"),
        ("another VPC",               guest(6), guest(5), psql,             false, "no packet passes from one VPC to another"),
    ];
    for (name, source, destination, service, allowed, says) in cases {
        let verdict = asked(&source, &destination, service);
        assert_eq!(verdict.allowed, allowed, "{name}: {}", verdict.reason);
        assert!(verdict.reason.contains(says), "{name}: {}", verdict.reason);
    }
    assert_eq!(asked(&guest(4), &guest(5), psql).ingress_rule, Some(rule()));
}

#[test]
fn what_cannot_be_judged_is_refused() {
    let world = world();
    let nobody = find(&world, &guest(99), &guest(5)).unwrap_err();
    assert_eq!(nobody.field.as_deref(), Some("source"));
    let addresses = find(&world, &address("10.0.0.4"), &address("10.0.0.5")).unwrap_err();
    assert!(addresses.message.contains("both ends are addresses"), "{}", addresses.message);
    let v6 = find(&world, &guest(4), &address("2001:db8::1")).unwrap_err();
    assert!(v6.message.contains("no IPv6 address"), "{}", v6.message);
}

#[test]
fn an_interface_that_is_attached_to_nothing_opens_nothing() {
    let mut world = world();
    let interface = instance(7, 0, Some(&[WEB])).spec.interface;
    let id = interface.id.clone();
    let spec = weft_model::NetworkInterfaceSpec { name: "spare".to_owned(), interface };
    world.network_interfaces.insert(id.clone(), Arc::new(record(id.clone(), spec)));
    let Ends::Apart(reason) = find(&world, &Named::Interface(id), &guest(5)).unwrap() else {
        panic!("it was found in a VPC");
    };
    assert!(reason.contains("is attached to no instance"), "{reason}");
}
