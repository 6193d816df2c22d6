//! The volumes of an instance: they come and go while its guest runs.

use std::collections::BTreeSet;

use weft_model::{DiskLimits, InstanceId, InstanceSpec, Record, VolumeId};

use super::{InstanceStep, SeenInstance};
use crate::{Action, GuestVolume};

/// A volume that is attached to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedVolume {
    /// What the hypervisor has to know.
    pub volume: GuestVolume,
    /// Whether it is to be detached.
    pub leaving: bool,
    /// Whether its disk is there.
    pub ready: bool,
    /// Whether a snapshot of it is to be made: it stays where it is until that is done.
    pub sealing: bool,
    /// What it may do each second.
    pub limits: DiskLimits,
}

impl AttachedVolume {
    /// Whether a guest can be given it now.
    fn can_be_given(&self) -> bool {
        self.ready && !self.sealing
    }

    /// Whether a guest can be asked for it now.
    fn can_leave(&self) -> bool {
        self.leaving && !self.sealing
    }
}

/// What a host knows of the volumes of a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SeenVolumes {
    /// Nothing: no guest runs, or it does not answer.
    #[default]
    Unknown,
    /// The guest can be given none while it runs.
    Fixed,
    /// The guest has these, and can be given others.
    Has(BTreeSet<VolumeId>),
}

/// Gives a guest that runs what it does not have yet.
pub(super) fn plug(
    record: &Record<InstanceId, InstanceSpec>,
    attached: &[AttachedVolume],
    seen: &SeenInstance,
) -> Option<InstanceStep> {
    let SeenVolumes::Has(has) = &seen.volumes else { return None };
    let is_missing = |one: &&AttachedVolume| {
        !one.leaving && one.can_be_given() && !has.contains(&one.volume.volume_id)
    };
    let plug: Vec<Action> = attached
        .iter()
        .filter(is_missing)
        .map(|one| Action::PlugVolume {
            instance_id: record.id.clone(),
            volume: one.volume.clone(),
        })
        .collect();
    (!plug.is_empty()).then_some(InstanceStep::Do(plug))
}

/// Takes from a guest that runs what it should not have, and lets go of it then.
pub(super) fn unplug(
    record: &Record<InstanceId, InstanceSpec>,
    attached: &[AttachedVolume],
    seen: &SeenInstance,
) -> InstanceStep {
    // Also those that it does not seem to have: what was left half way is cleared up.
    let leaving = attached.iter().filter(|one| one.can_leave());
    let leaving = leaving.map(|one| &one.volume.volume_id);
    let has = match &seen.volumes {
        SeenVolumes::Has(has) => has.iter().collect(),
        SeenVolumes::Unknown | SeenVolumes::Fixed => Vec::new(),
    };
    let is_known = |id: &VolumeId| attached.iter().any(|one| one.volume.volume_id == *id);
    let unknown = has.into_iter().filter(|id| !is_known(id));
    let unplug: Vec<Action> = leaving
        .chain(unknown)
        .filter(|id| !seen.unplugged_volumes.contains(id))
        .map(|id| Action::UnplugVolume { instance_id: record.id.clone(), volume_id: id.clone() })
        .collect();
    match unplug.is_empty() {
        true => release(attached).unwrap_or(InstanceStep::Rest),
        false => InstanceStep::Do(unplug),
    }
}

/// Lets go of what is to be detached, now that no guest has it.
pub(super) fn release(attached: &[AttachedVolume]) -> Option<InstanceStep> {
    let leaving = attached.iter().filter(|one| one.can_leave());
    let ids: Vec<VolumeId> = leaving.map(|one| one.volume.volume_id.clone()).collect();
    (!ids.is_empty()).then_some(InstanceStep::ReleaseVolumes(ids))
}

/// What a guest that is about to start has to wait for.
pub(super) fn not_ready(attached: &[AttachedVolume]) -> Option<InstanceStep> {
    let missing = attached.iter().find(|one| !one.can_be_given())?;
    Some(InstanceStep::AwaitVolume(missing.volume.volume_id.clone()))
}

#[cfg(test)]
mod tests {
    use weft_model::{PoolName, PowerState};

    use super::*;
    use crate::instance::tests::{guest_network, record};
    use crate::{Attached, GuestState, SeenNics, Wanted, plan_instance};

    fn id(n: u8) -> VolumeId {
        VolumeId::from_random([n; 9])
    }

    fn attached(n: u8, leaving: bool, ready: bool) -> AttachedVolume {
        let volume = GuestVolume {
            volume_id: id(n),
            place: n,
            pool: PoolName::standard(),
            below: Default::default(),
            secret: None,
        };
        AttachedVolume { volume, leaving, ready, sealing: false, limits: DiskLimits::default() }
    }

