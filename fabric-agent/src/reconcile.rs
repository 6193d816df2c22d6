//! Makes the host equal to the store: one loop for instances and one for volumes, each working on
//! several at a time, one for all networks, one for meters, one for what nothing refers to any more.
//!
//! Level-triggered: a change of the store, a hint of the host, a timer only say "look". What is
//! done follows from comparing what should be with what is, see `weft-planner`.

mod blobs;
mod desired;
mod hands;
mod instance;
mod layers;
mod merges;
mod network;
mod noted;
mod probe;
mod queue;
mod said;
mod seals;
mod sha512;
mod volumes;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::RwLock;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weft_model::{
    AttachmentId, InstanceId, InstanceStatus, InterfaceId, SnapshotId, SnapshotSource, Throttles,
    VolumeAttachmentId, VolumeId,
};
use weft_planner::SeenSize;

use crate::cache::{Cache, STATUS_KIND};
use crate::captures::Captures;
use crate::clock::Clock;
use crate::config::Config;
use crate::events::Events;
use crate::host::{Host, SshSeen};
use crate::ledger::Ledger;
use crate::metering::Metering;
use crate::monitoring::AgentFigures;
use crate::repo::{Attachments, Instances, Kind, Repo, Snapshots, VolumeAttachments};
use crate::services::NetworkServices;
use crate::turns::Turns;

pub(crate) use blobs::{Pins, digests};
pub(crate) use desired::firewall_of;
pub(crate) use instance::Plugged;
pub(crate) use merges::Merges;
use network::Networks;
use noted::Noted;
use queue::WorkQueue;
pub(crate) use said::{Asked, Saying};
pub(crate) use volumes::Condition as VolumeCondition;

/// Instances that are worked on at the same time. Starting one is mostly waiting for processes.
const PLACES: usize = 16;

/// What a pass over an instance needs to remember between two passes.
#[derive(Debug, Default)]
struct Transient {
    /// The guest has been asked to shut down.
    shutdown: Option<Shutdown>,
    /// The prober of this epoch runs.
    probing: Option<u64>,
    /// Whether a pass has found the guest running: the first one that does adopts it.
    known: bool,
    /// Since when nothing wants it.
    unwanted_since: Option<tokio::time::Instant>,
    /// When the guest of this epoch was seen answering on SSH.
    ssh_ready: Option<(u64, weft_model::Timestamp)>,
    /// Why the guest could not be hibernated when that was asked for last.
    not_hibernated: Option<String>,
    /// What the prober saw last.
    last_probe: Option<SshSeen>,
    /// What there is of the root disk, in bytes, as it was seen last.
    root_bytes: Option<u64>,
    /// What the guest of this epoch asked the network's services for, and said.
    said: said::Said,
}

/// How a guest has been asked to shut down.
#[derive(Clone, Copy, Debug)]
struct Shutdown {
    /// The launch of the guest.
    epoch: u64,
    /// When it was asked first.
    since: tokio::time::Instant,
    /// When it was asked last.
    asked: tokio::time::Instant,
}

/// What an agent finds in its store when it starts.
pub(crate) struct Loaded {
    pub(crate) cache: Arc<Cache>,
    pub(crate) ledger: Ledger,
    pub(crate) metering: Metering,
    pub(crate) merges: Merges,
}

/// The reconcile loops and what they share.
#[derive(Debug)]
pub(crate) struct Reconciler {
    pub(crate) repo: Repo,
    pub(crate) cache: Arc<Cache>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ledger: Ledger,
    pub(crate) metering: Metering,
    /// What this agent does, counted.
    pub(crate) figures: Arc<AgentFigures>,
    pub(crate) networks: network::Networks,
    pub(crate) pins: Pins,
    pub(crate) captures: Captures,
    pub(crate) merges: Merges,
    /// Held for reading while references are made, for writing while what may be referred to is
    /// deleted or becomes another one: nobody ends up referring to something that is gone.
    pub(crate) references: Arc<RwLock<()>>,
    pub(crate) turns: Turns,
    pub(crate) services: NetworkServices,
    pub(crate) events: Events,
    pub(crate) volumes: volumes::Volumes,
    /// Which interfaces guests have.
    pub(crate) plugged: Plugged<InterfaceId>,
    /// Which volumes.
    pub(crate) plugged_volumes: Plugged<VolumeId>,
    /// What the disks of guests that run are kept to.
    pub(crate) throttled: Noted<InstanceId, Throttles>,
    /// How big guests that run are.
    pub(crate) sized: Noted<InstanceId, SeenSize>,
    config: Config,
    queue: WorkQueue<InstanceId>,
    /// The agent is the only writer of statuses; this is newer than the cache.
    statuses: Mutex<HashMap<InstanceId, InstanceStatus>>,
    transients: Mutex<HashMap<InstanceId, Transient>>,
}

impl Reconciler {
    pub(crate) fn new(
        repo: Repo,
        loaded: Loaded,
        host: Arc<dyn Host>,
        clock: Arc<dyn Clock>,
        config: Config,
    ) -> Self {
        let Loaded { cache, ledger, metering, merges } = loaded;
        let networks = Networks::new();
        let events = Events::new(repo.clone(), Arc::clone(&clock));
        let statuses = cache
            .read()
            .statuses
            .iter()
            .map(|(id, status)| (id.clone(), InstanceStatus::clone(status)))
            .collect();
        Self {
            repo,
            cache,
            host,
            clock,
            ledger,
            metering,
            figures: Arc::default(),
            networks,
            pins: Pins::default(),
            captures: Captures::default(),
            merges,
            references: Arc::default(),
            turns: Turns::new(),
            services: NetworkServices::default(),
            events,
            volumes: volumes::Volumes::default(),
            plugged: Plugged::default(),
            plugged_volumes: Plugged::default(),
            throttled: Noted::default(),
            sized: Noted::default(),
            config,
            queue: WorkQueue::new(),
            statuses: Mutex::new(statuses),
            transients: Mutex::default(),
        }
    }

