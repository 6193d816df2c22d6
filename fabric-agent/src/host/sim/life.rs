//! The life of a simulated guest: it is started, ends, or is ended, as its [`Behaviour`] has it.

use weft_model::{DiskLimits, InstanceId, LayerId, Reason, VolumeId};
use weft_planner::GuestLaunch;

use super::SimHost;
use super::behaviour::Behaviour;
use super::reality::{Guest, State};
use crate::host::HostError;

/// What orders call the hypervisor's own work while a guest is being hibernated.
const WRITE_MEMORY: &str = "write_memory";

impl SimHost {
    fn hint(&self, id: &InstanceId) {
        // Nobody listening is no error.
        let _ = self.hints.send(id.clone());
    }

    pub(super) async fn start(&self, launch: &GuestLaunch) -> Result<(), HostError> {
        self.check_layers(launch)?;
        launch.volumes.iter().try_for_each(|volume| self.check_volume(volume))?;
        let (epoch, id) = (launch.epoch, &launch.instance_id);
        let behaviour = Behaviour::of(&launch.name, epoch);
        let state = match behaviour {
            Behaviour::Crash => State::Exited {
                epoch,
                how: "the simulated hypervisor crashed (its name says sim-crash)".to_owned(),
            },
            Behaviour::Panic => State::Panicked { epoch },
            Behaviour::PowersOff => State::PoweredOff { epoch },
            _ if launch.resume => State::Loaded { epoch },
            _ => State::Running { epoch, since: self.clock.now() },
        };
        let started = self.clock.moment();
        let change = |guest: &mut Guest| {
            guest.state = state;
            guest.behaviour = behaviour;
            if !launch.resume {
                guest.booted_by = epoch;
                guest.frozen = false;
            }
            guest.name = Some(launch.name.clone());
            guest.nics = launch.nics.iter().map(|nic| nic.interface_id.clone()).collect();
            let volumes = launch.volumes.iter().map(|it| it.volume_id.clone());
            guest.volumes = volumes.collect();
            // A new hypervisor knows of none.
            guest.root_limits = Default::default();
            guest.volume_limits.clear();
            let links = launch.nics.iter();
            guest.links = links.map(|n| (n.interface_id.clone(), n.link.clone())).collect();
            guest.display = launch.display;
            guest.size_at_start(launch);
            let ends = [Behaviour::Crash, Behaviour::Panic, Behaviour::PowersOff];
            guest.ended = ends.contains(&behaviour).then(|| started.clone());
            guest.started = Some(started);
        };
        self.reality.change_guest(id, change).await?;
        self.hint(id);
        Ok(())
    }

    /// Whether a guest sees the same over both.
    pub(super) fn same(&self, some: &[LayerId], others: &[LayerId]) -> bool {
        self.reality.shown(some) == self.reality.shown(others)
    }

    /// Another guest would find another disk: so would a real one, and lose what is on it.
    fn check_layers(&self, launch: &GuestLaunch) -> Result<(), HostError> {
        let id = &launch.instance_id;
        let has = self.reality.guest(id).unwrap_or_default().layers;
        let there = self.layers_there();
        let asked = &launch.root_layers;
        if self.same(&has, asked) && asked.iter().all(|layer| there.contains(layer)) {
            return Ok(());
        }
        let what = format!("start {id} over {asked:?}: its disk lies over {has:?}");
        Err(HostError::new(what, false).reason(Reason::Internal))
    }

    pub(super) async fn limit_disk(
        &self,
        instance_id: &InstanceId,
        volume_id: Option<&VolumeId>,
        limits: DiskLimits,
    ) -> Result<(), HostError> {
        let guest = self.running(instance_id);
        let has = |guest: &Guest| volume_id.is_none_or(|id| guest.volumes.contains(id));
        if !guest.as_ref().is_some_and(has) {
            let what = format!("limit a disk of {instance_id}: its guest has none such");
            return Err(HostError::new(what, true));
        }
        let change = |guest: &mut Guest| match volume_id {
            None => guest.root_limits = limits,
            Some(id) => {
                guest.volume_limits.insert(id.clone(), limits);
            }
        };
        self.reality.change_guest(instance_id, change).await
    }

