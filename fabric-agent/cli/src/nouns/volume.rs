//! Volumes and their attachments.

use serde_json::{Value, json};
use weft_model::{
    DiskLimits, Object, Timestamp, VolumeAttachmentId, VolumeAttachmentOrder, VolumeId,
    VolumeSource, VolumeView,
};

use super::{Noun, common_details, common_json, text};
use crate::output::age;

impl Noun for Object<VolumeId, VolumeView> {
    const HEADER: &'static [&'static str] =
        &["ID", "NAME", "SIZE", "TYPE", "LIMITS", "STATE", "INSTANCE", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        let order = &self.spec.order;
        vec![
            self.id.to_string(),
            text(order.name.as_ref()),
            format!("{} GiB", order.size_gib),
            text(order.volume_type.as_ref()),
            limits(order.limits),
            self.spec.state.to_string(),
            text(self.spec.instance_id.as_ref()),
            age(now, self.created_at),
        ]
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let order = &self.spec.order;
        let mut pairs = vec![
            ("id", self.id.to_string()),
            ("name", text(order.name.as_ref())),
            ("size", format!("{} GiB", order.size_gib)),
            ("type", text(order.volume_type.as_ref())),
            ("limits", order.limits.to_string()),
            ("encrypted", order.encrypted.unwrap_or_default().to_string()),
            ("state", self.spec.state.to_string()),
        ];
        pairs.extend(order.source.as_ref().map(|source| ("made from", source.id().to_owned())));
        pairs.extend(self.spec.reason.clone().map(|reason| ("reason", reason)));
        pairs.extend(self.spec.instance_id.as_ref().map(|id| ("attached to", id.to_string())));
        pairs.extend(common_details(self));
        pairs
    }

    fn json(&self) -> Value {
        let order = &self.spec.order;
        common_json(
            self,
            json!({
                "name": order.name,
                "size_gib": order.size_gib,
                "type": order.volume_type,
                "iops": order.limits.iops,
                "throughput_mibps": order.limits.throughput_mibps,
                "encrypted": order.encrypted.unwrap_or_default(),
                "snapshot_id": order.source.as_ref().and_then(VolumeSource::snapshot),
                "image_id": order.source.as_ref().and_then(VolumeSource::image),
                "state": self.spec.state,
                "reason": self.spec.reason,
                "instance_id": self.spec.instance_id,
            }),
        )
    }
}

/// In a table, where what is not there is left out.
fn limits(limits: DiskLimits) -> String {
    text((limits != DiskLimits::default()).then_some(&limits))
}

impl Noun for Object<VolumeAttachmentId, VolumeAttachmentOrder> {
    const HEADER: &'static [&'static str] = &["ID", "DEVICE", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        vec![self.id.to_string(), self.spec.volume_id.device_path(), age(now, self.created_at)]
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            ("id", self.id.to_string()),
            ("instance", self.spec.instance_id.to_string()),
            ("volume", self.spec.volume_id.to_string()),
            ("device", self.spec.volume_id.device_path()),
            ("delete on termination", self.spec.delete_on_termination.to_string()),
        ];
        pairs.extend(common_details(self));
        pairs
    }

    fn json(&self) -> Value {
        let VolumeAttachmentOrder { instance_id, volume_id, delete_on_termination } = &self.spec;
        common_json(
            self,
            json!({
                "instance_id": instance_id,
                "volume_id": volume_id,
                "device_path": volume_id.device_path(),
                "delete_on_termination": delete_on_termination,
            }),
        )
    }
}
