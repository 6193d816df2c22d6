//! Images of disks: a snapshot made one piece of, as a blob that an image can be registered of.
//!
//! ```text
//!   instance ─snapshot─▶ layers ─flatten─▶ uploads/SNAPSHOT.capture ─hash─▶ blob (pinned)
//! ```
//!
//! A capture is known by its client's token: asked for again, it goes on with the snapshot that it
//! has. What one that nobody goes on with has left (a snapshot, a part of a file) is swept away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use weft_model::{
    Boots, Claim, Consistency, Digest, InstanceId, InstanceSpec, PowerState, Problem, Reason,
    Record, SnapshotId, SnapshotSource, SnapshotSpec, SnapshotState, Tags, Taking,
};
use weft_planner::Action;
use weft_store::Txn;

use crate::cache::next_of;
use crate::context::Context;
use crate::random;
use crate::repo::{Instances, Kind as _, Snapshots, encode, object_key};
use crate::snapshotable::of_root_disk;

type SnapshotRecord = Record<SnapshotId, SnapshotSpec>;

/// Captures that are under way.
#[derive(Debug)]
pub(crate) struct Captures {
    sources: Mutex<Sources>,
    /// Copying a disk takes the host's own disk for itself: one at a time.
    copying: Semaphore,
}

#[derive(Debug, Default)]
struct Sources {
    /// What captures are made of, each as it was when that began: nothing of it may go meanwhile. Two of
    /// one snapshot may read different layers, which show the same.
    held: BTreeMap<(SnapshotId, u64), SnapshotSpec>,
    /// Tells apart who holds one snapshot.
    next: u64,
    /// Snapshots that are being swept away: no capture goes on with one of them.
    leaving: BTreeSet<SnapshotId>,
}

impl Default for Captures {
    fn default() -> Self {
        Self { sources: Mutex::default(), copying: Semaphore::new(1) }
    }
}

impl Captures {
    fn sources(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The snapshots that something is being made of.
    pub(crate) fn in_use(&self) -> BTreeSet<SnapshotId> {
        self.sources().held.keys().map(|(id, _)| id.clone()).collect()
    }

    /// What is read of them, as they were when that began.
    pub(crate) fn held(&self) -> Vec<SnapshotSpec> {
        self.sources().held.values().cloned().collect()
    }

    fn hold(&self, id: &SnapshotId, spec: &SnapshotSpec) -> Held<'_> {
        self.hold_in(&mut self.sources(), id, spec)
    }

    fn hold_in(&self, sources: &mut Sources, id: &SnapshotId, spec: &SnapshotSpec) -> Held<'_> {
        let key = (id.clone(), sources.next);
        sources.next += 1;
        sources.held.insert(key.clone(), spec.clone());
        Held { captures: self, key }
    }

    /// The same of one that was found, if it is not just being swept away.
    fn hold_found(&self, id: &SnapshotId, spec: &SnapshotSpec) -> Option<Held<'_>> {
        let mut sources = self.sources();
        (!sources.leaving.contains(id)).then(|| self.hold_in(&mut sources, id, spec))
    }

    /// Whether nobody has it in use; from then on nobody will.
    pub(crate) fn let_go(&self, id: &SnapshotId) -> bool {
        let mut sources = self.sources();
        let unused = !sources.held.keys().any(|(held, _)| held == id);
        if unused {
            sources.leaving.insert(id.clone());
        }
        unused
    }

    /// It is gone, or could not be swept away after all.
    pub(crate) fn swept(&self, id: &SnapshotId) {
        self.sources().leaving.remove(id);
    }
}

/// Keeps what a capture is made of, until it is dropped.
struct Held<'a> {
    captures: &'a Captures,
    key: (SnapshotId, u64),
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.captures.sources().held.remove(&self.key);
    }
}

/// What is to be captured.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A snapshot that there is.
    Snapshot(SnapshotId),
    /// The root disk of an instance as it is now.
    Instance {
        id: InstanceId,
        /// Whether its guest shuts down before, and is started again after.
        reboot: bool,
        /// Of the one that runs on.
        consistency: Consistency,
    },
}

/// A blob, and how what it was made of boots.
#[derive(Clone, Debug)]
pub(crate) struct Captured {
    pub(crate) digest: Digest,
    pub(crate) boots: Boots,
}

