//! Hibernate: asked for durably, then waited for, so that whoever asked hears why it cannot be.

use weft_model::{InstanceId, InstanceState, PowerState, Problem, Reason};
use weft_store::Txn;

use super::{InstanceRecord, fetch_any};
use crate::cache::next_of;
use crate::context::Context;
use crate::repo::Instances;

pub(super) async fn hibernate(
    context: &Context,
    id: &InstanceId,
) -> Result<InstanceRecord, Problem> {
    // Subscribed before the request is stored: no change is missed.
    let mut changes = context.cache.changes();
    ask(context, id).await?;
    loop {
        if let Some(outcome) = outcome(context, id) {
            return outcome;
        }
        next_of(&mut changes, id.as_str()).await?;
    }
}

async fn ask(context: &Context, id: &InstanceId) -> Result<(), Problem> {
    let _turn = context.turns().object(id.as_str()).await;
    let before = fetch_any(context, id).await?;
    if before.value.spec.is_hibernated() {
        return Ok(());
    }
    let status = context.repo.status(id).await?;
    let runs = before.value.spec.power == PowerState::Running
        && status.is_some_and(|status| {
            status.state == InstanceState::Running && status.epoch == before.value.spec.run_epoch
        });
    if !runs {
        let message = format!("instance {id} does not run: it has no memory to keep");
        return Err(Problem::new(Reason::FailedPrecondition, message)
            .remedy(format!("weft get {id} shows what it does")));
    }
    // Of an attempt that nobody waited for.
    let _ = context.reconciler.take_not_hibernated(id);
    let mut record = before.value.clone();
    record.spec.power = PowerState::Stopped;
    record.spec.stop_seconds = None;
    record.spec.hibernate = true;
    context.store_update::<Instances>(before, record, Txn::new()).await.map(drop)
}

/// What became of it; `None` where that is not known yet.
fn outcome(context: &Context, id: &InstanceId) -> Option<Result<InstanceRecord, Problem>> {
    let world = context.cache.read();
    let Some(record) = world.instances.get(id) else {
        return Some(Err(Problem::not_found(format!("instance {id} was removed meanwhile"))));
    };
    let refuse = |message: String| {
        let problem = Problem::new(Reason::FailedPrecondition, message);
        Some(Err(problem.remedy(format!("weft events {id} and weft get {id} show more"))))
    };
    if record.spec.power == PowerState::Running {
        let why = context.reconciler.take_not_hibernated(id);
        let why = why.unwrap_or_else(|| "it was started meanwhile".to_owned());
        return refuse(format!("instance {id} was not hibernated: {why}"));
    }
    let status = world.statuses.get(id)?;
    match (status.state, status.reason.as_deref()) {
        (InstanceState::Stopped, Some(reason)) if reason == weft_model::HIBERNATED => {
            Some(Ok(record.as_ref().clone()))
        }
        (InstanceState::Stopped | InstanceState::Failed | InstanceState::Terminating, reason) => {
            let reason = reason.unwrap_or("it was stopped meanwhile");
            refuse(format!("instance {id} was not hibernated: {reason}"))
        }
        _ => None,
    }
}
