//! A reconciler over a simulated host, with no loop running.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weft_model::{HostId, Problem};
use weft_store::Txn;

use crate::cache::Cache;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Directories};
use crate::host::pools::Pools;
use crate::host::{Host, sim::SimHost};
use crate::ledger::Ledger;
use crate::metering::Metering;
use crate::reconcile::{Loaded, Merges, Reconciler};
use crate::repo::{Kind, RecordOf, encode, object_key};
use crate::testing::repo;
use crate::volume_keys::VolumeKeys;

pub(crate) struct Simulation {
    pub(crate) host: Arc<SimHost>,
    pub(crate) reconciler: Arc<Reconciler>,
    following: JoinHandle<Result<(), Problem>>,
}

impl Drop for Simulation {
    fn drop(&mut self) {
        self.following.abort();
    }
}

impl Simulation {
    /// One that knows of nothing, in an empty directory.
    pub(crate) async fn begin(dir: &Path) -> Self {
        let repo = repo(dir);
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
        Self { host, reconciler, following }
    }

    /// Stores a record, whatever there was.
    pub(crate) async fn put<K: Kind>(&self, record: &RecordOf<K>) {
        let txn = Txn::new().put(object_key::<K>(&record.id), encode(record));
        let revision = self.reconciler.repo.commit(txn).await.unwrap();
        self.reconciler.cache.reached(revision).await;
    }
}
