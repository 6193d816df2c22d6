//! What attaching a thing to an instance, and detaching it, is for every sort of thing: the guest
//! that runs takes it in, and lets go of it, in its own time.

use std::fmt::{Debug, Display};
use std::time::Duration;

use weft_model::{
    DiskLimits, GuestSize, InstanceId, InstanceSpec, InstanceState, PairId, Problem, Reason,
    Record, Throttle, VolumeId,
};

use crate::admission::hibernated;
use crate::cache::{Cache, World};
use crate::context::Context;
use crate::reconcile::Plugged;
use crate::repo::{Instances, Kind, Stored, missing};

/// How long a client waits for a guest to take a thing in.
const TAKEN_IN_WITHIN: Duration = Duration::from_secs(10);
/// How long a client waits for a guest to let go of one: longer than the hypervisor is waited for.
const LET_GO_WITHIN: Duration = Duration::from_secs(20);

/// The instance, if things can be attached to it. The caller holds `references` for reading, and the
/// instance's turn.
pub(super) async fn attachable(
    context: &Context,
    id: &InstanceId,
) -> Result<Stored<Record<InstanceId, InstanceSpec>>, Problem> {
    let instance = context.repo.find::<Instances>(id).await?;
    let instance = instance.ok_or_else(|| missing::<Instances>(id, "instance_id"))?;
    if instance.value.deleting_since.is_some() {
        let message = format!("instance {id} is being deleted");
        return Err(Problem::new(Reason::FailedPrecondition, message).at("instance_id"));
    }
    if instance.value.spec.is_hibernated() {
        return Err(hibernated(id, "nothing can be attached").at("instance_id"));
    }
    Ok(instance)
}

/// Returns true when the guest has the thing, or does not run; false after a while: the agent goes on
/// trying, and the instance says why it fails.
pub(super) async fn taken_in<T: Clone + Ord>(
    context: &Context,
    id: &InstanceId,
    plugged: &Plugged<T>,
    thing: &T,
) -> bool {
    is_so_in_time(&context.cache, id, plugged.until(id, |has| has.contains(thing))).await
}

/// Returns when the disk of a guest is kept to these limits, `None` being its root disk, or the guest does
/// not run any more; or after a while, with a line in the log: the agent goes on trying.
pub(super) async fn limited(
    context: &Context,
    id: &InstanceId,
    volume: Option<&VolumeId>,
    limits: DiskLimits,
) {
    let kept = Some(Throttle::Limits(limits));
    let holds = context.reconciler.throttled.until(id, |seen| seen.of(volume) == kept);
    if !is_so_in_time(&context.cache, id, holds).await {
        let disk = volume.map_or("root", VolumeId::as_str);
        tracing::warn!(instance.id = %id, disk, "a disk is not kept to its limits yet");
    }
}

/// Returns when a guest is as big as it should be, or does not run any more; or after a while, with a line
/// in the log: the agent goes on trying, and the instance says why it fails.
pub(super) async fn grown(context: &Context, id: &InstanceId, size: GuestSize) {
    let holds = context.reconciler.sized.until(id, |seen| seen.covers(size));
    if !is_so_in_time(&context.cache, id, holds).await {
        tracing::warn!(instance.id = %id, "the guest has not grown yet");
    }
}

/// Whether what `holds` waits for has come about in a guest that runs, for so long as that runs and a
/// client waits: false where that was not long enough.
async fn is_so_in_time(cache: &Cache, id: &InstanceId, holds: impl Future<Output = ()>) -> bool {
    let runs_no_more = cache.until(|world| {
        world.statuses.get(id).is_none_or(|status| status.state != InstanceState::Running)
    });
    let either = async {
        tokio::select! {
            () = holds => {}
            () = runs_no_more => {}
        }
    };
    tokio::time::timeout(TAKEN_IN_WITHIN, either).await.is_ok()
}

/// Asks for the end of an attachment and waits for it, for a while; `is_there` says whether the world
/// still has it.
///
/// # Errors
/// The instance is hibernated: its memory knows the thing; that the guest has not let go of it yet,
/// with `advice` on what helps.
pub(super) async fn detach<K, T, J>(
    context: &Context,
    id: &K::Id,
    is_there: impl Fn(&World) -> bool,
    advice: &str,
) -> Result<(), Problem>
where
    K: Kind<Id = PairId<InstanceId, T, J>>,
    T: Display + Debug,
{
    let (instance, thing) = (id.first(), id.second());
    {
        let _turn = context.turns().object(instance.as_str()).await;
        let before = context.repo.get::<K>(id).await?;
        let owner = context.repo.find::<Instances>(instance).await?;
        let goes = owner.as_ref().is_none_or(|owner| owner.value.deleting_since.is_some());
        if !goes && owner.is_some_and(|owner| owner.value.spec.is_hibernated()) {
            return Err(hibernated(instance, "nothing can be detached").at("id"));
        }
        context.mark_deleting::<K>(before).await?;
    }
    // The guest may have been asked before, in vain.
    context.reconciler.look_at(instance);
    let gone = context.cache.until(|world| !is_there(world));
    if tokio::time::timeout(LET_GO_WITHIN, gone).await.is_ok() {
        return Ok(());
    }
    let message = format!("the guest of {instance} has not let go of {thing} yet");
    let problem = Problem::new(Reason::FailedPrecondition, message).at("id").remedy(advice);
    let status = context.cache.read().statuses.get(instance).cloned();
    Err(match status.and_then(|status| status.reason.clone()) {
        Some(reason) => problem.evidence(reason),
        None => problem,
    })
}

#[cfg(test)]
mod tests {
    use weft_model::{InstanceStatus, Timestamp};
    use weft_store::Txn;

    use super::*;
    use crate::repo::{encode, status_key};
    use crate::testing::Simulation;

    #[tokio::test]
    async fn nothing_is_waited_for_in_a_guest_that_is_told_to_stop_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let simulation = Simulation::begin(dir.path()).await;
        let id = InstanceId::from_random([1; 9]);
        let becomes = async |state| {
            let status =
                InstanceStatus { state, ..InstanceStatus::accepted(Timestamp::UNIX_EPOCH) };
            let txn = Txn::new().put(status_key(&id), encode(&status));
            let revision = simulation.reconciler.repo.commit(txn).await.unwrap();
            simulation.reconciler.cache.reached(revision).await;
        };
        becomes(InstanceState::Running).await;
        let cache = &simulation.reconciler.cache;
        let mut waiting = std::pin::pin!(is_so_in_time(cache, &id, std::future::pending()));
        assert!(futures::poll!(&mut waiting).is_pending(), "not waited for in a guest that runs");
        let stopping = async {
            becomes(InstanceState::Stopping).await;
        };
        assert!(tokio::join!(waiting, stopping).0, "waited for what cannot come");
    }
}
