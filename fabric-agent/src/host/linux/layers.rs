//! Sealing disks into layers: files and the guest that has them open, in the one right order.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use weft_hypervisor::{GuestError, MergedLayers, ROOT_DEVICE, WentOver};
use weft_images::{DiskError, FileError, Layers, MergeSpec, Seal, SealSpec};
use weft_model::{DataSecret, DiskFormat, InstanceId, LayerId, Merge, PoolName, Reason, VolumeId};

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

impl LinuxGuests {
    pub(super) async fn seal_root(
        &self,
        id: &InstanceId,
        layer: &LayerId,
        (size_bytes, uid): (u64, u32),
        freeze: bool,
    ) -> Result<Done, HostError> {
        let layer_path = self.pools.new_layer(&PoolName::standard(), layer)?;
        let spec = SealSpec { top: self.root(id), layer: layer_path, size_bytes, uid };
        self.seal(&spec, layer, Some((id, ROOT_DEVICE)), (false, None), freeze).await
    }

    /// Seals a volume; `guest` is whom it is attached to, `secret` what encrypts it, or that nobody can
    /// open that.
    pub(super) async fn seal_volume(
        &self,
        id: &VolumeId,
        spec: &SealSpec,
        layer: &LayerId,
        guest: Option<&InstanceId>,
        (encrypted, secret): (bool, Result<Option<DataSecret>, HostError>),
        freeze: bool,
    ) -> Result<Done, HostError> {
        let secret = match secret {
            Ok(secret) => secret,
            Err(locked) => {
                self.check_next(id, spec, locked).await?;
                None
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
        let guest = guest.filter(|_| has || freeze).map(|guest| (guest, id.as_str()));
        self.seal(spec, layer, guest, (encrypted, secret.as_ref()), freeze).await
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

    /// Seals a disk; `guest` is whose disk it is, and what its hypervisor calls it. Of one that is
    /// encrypted, the secret has to be there where the next file is not. With `freeze`, that guest's file
    /// systems are frozen when it goes over to its next file; it is refused where there is none. It is
    /// in vain where nobody knows whether they were.
    ///
    /// # Errors
    /// One that is not to be retried says that the disk is as it was.
    pub(super) async fn seal(
        &self,
        spec: &SealSpec,
        layer: &LayerId,
        guest: Option<(&InstanceId, &str)>,
        (encrypted, secret): (bool, Option<&DataSecret>),
        freeze: bool,
    ) -> Result<Done, HostError> {
        let what = || format!("snapshot the disk {}", spec.top.display());
        let undone = async |error: HostError| match self.disks.undo_seal(spec).await {
            Ok(()) => error,
            // Once more, until what was made is given back.
            Err(undo) => HostError::new(what(), true).caused_by(undo),
        };
        // A guest may have gone over to it before it ended.
        let begun = spec.next().exists();
        // What is no disk is nothing to keep; what was begun is carried to its end all the same.
        if !begun
            && let Err(error @ DiskError::NotADisk { .. }) = self.disks.disk_bytes(&spec.top).await
        {
            let what = format!(
                "snapshot a disk that is damaged: restore what is on it from an older snapshot, or put a \
                 copy of {} back",
                spec.top.display()
            );
            return Err(for_good(what, error));
        }
        let seal = match self.disks.prepare_seal(spec, secret).await {
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
        let handed = match (seal, guest) {
            (_, None) if freeze && may_be_over => Ok(in_vain(GuestError::NobodyHasIt.to_string())),
            (_, None) if freeze => Err(GuestError::NobodyHasIt),
            (Seal::Prepared, Some(guest)) => {
                let handed = self.hand_over(guest, layer, spec, encrypted, (freeze, begun)).await;
                handed.map(|went_over| done(guest.0, went_over))
            }
            (Seal::Done, Some((id, _))) if freeze => {
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
        let finished = self.disks.finish_seal(spec).await;
        finished.map_err(|error| HostError::new(what(), true).caused_by(error))?;
        Ok(done)
    }

    /// Has a guest that runs write above the layer, with its file systems frozen as it goes over, if
    /// that is asked for; `begun` says whether it may have gone over before.
    async fn hand_over(
        &self,
        (id, device): (&InstanceId, &str),
        layer: &LayerId,
        spec: &SealSpec,
        encrypted: bool,
        (freeze, begun): (bool, bool),
    ) -> Result<WentOver, GuestError> {
        let note = freeze.then(|| self.freeze_note(id));
        if !self.guests.has_disks_open(id).await? {
            return match note {
                None => Ok(WentOver::AsAsked),
                Some(note) if begun => self.guests.judge_frozen(id, layer, &note),
                Some(_) => Err(GuestError::NobodyToFreeze { id: id.clone() }),
            };
        }
        let next = spec.next();
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
        base: Option<(PathBuf, DiskFormat)>,
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