    pub(super) async fn press_power_button(
        &self,
        instance_id: &InstanceId,
    ) -> Result<(), HostError> {
        let now = self.clock.moment();
        let change = |guest: &mut Guest| {
            if let State::Running { epoch, .. } = guest.state
                && guest.behaviour != Behaviour::NoAcpi
            {
                guest.state = State::PoweredOff { epoch };
                guest.ended = Some(now);
            }
        };
        self.reality.change_guest(instance_id, change).await?;
        self.hint(instance_id);
        Ok(())
    }

    pub(super) async fn hibernate(&self, instance_id: &InstanceId) -> Result<(), HostError> {
        let guest = self.reality.guest(instance_id).unwrap_or_default();
        if guest.behaviour == Behaviour::NoHibernate {
            return Err(HostError::new("its name says sim-no-hibernate", false));
        }
        let change = |guest: &mut Guest| {
            if let State::Running { epoch, .. } = guest.state {
                guest.state = State::Saving { epoch };
            }
        };
        self.reality.change_guest(instance_id, change).await
    }

    /// Whether the simulated hypervisor is held up in writing the guest's memory, which takes it no
    /// time otherwise.
    pub(super) fn still_writes(&self, instance_id: &InstanceId) -> bool {
        let mut subjects = vec![instance_id.to_string()];
        subjects.extend(self.name_of(instance_id));
        self.orders.hold_up(WRITE_MEMORY, &subjects)
    }

    pub(super) async fn keep_memory(&self, instance_id: &InstanceId) -> Result<(), HostError> {
        let now = self.clock.moment();
        let change = |guest: &mut Guest| {
            if let State::Saving { epoch } = guest.state {
                guest.ended.get_or_insert(now);
                let how = "the simulated memory was saved".to_owned();
                guest.state = State::Exited { epoch, how };
                guest.memory = true;
            }
        };
        self.reality.change_guest(instance_id, change).await
    }

    pub(super) async fn resume(&self, instance_id: &InstanceId) -> Result<(), HostError> {
        let since = self.clock.now();
        let change = |guest: &mut Guest| {
            if let State::Loaded { epoch } = guest.state {
                guest.state = State::Running { epoch, since };
            }
            guest.memory = false;
        };
        self.reality.change_guest(instance_id, change).await?;
        self.hint(instance_id);
        Ok(())
    }

    pub(super) async fn reset(&self, instance_id: &InstanceId) -> Result<(), HostError> {
        let now = self.clock.now();
        let change = |guest: &mut Guest| {
            if let State::Running { since, .. } = &mut guest.state {
                *since = now;
            }
        };
        self.reality.change_guest(instance_id, change).await?;
        self.hint(instance_id);
        Ok(())
    }

    pub(super) async fn end(&self, instance_id: &InstanceId) -> Result<(), HostError> {
        let now = self.clock.moment();
        let change = |guest: &mut Guest| {
            let epoch = match guest.state {
                State::Running { epoch, .. }
                | State::PoweredOff { epoch }
                | State::Panicked { epoch }
                | State::Saving { epoch }
                | State::Loaded { epoch } => epoch,
                State::Absent | State::Exited { .. } => return,
            };
            guest.ended.get_or_insert(now);
            let how = "the simulated hypervisor was ended".to_owned();
            guest.state = State::Exited { epoch, how };
        };
        self.reality.change_guest(instance_id, change).await
    }

    pub(super) async fn forget(&self, instance_id: &InstanceId) -> Result<(), HostError> {
        let change = |guest: &mut Guest| {
            guest.state = State::Absent;
            (guest.started, guest.ended) = (None, None);
        };
        self.reality.change_guest(instance_id, change).await
    }
}
