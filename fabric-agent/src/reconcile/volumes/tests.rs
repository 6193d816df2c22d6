//! What passes ask the host for, counted on the simulated one.

use std::path::Path;
use std::sync::atomic::Ordering;

use weft_model::{
    InstanceId, PowerState, SnapshotId, SnapshotSource, SnapshotState, VolumeAttachmentId,
    VolumeAttachmentSpec,
};
use weft_planner::Action;

use super::*;
use crate::host::{Host, sim::SimHost};
use crate::reconcile::instance;
use crate::repo::{Instances, Kind, RecordOf, Snapshots, VolumeAttachments};
use crate::testing::{self, Simulation};

/// An instance that is off, with a root disk; a volume is attached to it.
struct Scene {
    simulation: Simulation,
    host: Arc<SimHost>,
    reconciler: Arc<Reconciler>,
    instance: InstanceId,
    volume: VolumeId,
}

impl Scene {
    async fn begin(dir: &Path) -> Self {
        let simulation = Simulation::begin(dir).await;
        let (host, reconciler) = (Arc::clone(&simulation.host), Arc::clone(&simulation.reconciler));
        let mut instance = testing::instance(1, 1, None);
        instance.spec.power = PowerState::Stopped;
        let volume = testing::record(
            VolumeId::from_random([1; 9]),
            VolumeSpec {
                name: None,
                size_gib: 1,
                volume_type: weft_model::PoolName::standard(),
                source: None,
                base: None,
                layers: Vec::new(),
                limits: Default::default(),
                secret: None,
            },
        );
        let attachment = testing::record(
            VolumeAttachmentId::new(instance.id.clone(), volume.id.clone()),
            VolumeAttachmentSpec {
                instance_id: instance.id.clone(),
                volume_id: volume.id.clone(),
                place: 1,
                delete_on_termination: false,
            },
        );
        let (instance_id, volume_id) = (instance.id.clone(), volume.id.clone());
        let make = Action::MakeRootDisk {
            instance_id: instance_id.clone(),
            name: None,
            disk: instance.spec.image.disk,
            format: instance.spec.image.format,
            size_bytes: instance.spec.root_size_bytes(),
            uid: instance.spec.uid,
        };
        host.apply(&make).await.unwrap();
        let scene = Self { simulation, host, reconciler, instance: instance_id, volume: volume_id };
        scene.put::<Instances>(&instance).await;
        scene.put::<VolumeKind>(&volume).await;
        scene.put::<VolumeAttachments>(&attachment).await;
        // Whatever there is to do at first.
        scene.volume_pass().await;
        scene.instance_pass().await;
        scene
    }

    async fn put<K: Kind>(&self, record: &RecordOf<K>) {
        self.simulation.put::<K>(record).await;
    }

    /// How often the host was asked in one pass over the volume: for a guest.
    async fn volume_pass(&self) -> usize {
        let before = self.host.asked.guest.load(Ordering::Relaxed);
        pass(Arc::clone(&self.reconciler), self.volume.clone()).await;
        self.host.asked.guest.load(Ordering::Relaxed) - before
    }

    /// How often in one over the instance: for the root disk's size.
    async fn instance_pass(&self) -> usize {
        let before = self.host.asked.root_disk.load(Ordering::Relaxed);
        instance::pass(Arc::clone(&self.reconciler), self.instance.clone()).await;
        self.host.asked.root_disk.load(Ordering::Relaxed) - before
    }

    async fn ask_for_a_snapshot(&self, n: u8, source: SnapshotSource) {
        let spec = testing::snapshot(
            source,
            weft_model::LayerId::from_random([n; 9]),
            SnapshotState::Pending,
        );
        self.put::<Snapshots>(&testing::record(SnapshotId::from_random([n; 9]), spec)).await;
    }

    fn condition(&self) -> Option<Condition> {
        self.reconciler.volumes.condition(&self.volume)
    }
}

fn made_of(gib: u64) -> Option<Condition> {
    Some(Condition::Made { bytes: gib << 30, trouble: None })
}

#[tokio::test]
async fn a_quiet_pass_over_an_attached_volume_asks_for_no_guest() {
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::begin(dir.path()).await;
    assert_eq!(scene.condition(), made_of(1));
    assert_eq!(scene.volume_pass().await, 0);

    // Who has it matters to a snapshot, and to growth; and then no more.
    scene.ask_for_a_snapshot(1, SnapshotSource::Volume(scene.volume.clone())).await;
    assert!(scene.volume_pass().await > 0);
    assert_eq!(scene.volume_pass().await, 0);
    let grow = scene.reconciler.repo.get::<VolumeKind>(&scene.volume).await.unwrap();
    let mut grown = grow.value;
    grown.spec.size_gib = 2;
    scene.put::<VolumeKind>(&grown).await;
    assert!(scene.volume_pass().await > 0);
    assert_eq!(scene.condition(), made_of(2));
    assert_eq!(scene.volume_pass().await, 0);
}

#[tokio::test]
async fn a_quiet_pass_over_an_instance_does_not_read_its_root_disk() {
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::begin(dir.path()).await;
    assert_eq!(scene.instance_pass().await, 0);

    scene.ask_for_a_snapshot(1, SnapshotSource::RootDisk(scene.instance.clone())).await;
    assert!(scene.instance_pass().await > 0);
    assert_eq!(scene.instance_pass().await, 0);
    let mut grown = scene.reconciler.repo.get::<Instances>(&scene.instance).await.unwrap().value;
    grown.spec.root_size_gib = Some(1);
    scene.put::<Instances>(&grown).await;
    assert!(scene.instance_pass().await > 0);
    assert_eq!(scene.host.root_disk_bytes(&scene.instance).await, Some(1 << 30));
    assert_eq!(scene.instance_pass().await, 0);
}
