//! Elastic IPs, what they lead to, and port forwards.

use weft_model::{
    AssociationId, AssociationSpec, ElasticIpId, ElasticIpOrder, ElasticIpSpec, Object,
    PortForwardId, PortForwardSpec, Problem, Target,
};

use super::object::{object_from_wire, object_to_wire};
use super::{parse, parse_word, required};
use crate::v1;

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn elastic_ip_order_from_wire(
    spec: Option<v1::ElasticIpSpec>,
) -> Result<ElasticIpOrder, Problem> {
    let v1::ElasticIpSpec { name, address } = required("spec", spec)?;
    Ok(ElasticIpOrder {
        name: name.map(|text| parse("name", &text)).transpose()?,
        address: address.map(|text| parse("address", &text)).transpose()?,
    })
}

/// The wire's form of `order`.
pub fn elastic_ip_order_to_wire(order: ElasticIpOrder) -> v1::ElasticIpSpec {
    let ElasticIpOrder { name, address } = order;
    v1::ElasticIpSpec {
        name: name.map(|name| name.to_string()),
        address: address.map(|address| address.to_string()),
    }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn elastic_ip_from_wire(
    wire: v1::ElasticIp,
) -> Result<Object<ElasticIpId, ElasticIpSpec>, Problem> {
    let v1::ElasticIp { metadata, spec, public_ip } = wire;
    let ElasticIpOrder { name, address } = elastic_ip_order_from_wire(spec)?;
    let public_ip = parse("public_ip", &public_ip)?;
    object_from_wire(metadata, ElasticIpSpec { name, chosen: address.is_some(), public_ip })
}

/// The wire's form of `object`.
pub fn elastic_ip_to_wire(object: Object<ElasticIpId, ElasticIpSpec>) -> v1::ElasticIp {
    let (metadata, spec) = object_to_wire(object);
    let ElasticIpSpec { name, chosen, public_ip } = spec;
    let order = ElasticIpOrder { name, address: chosen.then_some(public_ip) };
    v1::ElasticIp {
        metadata: Some(metadata),
        spec: Some(elastic_ip_order_to_wire(order)),
        public_ip: public_ip.to_string(),
    }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn association_spec_from_wire(
    spec: Option<v1::ElasticIpAssociationSpec>,
) -> Result<AssociationSpec, Problem> {
    let v1::ElasticIpAssociationSpec { elastic_ip_id, instance_id, network_interface_id } =
        required("spec", spec)?;
    Ok(AssociationSpec {
        elastic_ip_id: parse("elastic_ip_id", &elastic_ip_id)?,
        target: Target::from_attributes(instance_id.as_deref(), network_interface_id.as_deref())?,
    })
}

/// The wire's form of `spec`.
pub fn association_spec_to_wire(spec: AssociationSpec) -> v1::ElasticIpAssociationSpec {
    let AssociationSpec { elastic_ip_id, target } = spec;
    v1::ElasticIpAssociationSpec {
        elastic_ip_id: elastic_ip_id.to_string(),
        instance_id: target.instance_id().map(ToString::to_string),
        network_interface_id: target.interface_id().map(ToString::to_string),
    }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn association_from_wire(
    wire: v1::ElasticIpAssociation,
) -> Result<Object<AssociationId, AssociationSpec>, Problem> {
    let v1::ElasticIpAssociation { metadata, spec } = wire;
    object_from_wire(metadata, association_spec_from_wire(spec)?)
}

/// The wire's form of `object`.
pub fn association_to_wire(
    object: Object<AssociationId, AssociationSpec>,
) -> v1::ElasticIpAssociation {
    let (metadata, spec) = object_to_wire(object);
    v1::ElasticIpAssociation {
        metadata: Some(metadata),
        spec: Some(association_spec_to_wire(spec)),
    }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn port_forward_spec_from_wire(
    spec: Option<v1::PortForwardSpec>,
) -> Result<PortForwardSpec, Problem> {
    let v1::PortForwardSpec {
        name,
        protocol,
        host_port,
        host_address,
        instance_id,
        network_interface_id,
        target_port,
    } = required("spec", spec)?;
    let host_port = port("host_port", host_port)?;
    let target_port = target_port.map(|number| port("target_port", number)).transpose()?;
    Ok(PortForwardSpec {
        name: parse("name", &name)?,
        protocol: parse_word("protocol", &protocol)?,
        host_address: host_address.map(|text| parse("host_address", &text)).transpose()?,
        host_port,
        target: Target::from_attributes(instance_id.as_deref(), network_interface_id.as_deref())?,
        target_port: target_port.unwrap_or(host_port),
    })
}

fn port(field: &str, number: u32) -> Result<u16, Problem> {
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    port.ok_or_else(|| {
        Problem::invalid(field, format!("{number} is not a port")).remedy("use 1 to 65535")
    })
}

/// The wire's form of `spec`.
pub fn port_forward_spec_to_wire(spec: PortForwardSpec) -> v1::PortForwardSpec {
    let PortForwardSpec { name, protocol, host_address, host_port, target, target_port } = spec;
    v1::PortForwardSpec {
        name: name.to_string(),
        protocol: protocol.to_string(),
        host_port: host_port.into(),
        host_address: host_address.map(|address| address.to_string()),
        instance_id: target.instance_id().map(ToString::to_string),
        network_interface_id: target.interface_id().map(ToString::to_string),
        target_port: Some(target_port.into()),
    }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn port_forward_from_wire(
    wire: v1::PortForward,
) -> Result<Object<PortForwardId, PortForwardSpec>, Problem> {
    let v1::PortForward { metadata, spec } = wire;
    object_from_wire(metadata, port_forward_spec_from_wire(spec)?)
}

/// The wire's form of `object`.
pub fn port_forward_to_wire(object: Object<PortForwardId, PortForwardSpec>) -> v1::PortForward {
    let (metadata, spec) = object_to_wire(object);
    v1::PortForward { metadata: Some(metadata), spec: Some(port_forward_spec_to_wire(spec)) }
}
