//! Volumes: their disks are made after their records, and go before them; their snapshots are made
//! here.
//!
//! What guests have of a volume is not decided here but with the instance, see
//! [`super::instance`]: a volume is removed only when it is attached to none.

mod seal;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weft_model::{Problem, Record, VolumeId, VolumeSpec, VolumeState};
use weft_planner::{SeenDisk, VolumeStep, needs_user, plan_volume, remove_volume};
use weft_store::Txn;

use super::Reconciler;
use super::hands::Hands;
use super::noted::Noted;
use super::queue::{Next, WorkQueue};
use super::seals::{Outcome, carry_out};
use crate::error_chain::ErrorChain;
use crate::host::HostError;
use crate::repo::{Kind as _, Volumes as VolumeKind, object_key, volume_status_key};

type VolumeRecord = Record<VolumeId, VolumeSpec>;

/// Volumes that are worked on at the same time: making one is waiting for a process.
const PLACES: usize = 4;
/// Steps of one pass: a plan that does not converge must not spin.
const MAX_STEPS: usize = 8;

/// Between two looks at a volume that an instance's pass works on.
const BUSY_POLL: Duration = Duration::from_millis(20);
/// The same where its guest's memory is being written or read.
const AWAY_POLL: Duration = Duration::from_millis(500);

/// What the last pass found of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Its disk is there.
    Made {
        /// Its size as a guest sees it.
        bytes: u64,
        /// What cannot be done with it now, and is tried again.
        trouble: Option<String>,
    },
    /// There is no disk that a guest could be given, and why; most failures are tried again by
    /// themselves.
    Failed(String),
}

impl Condition {
    /// What is wrong, or awaited.
    pub(crate) fn why(&self) -> Option<&str> {
        match self {
            Self::Made { trouble, .. } => trouble.as_deref(),
            Self::Failed(why) => Some(why),
        }
    }
}

/// What the loop knows, for those who wait or ask.
#[derive(Debug)]
pub(crate) struct Volumes {
    queue: WorkQueue<VolumeId>,
    /// Who works on which disks: a pass of a volume, or of the instance that it is attached to.
    pub(super) hands: Hands,
    conditions: Noted<VolumeId, Condition>,
    /// Since when the store has not known them.
    unwanted: Mutex<HashMap<VolumeId, Instant>>,
}

impl Default for Volumes {
    fn default() -> Self {
        Self {
            queue: WorkQueue::new(),
            hands: Hands::default(),
            conditions: Noted::default(),
            unwanted: Mutex::default(),
        }
    }
}

impl Volumes {
    /// Has a volume looked at now.
    pub(crate) fn look_at(&self, id: VolumeId) {
        self.queue.add(id);
    }

    pub(crate) fn condition(&self, id: &VolumeId) -> Option<Condition> {
        self.conditions.get(id)
    }

    /// Where the volume is in its life, and why.
    pub(crate) fn state(
        &self,
        record: &VolumeRecord,
        attached: bool,
    ) -> (VolumeState, Option<String>) {
        let condition = self.condition(&record.id);
        let state = match &condition {
            _ if record.deleting_since.is_some() => VolumeState::Deleting,
            Some(Condition::Failed(_)) => VolumeState::Error,
            Some(Condition::Made { .. }) if attached => VolumeState::InUse,
            Some(Condition::Made { .. }) => VolumeState::Available,
            None => VolumeState::Creating,
        };
        (state, condition.and_then(|it| it.why().map(str::to_owned)))
    }

    /// Returns when a pass has found the volume made, or unable to be.
    pub(crate) async fn looked_at(&self, id: &VolumeId) {
        self.conditions.until(id, |_| true).await;
    }

    /// Returns when a pass has found it to have so many bytes, or unable to.
    pub(crate) async fn grown(&self, id: &VolumeId, bytes: u64) {
        let is_done = |condition: &Condition| match condition {
            Condition::Made { bytes: has, trouble } => *has >= bytes || trouble.is_some(),
            Condition::Failed(_) => true,
        };
        self.conditions.until(id, is_done).await;
    }
}

pub(super) async fn run(reconciler: &Arc<Reconciler>, shutdown: CancellationToken) {
    let queue = reconciler.volumes.queue.clone();
    queue.run(PLACES, shutdown, |id| pass(Arc::clone(reconciler), id)).await;
}