    fn show(step: &InstanceStep) -> String {
        let last = |id: &VolumeId| id.digits()[1..2].to_owned();
        let action = |action: &Action| match action {
            Action::PlugVolume { volume, .. } => format!("plug {}", last(&volume.volume_id)),
            Action::UnplugVolume { volume_id, .. } => format!("unplug {}", last(volume_id)),
            Action::StartGuest(launch) => format!("start with {}", launch.volumes.len()),
            other => other.name().to_owned(),
        };
        match step {
            InstanceStep::Do(actions) => actions.iter().map(action).collect::<Vec<_>>().join(" "),
            InstanceStep::ReleaseVolumes(ids) => {
                format!("release {}", ids.iter().map(last).collect::<String>())
            }
            InstanceStep::AwaitVolume(id) => format!("await {}", last(id)),
            other => format!("{other:?}"),
        }
    }

    fn plan(volumes: Vec<AttachedVolume>, wanted: Wanted, seen: &SeenInstance) -> String {
        let record = record(PowerState::Running, 1);
        let attached = Attached { nics: Vec::new(), volumes };
        let step = plan_instance(&record, Some(&guest_network()), &attached, wanted, seen, false);
        show(&step)
    }

    fn seen() -> SeenInstance {
        SeenInstance {
            root_disk: true,
            seed: true,
            seed_is_current: true,
            network_ready: true,
            ..SeenInstance::default()
        }
    }

    #[test]
    fn volumes_come_and_go_while_the_guest_runs() {
        let has = |ids: &[u8]| SeenVolumes::Has(ids.iter().map(|n| id(*n)).collect());
        let stays = |n| attached(n, false, true);
        let leaves = |n| attached(n, true, true);
        let comes_later = |n| attached(n, false, false);
        let sealing = |one| AttachedVolume { sealing: true, ..one };
        #[rustfmt::skip]
        let cases = [
            // attached,               the guest has,        unplugged, step
            (vec![],                   has(&[]),             vec![],    "Rest"),
            (vec![stays(2)],           has(&[]),             vec![],    "plug 2"),
            (vec![stays(2), stays(3)], has(&[2]),            vec![],    "plug 3"),
            (vec![stays(2)],           has(&[2]),            vec![],    "Rest"),
            (vec![comes_later(2)],     has(&[]),             vec![],    "Rest"),
            // A snapshot of it is made first.
            (vec![sealing(stays(2))],  has(&[]),             vec![],    "Rest"),
            (vec![sealing(leaves(2))], has(&[2]),            vec![],    "Rest"),
            (vec![sealing(leaves(2))], has(&[]),             vec![],    "Rest"),
            (vec![stays(2)],           SeenVolumes::Fixed,   vec![],    "Rest"),
            (vec![stays(2)],           SeenVolumes::Unknown, vec![],    "Rest"),
            (vec![leaves(2)],          has(&[2]),            vec![],    "unplug 2"),
            (vec![leaves(2)],          has(&[]),             vec![],    "unplug 2"),
            (vec![leaves(2)],          has(&[]),             vec![2],   "release 2"),
            (vec![leaves(2)],          SeenVolumes::Fixed,   vec![2],   "release 2"),
            // One that does not let go keeps no other from coming.
            (vec![leaves(2), stays(3)],has(&[2]),            vec![],    "plug 3"),
            // One that the store does not know goes too.
            (vec![],                   has(&[4]),            vec![],    "unplug 4"),
            (vec![],                   has(&[4]),            vec![4],   "Rest"),
        ];
        for (volumes, has, unplugged, want) in cases {
            let shown = format!("{volumes:?} {has:?}");
            let seen = SeenInstance {
                guest: GuestState::Running { epoch: 1 },
                nics: SeenNics::Fixed,
                volumes: has,
                unplugged_volumes: unplugged.into_iter().map(id).collect(),
                ..seen()
            };
            assert_eq!(plan(volumes, Wanted::Run { epoch: 1 }, &seen), want, "{shown}");
        }
    }

    #[test]
    fn a_guest_that_is_off_lets_go_at_once_and_starts_with_what_stays_and_is_there() {
        let run = Wanted::Run { epoch: 1 };
        let both = || vec![attached(2, true, true), attached(3, false, true)];
        assert_eq!(plan(both(), Wanted::Off, &seen()), "release 2");
        assert_eq!(plan(both(), run, &seen()), "release 2");
        assert_eq!(plan(vec![attached(3, false, true)], run, &seen()), "start with 1");
        assert_eq!(plan(vec![attached(3, false, false)], run, &seen()), "await 3");
        assert_eq!(plan(vec![attached(3, false, false)], Wanted::Off, &seen()), "Rest");
        let sealing =
            |leaving| vec![AttachedVolume { sealing: true, ..attached(3, leaving, true) }];
        assert_eq!(plan(sealing(false), run, &seen()), "await 3");
        assert_eq!(plan(sealing(true), run, &seen()), "await 3");
        assert_eq!(plan(sealing(true), Wanted::Off, &seen()), "Rest");
    }
}