/// Captures `source` for the client with `token`.
pub(crate) async fn capture(
    context: &Context,
    token: &str,
    source: Source,
) -> Result<Captured, Problem> {
    let captures = &context.reconciler.captures;
    let (id, field, _own) = match &source {
        Source::Snapshot(id) => (id.clone(), "source_snapshot_id", None),
        Source::Instance { id, reboot, consistency } => {
            let is_mine = |one: &SnapshotRecord| one.spec.for_image.as_deref() == Some(token);
            let begun = context.cache.read().snapshots.values().any(|one| is_mine(one));
            if !begun {
                let source = SnapshotSource::RootDisk(id.clone());
                context.check_freeze(*consistency, &source).await?;
            }
            let (id, held) = snapshot_for(context, token, id, *reboot, *consistency).await?;
            (id, "source_instance_id", Some(held))
        }
    };
    let (record, _held) = {
        // Whoever deletes it comes before, or finds it held.
        let _guard = context.references.read().await;
        let record = context.repo.find::<Snapshots>(&id).await?.ok_or_else(|| {
            Problem::not_found(format!("snapshot {id} does not exist"))
                .at(field)
                .remedy("weft ls snapshots shows those that do")
        })?;
        let held = captures.hold(&id, &record.value.spec);
        (record.value, held)
    };
    let spec = until_made(context, &record, field).await?;
    let _held = captures.hold(&id, &spec);
    if spec.secret.is_some() {
        let message = format!(
            "snapshot {id} is encrypted, and an image is not: whoever uses the host's API could read it"
        );
        return Err(Problem::invalid(field, message).remedy(
            "make a volume of the snapshot (weft_volume with snapshot_id), which is encrypted",
        ));
    }
    let Some(boots) = spec.boots.clone() else {
        let message = format!("snapshot {id} is of no root disk: nothing says how it boots");
        return Err(Problem::invalid(field, message)
            .remedy("use a snapshot of an instance; a volume can be made of this one"));
    };
    let digest = blob_of(context, &id, &spec).await.map_err(|problem| problem.at(field))?;
    if spec.for_image.is_some() {
        match context.delete_snapshot(&id).await {
            Err(problem) if problem.reason != Reason::NotFound => return Err(problem),
            _ => {}
        }
    }
    Ok(Captured { digest, boots })
}

/// The snapshot that the client with `token` captures; asked for now, or before.
async fn snapshot_for<'a>(
    context: &'a Context,
    token: &str,
    instance_id: &InstanceId,
    reboot: bool,
    consistency: Consistency,
) -> Result<(SnapshotId, Held<'a>), Problem> {
    let captures = &context.reconciler.captures;
    let source = SnapshotSource::RootDisk(instance_id.clone());
    let _guard = context.references.read().await;
    let _turn = context.turns().object(instance_id.as_str()).await;
    // Whoever makes one has the instance's turn until the cache has it.
    let known: Vec<_> = {
        let world = context.cache.read();
        let is_mine = |one: &&Arc<SnapshotRecord>| one.spec.for_image.as_deref() == Some(token);
        world.snapshots.values().filter(is_mine).cloned().collect()
    };
    for mine in known {
        let Some(held) = captures.hold_found(&mine.id, &mine.spec) else { continue };
        // It may have been swept away after it was listed; from now on it is not.
        if context.repo.find::<Snapshots>(&mine.id).await?.is_some() {
            return Ok((mine.id.clone(), held));
        }
    }
    let instance = context.snapshotable(instance_id, "source_instance_id").await?;
    let description = format!("for an image of {instance_id} that is being made");
    let taking =
        if reboot { Taking::BetweenGuests } else { context.taking(consistency, &source).await? };
    let spec = SnapshotSpec {
        for_image: Some(token.to_owned()),
        ..of_root_disk(&instance.value, description, taking)
    };
    let record = SnapshotRecord {
        id: Snapshots::new_id(random::bytes(), &spec),
        generation: 1,
        spec,
        tags: Tags::default(),
        client_data: String::new(),
        created_at: context.clock.now(),
        deleting_since: None,
        // Nobody has it in a state, and nobody is to adopt it.
        claim: Claim::Claimed,
    };
    // Before it is there: none that nobody has in use is left alone for long.
    let held = captures.hold(&record.id, &record.spec);
    let key = object_key::<Snapshots>(&record.id);
    let mut txn = Txn::new().keeping_reserve().when_absent(&key).put(key, encode(&record));
    let key = object_key::<Instances>(instance_id);
    let mut changed: Record<InstanceId, InstanceSpec> = instance.value;
    let status = context.repo.status(instance_id).await?;
    let ended = status.is_some_and(|status| status.ended_epoch >= changed.spec.run_epoch);
    let mut reservation = None;
    if reboot && changed.spec.power == PowerState::Running && !ended {
        // The guest of this launch shuts down, the snapshot is made, the next launch follows: one
        // durable wish, whoever dies in between.
        changed.spec.run_epoch += 1;
        changed.generation += 1;
        let memory = context.host.memory_cost_mib(changed.spec.memory_mib, changed.spec.display);
        reservation = Some(context.ledger.raise(instance_id, memory, changed.spec.vcpus)?);
        txn = txn.put(&key, encode(&changed));
    }
    let revision = context.repo.commit(txn.when_at(&key, instance.revision)).await?;
    if let Some(reservation) = reservation {
        reservation.keep();
    }
    context.cache.reached(revision).await;
    tracing::info!(instance.id = %instance_id, snapshot.id = %record.id, reboot, "capturing");
    Ok((record.id, held))
}