/// Everything that the store wants and everything that the host has.
pub(super) async fn look_at_all(reconciler: &Reconciler) {
    let known: Vec<VolumeId> = reconciler.cache.read().volumes.keys().cloned().collect();
    known.into_iter().for_each(|id| reconciler.volumes.look_at(id));
    match reconciler.host.observe_volumes().await {
        Ok(seen) => seen.into_iter().for_each(|id| reconciler.volumes.look_at(id)),
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "cannot list the host's volumes");
        }
    }
}

/// How a pass ended.
enum Rest {
    /// As it is wanted: what there is of the volume, if it is not forgotten.
    As(Option<Condition>),
    /// Look again after this time: the record is another one now, or something has to end first.
    Again(Duration),
}

/// Why a pass ended early.
enum Failure {
    Step(HostError),
    Store(Problem),
}

async fn pass(reconciler: Arc<Reconciler>, id: VolumeId) -> Next {
    let Some(_held) = reconciler.volumes.hands.try_take(&[id.clone()].into()) else {
        return Next::After(BUSY_POLL);
    };
    let record = reconciler.cache.read().volumes.get(&id).cloned();
    let Some(record) = record else { return sweep(&reconciler, &id).await };
    let volumes = &reconciler.volumes;
    volumes.unwanted.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    // Where the disk cannot be looked at, it is taken to be as it was.
    let mut disk_bytes = match volumes.condition(&id) {
        Some(Condition::Made { bytes, .. }) => Some(bytes),
        Some(Condition::Failed(_)) | None => None,
    };
    match steps(&reconciler, &record, &mut disk_bytes).await {
        Ok(Rest::As(condition)) => {
            volumes.conditions.note(&id, condition);
            // Its guest may be waiting for it.
            let attachment = reconciler.cache.read().attachment_of_volume(&id).cloned();
            if let Some(attachment) = attachment {
                reconciler.look_at(attachment.id.first());
            }
            Next::Done
        }
        Ok(Rest::Again(after)) => Next::After(after),
        Err(Failure::Step(error)) => {
            tracing::warn!(volume.id = %id, error = %ErrorChain(&error), "a step failed");
            volumes.conditions.note(&id, Some(after_failure(disk_bytes, &error)));
            match error.is_retryable() {
                true => Next::Retry,
                false => Next::Done,
            }
        }
        Err(Failure::Store(problem)) => {
            tracing::error!(volume.id = %id, error = %problem, "the store failed");
            Next::Retry
        }
    }
}

/// What there is of a volume, of whose disk `disk_bytes` was seen last, now that a step has failed. A
/// disk that does not grow, say, is as sound as it was.
fn after_failure(disk_bytes: Option<u64>, error: &HostError) -> Condition {
    let why = ErrorChain(error).to_string();
    match disk_bytes {
        Some(bytes) => Condition::Made { bytes, trouble: Some(why) },
        None => Condition::Failed(why),
    }
}

