//! What passes ask the host for, counted on the simulated one.

use std::path::Path;
use std::sync::atomic::Ordering;

use weft_model::{
    HostId, InstanceId, PowerState, SnapshotId, SnapshotSource, SnapshotSpec, SnapshotState,
    VolumeAttachmentId, VolumeAttachmentSpec,
};
use weft_planner::Action;
use weft_store::{SqliteOptions, SqliteStore};

use super::*;
use crate::cache::Cache;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Directories};
use crate::host::pools::Pools;
use crate::host::{Host, sim::SimHost};
use crate::ledger::Ledger;
use crate::metering::Metering;
use crate::reconcile::{Loaded, Merges, instance};
use crate::repo::{Instances, Kind, RecordOf, Repo, Snapshots, VolumeAttachments, encode};
use crate::testing;
use crate::volume_keys::VolumeKeys;

/// An instance that is off, with a root disk; a volume is attached to it.
struct Scene {
    host: Arc<SimHost>,
    reconciler: Arc<Reconciler>,
    instance: InstanceId,
    volume: VolumeId,
    following: tokio::task::JoinHandle<Result<(), Problem>>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.following.abort();
    }
}

impl Scene {
    async fn begin(dir: &Path) -> Self {
        let store = SqliteStore::open(&dir.join("db"), SqliteOptions::default()).unwrap();
        let repo = Repo::new(Arc::new(store));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::of_this_boot().unwrap());
        let directories = Directories {
            state_dir: dir.to_owned(),
            runtime_dir: dir.join("run"),
            prefix: "weft".to_owned(),
        };
        let host_id = HostId::from_random([1; 9]);
        let pools = Pools::of(&directories, &[], &host_id).unwrap();
        let name = "host".to_owned();
        let images = dir.join("images");
        let opened = SimHost::open(
            dir,
            &images,
            (pools, VolumeKeys::default()),
            name,
            4,
            4096,
            Arc::clone(&clock),
        );
        let host = Arc::new(opened.await.unwrap());
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
        let cache = Arc::new(Cache::load(&repo).await.unwrap());
        let (followed, seen) = (Arc::clone(&cache), repo.clone());
        let following =
            tokio::spawn(async move { followed.follow(&seen, CancellationToken::new()).await });
        let config = Config {
            prefix: "weft".to_owned(),
            shutdown_grace: Duration::ZERO,
            sweep_grace: Duration::ZERO,
            resync: Duration::from_secs(60),
            guest_access: Default::default(),
        };
        let metering = Metering::new(repo.clone(), Arc::clone(&clock), None);
        let ledger = Ledger::new(4096, [], [], |_| 0);
        let shown: Arc<dyn Host> = Arc::<SimHost>::clone(&host);
        let merges = Merges::default();
        let loaded = Loaded { cache, ledger, metering, merges };
        let reconciler = Arc::new(Reconciler::new(repo, loaded, shown, clock, config));
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
        let scene = Self { host, reconciler, instance: instance_id, volume: volume_id, following };
        scene.put::<Instances>(&instance).await;
        scene.put::<VolumeKind>(&volume).await;
        scene.put::<VolumeAttachments>(&attachment).await;
        // Whatever there is to do at first.
        scene.volume_pass().await;
        scene.instance_pass().await;
        scene
    }

    async fn put<K: Kind>(&self, record: &RecordOf<K>) {
        let txn = Txn::new().put(object_key::<K>(&record.id), encode(record));
        let revision = self.reconciler.repo.commit(txn).await.unwrap();
        self.reconciler.cache.reached(revision).await;
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
        let spec = SnapshotSpec {
            source,
            description: String::new(),
            layer: weft_model::LayerId::from_random([n; 9]),
            size_bytes: 1,
            base: None,
            boots: None,
            between_guests: false,
            consistency: Default::default(),
            had_guest: false,
            for_image: None,
            secret: None,
            state: SnapshotState::Pending,
        };
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
