//! Sealing disks into layers: files and the guest that has them open, in the one right order.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use weft_hypervisor::{GuestError, MergedLayers, ROOT_DEVICE, WentOver};
use weft_images::{Backing, DiskError, FileError, Layers, MergeSpec, Seal, SealSpec};
use weft_model::{DataSecret, InstanceId, LayerId, Merge, PoolName, Reason, VolumeId};

use super::guests::LinuxGuests;
use crate::host::pools::{ROOM_BYTES, Room, Share};
use crate::host::{Done, HostError, Lack};

fn file_failed(what: String) -> impl FnOnce(FileError) -> HostError {
    move |error| HostError::new(what, error.is_retryable()).caused_by(error)
}

/// That the disk could not be sealed, and is as it was: nobody tries again.
fn for_good(what: String, error: DiskError) -> HostError {
    HostError::new(what, false).reason(Reason::FailedPrecondition).caused_by(error)
}

/// What people are told of a layer that may be from the middle of a program's writing.
fn perhaps_thawed(id: &InstanceId) -> String {
    format!(
        "nobody knows whether the file systems of the guest of {id} were frozen all the time; its agent \
         in the guest, or the guest, ended meanwhile, or thawed them by itself"
    )
}

/// The same of one whose guest has not thawed.
fn perhaps_frozen_still(id: &InstanceId) -> String {
    format!(
        "the agent in the guest of {id} has frozen its file systems, and not said since that it thawed them: \
         nobody knows whether they were frozen all the time"
    )
}

/// What encrypts a disk.
#[derive(Debug)]
pub(super) enum Encryption {
    /// Nothing.
    None,
    /// This.
    With(DataSecret),
    /// What nobody can open, and why.
    Locked(HostError),
}

impl From<Result<Option<DataSecret>, HostError>> for Encryption {
    fn from(opened: Result<Option<DataSecret>, HostError>) -> Self {
        match opened {
            Ok(None) => Self::None,
            Ok(Some(secret)) => Self::With(secret),
            Err(why) => Self::Locked(why),
        }
    }
}

/// A disk that is to be sealed.
#[derive(Clone, Copy, Debug)]
struct Sealing<'a> {
    files: &'a SealSpec,
    layer: &'a LayerId,
    user: Option<DiskUser<'a>>,
    encrypted: bool,
    /// What encrypts it: has to be there where the next file is not.
    secret: Option<&'a DataSecret>,
    /// Whether its user's file systems are frozen when it goes over to its next file; it is refused where it
    /// has none.
    freeze: bool,
}

/// Whose disk it is, and what its hypervisor calls it.
#[derive(Clone, Copy, Debug)]
struct DiskUser<'a> {
    id: &'a InstanceId,
    device: &'a str,
}

impl LinuxGuests {
    pub(super) async fn seal_root(
        &self,
        id: &InstanceId,
        layer: &LayerId,
        size_bytes: u64,
        uid: u32,
        freeze: bool,
    ) -> Result<Done, HostError> {
        let layer_path = self.pools.new_layer(&PoolName::standard(), layer)?;
        let files = &SealSpec { top: self.root(id), layer: layer_path, size_bytes, uid };
        let user = Some(DiskUser { id, device: ROOT_DEVICE });
        self.seal(Sealing { files, layer, user, encrypted: false, secret: None, freeze }).await
    }

    /// Seals a volume; `guest` is whom it is attached to.
    pub(super) async fn seal_volume(
        &self,
        id: &VolumeId,
        files: &SealSpec,
        layer: &LayerId,
        guest: Option<&InstanceId>,
        encryption: Encryption,
        freeze: bool,
    ) -> Result<Done, HostError> {
        let (encrypted, secret) = match encryption {
            Encryption::None => (false, None),
            Encryption::With(secret) => (true, Some(secret)),
            Encryption::Locked(why) => {
                self.check_next(id, files, why).await?;
                (true, None)
            }
        };
        // Another look tells: a guest that starts or ends just now, or keeps what it let go of.
        let look =
            |error: GuestError| HostError::new(format!("snapshot {id}"), true).caused_by(error);
        let has = match guest {
            Some(guest) => self.guests.has_volume_open(guest, id).await.map_err(look)?,
            None => false,
        };
        let freeze = match guest {
            Some(guest) if freeze => self.has_to_be_frozen(guest, has).await.map_err(look)?,
            // One whose guest went, with its instance perhaps, before it was frozen.
            Some(_) | None => freeze,
        };
        let user = guest
            .filter(|_| has || freeze)
            .map(|guest| DiskUser { id: guest, device: id.as_str() });
        let secret = secret.as_ref();
        self.seal(Sealing { files, layer, user, encrypted, secret, freeze }).await
    }

