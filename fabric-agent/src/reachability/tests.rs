use std::sync::Arc;

use weft_model::{
    AssociationId, AssociationSpec, ElasticIpId, ElasticIpSpec, IpProtocol, RulePeer, RulePorts,
    RuleSpec, Target,
};

use super::*;
use crate::reconcile::firewall_of;
use crate::testing::{group, group_id, instance, record, subnet, vpc, vpc_id};

const WEB: u8 = 5;
const DATABASE: u8 = 6;
/// The database's.
const PUBLIC: &str = "198.18.0.5";

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
    let mut elsewhere = instance(6, 1, None);
    elsewhere.spec.public_ip = Some([198, 18, 0, 6].into());
    for instance in [instance(4, 0, Some(&[WEB])), instance(5, 0, Some(&[DATABASE])), elsewhere] {
        world.put_instance(instance);
    }
    associate(&mut world);
    world
}

/// Gives the database an elastic IP.
fn associate(world: &mut World) {
    let id = ElasticIpId::from_random([1; 9]);
    let public_ip = PUBLIC.parse().unwrap();
    let spec = ElasticIpSpec { name: None, public_ip, chosen: false };
    world.elastic_ips.insert(id.clone(), Arc::new(record(id.clone(), spec)));
    let target = Target::Instance(InstanceId::from_random([5; 9]));
    let spec = AssociationSpec { elastic_ip_id: id, target };
    let id = AssociationId::new(spec.elastic_ip_id.clone(), spec.target.clone());
    world.associations.insert(id.clone(), Arc::new(record(id, spec)));
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
    let judge = |way: &Way| judge(&firewall_of(&world, &way.vpc_id, "weft").unwrap(), way, service);
    match find(&world, source, destination).unwrap() {
        Ways::Apart(reason) => Verdict::refused(reason),
        Ways::Within(way) => judge(&way),
        Ways::Between { out, into } => judge(&out).and(judge(&into)),
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
        ("another VPC",               guest(6), guest(5), psql,             false, "packets pass from one VPC to another by public addresses only"),
        ("nobody's address",          guest(4), address("10.0.0.99"), psql, false, "10.0.0.99 is of vpc-00000000000000000, and no interface has it"),
        ("by its public address",     guest(4), address(PUBLIC), psql,      true,  "lets it in to 198.18.0.5 (i-05050505050505050)"),
        ("that from outside",         address("192.0.2.1"), address(PUBLIC), psql, false, "admits tcp port 5432 from 192.0.2.1"),
        ("from another VPC by it",    guest(6), address(PUBLIC), psql,      false, "admits tcp port 5432 from 198.18.0.6"),
        ("an answer",                 guest(4), guest(5), Service::Icmp { kind: 0, code: 0 }, false, "opens nothing"),
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
    assert_eq!(nobody.field.as_deref(), Some("source_instance_id"));
    let addresses = find(&world, &address("10.0.0.4"), &address("10.0.0.5")).unwrap_err();
    assert!(addresses.message.contains("both ends are addresses"), "{}", addresses.message);
    let mut hidden = instance(7, 1, None);
    hidden.spec.public_ip = None;
    let mut with_hidden = world.clone();
    with_hidden.put_instance(hidden);
    let unseen = find(&with_hidden, &guest(7), &address(PUBLIC)).unwrap_err();
    assert!(unseen.message.contains("has no public address"), "{}", unseen.message);
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
    let Ways::Apart(reason) = find(&world, &Named::Interface(id), &guest(5)).unwrap() else {
        panic!("it was found in a VPC");
    };
    assert!(reason.contains("is attached to no instance"), "{reason}");
}