/// Returns when the snapshot is made.
async fn until_made(
    context: &Context,
    record: &SnapshotRecord,
    field: &str,
) -> Result<SnapshotSpec, Problem> {
    let id = &record.id;
    let mut changes = context.cache.changes();
    loop {
        let spec = match context.repo.find::<Snapshots>(id).await? {
            Some(stored) => stored.value.spec,
            None => {
                let message = format!("snapshot {id} was deleted meanwhile");
                return Err(Problem::new(Reason::FailedPrecondition, message).at(field));
            }
        };
        match &spec.state {
            SnapshotState::Completed { .. } => return Ok(spec),
            SnapshotState::Error { why } => {
                let message = format!("snapshot {id} could not be made: {why}");
                let problem = Problem::new(Reason::FailedPrecondition, message).at(field);
                if spec.for_image.is_some() {
                    // Nothing is to be made of it any more.
                    let _ = context.delete_snapshot(id).await;
                }
                return Err(problem);
            }
            SnapshotState::Pending => {}
        }
        next_of(&mut changes, id.as_str()).await?;
    }
}

/// Makes the snapshot one piece, and that a blob, which stays for as long as an upload would.
async fn blob_of(
    context: &Context,
    id: &SnapshotId,
    spec: &SnapshotSpec,
) -> Result<Digest, Problem> {
    let gone = |_| Problem::new(Reason::Unavailable, "the agent is being stopped");
    let _copying = context.reconciler.captures.copying.acquire().await.map_err(gone)?;
    let host = &context.host;
    let flatten = Action::FlattenDisk {
        snapshot_id: id.clone(),
        below: spec.below(),
        size_bytes: spec.size_bytes,
    };
    let made = async {
        host.apply(&flatten).await?;
        let digest = host.captured(id).await?;
        context.reconciler.pins.keep([digest]).await;
        host.apply(&Action::KeepCapture { snapshot_id: id.clone(), digest }).await?;
        Ok(digest)
    };
    match made.await {
        Ok(digest) => Ok(digest),
        Err(error) => {
            let abandon = Action::AbandonCapture { name: id.to_string() };
            if let Err(error) = host.apply(&abandon).await {
                tracing::warn!(snapshot.id = %id, error = %crate::error_chain::ErrorChain(&error), "what was begun of an image stays for now");
            }
            let error: crate::host::HostError = error;
            Err(not_made(id, error.problem()))
        }
    }
}

/// What the programs say who were to make it is the last that is told.
fn not_made(id: &SnapshotId, why: Problem) -> Problem {
    if why.reason != Reason::Internal {
        return why;
    }
    let message = format!("the disk of the image could not be made of snapshot {id}");
    Problem::new(Reason::Internal, message).evidence(why.message).remedy(
        "apply again; where it stays so, weft doctor tells what is wrong with the host, and another \
         snapshot shows whether it is this one that is damaged",
    )
}

#[cfg(test)]
mod tests {
    use weft_model::LayerId;

    use super::*;

    fn pending() -> SnapshotSpec {
        SnapshotSpec {
            source: SnapshotSource::RootDisk(InstanceId::from_random([1; 9])),
            description: String::new(),
            layer: LayerId::from_random([1; 9]),
            size_bytes: 1,
            base: None,
            boots: None,
            taking: Taking::AsItIs,
            for_image: Some("token".to_owned()),
            secret: None,
            state: SnapshotState::Pending,
        }
    }

    #[test]
    fn what_one_capture_reads_is_held_although_another_reads_other_layers() {
        let captures = Captures::default();
        let id = SnapshotId::from_random([1; 9]);
        let over = |layers: &[u8]| {
            let layers = layers.iter().map(|n| LayerId::from_random([*n; 9])).collect();
            let at = weft_model::Timestamp::UNIX_EPOCH;
            SnapshotSpec { state: SnapshotState::Completed { layers, at }, ..pending() }
        };
        let (before, merged) = (over(&[1, 2]), over(&[3]));
        let first = captures.hold(&id, &before);
        let second = captures.hold(&id, &merged);
        assert_eq!(captures.held(), [before.clone(), merged]);
        drop(second);
        assert_eq!(captures.held(), [before]);
        assert!(!captures.let_go(&id));
        drop(first);
        assert!(captures.held().is_empty() && captures.in_use().is_empty());
    }

    #[test]
    fn nobody_takes_what_is_swept_away_and_it_is_forgotten_then() {
        let captures = Captures::default();
        let id = SnapshotId::from_random([1; 9]);
        let spec = pending();
        let held = captures.hold_found(&id, &spec);
        assert!(held.is_some() && !captures.let_go(&id));
        drop(held);
        assert!(captures.let_go(&id));
        assert!(captures.hold_found(&id, &spec).is_none());
        captures.swept(&id);
        let sources = captures.sources();
        assert!(sources.leaving.is_empty() && sources.held.is_empty(), "{sources:?}");
    }
}
