//! Wire to model and back, one file per noun.
//!
//! `*_from_wire` parses what arrived; `*_to_wire` never fails. Each message is taken apart by name,
//! so a new field does not compile before it is handled here.

mod event;
mod group;
mod host;
mod image;
mod instance;
mod instance_type;
mod key_pair;
mod network_interface;
mod object;
mod prefix_list;
mod public;
mod route;
mod snapshot;
mod volume;
mod volume_attachment;
mod vpc;

use group::description_from_wire;

pub use event::{event_from_wire, event_to_wire};
pub use group::{
    group_from_wire, group_order_from_wire, group_order_to_wire, group_to_wire, rule_from_wire,
    rule_spec_from_wire, rule_spec_to_wire, rule_to_wire,
};
pub use host::{host_from_wire, host_to_wire};
pub use image::{image_from_wire, image_order_from_wire, image_order_to_wire, image_to_wire};
pub use instance::{
    instance_from_wire, instance_order_from_wire, instance_order_to_wire, instance_to_wire,
    shutdown_seconds_from_wire, status_from_wire, status_to_wire,
};
pub use instance_type::{
    instance_type_from_wire, instance_type_spec_from_wire, instance_type_spec_to_wire,
    instance_type_to_wire,
};
pub use key_pair::{
    key_pair_from_wire, key_pair_spec_from_wire, key_pair_spec_to_wire, key_pair_to_wire,
};
pub use network_interface::{
    attachment_from_wire, attachment_order_from_wire, attachment_order_to_wire, attachment_to_wire,
    interface_from_wire, interface_order_from_wire, interface_order_to_wire, interface_to_wire,
};
pub use object::{
    Creation, Revision, creation_from_wire, creation_to_wire, revision_from_wire, revision_to_wire,
};
pub use prefix_list::{
    prefix_list_from_wire, prefix_list_spec_from_wire, prefix_list_spec_to_wire,
    prefix_list_to_wire,
};
pub use public::{
    association_from_wire, association_spec_from_wire, association_spec_to_wire,
    association_to_wire, elastic_ip_from_wire, elastic_ip_order_from_wire,
    elastic_ip_order_to_wire, elastic_ip_to_wire, port_forward_from_wire,
    port_forward_spec_from_wire, port_forward_spec_to_wire, port_forward_to_wire,
};
pub use route::{
    route_table_association_from_wire, route_table_association_spec_from_wire,
    route_table_association_spec_to_wire, route_table_association_to_wire, route_table_from_wire,
    route_table_order_from_wire, route_table_order_to_wire, route_table_to_wire,
};
pub use snapshot::{
    consistency_from_wire, snapshot_from_wire, snapshot_order_from_wire, snapshot_order_to_wire,
    snapshot_to_wire,
};
pub use volume::{volume_from_wire, volume_order_from_wire, volume_order_to_wire, volume_to_wire};
pub use volume_attachment::{
    volume_attachment_from_wire, volume_attachment_order_from_wire,
    volume_attachment_order_to_wire, volume_attachment_to_wire,
};
pub use vpc::{
    subnet_from_wire, subnet_order_from_wire, subnet_order_to_wire, subnet_to_wire, vpc_from_wire,
    vpc_order_from_wire, vpc_order_to_wire, vpc_to_wire,
};

use std::fmt::Display;
use std::str::FromStr;

use weft_model::{Problem, Timestamp};

/// Parses `text` as the field `field`.
fn parse<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error: T::Err| Problem::invalid(field, error.to_string()))
}

/// Parses `text` as the field `field` where an error already is a [`Problem`].
fn parse_word<T: FromStr<Err = Problem>>(field: &str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|problem: Problem| problem.at(field))
}

/// A message that has to be there.
fn required<T>(field: &str, value: Option<T>) -> Result<T, Problem> {
    value.ok_or_else(|| Problem::invalid(field, format!("{field} is missing")))
}

fn time_from_wire(field: &str, unix_ms: i64) -> Result<Timestamp, Problem> {
    Timestamp::from_millisecond(unix_ms)
        .map_err(|_| Problem::invalid(field, format!("{unix_ms} ms is not a moment in time")))
}