/// Takes steps until there is nothing to do now. `disk_bytes` becomes the size of the disk that is
/// there, if one is.
async fn steps(
    reconciler: &Reconciler,
    record: &VolumeRecord,
    disk_bytes: &mut Option<u64>,
) -> Result<Rest, Failure> {
    let (host, repo, id) = (&reconciler.host, &reconciler.repo, &record.id);
    for _ in 0..MAX_STEPS {
        let made = repo.read_text(&volume_status_key(id)).await.map_err(Failure::Store)?.is_some();
        let seen = host.observe_volume(id, &record.spec.volume_type).await;
        let seen = seen.map_err(Failure::Step)?;
        *disk_bytes = match seen.disk {
            SeenDisk::There(bytes) => Some(bytes),
            SeenDisk::Missing | SeenDisk::Damaged(_) => None,
        };
        let pending = seal::pending(reconciler, id);
        let user = match needs_user(record, &seen, &pending) {
            true => seal::user(reconciler, id).await?,
            false => None,
        };
        match plan_volume(record, made, &seen, user.as_ref(), &pending) {
            VolumeStep::Do(action) => drop(host.apply(&action).await.map_err(Failure::Step)?),
            VolumeStep::Seal(snapshot, action) => {
                let outcome = carry_out(reconciler, *action).await.map_err(Failure::Step)?;
                seal::write_down(reconciler, id, &snapshot, outcome).await?;
                return Ok(Rest::Again(Duration::ZERO));
            }
            VolumeStep::Refuse(snapshot, why) => {
                seal::write_down(reconciler, id, &snapshot, Outcome::Failed(why)).await?;
                return Ok(Rest::Again(Duration::ZERO));
            }
            VolumeStep::Await => {
                let trouble = disk_bytes.map(|bytes| Condition::Made {
                    bytes,
                    trouble: Some("it waits until its guest's memory is saved, or read".to_owned()),
                });
                reconciler.volumes.conditions.note(id, trouble);
                return Ok(Rest::Again(AWAY_POLL));
            }
            VolumeStep::Settle => {
                let key = object_key::<VolumeKind>(id);
                // A record that is gone leaves nothing behind.
                if repo.read_text(&key).await.map_err(Failure::Store)?.is_none() {
                    return Ok(Rest::As(None));
                }
                let txn = Txn::new().put(volume_status_key(id), "made");
                repo.commit(txn).await.map_err(Failure::Store)?;
            }
            VolumeStep::Forget => {
                let txn =
                    Txn::new().delete(object_key::<VolumeKind>(id)).delete(volume_status_key(id));
                let ended = reconciler.metering.end(record, txn).await;
                let revision = ended.map_err(Failure::Store)?;
                reconciler.cache.reached(revision).await;
                tracing::info!(kind = VolumeKind::NAME, id = %id, "deleted");
                return Ok(Rest::As(None));
            }
            VolumeStep::Lost => {
                let file = host.pools().disk(&record.spec.volume_type, id);
                let file = file.map_err(Failure::Step)?;
                let what = format!(
                    "its disk is missing, and all that was on it; put {} back, or replace the \
                     volume",
                    file.display()
                );
                return Err(Failure::Step(HostError::new(what, true)));
            }
            VolumeStep::Damaged(why) => return Err(Failure::Step(HostError::new(why, true))),
            VolumeStep::Rest => {
                if reconciler.merges.concern(&record.spec.layers) {
                    let user = seal::user(reconciler, id).await?;
                    let user = user.as_ref().map(|user| (&user.instance_id, &user.guest));
                    let merged = reconciler.merge_volume(record, user).await;
                    if merged.map_err(Failure::Store)? {
                        return Ok(Rest::Again(Duration::ZERO));
                    }
                }
                let bytes = disk_bytes.unwrap_or_default();
                // Nobody can read it, and nothing is wrong with it.
                let secret = record.spec.secret.as_ref();
                let locked = secret.and_then(|secret| host.volume_keys().unwrap(secret).err());
                let trouble = locked.map(|error| error.told());
                return Ok(Rest::As(Some(Condition::Made { bytes, trouble })));
            }
        }
    }
    Err(Failure::Step(HostError::new("the volume does not settle; this is a defect", true)))
}

/// Removes what the host has of a volume that the store does not know, once it has been seen for as
/// long as the sweep waits.
async fn sweep(reconciler: &Reconciler, id: &VolumeId) -> Next {
    let volumes = &reconciler.volumes;
    volumes.conditions.note(id, None);
    let standard = weft_model::PoolName::standard();
    let seen = match reconciler.host.observe_volume(id, &standard).await {
        Ok(seen) => seen,
        Err(error) => {
            tracing::warn!(volume.id = %id, error = %ErrorChain(&error), "cannot look at an unwanted volume");
            return Next::Retry;
        }
    };
    let grace = reconciler.config.sweep_grace;
    {
        let mut unwanted = volumes.unwanted.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.pools.is_empty() {
            unwanted.remove(id);
            return Next::Done;
        }
        let since = *unwanted.entry(id.clone()).or_insert_with(Instant::now);
        if since.elapsed() < grace {
            return Next::After(grace);
        }
    }
    tracing::warn!(volume.id = %id, "removing a volume that the store does not know");
    for pool in &seen.pools {
        if let Err(error) = reconciler.host.apply(&remove_volume(id, pool)).await {
            tracing::warn!(volume.id = %id, error = %ErrorChain(&error), "removing it failed");
            return Next::Retry;
        }
    }
    // It was looked at by the last pass, and is not there for the next.
    Next::After(std::time::Duration::ZERO)
}
