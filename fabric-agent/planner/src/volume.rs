//! One volume: from what the host has of it to what is wanted.
//!
//! A pending snapshot comes before everything but the disk itself: no guest gets the volume before
//! what an interrupted attempt left behind is carried to its end, see [`crate::AttachedVolume`].

use weft_model::{InstanceId, PoolName, Record, SnapshotId, VolumeId, VolumeSpec};

use crate::{Action, GuestState, PendingSeal};

/// What a host has of one volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenVolume {
    /// The pools that have anything of it: one at most, unless somebody moved files.
    pub pools: Vec<PoolName>,
    /// Its disk, in its own pool.
    pub disk: SeenDisk,
}

/// What is where a disk should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SeenDisk {
    /// Nothing.
    #[default]
    Missing,
    /// Something that no guest can be given, and what is wrong with it.
    Damaged(String),
    /// A disk of so many bytes, as a guest sees it.
    There(u64),
}

/// What to do next about one volume. After each step it is observed and planned again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeStep {
    /// Carry this out.
    Do(Box<Action>),
    /// Carry this out, a [`Action::SealVolume`]; the snapshot is made then.
    Seal(SnapshotId, Box<Action>),
    /// This snapshot cannot be made, and why.
    Refuse(SnapshotId, String),
    /// The memory of the guest that may have it is being written or read: look again soon.
    Await,
    /// Write down that its disk is there: from now on it is never made anew.
    Settle,
    /// Nothing is left on the host: the record can go.
    Forget,
    /// It had a disk, with all that was on it, and has none now.
    Lost,
    /// What is where its disk was is no disk, and why.
    Damaged(String),
    /// It is as wanted.
    Rest,
}

/// The instance that a volume is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeUser {
    /// Which.
    pub instance_id: InstanceId,
    /// Its guest, which may or may not have the volume yet, or still.
    pub guest: GuestState,
}

/// The next step from `seen` to what is wanted. `made` says whether it ever had a disk, `pending` are
/// its snapshots that are to be made, the oldest first.
pub fn plan_volume(
    record: &Record<VolumeId, VolumeSpec>,
    made: bool,
    seen: &SeenVolume,
    user: Option<&VolumeUser>,
    pending: &[PendingSeal],
) -> VolumeStep {
    let deleting = record.deleting_since.is_some();
    if let Some(seal) = pending.first()
        && let Some(step) = plan_seal(record, made || deleting, seen, user, seal)
    {
        return step;
    }
    if deleting {
        return match seen.pools.first() {
            Some(pool) => VolumeStep::Do(Box::new(remove(&record.id, pool))),
            None => VolumeStep::Forget,
        };
    }
    match (&seen.disk, made) {
        (SeenDisk::Damaged(why), _) => VolumeStep::Damaged(why.clone()),
        (SeenDisk::Missing, true) => VolumeStep::Lost,
        (SeenDisk::Missing, false) => VolumeStep::Do(Box::new(Action::MakeVolume {
            volume_id: record.id.clone(),
            pool: record.spec.volume_type.clone(),
            size_bytes: record.spec.size_bytes(),
            below: record.spec.below(),
            secret: record.spec.secret.clone(),
        })),
        (SeenDisk::There(_), false) => VolumeStep::Settle,
        // Its file is open, and whoever has it open does nothing else now.
        (SeenDisk::There(bytes), true)
            if *bytes < record.spec.size_bytes() && user.is_some_and(is_away) =>
        {
            VolumeStep::Await
        }
        (SeenDisk::There(bytes), true) if *bytes < record.spec.size_bytes() => {
            VolumeStep::Do(Box::new(Action::GrowVolume {
                volume_id: record.id.clone(),
                pool: record.spec.volume_type.clone(),
                size_bytes: record.spec.size_bytes(),
                instance_id: user.filter(|it| runs(it)).map(|it| it.instance_id.clone()),
                secret: record.spec.secret.clone(),
            }))
        }
        (SeenDisk::There(_), true) => VolumeStep::Rest,
    }
}

