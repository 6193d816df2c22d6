//! The end of a pass: the status that follows from it, stored where it has changed, and what the
//! instance takes of the host.

use weft_model::{EventKind, InstanceState, InstanceStatus, Phase, PowerState, Problem};
use weft_planner::{GuestState, Observation, derive_status, record_phase};
use weft_store::Txn;

use super::Pass;
use crate::reconcile::{Reconciler, probe};
use crate::repo::{encode, status_key};

impl Pass<'_> {
    /// What the instance takes of the host, now that its guest is as it is.
    async fn settle_ledger(&self, guest: &GuestState) {
        let (id, spec) = (&self.record.id, &self.record.spec);
        let Reconciler { ledger, host, turns, cache, .. } = self.reconciler.as_ref();
        let (memory_mib, vcpus) = match guest {
            GuestState::Absent | GuestState::Exited { .. } if spec.power == PowerState::Stopped => {
                (0, 0)
            }
            GuestState::Running { epoch } if *epoch >= spec.run_epoch => {
                (host.memory_cost_mib(spec.memory_mib, spec.display), spec.vcpus)
            }
            _ => return,
        };
        if ledger.has_settled(id, memory_mib, vcpus) {
            return;
        }
        // Somebody may be changing what is wanted: then the pass that this brings about settles.
        let _turn = turns.object(id.as_str()).await;
        let newest = cache.read().instances.get(id).map(|record| record.generation);
        if newest == Some(self.record.generation) {
            ledger.settle(id, memory_mib, vcpus);
        }
    }

    /// Stores the status if it has changed. Returns whether what is wanted has changed with it.
    pub(super) async fn report(&self, observation: &Observation) -> Result<bool, Problem> {
        self.settle_ledger(&observation.guest).await;
        let now = self.reconciler.clock.now();
        let mut status = derive_status(self.record, &self.status, observation, now);
        let launch_changed = status.epoch != self.status.epoch;
        // The prober may have been faster than this pass.
        let ready = probe::ready_at(self.reconciler, &self.record.id, status.epoch);
        let ready = ready.map(|at| (Phase::SshBanner, at));
        for (phase, at) in self.phases.iter().copied().chain(ready) {
            // The guest's first byte may come before its start has been reported done: the
            // timeline never goes backwards.
            let last = status.phases.last().map_or(at, |last| last.at);
            record_phase(&mut status, phase, at.max(last));
        }
        if let Some(transient) = self.reconciler.transients().get(&self.record.id) {
            transient.said.put_into(&mut status);
        }
        if status == self.status {
            return Ok(false);
        }
        if status.state != self.status.state {
            let (id, reason) = (&self.record.id, status.reason.as_deref().unwrap_or_default());
            tracing::info!(instance.id = %id, state = %status.state, reason, "instance state changed");
        }
        let ended = status.ended_epoch != self.status.ended_epoch;
        let key = status_key(&self.record.id);
        self.reconciler.repo.commit(Txn::new().put(key, encode(&status))).await?;
        self.reconciler.statuses().insert(self.record.id.clone(), status.clone());
        if ended && failed(&status) {
            let reason = status.reason.unwrap_or_default();
            let subject = self.record.id.as_str();
            self.reconciler.events.record(EventKind::GuestFailure, subject, reason).await;
        }
        Ok(ended || launch_changed)
    }
}

/// Whether the launch that has just ended failed, be it repeated or not.
fn failed(status: &InstanceStatus) -> bool {
    matches!(status.state, InstanceState::Failed | InstanceState::Starting)
}
