//! What holds up what, on the simulated host.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use weft_model::{PoolName, SnapshotSource, Tags, Timestamp, VolumeSpec};
use weft_planner::GuestState;

use super::*;
use crate::host::Host as _;
use crate::repo::object_key;
use crate::testing::{self, Simulation};

fn layers(numbers: std::ops::Range<u8>) -> Vec<LayerId> {
    numbers.map(|n| LayerId::from_random([n; 9])).collect()
}

/// A volume that was sealed into these layers.
async fn volume(simulation: &Simulation, n: u8, layers: &[LayerId]) -> VolumeId {
    let (volume_id, pool, size_bytes) = (VolumeId::from_random([n; 9]), PoolName::standard(), 1);
    let make = Action::MakeVolume {
        volume_id: volume_id.clone(),
        pool: pool.clone(),
        size_bytes,
        below: Default::default(),
        secret: None,
    };
    simulation.host.apply(&make).await.unwrap();
    for layer in layers {
        let seal = Action::SealVolume {
            volume_id: volume_id.clone(),
            pool: pool.clone(),
            layer: layer.clone(),
            size_bytes,
            instance_id: None,
            secret: None,
            freeze: false,
        };
        simulation.host.apply(&seal).await.unwrap();
    }
    let spec = VolumeSpec {
        name: None,
        size_gib: 1,
        volume_type: pool,
        source: None,
        base: None,
        layers: layers.to_vec(),
        limits: Default::default(),
        secret: None,
    };
    simulation.put::<Volumes>(&testing::record(volume_id.clone(), spec)).await;
    volume_id
}

/// A snapshot that ends with the last of these layers.
async fn snapshot(simulation: &Simulation, n: u8, of: &VolumeId, layers: &[LayerId]) -> SnapshotId {
    let id = SnapshotId::from_random([n; 9]);
    let spec = testing::snapshot(
        SnapshotSource::Volume(of.clone()),
        layers.last().unwrap().clone(),
        SnapshotState::Completed { layers: layers.to_vec(), at: Timestamp::UNIX_EPOCH },
    );
    simulation.put::<Snapshots>(&testing::record(id.clone(), spec)).await;
    id
}

fn orders(dir: &Path, orders: &str) {
    std::fs::write(dir.join("sim-orders.json"), orders).unwrap();
}

#[tokio::test]
async fn a_merge_that_cannot_be_written_holds_up_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let simulation = Simulation::begin(dir.path()).await;
    let (one, other) = (layers(1..9), layers(11..19));
    volume(&simulation, 1, &one).await;
    volume(&simulation, 2, &other).await;
    orders(
        dir.path(),
        r#"{"orders": [{"step": "merge_layers", "fail": "a sector is bad", "times": 1}]}"#,
    );
    let reconciler = &simulation.reconciler;
    look(reconciler).await.unwrap();
    let candidates = [one, other].map(|chain| reconciler.merges.candidates(&chain, None));
    let written: Vec<usize> = candidates.iter().map(|it| it.written.len()).collect();
    assert_eq!(written.iter().sum::<usize>(), 1, "{candidates:?}");
    assert_eq!(candidates.iter().filter(|it| it.more).count(), 1, "{candidates:?}");
    let why: Vec<_> = reconciler.merges.troubles().into_iter().map(|it| it.why).collect();
    assert_eq!(why, ["a sector is bad"]);
    // It pauses, whatever has it looked at.
    look(reconciler).await.unwrap();
    assert_eq!(reconciler.merges.troubles().len(), 1);
}

#[tokio::test]
async fn a_guest_that_went_over_to_one_of_two_before_its_record_did_has_both_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let simulation = Simulation::begin(dir.path()).await;
    let all = layers(1..17);
    let id = volume(&simulation, 1, &all).await;
    // What ends between them keeps them two.
    snapshot(&simulation, 1, &id, &all[..8]).await;
    let reconciler = &simulation.reconciler;
    look(reconciler).await.unwrap();
    let both = reconciler.merges.candidates(&all, None).written;
    assert_eq!(both.len(), 2);
    // The agent died then. The next one tries the other first.
    let action = Action::UseMergedVolume {
        volume_id: id.clone(),
        base: false,
        layers: all.clone(),
        merge: both[1].clone(),
        instance_id: None,
    };
    simulation.host.apply(&action).await.unwrap();
    let instance = InstanceId::from_random([1; 9]);
    let guest = GuestState::Running { epoch: 1 };
    for left in [9, 2] {
        let record = reconciler.repo.get::<Volumes>(&id).await.unwrap().value;
        let merged = reconciler.merge_volume(&record, Some((&instance, &guest))).await;
        assert!(merged.unwrap(), "until {left} are left");
        let record = reconciler.repo.get::<Volumes>(&id).await.unwrap().value;
        assert_eq!(record.spec.layers.len(), left);
    }
    let merged: BTreeSet<LayerId> = both.into_iter().map(|merge| merge.merged).collect();
    let record = reconciler.repo.get::<Volumes>(&id).await.unwrap().value;
    assert_eq!(record.spec.layers.into_iter().collect::<BTreeSet<_>>(), merged);
}

#[tokio::test]
async fn a_snapshot_that_somebody_changes_goes_over_when_that_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let simulation = Simulation::begin(dir.path()).await;
    let all = layers(1..9);
    let of = volume(&simulation, 1, &all).await;
    let id = snapshot(&simulation, 1, &of, &all).await;
    let reconciler = &simulation.reconciler;
    let turn = reconciler.turns.object(id.as_str()).await;
    let before = reconciler.repo.get::<Snapshots>(&id).await.unwrap();
    let looks = Arc::clone(reconciler);
    let looking = tokio::spawn(async move { look(&looks).await });
    while reconciler.merges.candidates(&all, None).written.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // It has every chance to be faster.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut changed = before.value;
    changed.tags = Tags::parse([("backup".to_owned(), "daily".to_owned())]).unwrap();
    let key = object_key::<Snapshots>(&id);
    let txn = Txn::new().when_at(&key, before.revision).put(&key, encode(&changed));
    let revision = reconciler.repo.commit(txn).await.unwrap();
    reconciler.cache.reached(revision).await;
    drop(turn);
    looking.await.unwrap().unwrap();
    let after = reconciler.repo.get::<Snapshots>(&id).await.unwrap().value;
    assert_eq!(after.spec.layers().len(), 1);
    assert_eq!(after.tags, changed.tags);
}
