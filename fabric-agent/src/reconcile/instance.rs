//! One pass over one instance: observe, plan, apply, report.

use std::sync::Arc;
use std::time::Duration;

use weft_model::{
    GuestNetwork, InstanceId, InstanceSpec, InstanceStatus, Phase, PowerState, Problem, Record,
    Timestamp,
};
use weft_planner::{
    Action, GuestState, InstanceStep, Observation, SeenInstance, Wanted, derive_status,
    plan_instance, record_phase, wanted,
};
use weft_store::Txn;

use super::queue::Next;
use super::{Reconciler, probe};
use crate::chain::Chain;
use crate::host::{HostError, SeenGuest};
use crate::repo::{Instances, address_key, encode, object_key, status_key, uid_key};

type InstanceRecord = Record<InstanceId, InstanceSpec>;

/// How often a guest that was asked to shut down is asked again and looked at.
const SHUTDOWN_POLL: Duration = Duration::from_millis(500);
/// Steps of one pass: a plan that does not converge must not spin.
const MAX_STEPS: usize = 16;

/// Why a pass ended early.
enum Failure {
    Step(HostError),
    Network(String),
    Store(Problem),
}

pub(super) async fn pass(reconciler: Arc<Reconciler>, id: InstanceId) -> Next {
    let record = reconciler.cache.read().instances.get(&id).cloned();
    match record {
        Some(record) => reconcile(&reconciler, &record).await,
        None => sweep(&reconciler, &id).await,
    }
}

/// What a pass has found out so far.
struct Pass<'a> {
    reconciler: &'a Arc<Reconciler>,
    record: &'a InstanceRecord,
    status: InstanceStatus,
    phases: Vec<(Phase, Timestamp)>,
    /// Whether this pass started the guest.
    started: bool,
    /// What ailed the guest when it was last looked at.
    trouble: Option<String>,
}

async fn reconcile(reconciler: &Arc<Reconciler>, record: &InstanceRecord) -> Next {
    let status = reconciler.status(&record.id);
    let mut pass =
        Pass { reconciler, record, status, phases: Vec::new(), started: false, trouble: None };
    let outcome = pass.steps().await;
    let mut observation = Observation::default();
    let next = match outcome {
        Ok((guest, next, shutting_down)) => {
            observation.guest = guest;
            observation.shutting_down = shutting_down;
            Ok(next)
        }
        Err(failure) => {
            observation.guest = pass.guest_now().await;
            Err(failure)
        }
    };
    observation.started = pass.started;
    observation.trouble = pass.trouble.take();
    let next = match next {
        Ok(Some(next)) => next,
        // Nothing is left of it, not even the record.
        Ok(None) => return Next::Done,
        Err(Failure::Step(error)) if error.is_retryable() => {
            tracing::warn!(instance.id = %record.id, error = %Chain(&error), "a step failed, trying again");
            observation.retrying = Some(Chain(&error).to_string());
            Next::Retry
        }
        Err(Failure::Step(error)) => {
            tracing::error!(instance.id = %record.id, error = %Chain(&error), "a step failed for good");
            observation.failed = Some(Chain(&error).to_string());
            Next::Done
        }
        Err(Failure::Network(why)) => {
            observation.retrying = Some(format!("its network is not ready: {why}"));
            Next::Retry
        }
        Err(Failure::Store(problem)) => {
            tracing::error!(instance.id = %record.id, error = %problem, "the store failed");
            return Next::Retry;
        }
    };
    // An instance that has been asked to go goes, however often a step fails.
    let next = match (next, record.deleting_since) {
        (Next::Done, Some(_)) => Next::Retry,
        (next, _) => next,
    };
    match pass.report(&observation).await {
        // A launch that has just ended changes what is wanted: look once more.
        Ok(true) => Next::After(Duration::ZERO),
        Ok(false) => next,
        Err(problem) => {
            tracing::error!(instance.id = %record.id, error = %problem, "the status could not be stored");
            Next::Retry
        }
    }
}

