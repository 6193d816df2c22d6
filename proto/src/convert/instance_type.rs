//! Instance types.

use weft_model::{InstanceType, InstanceTypeSpec, Problem};

use super::object::{object_from_wire, object_to_wire};
use super::{parse, required};
use crate::v1;

fn parse_spec(spec: Option<v1::InstanceTypeSpec>) -> Result<InstanceTypeSpec, Problem> {
    let v1::InstanceTypeSpec { name, vcpus, memory_mib, network_mbps } = required("spec", spec)?;
    Ok(InstanceTypeSpec { name: parse("name", &name)?, vcpus, memory_mib, network_mbps })
}

/// What a client asks for.
///
/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn instance_type_spec_from_wire(
    spec: Option<v1::InstanceTypeSpec>,
) -> Result<InstanceTypeSpec, Problem> {
    let spec = parse_spec(spec)?;
    spec.check()?;
    Ok(spec)
}

/// The wire's form of `spec`.
pub fn instance_type_spec_to_wire(spec: InstanceTypeSpec) -> v1::InstanceTypeSpec {
    let InstanceTypeSpec { name, vcpus, memory_mib, network_mbps } = spec;
    v1::InstanceTypeSpec { name: name.to_string(), vcpus, memory_mib, network_mbps }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn instance_type_from_wire(wire: v1::InstanceType) -> Result<InstanceType, Problem> {
    let v1::InstanceType { metadata, spec } = wire;
    let spec = parse_spec(spec)?;
    match metadata {
        None => Ok(InstanceType::BuiltIn(spec)),
        metadata => object_from_wire(metadata, spec).map(InstanceType::Own),
    }
}

/// The wire's form of `kind`.
pub fn instance_type_to_wire(kind: InstanceType) -> v1::InstanceType {
    let (metadata, spec) = match kind {
        InstanceType::BuiltIn(spec) => (None, spec),
        InstanceType::Own(object) => {
            let (metadata, spec) = object_to_wire(object);
            (Some(metadata), spec)
        }
    };
    v1::InstanceType { metadata, spec: Some(instance_type_spec_to_wire(spec)) }
}