    /// That a volume whose secret cannot be opened needs none to be sealed: its next file is made.
    ///
    /// # Errors
    /// It does: `locked`, for good, and the disk is as it was. A snapshot that waited for the key would
    /// keep the volume from being detached and deleted.
    async fn check_next(
        &self,
        id: &VolumeId,
        spec: &SealSpec,
        locked: HostError,
    ) -> Result<(), HostError> {
        let failed =
            |error: DiskError| HostError::new(format!("snapshot {id}"), true).caused_by(error);
        if self.disks.is_next_made(spec).await.map_err(failed)? {
            return Ok(());
        }
        self.disks.undo_seal(spec).await.map_err(failed)?;
        Err(locked.for_good())
    }

    /// Seals a disk. It is in vain where its user's file systems should have been frozen and nobody knows
    /// whether they were.
    ///
    /// # Errors
    /// One that is not to be retried says that the disk is as it was.
    async fn seal(&self, sealing: Sealing<'_>) -> Result<Done, HostError> {
        let Sealing { files, layer, user, secret, freeze, .. } = sealing;
        let what = || format!("snapshot the disk {}", files.top.display());
        let undone = async |error: HostError| match self.disks.undo_seal(files).await {
            Ok(()) => error,
            // Once more, until what was made is given back.
            Err(undo) => HostError::new(what(), true).caused_by(undo),
        };
        // A guest may have gone over to it before it ended.
        let begun = files.next().exists();
        // What is no disk is nothing to keep; what was begun is carried to its end all the same.
        if !begun
            && let Err(error @ DiskError::NotADisk { .. }) = self.disks.disk_bytes(&files.top).await
        {
            let what = format!(
                "snapshot a disk that is damaged: restore what is on it from an older snapshot, or put a \
                 copy of {} back",
                files.top.display()
            );
            return Err(for_good(what, error));
        }
        let seal = match self.disks.prepare_seal(files, secret).await {
            Ok(seal) => seal,
            Err(error) => return Err(undone(for_good(what(), error)).await),
        };
        // Once a guest may have gone over to the next file there is only the way forward.
        let may_be_over = begun || seal == Seal::Done;
        let in_vain = |why: String| Done::InVain(format!("{}: {why}", what()));
        let done = |id: &InstanceId, went_over: WentOver| match went_over {
            WentOver::AsAsked => Done::AsAsked,
            WentOver::PerhapsThawed => in_vain(perhaps_thawed(id)),
            WentOver::PerhapsFrozenStill => in_vain(perhaps_frozen_still(id)),
        };
        let handed = match (seal, user) {
            (_, None) if freeze && may_be_over => Ok(in_vain(GuestError::NobodyHasIt.to_string())),
            (_, None) if freeze => Err(GuestError::NobodyHasIt),
            (Seal::Prepared, Some(user)) => {
                let handed = self.hand_over(user, sealing, begun).await;
                handed.map(|went_over| done(user.id, went_over))
            }
            (Seal::Done, Some(DiskUser { id, .. })) if freeze => {
                let judged = self.guests.judge_frozen(id, layer, &self.freeze_note(id));
                judged.map(|went_over| done(id, went_over))
            }
            (Seal::Prepared | Seal::Done, _) => Ok(Done::AsAsked),
        };
        let done = match handed {
            Ok(done) => done,
            Err(error) if error.refused() => {
                let told = HostError::new(what(), false).reason(Reason::FailedPrecondition);
                return Err(undone(told.caused_by(error)).await);
            }
            Err(error) => return Err(HostError::new(what(), true).caused_by(error)),
        };
        let finished = self.disks.finish_seal(files).await;
        finished.map_err(|error| HostError::new(what(), true).caused_by(error))?;
        Ok(done)
    }

    /// Has a guest that runs write above the layer, with its file systems frozen as it goes over, if
    /// that is asked for; `begun` says whether it may have gone over before.
    async fn hand_over(
        &self,
        DiskUser { id, device }: DiskUser<'_>,
        Sealing { files, layer, encrypted, freeze, .. }: Sealing<'_>,
        begun: bool,
    ) -> Result<WentOver, GuestError> {
        let note = freeze.then(|| self.freeze_note(id));
        if !self.guests.has_disks_open(id).await? {
            return match note {
                None => Ok(WentOver::AsAsked),
                Some(note) if begun => self.guests.judge_frozen(id, layer, &note),
                Some(_) => Err(GuestError::NobodyToFreeze { id: id.clone() }),
            };
        }
        let next = files.next();
        let note = note.as_ref();
        let switched = self.guests.switch_disk(id, device, layer, &next, encrypted, note).await;
        if switched.as_ref().is_err_and(GuestError::refused) {
            self.guests.forget_switch(id, layer).await?;
        }
        switched
    }