impl Pass<'_> {
    /// Takes steps until there is nothing to do now. Returns the guest as it is then, when to look
    /// again (`None`: the instance is forgotten), and whether the guest was asked to shut down.
    async fn steps(&mut self) -> Result<(GuestState, Option<Next>, bool), Failure> {
        let Reconciler { host, networks, .. } = self.reconciler.as_ref();
        let id = &self.record.id;
        let wanted = wanted(self.record, &self.status);
        let guest_network = self.guest_network();
        let mut network = NetworkView::default();
        for _ in 0..MAX_STEPS {
            let seen_guest = host.observe_guest(id).await.map_err(Failure::Step)?;
            self.trouble = seen_guest.trouble.clone();
            let has_run = self.status.launched_at.is_some();
            let seen = SeenInstance { has_run, ..network.complete(&seen_guest) };
            let grace_over = self.grace_over(&seen.guest);
            match plan_instance(self.record, guest_network.as_ref(), wanted, &seen, grace_over) {
                InstanceStep::Rest => {
                    self.note_console(&seen_guest);
                    self.note_said(&seen_guest);
                    self.after_rest(&seen.guest);
                    return Ok((seen.guest, Some(Next::Done), false));
                }
                InstanceStep::Do(actions) => {
                    for action in &actions {
                        if let Err(error) = host.apply(action).await {
                            // The network may have changed behind our back: look before trying again.
                            networks.forget_seen();
                            return Err(Failure::Step(error));
                        }
                        self.note(action);
                    }
                }
                InstanceStep::AwaitNetwork => {
                    if wanted == Wanted::Gone {
                        networks.release(id);
                    }
                    network.ask(self.reconciler, self.record).await?;
                    if wanted != Wanted::Gone {
                        self.phase(Phase::NetworkReady);
                    }
                }
                InstanceStep::AwaitShutdown => {
                    let action = Action::PressPowerButton { instance_id: id.clone() };
                    if let Err(error) = host.apply(&action).await {
                        tracing::warn!(instance.id = %id, error = %Chain(&error), "the power button could not be pressed");
                    }
                    self.begin_shutdown(&seen.guest);
                    return Ok((seen.guest, Some(Next::After(SHUTDOWN_POLL)), true));
                }
                InstanceStep::DiskLost => {
                    return Err(Failure::Step(HostError::new(
                        "its root disk is missing, and all that was on it; put the file back and \
                         start it, or replace the instance",
                        false,
                    )));
                }
                InstanceStep::Forget => {
                    self.forget().await.map_err(Failure::Store)?;
                    return Ok((GuestState::Absent, None, false));
                }
            }
        }
        Err(Failure::Step(HostError::new("the instance does not settle; this is a defect", true)))
    }

    fn guest_network(&self) -> Option<GuestNetwork> {
        let interface = &self.record.spec.interface;
        let world = self.reconciler.cache.read();
        let vpc = world.vpcs.get(&interface.vpc_id)?;
        let subnet = world.subnets.get(&interface.subnet_id)?;
        Some(GuestNetwork::new(&vpc.spec, &subnet.spec))
    }

    /// Whether a guest that was asked to shut down has had its time.
    fn grace_over(&self, guest: &GuestState) -> bool {
        let GuestState::Running { epoch } = guest else { return false };
        let transients = self.reconciler.transients();
        let shutdown = transients.get(&self.record.id).and_then(|transient| transient.shutdown);
        shutdown.is_some_and(|(of, since)| {
            of == *epoch && since.elapsed() >= self.reconciler.config.shutdown_grace
        })
    }

    fn begin_shutdown(&self, guest: &GuestState) {
        let GuestState::Running { epoch } = guest else { return };
        let mut transients = self.reconciler.transients();
        let transient = transients.entry(self.record.id.clone()).or_default();
        if transient.shutdown.is_none_or(|(of, _)| of != *epoch) {
            transient.shutdown = Some((*epoch, tokio::time::Instant::now()));
        }
    }

    fn phase(&mut self, phase: Phase) {
        self.phases.push((phase, self.reconciler.clock.now()));
    }

    /// Which phases a step that has just been taken completes.
    fn note(&mut self, action: &Action) {
        match action {
            Action::MakeRootDisk { .. } => {
                self.phase(Phase::Placed);
                self.phase(Phase::ImageReady);
                self.phase(Phase::DiskReady);
            }
            Action::WriteSeed { .. } => {
                self.phase(Phase::Placed);
                self.phase(Phase::ImageReady);
                self.phase(Phase::DiskReady);
                self.phase(Phase::NetworkReady);
            }
            Action::StartGuest(_) => {
                self.started = true;
                self.phase(Phase::HypervisorStarted);
            }
            _ => {}
        }
    }

    /// A host whose guests exist on paper knows itself what they say.
    fn note_said(&self, seen: &SeenGuest) {
        for saying in &seen.said {
            let _ = self.reconciler.heard(&self.record.id, saying.clone());
        }
    }

    fn note_console(&mut self, seen: &SeenGuest) {
        if let Some(at) = seen.first_console_byte {
            self.phases.push((Phase::Kernel, at));
        }
    }

    /// A guest that runs is probed for SSH until it answers; one that does not is left alone.
    fn after_rest(&self, guest: &GuestState) {
        let id = &self.record.id;
        let GuestState::Running { epoch } = guest else {
            if let Some(transient) = self.reconciler.transients().get_mut(id) {
                transient.probing = None;
                transient.known = false;
            }
            return;
        };
        let newcomer = {
            let mut transients = self.reconciler.transients();
            let transient = transients.entry(id.clone()).or_default();
            !std::mem::replace(&mut transient.known, true)
        };
        if newcomer && !self.started {
            tracing::info!(instance.id = %id, "adopted a running guest");
        }
        let answered = self.status.epoch == *epoch
            && !self.started
            && self.status.reached(Phase::SshBanner).is_some();
        if !answered {
            probe::start(self.reconciler, self.record, *epoch);
        }
    }

    /// What the instance takes of the host, now that its guest is as it is.
    async fn settle_ledger(&self, guest: &GuestState) {
        let (id, spec) = (&self.record.id, &self.record.spec);
        let Reconciler { ledger, host, turns, cache, .. } = self.reconciler.as_ref();
        let (memory_mib, vcpus) = match guest {
            GuestState::Absent | GuestState::Exited { .. } if spec.power == PowerState::Stopped => {
                (0, 0)
            }
            GuestState::Running { epoch } if *epoch >= spec.run_epoch => {
                (host.memory_cost_mib(spec.memory_mib), spec.vcpus)
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

    /// The guest after a failure; unknown counts as absent.
    async fn guest_now(&self) -> GuestState {
        let seen = self.reconciler.host.observe_guest(&self.record.id).await;
        seen.map(|seen| seen.guest).unwrap_or_default()
    }

    /// Stores the status if it has changed. Returns whether what is wanted has changed with it.
    async fn report(&self, observation: &Observation) -> Result<bool, Problem> {
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
        self.reconciler.statuses().insert(self.record.id.clone(), status);
        Ok(ended || launch_changed)
    }

    /// Nothing is left on the host: removes the record, its status and its address.
    async fn forget(&self) -> Result<(), Problem> {
        let id = &self.record.id;
        // Who hears that it is gone may ask for its address at once: see `wait`.
        let _turn = self.reconciler.turns.object(id.as_str()).await;
        let interface = &self.record.spec.interface;
        let address = address_key(&interface.subnet_id, interface.private_ip);
        let txn = Txn::new()
            .delete(object_key::<Instances>(id))
            .delete(status_key(id))
            .delete(address)
            .delete(uid_key(self.record.spec.uid));
        let revision = self.reconciler.repo.commit(txn).await?;
        self.reconciler.statuses().remove(id);
        self.reconciler.transients().remove(id);
        self.reconciler.networks.forget(id);
        self.reconciler.ledger.release(id);
        // A hint that comes next must not find the record again.
        self.reconciler.cache.reached(revision).await;
        tracing::info!(instance.id = %id, "instance is gone");
        Ok(())
    }
}

/// What this pass knows of the instance's interface: nothing before it has asked.
#[derive(Default)]
struct NetworkView {
    asked: Option<(bool, bool)>,
}

impl NetworkView {
    /// The whole picture. Before the network was asked, a tap is taken to be there and closed, so
    /// that plans which need to know ask.
    fn complete(&self, seen: &SeenGuest) -> SeenInstance {
        let (ready, tap) = self.asked.unwrap_or((false, true));
        SeenInstance {
            root_disk: seen.root_disk,
            has_run: false,
            seed: seen.seed,
            guest: seen.guest.clone(),
            network_ready: ready,
            tap,
        }
    }

    async fn ask(
        &mut self,
        reconciler: &Reconciler,
        record: &InstanceRecord,
    ) -> Result<(), Failure> {
        let report = reconciler.networks.settle().await.map_err(Failure::Store)?;
        let interface = &record.spec.interface;
        let (ready, tap) =
            (report.open.contains(&interface.link), report.present.contains(&interface.link));
        let gone = record.deleting_since.is_some();
        if (gone && tap) || (!gone && !ready) {
            let why = report.failure(&interface.vpc_id, &interface.link);
            return Err(Failure::Network(
                why.unwrap_or("its interface is not there yet").to_owned(),
            ));
        }
        self.asked = Some((ready, tap));
        Ok(())
    }
}

/// Removes what the host has of an instance that the store does not know, once it has been seen for
/// as long as the sweep waits: its guest without asking, as nobody can ask for it any more.
async fn sweep(reconciler: &Arc<Reconciler>, id: &InstanceId) -> Next {
    let seen = match reconciler.host.observe_guest(id).await {
        Ok(seen) => seen,
        Err(error) => {
            tracing::warn!(instance.id = %id, error = %Chain(&error), "cannot look at an unwanted guest");
            return Next::Retry;
        }
    };
    if seen == SeenGuest::default() {
        return Next::Done;
    }
    if !reconciler.grace_over_for(id) {
        return Next::After(reconciler.config.sweep_grace);
    }
    tracing::warn!(instance.id = %id, "removing an instance that the store does not know");
    let instance_id = || id.clone();
    let steps = [
        Action::EndGuest { instance_id: instance_id() },
        Action::ForgetGuest { instance_id: instance_id() },
        Action::RemoveDisks { instance_id: instance_id() },
    ];
    for action in steps {
        if let Err(error) = reconciler.host.apply(&action).await {
            tracing::warn!(instance.id = %id, error = %Chain(&error), "removing it failed");
            return Next::Retry;
        }
    }
    reconciler.transients().remove(id);
    Next::Done
}

impl Reconciler {
    /// Whether something unwanted has been seen for as long as the sweep waits.
    fn grace_over_for(&self, id: &InstanceId) -> bool {
        let mut transients = self.transients();
        let transient = transients.entry(id.clone()).or_default();
        let since = *transient.unwanted_since.get_or_insert_with(tokio::time::Instant::now);
        since.elapsed() >= self.config.sweep_grace
    }
}
