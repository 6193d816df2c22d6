//! One volume: from what the host has of it to what is wanted.

use weft_model::{InstanceId, PoolName, Record, VolumeId, VolumeSpec};

use crate::Action;

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

/// The next step from `seen` to what is wanted. `made` says whether it ever had a disk, `running` is
/// the instance whose guest runs and has it.
pub fn plan_volume(
    record: &Record<VolumeId, VolumeSpec>,
    made: bool,
    seen: &SeenVolume,
    running: Option<&InstanceId>,
) -> VolumeStep {
    if record.deleting_since.is_some() {
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
            base: record.spec.base.clone(),
            layers: record.spec.layers.clone(),
        })),
        (SeenDisk::There(_), false) => VolumeStep::Settle,
        (SeenDisk::There(bytes), true) if *bytes < record.spec.size_bytes() => {
            VolumeStep::Do(Box::new(Action::GrowVolume {
                volume_id: record.id.clone(),
                pool: record.spec.volume_type.clone(),
                size_bytes: record.spec.size_bytes(),
                instance_id: running.cloned(),
            }))
        }
        (SeenDisk::There(_), true) => VolumeStep::Rest,
    }
}

/// What removes a volume, also one that no record knows.
pub fn remove(id: &VolumeId, pool: &PoolName) -> Action {
    Action::RemoveVolume { volume_id: id.clone(), pool: pool.clone() }
}

#[cfg(test)]
mod tests {
    use weft_model::{Claim, Tags, Timestamp};

    use super::*;

    fn record(deleting: bool) -> Record<VolumeId, VolumeSpec> {
        Record {
            id: VolumeId::from_random([1; 9]),
            generation: 1,
            spec: VolumeSpec {
                name: None,
                size_gib: 2,
                volume_type: PoolName::standard(),
                base: None,
                layers: Vec::new(),
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
            let step = match plan_volume(&record(deleting), made, &seen, None) {
                VolumeStep::Do(action) => action.name().to_owned(),
                other => format!("{other:?}"),
            };
            assert_eq!(step, want, "{seen:?} made: {made} deleting: {deleting}");
        }
    }
}