    /// Writes the layer that others become, beside them; `base` is the blob at the bottom, `room_bytes`
    /// what there is beside the blobs.
    pub(super) async fn merge_layers(
        &self,
        merge: &Merge,
        base: Option<Backing>,
        below: &[LayerId],
        room_bytes: u64,
    ) -> Result<(), HostError> {
        let paths = |layers: &[LayerId]| -> Result<Vec<PathBuf>, HostError> {
            layers.iter().map(|layer| self.pools.layer(layer)).collect()
        };
        let (layers, below) = (paths(&merge.layers)?, paths(below)?);
        let dirs: BTreeSet<&Path> = layers.iter().filter_map(|path| path.parent()).collect();
        let (Some(dir), 1) = (dirs.first(), dirs.len()) else {
            let what = "merge layers: they are in different storage pools";
            return Err(HostError::new(what, false));
        };
        let room = Room::of(dir).map_err(|error| {
            HostError::new(format!("look for room in {}", dir.display()), true).caused_by(error)
        })?;
        let reserve_bytes =
            match self.pools.new_layer(&PoolName::standard(), &merge.merged)?.parent() {
                Some(standard) if standard == *dir => room.free_bytes.saturating_sub(room_bytes),
                _ => ROOM_BYTES,
            };
        let Share { room_bytes, keep_free_bytes } = Share::of(room.free_bytes, reserve_bytes);
        let to = dir.join(format!("{}.qcow2", merge.merged));
        let dir = dir.to_path_buf();
        let spec = MergeSpec { to, base, below, layers, room_bytes, keep_free_bytes };
        self.disks.merge(&spec).await.map_err(|error| {
            let what = format!("merge {} layers in {}", merge.layers.len(), dir.display());
            let lack = match &error {
                DiskError::Gone { .. } | DiskError::Damaged { .. } => Some(Lack::File),
                error if error.is_out_of_space() => Some(Lack::Room(dir)),
                _ => None,
            };
            // There may be room later.
            let retryable = error.is_retryable() || lack.is_some();
            HostError::new(what, retryable).lacks(lack).caused_by(error)
        })
    }

    /// Has the guest of an instance, if it has the disk `device`, read a merged layer.
    ///
    /// # Errors
    /// One that is not to be retried says that this guest never will.
    pub(super) async fn use_merged(
        &self,
        id: &InstanceId,
        device: &str,
        base: bool,
        layers: &[LayerId],
        merge: &Merge,
    ) -> Result<(), HostError> {
        let failed = |error: GuestError| {
            let what = format!("have the guest of {id} read merged layers of its disk {device}");
            HostError::new(what, !error.refused()).caused_by(error)
        };
        let has = match device.parse::<VolumeId>() {
            Ok(volume) => self.guests.has_volume_open(id, &volume).await,
            Err(_) => self.guests.has_disks_open(id).await,
        };
        let Some(replaced) = merge.position_in(layers) else { return Ok(()) };
        if !has.map_err(failed)? {
            return Ok(());
        }
        let old = merge.layers.iter().map(|layer| self.pools.layer(layer));
        let merged = MergedLayers {
            base,
            layers: layers.len(),
            replaced,
            old: old.collect::<Result<_, _>>()?,
            merged: merge.merged.clone(),
            path: self.pools.layer(&merge.merged)?,
        };
        self.guests.go_over_to_merged(id, device, &merged).await.map_err(failed)
    }

    /// The layers of every pool that is there.
    pub(super) async fn layer_ids(&self) -> Result<BTreeSet<LayerId>, HostError> {
        let mut ids = BTreeSet::new();
        for layers in self.layers()? {
            let listed = layers.list().await;
            ids.extend(listed.map_err(file_failed("list the layers of disks".to_owned()))?);
        }
        Ok(ids)
    }

    pub(super) async fn remove_layer(&self, layer: &LayerId) -> Result<(), HostError> {
        for layers in self.layers()? {
            let removed = layers.remove(layer).await;
            removed.map_err(file_failed(format!("remove the layer {layer}")))?;
        }
        Ok(())
    }

    fn layers(&self) -> Result<Vec<Layers>, HostError> {
        let opened = self.pools.layers_dirs().map(Layers::open).collect::<Result<_, _>>();
        opened.map_err(file_failed("keep layers of disks".to_owned()))
    }
}
