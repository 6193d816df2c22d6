//! Disks of which a snapshot is asked for: whether it can be taken, how, and the record of it.

use std::sync::Arc;

use weft_model::{
    Architecture, Boots, Consistency, ImageBase, InstanceId, InstanceSpec, InstanceState, LayerId,
    PowerState, Problem, Reason, Record, SnapshotSource, SnapshotSpec, SnapshotState, Taking,
    VolumeId, VolumeSpec, check_depth,
};

use crate::context::Context;
use crate::random;
use crate::reconcile::VolumeCondition;
use crate::repo::{Instances, RecordOf, Snapshots, Stored, Volumes};

impl Context {
    /// The instance, if its root disk can be snapshotted. The caller holds `references` for reading,
    /// and the instance's turn.
    pub(crate) async fn snapshotable(
        &self,
        id: &InstanceId,
        field: &str,
    ) -> Result<Stored<Record<InstanceId, InstanceSpec>>, Problem> {
        let missing = || {
            Problem::not_found(format!("instance {id} does not exist"))
                .at(field)
                .remedy("weft ls instances shows those that do")
        };
        let instance = self.repo.find::<Instances>(id).await?.ok_or_else(missing)?;
        if instance.value.deleting_since.is_some() {
            let message = format!("instance {id} is being terminated");
            return Err(Problem::new(Reason::FailedPrecondition, message).at(field));
        }
        let spec = &instance.value.spec;
        // The guest is not asked: a QEMU that hangs would hold up all who wait for `references`.
        let has_disk = self.host.has_root_disk(id).await.map_err(|error| error.problem())?;
        let has_run = self.repo.status(id).await?.is_some_and(|it| it.launched_at.is_some());
        match (has_disk, has_run, spec.power) {
            (true, ..) | (false, false, PowerState::Running) => {}
            (false, false, PowerState::Stopped) => {
                let message = format!("instance {id} has no root disk: it has never been started");
                return Err(Problem::new(Reason::FailedPrecondition, message)
                    .at(field)
                    .remedy(format!("start it first: weft start {id}")));
            }
            (false, true, _) => {
                let message = format!("the root disk of instance {id} is missing");
                return Err(Problem::new(Reason::FailedPrecondition, message).at(field).remedy(
                    format!(
                        "put {} back, or replace the instance",
                        self.host.root_disk_file(id).display()
                    ),
                ));
            }
        }
        let source = SnapshotSource::RootDisk(id.clone());
        self.check_layers(&source, field, spec.root_layers.len(), false)?;
        Ok(instance)
    }

    /// The disk of `source` over `layers` can get one more. Whoever makes a snapshot has the turn of
    /// its source until the cache has it.
    fn check_layers(
        &self,
        source: &SnapshotSource,
        field: &str,
        layers: usize,
        encrypted: bool,
    ) -> Result<(), Problem> {
        let world = self.cache.read();
        let is_of =
            |one: &&Arc<RecordOf<Snapshots>>| one.spec.is_pending() && one.spec.source == *source;
        let coming = world.snapshots.values().filter(is_of).count();
        check_depth(field, source, layers + coming, encrypted)
    }

    /// The volume, if it can be snapshotted. The caller holds `references` for reading, and the
    /// volume's turn.
    pub(crate) async fn snapshotable_volume(
        &self,
        id: &VolumeId,
        field: &str,
    ) -> Result<Record<VolumeId, VolumeSpec>, Problem> {
        let missing = || {
            Problem::not_found(format!("volume {id} does not exist"))
                .at(field)
                .remedy("weft ls volumes shows those that do")
        };
        let volume = self.repo.find::<Volumes>(id).await?.ok_or_else(missing)?.value;
        if volume.deleting_since.is_some() {
            let message = format!("volume {id} is being deleted");
            return Err(Problem::new(Reason::FailedPrecondition, message).at(field));
        }
        if let Some(VolumeCondition::Failed(why)) = self.reconciler.volumes.condition(id) {
            let message = format!("volume {id} cannot be used");
            return Err(Problem::new(Reason::FailedPrecondition, message)
                .at(field)
                .evidence(why)
                .remedy(format!("put that right first: weft get {id} tells when it is")));
        }
        self.check_key(&volume.spec, field)?;
        let source = SnapshotSource::Volume(id.clone());
        let (layers, encrypted) = (volume.spec.layers.len(), volume.spec.secret.is_some());
        self.check_layers(&source, field, layers, encrypted)?;
        Ok(volume)
    }

