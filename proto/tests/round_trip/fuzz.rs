//! Messages that no client of ours would send.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use prost::Message;
use weft_proto::convert as c;
use weft_proto::v1;

use super::strategies as any;

/// Good messages, which are spoiled.
fn encoded<S: Strategy, M: Message>(
    of: S,
    to_wire: impl Fn(S::Value) -> M,
) -> impl Iterator<Item = Vec<u8>> {
    let mut runner = TestRunner::deterministic();
    let mut values = Vec::new();
    for _ in 0..8 {
        values.push(to_wire(of.new_tree(&mut runner).unwrap().current()).encode_to_vec());
    }
    values.into_iter()
}

/// Decodes `bytes` as a message and does with it what the agent does.
fn take<M: Message + Default, T>(bytes: &[u8], from_wire: impl Fn(Option<M>) -> T) {
    if let Ok(message) = M::decode(bytes) {
        drop(from_wire(Some(message)));
    }
}

#[test]
fn no_message_of_a_client_panics() {
    let good: Vec<Vec<u8>> = encoded(any::image_order(), c::image_order_to_wire)
        .chain(encoded(any::group_order(), c::group_order_to_wire))
        .chain(encoded(any::snapshot_order(), c::snapshot_order_to_wire))
        .chain(encoded(any::vpc_order(), c::vpc_order_to_wire))
        .chain(encoded(any::subnet_order(), c::subnet_order_to_wire))
        .chain(encoded(any::instance_order(), c::instance_order_to_wire))
        .chain(encoded(any::volume_order(), c::volume_order_to_wire))
        .chain(encoded(any::interface_order(), c::interface_order_to_wire))
        .collect();
    weft_fuzz::fuzz(500, weft_fuzz::hostile(good), |bytes| {
        // Any of them can come where another is meant.
        take::<v1::ImageSpec, _>(&bytes, c::image_order_from_wire);
        take::<v1::KeyPairSpec, _>(&bytes, c::key_pair_spec_from_wire);
        take::<v1::SecurityGroupSpec, _>(&bytes, c::group_order_from_wire);
        take::<v1::SecurityGroupRuleSpec, _>(&bytes, c::rule_spec_from_wire);
        take::<v1::SnapshotSpec, _>(&bytes, c::snapshot_order_from_wire);
        take::<v1::PrefixListSpec, _>(&bytes, c::prefix_list_spec_from_wire);
        take::<v1::VpcSpec, _>(&bytes, c::vpc_order_from_wire);
        take::<v1::SubnetSpec, _>(&bytes, c::subnet_order_from_wire);
        take::<v1::InstanceSpec, _>(&bytes, c::instance_order_from_wire);
        take::<v1::InstanceTypeSpec, _>(&bytes, c::instance_type_spec_from_wire);
        take::<v1::VolumeSpec, _>(&bytes, c::volume_order_from_wire);
        take::<v1::NetworkInterfaceSpec, _>(&bytes, c::interface_order_from_wire);
        take::<v1::RouteTableSpec, _>(&bytes, c::route_table_order_from_wire);
        take::<v1::PortForwardSpec, _>(&bytes, c::port_forward_spec_from_wire);
        take::<v1::CreateContext, _>(&bytes, c::creation_from_wire);
        Ok(())
    });
}
