//! Snapshots.

use weft_model::{
    Consistency, Object, Problem, SnapshotId, SnapshotOrder, SnapshotProgress, SnapshotSource,
    SnapshotView,
};

use super::object::{object_from_wire, object_to_wire};
use super::{description_from_wire, parse, parse_word, required, time_from_wire};
use crate::v1;

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn snapshot_order_from_wire(spec: Option<v1::SnapshotSpec>) -> Result<SnapshotOrder, Problem> {
    let v1::SnapshotSpec { instance_id, volume_id, description, consistency } =
        required("spec", spec)?;
    let source = match (instance_id.as_str(), volume_id.as_str()) {
        ("", "") => {
            let message = "nothing says what is to be snapshotted";
            return Err(Problem::invalid("instance_id", message)
                .remedy("set instance_id, for its root disk, or volume_id"));
        }
        (instance, "") => SnapshotSource::RootDisk(parse("instance_id", instance)?),
        ("", volume) => SnapshotSource::Volume(parse("volume_id", volume)?),
        (_, _) => {
            let message = "both instance_id and volume_id are set: a snapshot is of one disk";
            return Err(Problem::invalid("volume_id", message).remedy("make a snapshot of each"));
        }
    };
    let description = description_from_wire(description)?;
    Ok(SnapshotOrder { source, description, consistency: consistency_from_wire(&consistency)? })
}

/// # Errors
/// A [`Problem`] at `consistency`.
pub fn consistency_from_wire(word: &str) -> Result<Consistency, Problem> {
    match word {
        "" => Ok(Consistency::default()),
        word => parse_word("consistency", word),
    }
}

/// The wire's form of `order`.
pub fn snapshot_order_to_wire(order: SnapshotOrder) -> v1::SnapshotSpec {
    let SnapshotOrder { source, description, consistency } = order;
    let (instance_id, volume_id) = match source {
        SnapshotSource::RootDisk(id) => (id.to_string(), String::new()),
        SnapshotSource::Volume(id) => (String::new(), id.to_string()),
    };
    v1::SnapshotSpec { instance_id, volume_id, description, consistency: consistency.to_string() }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn snapshot_from_wire(wire: v1::Snapshot) -> Result<Object<SnapshotId, SnapshotView>, Problem> {
    let v1::Snapshot { metadata, spec, state, reason, size_bytes, completed_at_unix_ms, encrypted } =
        wire;
    let progress: SnapshotProgress = parse_word("state", &state)?;
    let completed_at =
        completed_at_unix_ms.map(|ms| time_from_wire("completed_at_unix_ms", ms)).transpose()?;
    let view = SnapshotView {
        order: snapshot_order_from_wire(spec)?,
        progress,
        reason: Some(reason).filter(|reason| !reason.is_empty()),
        size_bytes,
        completed_at,
        encrypted,
    };
    object_from_wire(metadata, view)
}

/// The wire's form of `object`.
pub fn snapshot_to_wire(object: Object<SnapshotId, SnapshotView>) -> v1::Snapshot {
    let (metadata, view) = object_to_wire(object);
    let SnapshotView { order, progress, reason, size_bytes, completed_at, encrypted } = view;
    v1::Snapshot {
        metadata: Some(metadata),
        spec: Some(snapshot_order_to_wire(order)),
        state: progress.to_string(),
        reason: reason.unwrap_or_default(),
        size_bytes,
        completed_at_unix_ms: completed_at.map(|at| at.as_millisecond()),
        encrypted,
    }
}
