//! What the disks of a guest that runs may do each second: its hypervisor keeps them to it.

use weft_model::{DiskLimits, InstanceId, InstanceSpec, Record, Throttle, Throttles, VolumeId};

use super::{AttachedVolume, InstanceStep};
use crate::Action;

/// Puts right what disks are kept to. A volume that comes is limited as soon as it is there; of one
/// that the hypervisor does not tell of, nothing is known.
pub(super) fn keep(
    record: &Record<InstanceId, InstanceSpec>,
    attached: &[AttachedVolume],
    seen: &Throttles,
) -> Option<InstanceStep> {
    let root: (Option<&VolumeId>, DiskLimits) = (None, record.spec.root_limits);
    let volumes = attached.iter().map(|one| (Some(&one.volume.volume_id), one.limits));
    let is_other = |(volume, limits): &(Option<&VolumeId>, DiskLimits)| {
        seen.of(*volume).is_some_and(|throttle| throttle != Throttle::Limits(*limits))
    };
    let limit: Vec<Action> = std::iter::once(root)
        .chain(volumes)
        .filter(is_other)
        .map(|(volume, limits)| Action::LimitDisk {
            instance_id: record.id.clone(),
            volume_id: volume.cloned(),
            limits,
        })
        .collect();
    (!limit.is_empty()).then_some(InstanceStep::Do(limit))
}

#[cfg(test)]
mod tests {
    use weft_model::{PoolName, PowerState};

    use super::*;
    use crate::GuestVolume;
    use crate::instance::tests::record;

    fn of(iops: u32) -> DiskLimits {
        DiskLimits { iops: Some(iops), throughput_mibps: None }
    }

    fn attached(n: u8, leaving: bool, limits: DiskLimits) -> AttachedVolume {
        let volume = GuestVolume {
            volume_id: VolumeId::from_random([n; 9]),
            place: n,
            pool: PoolName::standard(),
            below: Default::default(),
            secret: None,
        };
        AttachedVolume { volume, leaving, ready: true, sealing: false, limits }
    }

    #[test]
    fn each_disk_is_kept_to_its_own_limits_and_to_no_others() {
        let none = DiskLimits::default();
        let is = |limits| Some(Throttle::Limits(limits));
        let foreign = Some(Throttle::Foreign);
        #[rustfmt::skip]
        let cases = [
            // root wanted, seen,        volume wanted, seen,         steps
            (none,          is(none),    none,          is(none),     vec![]),
            (of(100),       is(none),    none,          is(none),     vec!["root 100 IOPS"]),
            (of(100),       is(of(100)), of(200),       is(of(200)),  vec![]),
            (of(100),       is(of(300)), of(200),       is(none),     vec!["root 100 IOPS", "vol 200 IOPS"]),
            (none,          is(of(100)), none,          is(of(200)),  vec!["root none", "vol none"]),
            (none,          foreign,     of(200),       foreign,      vec!["root none", "vol 200 IOPS"]),
            // Not there yet, or not known.
            (of(100),       None,        of(200),       None,         vec![]),
        ];
        for (root, root_seen, volume, volume_seen, want) in cases {
            for leaving in [false, true] {
                let mut record = record(PowerState::Running, 1);
                record.spec.root_limits = root;
                let one = attached(1, leaving, volume);
                let volumes = volume_seen.map(|seen| (one.volume.volume_id.clone(), seen));
                let seen = Throttles { root: root_seen, volumes: volumes.into_iter().collect() };
                let steps = match keep(&record, &[one], &seen) {
                    None => Vec::new(),
                    Some(InstanceStep::Do(actions)) => actions,
                    Some(other) => panic!("{other:?}"),
                };
                let show = |action: &Action| match action {
                    Action::LimitDisk { volume_id, limits, .. } => {
                        let disk = if volume_id.is_some() { "vol" } else { "root" };
                        format!("{disk} {limits}")
                    }
                    other => panic!("{other:?}"),
                };
                assert_eq!(steps.iter().map(show).collect::<Vec<_>>(), want, "{seen:?}");
            }
        }
    }

    #[test]
    fn a_disk_of_another_guest_is_not_this_ones() {
        let other = VolumeId::from_random([9; 9]);
        let seen = Throttles { root: None, volumes: [(other, Throttle::Foreign)].into() };
        assert_eq!(keep(&record(PowerState::Running, 1), &[], &seen), None);
    }
}
