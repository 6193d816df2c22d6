//! Attachments of volumes.

use weft_model::{Object, Problem, VolumeAttachmentId, VolumeAttachmentOrder};

use super::object::{object_from_wire, object_to_wire};
use super::{parse, required};
use crate::v1;

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn volume_attachment_order_from_wire(
    spec: Option<v1::VolumeAttachmentSpec>,
) -> Result<VolumeAttachmentOrder, Problem> {
    let v1::VolumeAttachmentSpec { instance_id, volume_id, delete_on_termination } =
        required("spec", spec)?;
    Ok(VolumeAttachmentOrder {
        instance_id: parse("instance_id", &instance_id)?,
        volume_id: parse("volume_id", &volume_id)?,
        delete_on_termination,
    })
}

/// The wire's form of `order`.
pub fn volume_attachment_order_to_wire(order: VolumeAttachmentOrder) -> v1::VolumeAttachmentSpec {
    let VolumeAttachmentOrder { instance_id, volume_id, delete_on_termination } = order;
    v1::VolumeAttachmentSpec {
        instance_id: instance_id.to_string(),
        volume_id: volume_id.to_string(),
        delete_on_termination,
    }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn volume_attachment_from_wire(
    wire: v1::VolumeAttachment,
) -> Result<Object<VolumeAttachmentId, VolumeAttachmentOrder>, Problem> {
    // The path follows from the volume's id; a client derives it again.
    let v1::VolumeAttachment { metadata, spec, device_path: _ } = wire;
    object_from_wire(metadata, volume_attachment_order_from_wire(spec)?)
}

/// The wire's form of `object`.
pub fn volume_attachment_to_wire(
    object: Object<VolumeAttachmentId, VolumeAttachmentOrder>,
) -> v1::VolumeAttachment {
    let (metadata, order) = object_to_wire(object);
    v1::VolumeAttachment {
        device_path: order.volume_id.device_path(),
        metadata: Some(metadata),
        spec: Some(volume_attachment_order_to_wire(order)),
    }
}
