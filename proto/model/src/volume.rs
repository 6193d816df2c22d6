//! Volumes: disks that outlive the instances that have them.
//!
//! ```text
//!   POOL/volumes/VOL/disk.qcow2      written by one guest at a time
//!     on POOL/layers/LAYER.qcow2 ... sealed, read by many (`layers`, the last one on top)
//!       on an image's blob           (`base`), or on nothing
//! ```
//!
//! What lies below a disk is what its record says, never what a header says: guests write headers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::image::words;
use crate::net::serde_as_text;
use crate::text::is_short_label;
use crate::{
    Below, DiskLimits, ImageBase, ImageId, InstanceId, LayerId, Name, Problem, Reason, SnapshotId,
    WrappedSecret,
};

/// GiB that a disk can have: qcow2's limit with the clusters that are used here is 64 TiB.
pub const DISK_GIB: std::ops::RangeInclusive<u32> = 1..=(64 << 10);

/// # Errors
/// No disk can have this size: a [`Problem`] at `field`.
pub fn check_disk_gib(field: &str, gib: u32) -> Result<(), Problem> {
    if DISK_GIB.contains(&gib) {
        return Ok(());
    }
    Err(Problem::invalid(field, format!("{gib} GiB is not a disk size")).remedy(format!(
        "use {} to {} GiB",
        DISK_GIB.start(),
        DISK_GIB.end()
    )))
}

/// # Errors
/// `wanted` is less than what there is: a [`Problem`] at `field`.
pub fn check_no_shrink(field: &str, what: &str, now: u32, wanted: u32) -> Result<(), Problem> {
    if wanted >= now {
        return Ok(());
    }
    let message = format!("{what} has {now} GiB and cannot shrink to {wanted} GiB");
    Err(Problem::invalid(field, message).remedy(format!(
        "set it to {now} or more; for a smaller disk make a new one and copy what is on this one"
    )))
}

/// # Errors
/// A volume of `wanted` GiB does not hold `bytes` of `source`: a [`Problem`] at `size_gib`.
pub fn check_holds(source: &VolumeSource, bytes: u64, wanted: u32) -> Result<(), Problem> {
    if u64::from(wanted) << 30 >= bytes {
        return Ok(());
    }
    let gib = bytes.div_ceil(1 << 30);
    let message = format!("{} needs {gib} GiB, the volume would have {wanted}", source.id());
    Err(Problem::invalid("size_gib", message).remedy(format!("set it to {gib} or more")))
}

/// # Errors
/// A volume made from `source`, which is `encrypted_below` or not, cannot be encrypted as asked: a
/// [`Problem`] at `encrypted`. What lies below a volume is encrypted with its secret, or not at all.
pub fn check_encryption(
    wanted: Option<bool>,
    source: Option<&VolumeSource>,
    encrypted_below: bool,
) -> Result<(), Problem> {
    let (Some(wanted), Some(source)) = (wanted, source) else { return Ok(()) };
    if wanted == encrypted_below {
        return Ok(());
    }
    let id = source.id();
    let (message, remedy) = match (source, wanted) {
        (_, false) => (
            format!("{id} is encrypted, and so is every volume that is made from it"),
            "leave encrypted out, or set it to true; for one that is not encrypted, copy what is on \
             the volume to an empty one",
        ),
        (VolumeSource::Snapshot(_), true) => (
            format!("{id} is not encrypted, and what it has would be below the volume as it is"),
            "make an empty encrypted volume and copy the files there",
        ),
        (VolumeSource::Image(_), true) => (
            format!("what {id} has would be below the volume as it is: images are not encrypted"),
            "make an empty encrypted volume and copy the files there",
        ),
    };
    Err(Problem::invalid("encrypted", message).remedy(remedy))
}

/// Why a host whose agent has no root key cannot have a new encrypted volume: a [`Problem`] at `encrypted`.
pub fn no_root_key() -> Problem {
    let message = "encrypted volumes need a root key, and this host's agent has none";
    Problem::new(Reason::FailedPrecondition, message).at("encrypted").remedy(
        "start the agent with --volume-key-file FILE; fabric-agent volume-key FILE makes one",
    )
}

