//! A guest for unit tests.

use std::net::Ipv4Addr;

use weft_model::{GroupId, ImageId, InstanceId, InterfaceId, SubnetId, UserData, VpcId};

use crate::directory::{Guest, GuestKey};

pub(crate) fn guest() -> Guest {
    let key = |name: &str, line: &str| GuestKey { name: name.to_owned(), line: line.to_owned() };
    Guest {
        instance_id: InstanceId::from_random([1; 9]),
        image_id: ImageId::from_random([2; 9]),
        instance_type: Some("w1.small".to_owned()),
        hostname: "web".to_owned(),
        launched_at: None,
        interface_id: InterfaceId::from_random([3; 9]),
        mac: "02:00:00:00:00:01".parse().unwrap(),
        address: Ipv4Addr::new(172, 31, 0, 5),
        subnet_id: SubnetId::from_random([4; 9]),
        subnet_cidr: "172.31.0.0/18".parse().unwrap(),
        vpc_id: VpcId::from_random([5; 9]),
        vpc_cidr: "172.31.0.0/16".parse().unwrap(),
        groups: vec![
            (GroupId::from_random([6; 9]), "default".to_owned()),
            (GroupId::from_random([7; 9]), "web".to_owned()),
        ],
        keys: vec![key("alice", "ssh-ed25519 AAAA alice"), key("bob", "ssh-ed25519 BBBB bob")],
        user_data: Some(UserData(b"#!/bin/sh\n".to_vec())),
    }
}