fn is_away(user: &VolumeUser) -> bool {
    user.guest.is_away()
}

/// Whether the next step depends on the guest that may have the volume: else nobody has to look for one.
pub fn needs_user(
    record: &Record<VolumeId, VolumeSpec>,
    seen: &SeenVolume,
    pending: &[PendingSeal],
) -> bool {
    let is_to_grow =
        matches!(seen.disk, SeenDisk::There(bytes) if bytes < record.spec.size_bytes());
    is_to_grow || !pending.is_empty()
}

fn runs(user: &VolumeUser) -> bool {
    matches!(user.guest, GuestState::Running { .. })
}

/// The step about a pending snapshot; nothing where the disk has to be made first, which `settled`
/// excludes.
fn plan_seal(
    record: &Record<VolumeId, VolumeSpec>,
    settled: bool,
    seen: &SeenVolume,
    user: Option<&VolumeUser>,
    seal: &PendingSeal,
) -> Option<VolumeStep> {
    let refuse = |why: String| VolumeStep::Refuse(seal.snapshot_id.clone(), why);
    let size_bytes = match &seen.disk {
        _ if !settled => return None,
        SeenDisk::Missing => return Some(refuse("the volume's disk is missing".to_owned())),
        SeenDisk::Damaged(why) => {
            return Some(refuse(format!("the volume's disk is damaged: {why}")));
        }
        // Not what it should have: a guest would not see that it has grown.
        SeenDisk::There(bytes) => *bytes,
    };
    if user.is_some_and(is_away) {
        return Some(VolumeStep::Await);
    }
    let action = Action::SealVolume {
        volume_id: record.id.clone(),
        pool: record.spec.volume_type.clone(),
        layer: seal.layer.clone(),
        size_bytes,
        instance_id: user.map(|it| it.instance_id.clone()),
        secret: record.spec.secret.clone(),
        freeze: seal.freezes(user.map_or(&GuestState::Absent, |user| &user.guest)),
    };
    Some(VolumeStep::Seal(seal.snapshot_id.clone(), Box::new(action)))
}

/// What removes a volume, also one that no record knows.
pub fn remove(id: &VolumeId, pool: &PoolName) -> Action {
    Action::RemoveVolume { volume_id: id.clone(), pool: pool.clone() }
}

#[cfg(test)]
mod tests {
    use weft_model::{Claim, Tags, Timestamp};

    use super::*;
    use crate::Saving;

    fn record(deleting: bool) -> Record<VolumeId, VolumeSpec> {
        Record {
            id: VolumeId::from_random([1; 9]),
            generation: 1,
            spec: VolumeSpec {
                name: None,
                size_gib: 2,
                volume_type: PoolName::standard(),
                source: None,
                base: None,
                layers: Vec::new(),
                limits: Default::default(),
                secret: None,
            },
            tags: Tags::default(),
            client_data: String::new(),
            created_at: Timestamp::UNIX_EPOCH,
            deleting_since: deleting.then_some(Timestamp::UNIX_EPOCH),
            claim: Claim::Claimed,
        }
    }

