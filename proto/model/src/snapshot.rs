//! Snapshots: what a disk had on it at one moment, as the layers that it was sealed into.
//!
//! ```text
//! pending -> completed     the disk's file has become a layer, and the disk goes on above it
//!        \-> error         it is not what was asked for; where the disk was sealed all the same, its
//!                          layer stays below the disk and is merged later
//! ```

use serde::{Deserialize, Serialize};

use crate::image::words;
use crate::{
    Architecture, Below, BootMode, ImageBase, InstanceId, KernelContent, LayerId, Problem, Reason,
    Timestamp, VolumeId, WrappedSecret,
};

/// Layers that a disk may lie over: every read of something old goes through all of them.
pub const MAX_LAYERS: usize = 32;

/// # Errors
/// The disk of `source` over `depth` layers, those included that are on their way, can get no further
/// one: a [`Problem`] at `field`. Those of an encrypted disk are never merged, whatever is deleted.
pub fn check_depth(
    field: &str,
    source: &SnapshotSource,
    depth: usize,
    encrypted: bool,
) -> Result<(), Problem> {
    if depth < MAX_LAYERS {
        return Ok(());
    }
    if encrypted {
        let message = format!(
            "{} is encrypted and lies over {depth} layers, one for each snapshot in its life and in \
             that of what it was made from; more than {MAX_LAYERS} would make it slow",
            source.id()
        );
        let remedy = "make a new encrypted volume without snapshot_id, copy what is on this one to it \
                      in a guest that has both, and use that one from then on; to delete snapshots \
                      does not help: encrypted layers are not merged";
        return Err(Problem::new(Reason::FailedPrecondition, message).at(field).remedy(remedy));
    }
    let message = format!(
        "{} lies over {depth} layers, where snapshots of it and of what it was made from begin and \
         end; more than {MAX_LAYERS} would make it slow",
        source.id()
    );
    let remedy = "delete snapshots that are not needed, and volumes made from old ones: the agent \
                  then merges layers by itself, for which it copies what is in them; weft doctor \
                  tells what keeps it from that";
    Err(Problem::new(Reason::FailedPrecondition, message).at(field).remedy(remedy))
}

/// What is snapshotted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotSource {
    /// The root disk of an instance.
    RootDisk(InstanceId),
    /// A volume.
    Volume(VolumeId),
}

impl SnapshotSource {
    /// The id of what it is.
    pub fn id(&self) -> &str {
        match self {
            Self::RootDisk(id) => id.as_str(),
            Self::Volume(id) => id.as_str(),
        }
    }

    /// The attribute that says so.
    pub fn field(&self) -> &'static str {
        match self {
            Self::RootDisk(_) => "instance_id",
            Self::Volume(_) => "volume_id",
        }
    }
}

words! {
    /// What is true of what a snapshot has on it.
    #[derive(Default)]
    Consistency {
        /// As if the machine had lost power at that moment.
        #[default]
        Crash = "crash",
        /// The guest's file systems were frozen, if a guest ran: nothing is half written.
        Frozen = "frozen",
    }
}

/// How a disk is taken for a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "TakingFields", into = "TakingFields")]
pub enum Taking {
    /// As it is, whoever writes to it.
    #[default]
    AsItIs,
    /// While the file systems of its guest are frozen.
    Frozen {
        /// Whether a guest ran when that was asked for, or was to: one that has ended since cannot be frozen.
        had_guest: bool,
    },
    /// Between two guests, once the first has shut down.
    BetweenGuests,
}

impl Taking {
    /// What is true of what is taken, in the client's words.
    pub fn consistency(self) -> Consistency {
        match self {
            Self::AsItIs | Self::BetweenGuests => Consistency::Crash,
            Self::Frozen { .. } => Consistency::Frozen,
        }
    }
}

/// How the store has a [`Taking`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct TakingFields {
    between_guests: bool,
    consistency: Consistency,
    had_guest: bool,
}

