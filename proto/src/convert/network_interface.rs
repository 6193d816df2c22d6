//! Network interfaces and their attachments.

use weft_model::{
    AttachmentId, AttachmentOrder, AttachmentSpec, InterfaceId, Name, NetworkInterfaceOrder,
    NetworkInterfaceView, Object, Problem, check_device_index, check_network_mbps,
};

use super::instance::{groups_from_wire, groups_to_wire};
use super::object::{object_from_wire, object_to_wire};
use super::{parse, required};
use crate::v1;

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn interface_order_from_wire(
    spec: Option<v1::NetworkInterfaceSpec>,
) -> Result<NetworkInterfaceOrder, Problem> {
    let v1::NetworkInterfaceSpec {
        name,
        subnet_id,
        private_ip,
        security_group_ids,
        source_dest_check,
        network_mbps,
    } = required("spec", spec)?;
    check_network_mbps(network_mbps)?;
    Ok(NetworkInterfaceOrder {
        name: parse::<Name>("name", &name)?.to_string(),
        subnet_id: subnet_id.map(|text| parse("subnet_id", &text)).transpose()?,
        private_ip: private_ip.map(|text| parse("private_ip", &text)).transpose()?,
        security_group_ids: security_group_ids.map(groups_from_wire).transpose()?,
        source_dest_check: source_dest_check.unwrap_or(true),
        network_mbps,
    })
}

/// The wire's form of `order`.
pub fn interface_order_to_wire(order: NetworkInterfaceOrder) -> v1::NetworkInterfaceSpec {
    let NetworkInterfaceOrder {
        name,
        subnet_id,
        private_ip,
        security_group_ids,
        source_dest_check,
        network_mbps,
    } = order;
    v1::NetworkInterfaceSpec {
        name,
        subnet_id: subnet_id.map(|id| id.to_string()),
        private_ip: private_ip.map(|address| address.to_string()),
        security_group_ids: security_group_ids.map(groups_to_wire),
        source_dest_check: Some(source_dest_check),
        network_mbps,
    }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn interface_from_wire(
    wire: v1::NetworkInterface,
) -> Result<Object<InterfaceId, NetworkInterfaceView>, Problem> {
    let v1::NetworkInterface { metadata, spec, vpc_id, mac_address, ipv6_addresses } = wire;
    let ipv6_addresses = ipv6_addresses.iter().map(|text| parse("ipv6_addresses", text));
    let view = NetworkInterfaceView {
        order: interface_order_from_wire(spec)?,
        vpc_id: parse("vpc_id", &vpc_id)?,
        mac: parse("mac_address", &mac_address)?,
        ipv6_addresses: ipv6_addresses.collect::<Result<_, _>>()?,
    };
    object_from_wire(metadata, view)
}

/// The wire's form of `object`.
pub fn interface_to_wire(
    object: Object<InterfaceId, NetworkInterfaceView>,
) -> v1::NetworkInterface {
    let (metadata, view) = object_to_wire(object);
    let NetworkInterfaceView { order, vpc_id, mac, ipv6_addresses } = view;
    v1::NetworkInterface {
        metadata: Some(metadata),
        spec: Some(interface_order_to_wire(order)),
        vpc_id: vpc_id.to_string(),
        mac_address: mac.to_string(),
        ipv6_addresses: ipv6_addresses.iter().map(ToString::to_string).collect(),
    }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn attachment_order_from_wire(
    spec: Option<v1::NetworkInterfaceAttachmentSpec>,
) -> Result<AttachmentOrder, Problem> {
    let v1::NetworkInterfaceAttachmentSpec { instance_id, network_interface_id, device_index } =
        required("spec", spec)?;
    // What no index can be is told as one that is too high.
    let device_index = device_index.map(|index| u8::try_from(index).unwrap_or(u8::MAX));
    check_device_index(device_index)?;
    Ok(AttachmentOrder {
        instance_id: parse("instance_id", &instance_id)?,
        network_interface_id: parse("network_interface_id", &network_interface_id)?,
        device_index,
    })
}

/// The wire's form of `order`.
pub fn attachment_order_to_wire(order: AttachmentOrder) -> v1::NetworkInterfaceAttachmentSpec {
    let AttachmentOrder { instance_id, network_interface_id, device_index } = order;
    v1::NetworkInterfaceAttachmentSpec {
        instance_id: instance_id.to_string(),
        network_interface_id: network_interface_id.to_string(),
        device_index: device_index.map(u32::from),
    }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn attachment_from_wire(
    wire: v1::NetworkInterfaceAttachment,
) -> Result<Object<AttachmentId, AttachmentSpec>, Problem> {
    let v1::NetworkInterfaceAttachment { metadata, spec } = wire;
    let AttachmentOrder { instance_id, network_interface_id, device_index } =
        attachment_order_from_wire(spec)?;
    let device_index = required("device_index", device_index)?;
    object_from_wire(metadata, AttachmentSpec { instance_id, network_interface_id, device_index })
}

/// The wire's form of `object`.
pub fn attachment_to_wire(
    object: Object<AttachmentId, AttachmentSpec>,
) -> v1::NetworkInterfaceAttachment {
    let (metadata, spec) = object_to_wire(object);
    let AttachmentSpec { instance_id, network_interface_id, device_index } = spec;
    let device_index = Some(device_index);
    let order = AttachmentOrder { instance_id, network_interface_id, device_index };
    v1::NetworkInterfaceAttachment {
        metadata: Some(metadata),
        spec: Some(attachment_order_to_wire(order)),
    }
}
