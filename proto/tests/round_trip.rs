//! Every model object survives the wire, as it is encoded and decoded.

#![expect(clippy::unwrap_used, reason = "a test's helper fails with the test")]

#[path = "round_trip/fuzz.rs"]
mod fuzz;
#[path = "round_trip/strategies.rs"]
mod strategies;

use proptest::prelude::*;
use prost::Message;
use strategies as any;
use weft_model::InstanceId;
use weft_proto::convert as c;

/// What the other side decodes from what this side encodes.
fn over_the_wire<M: Message + Default>(message: &M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

proptest! {
    // Enough for every variant of every enumeration, and quick without optimisation.
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn images(object in any::object(any::image_id(), any::image_spec())) {
        let wire = over_the_wire(&c::image_to_wire(object.clone()));
        prop_assert_eq!(c::image_from_wire(wire), Ok(object));
    }

    #[test]
    fn image_orders(order in any::image_order()) {
        let wire = over_the_wire(&c::image_order_to_wire(order.clone()));
        prop_assert_eq!(c::image_order_from_wire(Some(wire)), Ok(order));
    }

    #[test]
    fn key_pairs(object in any::object(any::key_pair_id(), any::key_pair_spec())) {
        let wire = over_the_wire(&c::key_pair_to_wire(object.clone()));
        prop_assert_eq!(&wire.fingerprint_sha256, &object.spec.public_key.fingerprint_sha256());
        prop_assert_eq!(c::key_pair_from_wire(wire), Ok(object));
    }

    #[test]
    fn groups(object in any::object(any::group_id(), any::group_spec())) {
        let wire = over_the_wire(&c::group_to_wire(object.clone()));
        prop_assert_eq!(c::group_from_wire(wire), Ok(object));
    }

    #[test]
    fn group_orders(order in any::group_order()) {
        let wire = over_the_wire(&c::group_order_to_wire(order.clone()));
        prop_assert_eq!(c::group_order_from_wire(Some(wire)), Ok(order));
    }

    #[test]
    fn rules(object in any::object(any::rule_id(), any::rule_spec())) {
        let wire = over_the_wire(&c::rule_to_wire(object.clone()));
        prop_assert_eq!(c::rule_from_wire(wire), Ok(object));
    }

    #[test]
    fn snapshots(object in any::object(any::snapshot_id(), any::snapshot_view())) {
        let wire = over_the_wire(&c::snapshot_to_wire(object.clone()));
        prop_assert_eq!(c::snapshot_from_wire(wire), Ok(object));
    }

    #[test]
    fn snapshot_orders(order in any::snapshot_order()) {
        let wire = over_the_wire(&c::snapshot_order_to_wire(order.clone()));
        prop_assert_eq!(c::snapshot_order_from_wire(Some(wire)), Ok(order));
    }

    #[test]
    fn prefix_lists(object in any::object(any::prefix_list_id(), any::prefix_list_spec())) {
        let wire = over_the_wire(&c::prefix_list_to_wire(object.clone()));
        prop_assert_eq!(c::prefix_list_from_wire(wire), Ok(object));
    }

    #[test]
    fn vpcs(object in any::object(any::vpc_id(), any::vpc_spec())) {
        let wire = over_the_wire(&c::vpc_to_wire(object.clone()));
        prop_assert_eq!(c::vpc_from_wire(wire), Ok(object));
    }

    #[test]
    fn vpc_orders(order in any::vpc_order()) {
        let wire = over_the_wire(&c::vpc_order_to_wire(order.clone()));
        prop_assert_eq!(c::vpc_order_from_wire(Some(wire)), Ok(order));
    }

    #[test]
    fn subnet_orders(order in any::subnet_order()) {
        let wire = over_the_wire(&c::subnet_order_to_wire(order.clone()));
        prop_assert_eq!(c::subnet_order_from_wire(Some(wire)), Ok(order));
    }

    #[test]
    fn subnets(object in any::object(any::subnet_id(), any::subnet_spec())) {
        let wire = over_the_wire(&c::subnet_to_wire(object.clone()));
        prop_assert_eq!(c::subnet_from_wire(wire), Ok(object));
    }

    #[test]
    fn elastic_ips(object in any::object(any::elastic_ip_id(), any::elastic_ip_spec())) {
        let wire = over_the_wire(&c::elastic_ip_to_wire(object.clone()));
        prop_assert_eq!(c::elastic_ip_from_wire(wire), Ok(object));
    }

    #[test]
    fn elastic_ip_orders(order in any::elastic_ip_order()) {
        let wire = over_the_wire(&c::elastic_ip_order_to_wire(order.clone()));
        prop_assert_eq!(c::elastic_ip_order_from_wire(Some(wire)), Ok(order));
    }

    #[test]
    fn associations(object in any::object(any::association_id(), any::association_spec())) {
        let wire = over_the_wire(&c::association_to_wire(object.clone()));
        prop_assert_eq!(c::association_from_wire(wire), Ok(object));
    }

    #[test]
    fn port_forwards(object in any::object(any::port_forward_id(), any::port_forward_spec())) {
        let wire = over_the_wire(&c::port_forward_to_wire(object.clone()));
        prop_assert_eq!(c::port_forward_from_wire(wire), Ok(object));
    }

    #[test]
    fn interfaces(object in any::object(any::interface_id(), any::interface_view())) {
        let wire = over_the_wire(&c::interface_to_wire(object.clone()));
        prop_assert_eq!(c::interface_from_wire(wire), Ok(object));
    }

    #[test]
    fn interface_orders(order in any::interface_order()) {
        let wire = over_the_wire(&c::interface_order_to_wire(order.clone()));
        prop_assert_eq!(c::interface_order_from_wire(Some(wire)), Ok(order));
    }

    #[test]
    fn attachments(object in any::object(any::attachment_id(), any::attachment_spec())) {
        let wire = over_the_wire(&c::attachment_to_wire(object.clone()));
        prop_assert_eq!(c::attachment_from_wire(wire), Ok(object));
    }

    #[test]
    fn attachment_orders(order in any::attachment_order()) {
        let wire = over_the_wire(&c::attachment_order_to_wire(order.clone()));
        prop_assert_eq!(c::attachment_order_from_wire(Some(wire)), Ok(order));
    }

    #[test]
    fn volumes(object in any::object(any::volume_id(), any::volume_view())) {
        let wire = over_the_wire(&c::volume_to_wire(object.clone()));
        prop_assert_eq!(c::volume_from_wire(wire), Ok(object));
    }

    #[test]
    fn volume_attachments(
        object in any::object(any::volume_attachment_id(), any::volume_attachment())
    ) {
        let wire = over_the_wire(&c::volume_attachment_to_wire(object.clone()));
        prop_assert_eq!(c::volume_attachment_from_wire(wire), Ok(object));
    }

    #[test]
    fn volume_orders(order in any::volume_order()) {
        let wire = over_the_wire(&c::volume_order_to_wire(order.clone()));
        prop_assert_eq!(c::volume_order_from_wire(Some(wire)), Ok(order));
    }

    #[test]
    fn instances(view in any::instance_view()) {
        let wire = over_the_wire(&c::instance_to_wire(view.clone()));
        prop_assert_eq!(c::instance_from_wire(wire), Ok(view));
    }

    #[test]
    fn instance_orders(order in any::instance_order()) {
        let wire = over_the_wire(&c::instance_order_to_wire(order.clone()));
        prop_assert_eq!(c::instance_order_from_wire(Some(wire)), Ok(order));
    }

    #[test]
    fn statuses(status in any::status()) {
        let wire = over_the_wire(&c::status_to_wire(status.clone()));
        prop_assert_eq!(c::status_from_wire(Some(wire)), Ok(status));
    }

    #[test]
    fn hosts(view in any::host_view()) {
        let wire = over_the_wire(&c::host_to_wire(view.clone()));
        prop_assert_eq!(c::host_from_wire(wire), Ok(view));
    }

    #[test]
    fn events(event in any::event()) {
        let wire = over_the_wire(&c::event_to_wire(event.clone()));
        prop_assert_eq!(c::event_from_wire(wire), Ok(event));
    }

    #[test]
    fn route_tables(object in any::object(any::route_table_id(), any::route_table_spec())) {
        let wire = over_the_wire(&c::route_table_to_wire(object.clone()));
        prop_assert_eq!(c::route_table_from_wire(wire), Ok(object));
    }

    #[test]
    fn route_table_associations(
        object in any::object(any::route_table_association_id(), any::route_table_association())
    ) {
        let wire = over_the_wire(&c::route_table_association_to_wire(object.clone()));
        prop_assert_eq!(c::route_table_association_from_wire(wire), Ok(object));
    }

    #[test]
    fn instance_types(kind in any::instance_type()) {
        let wire = over_the_wire(&c::instance_type_to_wire(kind.clone()));
        prop_assert_eq!(c::instance_type_from_wire(wire), Ok(kind));
    }

    #[test]
    fn instance_type_specs(spec in any::instance_type_spec()) {
        let wire = over_the_wire(&c::instance_type_spec_to_wire(spec.clone()));
        prop_assert_eq!(c::instance_type_spec_from_wire(Some(wire)), Ok(spec));
    }

    #[test]
    fn creations(creation in any::creation()) {
        let wire = over_the_wire(&c::creation_to_wire(creation.clone()));
        prop_assert_eq!(c::creation_from_wire(Some(wire)), Ok(creation));
    }

    #[test]
    fn revisions(revision in any::revision()) {
        let wire = over_the_wire(&c::revision_to_wire(revision.clone()));
        prop_assert_eq!(c::revision_from_wire::<InstanceId>(Some(wire)), Ok(revision));
    }
}