    #[test]
    fn each_situation_has_one_next_step() {
        let there = || SeenDisk::There(2 << 30);
        let (smaller, larger) = (|| SeenDisk::There(1 << 30), || SeenDisk::There(3 << 30));
        let damaged = || SeenDisk::Damaged("it is not qcow2".to_owned());
        #[rustfmt::skip]
        let cases = [
            // deleting, made,  anything there, disk,              step
            (false,      false, false,          SeenDisk::Missing, "make_volume"),
            // A crash came between the directory and the disk.
            (false,      false, true,           SeenDisk::Missing, "make_volume"),
            (false,      false, true,           there(),           "Settle"),
            (false,      true,  true,           there(),           "Rest"),
            // It never shrinks: only the record may be behind.
            (false,      true,  true,           smaller(),         "grow_volume"),
            (false,      true,  true,           larger(),          "Rest"),
            (true,       true,  true,           smaller(),         "remove_volume"),
            (false,      true,  true,           damaged(),         "Damaged(\"it is not qcow2\")"),
            (false,      true,  true,           SeenDisk::Missing, "Lost"),
            (false,      true,  false,          SeenDisk::Missing, "Lost"),
            (true,       true,  true,           there(),           "remove_volume"),
            (true,       true,  true,           damaged(),         "remove_volume"),
            (true,       true,  true,           SeenDisk::Missing, "remove_volume"),
            (true,       true,  false,          SeenDisk::Missing, "Forget"),
            (true,       false, false,          SeenDisk::Missing, "Forget"),
        ];
        for (deleting, made, there, disk, want) in cases {
            let pools = there.then(PoolName::standard).into_iter().collect();
            let seen = SeenVolume { pools, disk };
            let step = plan_volume(&record(deleting), made, &seen, None, &[]);
            // Nobody is asked for a guest that would change nothing.
            let instance_id = InstanceId::from_random([1; 9]);
            let user = VolumeUser { instance_id, guest: GuestState::Running { epoch: 1 } };
            let with_user = plan_volume(&record(deleting), made, &seen, Some(&user), &[]);
            assert!(step == with_user || needs_user(&record(deleting), &seen, &[]), "{seen:?}");
            let step = match step {
                VolumeStep::Do(action) => action.name().to_owned(),
                other => format!("{other:?}"),
            };
            assert_eq!(step, want, "{seen:?} made: {made} deleting: {deleting}");
        }
    }

    #[test]
    fn a_pending_snapshot_comes_before_the_end_and_before_growth() {
        let pending = [PendingSeal {
            snapshot_id: SnapshotId::from_random([1; 9]),
            layer: weft_model::LayerId::from_random([1; 9]),
            taking: weft_model::Taking::AsItIs,
        }];
        let user = |guest| Some(VolumeUser { instance_id: InstanceId::from_random([1; 9]), guest });
        let there = || SeenDisk::There(1 << 30);
        let damaged = || SeenDisk::Damaged("it is not qcow2".to_owned());
        let running = || user(GuestState::Running { epoch: 1 });
        let saving = || GuestState::Saving { epoch: 1, saving: Saving::UnderWay };
        #[rustfmt::skip]
        let cases = [
            // deleting, made,  disk,              attached to,                            step
            (false,      true,  there(),           None,                                   "seal_volume 1 GiB"),
            (false,      true,  there(),           running(),                              "seal_volume 1 GiB"),
            (false,      true,  there(),           user(GuestState::Absent),               "seal_volume 1 GiB"),
            (false,      true,  there(),           user(saving()),                         "Await"),
            (false,      true,  there(),           user(GuestState::Loading { epoch: 1 }), "Await"),
            (false,      true,  there(),           user(GuestState::Loaded { epoch: 1 }),  "Await"),
            (true,       true,  there(),           None,                                   "seal_volume 1 GiB"),
            (false,      false, SeenDisk::Missing, None,                                   "make_volume"),
            (false,      false, there(),           None,                                   "Settle"),
            (false,      true,  SeenDisk::Missing, None,                                   "missing"),
            (true,       false, SeenDisk::Missing, None,                                   "missing"),
            (false,      true,  damaged(),         None,                                   "damaged: it is not qcow2"),
        ];
        for (deleting, made, disk, user, want) in cases {
            let seen = SeenVolume { pools: vec![PoolName::standard()], disk };
            let step = plan_volume(&record(deleting), made, &seen, user.as_ref(), &pending);
            let shown = match step {
                VolumeStep::Do(action) => action.name().to_owned(),
                VolumeStep::Seal(_, action) => match *action {
                    Action::SealVolume { size_bytes, ref instance_id, .. } => {
                        assert_eq!(instance_id.is_some(), user.is_some());
                        format!("{} {} GiB", action.name(), size_bytes >> 30)
                    }
                    other => format!("{other:?}"),
                },
                other => format!("{other:?}"),
            };
            assert!(shown.contains(want), "{shown}: {seen:?} {user:?} deleting: {deleting}");
        }
    }
}
