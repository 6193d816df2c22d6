//! Snapshots.

use serde_json::{Value, json};
use weft_model::{Object, SnapshotId, SnapshotSource, SnapshotView, Timestamp};

use super::{Noun, common_details, common_json, text};
use crate::output::age;

impl Noun for Object<SnapshotId, SnapshotView> {
    const HEADER: &'static [&'static str] = &["ID", "OF", "GIB", "STATE", "DESCRIPTION", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.spec.order.source.id().to_owned(),
            self.spec.size_gib().to_string(),
            self.spec.progress.to_string(),
            self.spec.order.description.clone(),
            age(now, self.created_at),
        ]
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            ("id", self.id.to_string()),
            ("of", self.spec.order.source.id().to_owned()),
            ("description", self.spec.order.description.clone()),
            ("consistency", self.spec.order.consistency.to_string()),
            ("state", self.spec.progress.to_string()),
            ("reason", text(self.spec.reason.as_ref())),
            ("size", format!("{} bytes", self.spec.size_bytes)),
            ("encrypted", self.spec.encrypted.to_string()),
            ("completed", text(self.spec.completed_at.as_ref())),
        ];
        pairs.extend(common_details(self));
        pairs
    }

    fn json(&self) -> Value {
        let (instance_id, volume_id) = match &self.spec.order.source {
            SnapshotSource::RootDisk(id) => (Some(id), None),
            SnapshotSource::Volume(id) => (None, Some(id)),
        };
        let specific = json!({
            "instance_id": instance_id,
            "volume_id": volume_id,
            "description": self.spec.order.description,
            "consistency": self.spec.order.consistency,
            "state": self.spec.progress,
            "reason": self.spec.reason,
            "size_bytes": self.spec.size_bytes,
            "encrypted": self.spec.encrypted,
            "completed_at": self.spec.completed_at,
        });
        common_json(self, specific)
    }
}