    /// Runs until `shutdown`. A step under way is finished; guests are left alone.
    pub(crate) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut tasks = JoinSet::new();
        let networks = Arc::clone(&self);
        let token = shutdown.clone();
        tasks.spawn(async move { network::run(&networks, token).await });
        let triggers = Arc::clone(&self);
        let token = shutdown.clone();
        tasks.spawn(async move { triggers.pull_triggers(token).await });
        let instances = Arc::clone(&self);
        let token = shutdown.clone();
        tasks.spawn(async move {
            let queue = instances.queue.clone();
            queue.run(PLACES, token, |id| instance::pass(Arc::clone(&instances), id)).await;
        });
        let (disks, token) = (Arc::clone(&self), shutdown.clone());
        tasks.spawn(async move { volumes::run(&disks, token).await });
        let (merging, token) = (Arc::clone(&self), shutdown.clone());
        tasks.spawn(async move { merges::run(&merging, token).await });
        let blobs = Arc::clone(&self);
        let (meters, token) = (Arc::clone(&self), shutdown.clone());
        tasks.spawn(async move { crate::metering::run(&meters, token).await });
        tasks.spawn(async move { blobs::run(&blobs, shutdown).await });
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }

    /// Turns changes of the store, hints of the host and time into work.
    async fn pull_triggers(&self, shutdown: CancellationToken) {
        let (mut changes, mut hints) = (self.cache.changes(), self.host.hints());
        self.look_at_everything().await;
        let mut resync = tokio::time::interval(self.config.resync);
        resync.tick().await;
        loop {
            // Every arm is cancel safe.
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = resync.tick() => {
                    self.networks.forget_seen();
                    self.look_at_everything().await;
                }
                change = changes.recv() => match change {
                    Ok(change) if change.kind == Instances::NAME => {
                        if let Ok(id) = change.id.parse() {
                            self.queue.add(id);
                        }
                    }
                    Ok(change) if change.kind == STATUS_KIND => {
                        let is_off = |id: InstanceId| {
                            let world = self.cache.read();
                            world.statuses.get(&id).is_some_and(|status| status.state.is_off())
                        };
                        // What has been switched off gives its link back.
                        if change.id.parse().is_ok_and(is_off) {
                            self.networks.look();
                        }
                    }
                    Ok(change) if change.kind == VolumeAttachments::NAME => {
                        if let Ok(id) = change.id.parse::<VolumeAttachmentId>() {
                            self.queue.add(id.first().clone());
                            self.volumes.look_at(id.second().clone());
                        }
                    }
                    Ok(change) if change.kind == Attachments::NAME => {
                        if let Ok(id) = change.id.parse::<AttachmentId>() {
                            self.queue.add(id.first().clone());
                        }
                        self.networks.look();
                    }
                    Ok(change) if change.kind == Snapshots::NAME => {
                        if let Ok(id) = change.id.parse() {
                            self.look_at_source_of(&id);
                        }
                    }
                    Ok(change) if change.kind == crate::repo::Volumes::NAME => {
                        if let Ok(id) = change.id.parse() {
                            self.volumes.look_at(id);
                        }
                    }
                    Ok(_) => self.networks.look(),
                    Err(RecvError::Lagged(_)) => self.look_at_everything().await,
                    Err(RecvError::Closed) => return,
                },
                hint = hints.recv() => match hint {
                    Ok(id) => self.queue.add(id),
                    Err(RecvError::Lagged(_)) => self.look_at_everything().await,
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }

    /// Has looked at whatever a snapshot is to be made of.
    fn look_at_source_of(&self, id: &SnapshotId) {
        let snapshot = self.cache.read().snapshots.get(id).cloned();
        match snapshot.map(|record| record.spec.source.clone()) {
            Some(SnapshotSource::RootDisk(id)) => self.queue.add(id),
            Some(SnapshotSource::Volume(id)) => self.volumes.look_at(id),
            None => {}
        }
    }

    /// Everything that the store wants and everything that the host has.
    async fn look_at_everything(&self) {
        let mut ids: BTreeSet<InstanceId> = self.cache.read().instances.keys().cloned().collect();
        match self.host.observe_guests().await {
            Ok(seen) => ids.extend(seen),
            Err(error) => {
                tracing::warn!(error = %crate::error_chain::ErrorChain(&error), "cannot list the host's guests");
            }
        }
        ids.into_iter().for_each(|id| self.queue.add(id));
        volumes::look_at_all(self).await;
        self.networks.look();
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Has an instance looked at now.
    pub(crate) fn look_at(&self, id: &InstanceId) {
        self.queue.add(id.clone());
    }

    /// What the SSH prober saw last of an instance that it has not seen ready.
    pub(crate) fn last_probe(&self, id: &InstanceId) -> Option<SshSeen> {
        self.transients().get(id).and_then(|transient| transient.last_probe.clone())
    }

    fn transients(&self) -> MutexGuard<'_, HashMap<InstanceId, Transient>> {
        self.transients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn statuses(&self) -> MutexGuard<'_, HashMap<InstanceId, InstanceStatus>> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest status of an instance.
    fn status(&self, id: &InstanceId) -> InstanceStatus {
        if let Some(status) = self.statuses().get(id) {
            return status.clone();
        }
        let cached = self.cache.read().statuses.get(id).cloned();
        cached.map_or_else(
            || InstanceStatus::accepted(self.clock.now()),
            |status| InstanceStatus::clone(&status),
        )
    }
}