impl From<TakingFields> for Taking {
    fn from(fields: TakingFields) -> Self {
        let TakingFields { between_guests, consistency, had_guest } = fields;
        match consistency {
            _ if between_guests => Self::BetweenGuests,
            Consistency::Crash => Self::AsItIs,
            Consistency::Frozen => Self::Frozen { had_guest },
        }
    }
}

impl From<Taking> for TakingFields {
    fn from(taking: Taking) -> Self {
        Self {
            between_guests: taking == Taking::BetweenGuests,
            consistency: taking.consistency(),
            had_guest: taking == Taking::Frozen { had_guest: true },
        }
    }
}

/// How a disk boots, from the image that its instance was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boots {
    /// How it starts.
    pub boot_mode: BootMode,
    /// What the hypervisor loads with [`BootMode::DirectKernel`].
    pub kernel: Option<KernelContent>,
    /// The processor it is for.
    pub architecture: Architecture,
    /// Who logs in over SSH.
    pub default_user: String,
}

/// Where a snapshot is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SnapshotState {
    /// Asked for. No guest of the disk is started before it has become something else.
    Pending,
    /// Done.
    Completed {
        /// All that the disk consisted of, bottom to top.
        layers: Vec<LayerId>,
        /// When.
        at: Timestamp,
    },
    /// It could not be made, or not as it was asked for.
    Error {
        /// Why, for people.
        why: String,
    },
}

/// A snapshot as the store has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSpec {
    /// Of what.
    pub source: SnapshotSource,
    /// Free text.
    pub description: String,
    /// What the disk's file becomes: chosen when the snapshot is asked for.
    pub layer: LayerId,
    /// What a guest saw of the disk, in bytes.
    pub size_bytes: u64,
    /// The image's blob below all layers, if the disk was made of one.
    pub base: Option<ImageBase>,
    /// How the disk boots, where it is a root disk.
    pub boots: Option<Boots>,
    /// How it is taken.
    #[serde(flatten)]
    pub taking: Taking,
    /// The token of the client that has an image made of it, where it is there for that alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_image: Option<String>,
    /// What encrypts its layers; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<WrappedSecret>,
    /// Where it is in its life.
    pub state: SnapshotState,
}

impl SnapshotSpec {
    /// Whether it is still to be made.
    pub fn is_pending(&self) -> bool {
        self.state == SnapshotState::Pending
    }

    /// What a disk that is made of it lies over.
    pub fn below(&self) -> Below {
        Below { base: self.base.clone(), layers: self.layers().to_vec() }
    }

    /// The layers that it needs, made or on their way.
    pub fn layers(&self) -> &[LayerId] {
        match &self.state {
            SnapshotState::Completed { layers, .. } => layers,
            SnapshotState::Pending => std::slice::from_ref(&self.layer),
            SnapshotState::Error { .. } => &[],
        }
    }
}

/// A snapshot as a client asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOrder {
    /// Of what.
    pub source: SnapshotSource,
    /// Free text.
    pub description: String,
    /// What is to be true of it.
    pub consistency: Consistency,
}

words! {
    /// Where a snapshot is in its life, in one word.
    SnapshotProgress {
        /// Asked for.
        Pending = "pending",
        /// Done.
        Completed = "completed",
        /// It could not be made.
        Error = "error",
    }
}

/// A snapshot as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotView {
    /// What was asked for.
    pub order: SnapshotOrder,
    /// Where it is in its life.
    pub progress: SnapshotProgress,
    /// Why, where it could not be made.
    pub reason: Option<String>,
    /// What a guest saw of the disk, in bytes.
    pub size_bytes: u64,
    /// When it was done.
    pub completed_at: Option<Timestamp>,
    /// Whether it is encrypted, as the disk is that it is of.
    pub encrypted: bool,
}

impl SnapshotView {
    /// The smallest number of GiB that holds what is in it.
    pub fn size_gib(&self) -> u64 {
        self.size_bytes.div_ceil(1 << 30)
    }
}