/// Why a host that has `pools` cannot have a volume in `name`: a [`Problem`] at `type`.
pub fn no_such_pool<'a>(name: &PoolName, pools: impl Iterator<Item = &'a PoolName>) -> Problem {
    let pools: Vec<&str> = pools.map(PoolName::as_str).collect();
    let message = format!("the host has no storage pool \"{name}\"");
    Problem::invalid("type", message).remedy(format!(
        "use one of: {}; others are given to the agent with --pool",
        pools.join(", ")
    ))
}

/// What a volume was made from: all of it is on the volume at first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeSource {
    /// A snapshot.
    Snapshot(SnapshotId),
    /// An image's disk.
    Image(ImageId),
}

impl VolumeSource {
    /// Its id.
    pub fn id(&self) -> &str {
        match self {
            Self::Snapshot(id) => id.as_str(),
            Self::Image(id) => id.as_str(),
        }
    }

    /// The attribute that says so.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Snapshot(_) => "snapshot_id",
            Self::Image(_) => "image_id",
        }
    }

    /// Of a snapshot.
    pub fn snapshot(&self) -> Option<&SnapshotId> {
        match self {
            Self::Snapshot(id) => Some(id),
            Self::Image(_) => None,
        }
    }

    /// Of an image.
    pub fn image(&self) -> Option<&ImageId> {
        match self {
            Self::Image(id) => Some(id),
            Self::Snapshot(_) => None,
        }
    }
}

/// What a storage pool is called: 1 to 32 lowercase letters, digits and dashes, a letter first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolName(String);

/// Text that cannot name a storage pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot name a storage pool: use 1 to 32 lowercase letters, digits and dashes, a letter first"
)]
pub struct InvalidPoolName(String);

impl PoolName {
    /// The pool that every host has: its state directory.
    pub const STANDARD: &'static str = "standard";

    /// [`Self::STANDARD`].
    pub fn standard() -> Self {
        Self(Self::STANDARD.to_owned())
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for PoolName {
    fn default() -> Self {
        Self::standard()
    }
}

impl FromStr for PoolName {
    type Err = InvalidPoolName;
    fn from_str(text: &str) -> Result<Self, InvalidPoolName> {
        if is_short_label(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidPoolName(text.to_owned()))
        }
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(PoolName);

/// A volume as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Shown to people; need not be unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// What a guest sees. Only grows.
    pub size_gib: u32,
    /// The storage pool that its file is in, for its whole life.
    #[serde(default)]
    pub volume_type: PoolName,
    /// What it was made from, which need not exist any more; `None`: from nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<VolumeSource>,
    /// The image's blob that is below everything, where it was made from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<ImageBase>,
    /// The sealed layers below its file, from the lowest to the highest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerId>,
    /// What it may do each second, wherever it is attached.
    #[serde(default)]
    pub limits: DiskLimits,
    /// What encrypts its file, and each layer below; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<WrappedSecret>,
}

impl VolumeSpec {
    /// What its disk lies over.
    pub fn below(&self) -> Below {
        Below { base: self.base.clone(), layers: self.layers.clone() }
    }

    /// What a guest sees, in bytes.
    pub fn size_bytes(&self) -> u64 {
        u64::from(self.size_gib) << 30
    }
}

/// A volume as a client asks for it. In a view, everything that the agent chose is filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeOrder {
    /// Shown to people.
    pub name: Option<Name>,
    /// What a guest sees.
    pub size_gib: u32,
    /// `None` is the pool that every host has.
    pub volume_type: Option<PoolName>,
    /// What it is made from; `None` is an empty one.
    pub source: Option<VolumeSource>,
    /// What it may do each second.
    pub limits: DiskLimits,
    /// Whether its disk is encrypted; `None` is as what it is made from.
    pub encrypted: Option<bool>,
}

words! {
    /// Where a volume is in its life.
    VolumeState {
        /// Accepted; its file is not there yet.
        Creating = "creating",
        /// There, and no instance's.
        Available = "available",
        /// Attached to an instance.
        InUse = "in_use",
        /// Being removed.
        Deleting = "deleting",
        /// Its file cannot be made, or is lost.
        Error = "error",
    }
}

/// A volume as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeView {
    /// What was asked for.
    pub order: VolumeOrder,
    /// Where it is in its life.
    pub state: VolumeState,
    /// Why, where the state needs a reason; for people.
    pub reason: Option<String>,
    /// The instance that it is attached to.
    pub instance_id: Option<InstanceId>,
}

