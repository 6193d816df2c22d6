//! Volumes.

use weft_model::{
    DiskLimits, Object, Problem, VolumeId, VolumeOrder, VolumeSource, VolumeView, check_disk_gib,
};

use super::object::{object_from_wire, object_to_wire};
use super::{parse, parse_word, required};
use crate::v1;

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn volume_order_from_wire(spec: Option<v1::VolumeSpec>) -> Result<VolumeOrder, Problem> {
    let spec = required("spec", spec)?;
    let v1::VolumeSpec { name, size_gib, r#type, snapshot_id, image_id, .. } = spec;
    let v1::VolumeSpec { iops, throughput_mibps, encrypted, .. } = spec;
    check_disk_gib("size_gib", size_gib)?;
    let source = match (snapshot_id, image_id) {
        (None, None) => None,
        (Some(id), None) => Some(VolumeSource::Snapshot(parse("snapshot_id", &id)?)),
        (None, Some(id)) => Some(VolumeSource::Image(parse("image_id", &id)?)),
        (Some(_), Some(_)) => {
            let message = "both snapshot_id and image_id are set: a volume is made from one thing";
            return Err(Problem::invalid("image_id", message).remedy("leave one of them out"));
        }
    };
    Ok(VolumeOrder {
        name: name.map(|text| parse("name", &text)).transpose()?,
        size_gib,
        volume_type: r#type.map(|text| parse("type", &text)).transpose()?,
        source,
        limits: DiskLimits { iops, throughput_mibps }.check("")?,
        encrypted,
    })
}

/// The wire's form of `order`.
pub fn volume_order_to_wire(order: VolumeOrder) -> v1::VolumeSpec {
    let VolumeOrder { name, size_gib, volume_type, source, limits, encrypted } = order;
    let source = source.as_ref();
    v1::VolumeSpec {
        name: name.map(|name| name.to_string()),
        size_gib,
        r#type: volume_type.map(|name| name.to_string()),
        snapshot_id: source.and_then(VolumeSource::snapshot).map(ToString::to_string),
        image_id: source.and_then(VolumeSource::image).map(ToString::to_string),
        iops: limits.iops,
        throughput_mibps: limits.throughput_mibps,
        encrypted,
    }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn volume_from_wire(wire: v1::Volume) -> Result<Object<VolumeId, VolumeView>, Problem> {
    let v1::Volume { metadata, spec, state, reason, instance_id } = wire;
    let view = VolumeView {
        order: volume_order_from_wire(spec)?,
        state: parse_word("state", &state)?,
        reason,
        instance_id: instance_id.map(|text| parse("instance_id", &text)).transpose()?,
    };
    object_from_wire(metadata, view)
}

/// The wire's form of `object`.
pub fn volume_to_wire(object: Object<VolumeId, VolumeView>) -> v1::Volume {
    let (metadata, view) = object_to_wire(object);
    let VolumeView { order, state, reason, instance_id } = view;
    v1::Volume {
        metadata: Some(metadata),
        spec: Some(volume_order_to_wire(order)),
        state: state.to_string(),
        reason,
        instance_id: instance_id.map(|id| id.to_string()),
    }
}
