//! Network interfaces and attachments.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use weft_model::{
    AttachmentId, AttachmentOrder, AttachmentSpec, MacAddr, NetworkInterfaceOrder,
    NetworkInterfaceView,
};

use super::{address, group_id, instance_id, interface_id, name, subnet_id, vpc_id};

pub(crate) fn interface_order() -> impl Strategy<Value = NetworkInterfaceOrder> {
    let groups = btree_set(group_id(), 1..=16).prop_map(BTreeSet::from);
    let place = (option::of(subnet_id()), option::of(address()));
    let limit = option::of(1..=100_000_u32);
    (name(), place, option::of(groups), any::<bool>(), limit).prop_map(
        |(name, (subnet_id, private_ip), security_group_ids, source_dest_check, network_mbps)| {
            NetworkInterfaceOrder {
                name: name.to_string(),
                subnet_id,
                private_ip,
                security_group_ids,
                source_dest_check,
                network_mbps,
            }
        },
    )
}

pub(crate) fn interface_view() -> impl Strategy<Value = NetworkInterfaceView> {
    let addresses = vec(any::<Ipv6Addr>(), 0..2);
    (interface_order(), vpc_id(), any::<[u8; 5]>(), addresses).prop_map(
        |(order, vpc_id, mac, ipv6_addresses)| NetworkInterfaceView {
            order,
            vpc_id,
            mac: MacAddr::from_random(mac),
            ipv6_addresses,
        },
    )
}

pub(crate) fn attachment_id() -> impl Strategy<Value = AttachmentId> {
    (instance_id(), interface_id()).prop_map(|(first, second)| AttachmentId::new(first, second))
}

pub(crate) fn attachment_order() -> impl Strategy<Value = AttachmentOrder> {
    (instance_id(), interface_id(), option::of(1..8_u8)).prop_map(
        |(instance_id, network_interface_id, device_index)| AttachmentOrder {
            instance_id,
            network_interface_id,
            device_index,
        },
    )
}

pub(crate) fn attachment_spec() -> impl Strategy<Value = AttachmentSpec> {
    (instance_id(), interface_id(), 1..8_u8).prop_map(
        |(instance_id, network_interface_id, device_index)| AttachmentSpec {
            instance_id,
            network_interface_id,
            device_index,
        },
    )
}