    /// The instance whose guest runs, or is to, and has to be frozen for a snapshot of `source`. The guest
    /// is not asked.
    ///
    /// # Errors
    /// A [`Problem`] at `consistency`: it is hibernated.
    async fn guest_to_freeze(
        &self,
        source: &SnapshotSource,
    ) -> Result<Option<InstanceId>, Problem> {
        let attached = |id| {
            let world = self.cache.read();
            world.attachment_of_volume(id).map(|it| it.spec.instance_id.clone())
        };
        let id = match source {
            SnapshotSource::RootDisk(id) => Some(id.clone()),
            SnapshotSource::Volume(id) => attached(id),
        };
        // A volume of nobody's is written by nobody.
        let Some(id) = id else { return Ok(None) };
        let missing =
            || Problem::not_found(format!("instance {id} does not exist")).at(source.field());
        let spec = self.repo.find::<Instances>(&id).await?.ok_or_else(missing)?.value.spec;
        if spec.hibernate {
            let message = format!(
                "instance {id} is hibernated: what its programs have not written yet is in its memory"
            );
            return Err(Problem::new(Reason::FailedPrecondition, message)
                .at("consistency")
                .remedy(format!("start it first (weft start {id}), or say \"crash\"")));
        }
        // One that has switched itself off has left its file systems clean.
        let status = self.repo.status(&id).await?;
        let is_off = status.is_some_and(|it| {
            it.ended_epoch >= spec.run_epoch && it.state == InstanceState::Stopped
        });
        Ok((spec.power == PowerState::Running && !is_off).then_some(id))
    }

    /// How a disk is taken of which that is asked. The guest is not.
    ///
    /// # Errors
    /// A [`Problem`] at `consistency`: as above.
    pub(crate) async fn taking(
        &self,
        consistency: Consistency,
        source: &SnapshotSource,
    ) -> Result<Taking, Problem> {
        Ok(match consistency {
            Consistency::Crash => Taking::AsItIs,
            Consistency::Frozen => {
                Taking::Frozen { had_guest: self.guest_to_freeze(source).await?.is_some() }
            }
        })
    }

    /// Refuses at once what nobody in the guest can do. The guest is asked: nobody may wait for who
    /// calls this.
    pub(crate) async fn check_freeze(
        &self,
        consistency: Consistency,
        source: &SnapshotSource,
    ) -> Result<(), Problem> {
        if consistency == Consistency::Crash {
            return Ok(());
        }
        let Some(id) = self.guest_to_freeze(source).await? else { return Ok(()) };
        match self.host.can_freeze(&id).await {
            // It may be looked at later.
            Err(error) if !error.is_retryable() => Err(error.problem().at("consistency")),
            Err(_) | Ok(()) => Ok(()),
        }
    }
}

/// A snapshot of the root disk of `instance`, to be made.
pub(crate) fn of_root_disk(
    instance: &Record<InstanceId, InstanceSpec>,
    description: String,
    taking: Taking,
) -> SnapshotSpec {
    let spec = &instance.spec;
    SnapshotSpec {
        source: SnapshotSource::RootDisk(instance.id.clone()),
        description,
        layer: LayerId::from_random(random::bytes()),
        size_bytes: spec.root_size_bytes(),
        base: Some(ImageBase { digest: spec.image.disk, format: spec.image.format }),
        boots: Some(Boots {
            boot_mode: spec.image.boot_mode,
            kernel: spec.image.kernel.clone(),
            architecture: Architecture::X86_64,
            default_user: spec.default_user.clone(),
        }),
        taking,
        for_image: None,
        secret: None,
        state: SnapshotState::Pending,
    }
}

/// A snapshot of `volume`, to be made.
pub(crate) fn of_volume(
    volume: &Record<VolumeId, VolumeSpec>,
    description: String,
    taking: Taking,
) -> SnapshotSpec {
    SnapshotSpec {
        source: SnapshotSource::Volume(volume.id.clone()),
        description,
        layer: LayerId::from_random(random::bytes()),
        size_bytes: volume.spec.size_bytes(),
        base: volume.spec.base.clone(),
        boots: None,
        taking,
        for_image: None,
        secret: volume.spec.secret.clone(),
        state: SnapshotState::Pending,
    }
}