impl From<VolumeSpec> for VolumeOrder {
    fn from(spec: VolumeSpec) -> Self {
        let VolumeSpec { name, size_gib, volume_type, source, base: _, layers: _, limits, secret } =
            spec;
        let (volume_type, encrypted) = (Some(volume_type), Some(secret.is_some()));
        Self { name, size_gib, volume_type, source, limits, encrypted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pools_are_short_words() {
        for good in ["standard", "a", "ssd-2", &"x".repeat(32)] {
            assert!(good.parse::<PoolName>().is_ok(), "{good}");
        }
        for bad in ["", "SSD", "2fast", "-a", "a b", "a/b", "..", &"x".repeat(33)] {
            assert!(bad.parse::<PoolName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_volume_of_an_older_store_is_in_the_standard_pool_and_on_nothing() {
        let spec: VolumeSpec = serde_json::from_str(r#"{"size_gib":3}"#).unwrap();
        assert_eq!(spec.volume_type, PoolName::standard());
        assert_eq!((spec.base, spec.layers.len(), spec.name), (None, 0, None));
        assert_eq!((spec.limits, spec.secret), (DiskLimits::default(), None));
    }

    #[test]
    fn a_volume_is_encrypted_as_what_it_is_made_from() {
        let snapshot = VolumeSource::Snapshot(SnapshotId::from_random([1; 9]));
        let image = VolumeSource::Image(ImageId::from_random([1; 9]));
        #[rustfmt::skip]
        let cases = [
            // wanted,     made from,       encrypted, refused with
            (None,         None,            false,     None),
            (Some(true),   None,            false,     None),
            (Some(false),  None,            false,     None),
            (None,         Some(&snapshot), true,      None),
            (Some(true),   Some(&snapshot), true,      None),
            (Some(false),  Some(&snapshot), true,      Some("every volume that is made from it")),
            (None,         Some(&snapshot), false,     None),
            (Some(false),  Some(&snapshot), false,     None),
            (Some(true),   Some(&snapshot), false,     Some("is not encrypted")),
            (None,         Some(&image),    false,     None),
            (Some(true),   Some(&image),    false,     Some("images are not encrypted")),
        ];
        for (wanted, source, below, refused) in cases {
            let checked = check_encryption(wanted, source, below);
            let shown = format!("{wanted:?} {source:?} {below}: {checked:?}");
            match (checked, refused) {
                (Ok(()), None) => {}
                (Err(problem), Some(text)) => {
                    assert!(problem.message.contains(text), "{shown}");
                    assert_eq!(problem.field.as_deref(), Some("encrypted"), "{shown}");
                }
                _ => panic!("{shown}"),
            }
        }
    }

    #[test]
    fn disks_grow_and_never_shrink() {
        assert!(check_no_shrink("size_gib", "vol", 3, 3).is_ok());
        assert!(check_no_shrink("size_gib", "vol", 3, 4).is_ok());
        let problem = check_no_shrink("size_gib", "vol", 3, 2).unwrap_err();
        assert_eq!(problem.message, "vol has 3 GiB and cannot shrink to 2 GiB");
        assert!(check_disk_gib("size_gib", 0).is_err());
        assert!(check_disk_gib("size_gib", 65_537).is_err());
        assert!(check_disk_gib("size_gib", 65_536).is_ok());
    }
}