impl From<SnapshotSpec> for SnapshotView {
    fn from(spec: SnapshotSpec) -> Self {
        let (progress, reason, completed_at) = match spec.state {
            SnapshotState::Pending => (SnapshotProgress::Pending, None, None),
            SnapshotState::Completed { at, .. } => (SnapshotProgress::Completed, None, Some(at)),
            SnapshotState::Error { why } => (SnapshotProgress::Error, Some(why), None),
        };
        let SnapshotSpec { source, description, taking, size_bytes, secret, .. } = spec;
        let order = SnapshotOrder { source, description, consistency: taking.consistency() };
        let encrypted = secret.is_some();
        Self { order, progress, reason, size_bytes, completed_at, encrypted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_ends_with_a_remedy() {
        let root = SnapshotSource::RootDisk(InstanceId::from_random([1; 9]));
        let volume = SnapshotSource::Volume(VolumeId::from_random([1; 9]));
        for source in [root, volume] {
            let field = source.field();
            assert!(check_depth(field, &source, MAX_LAYERS - 1, false).is_ok());
            let problem = check_depth(field, &source, MAX_LAYERS, false).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(field));
            assert!(problem.message.contains("32 layers"), "{problem}");
            assert!(problem.remedy.is_some_and(|text| text.contains("delete snapshots")));
        }
    }

    #[test]
    fn who_has_an_encrypted_volume_is_not_told_to_do_what_cannot_help() {
        let volume = SnapshotSource::Volume(VolumeId::from_random([1; 9]));
        assert!(check_depth("volume_id", &volume, MAX_LAYERS - 1, true).is_ok());
        let problem = check_depth("volume_id", &volume, MAX_LAYERS, true).unwrap_err();
        assert!(problem.message.contains("encrypted and lies over 32 layers"), "{problem}");
        let remedy = problem.remedy.unwrap();
        assert!(remedy.starts_with("make a new encrypted volume"), "{remedy}");
        assert!(!remedy.contains("merges layers by itself"), "{remedy}");
    }

    #[test]
    fn how_a_disk_is_taken_is_stored_as_agents_before_stored_it() {
        let fields = |between_guests: bool, consistency: &str, had_guest: bool| {
            serde_json::json!({
                "between_guests": between_guests, "consistency": consistency, "had_guest": had_guest,
            })
        };
        // A whole record, with the fields of this beside all others.
        let record = |fields: &serde_json::Value| {
            let mut record = serde_json::json!({
                "source": { "volume": "vol-00112233445566778" },
                "description": "",
                "layer": "layer-00112233445566778",
                "size_bytes": 1,
                "base": null,
                "boots": null,
                "state": { "state": "pending" },
            });
            let all = record.as_object_mut().unwrap();
            all.extend(fields.as_object().unwrap().clone());
            record
        };
        let none = serde_json::json!({});
        for (taking, stored) in [
            (Taking::AsItIs, fields(false, "crash", false)),
            (Taking::BetweenGuests, fields(true, "crash", false)),
            (Taking::Frozen { had_guest: false }, fields(false, "frozen", false)),
            (Taking::Frozen { had_guest: true }, fields(false, "frozen", true)),
        ] {
            let spec: SnapshotSpec = serde_json::from_value(record(&stored)).unwrap();
            assert_eq!(spec.taking, taking);
            assert_eq!(serde_json::to_value(spec).unwrap(), record(&stored));
        }
        // The first of them knew of none of the three.
        let oldest: SnapshotSpec = serde_json::from_value(record(&none)).unwrap();
        assert_eq!(oldest.taking, Taking::AsItIs);
    }

    #[test]
    fn sizes_are_rounded_up_to_whole_gib() {
        let of = |size_bytes| SnapshotView {
            order: SnapshotOrder {
                source: SnapshotSource::RootDisk(InstanceId::from_random([1; 9])),
                description: String::new(),
                consistency: Consistency::default(),
            },
            progress: SnapshotProgress::Pending,
            reason: None,
            size_bytes,
            completed_at: None,
            encrypted: false,
        };
        assert_eq!(of(1).size_gib(), 1);
        assert_eq!(of(1 << 30).size_gib(), 1);
        assert_eq!(of((1 << 30) + 1).size_gib(), 2);
    }
}
