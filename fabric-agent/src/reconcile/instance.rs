//! One pass over one instance: observe, plan, apply, report.

mod hibernation;
mod interface;
mod nics;
mod plugged;
mod released;
mod report;
mod restart;
mod seal;
mod sweep;
mod volumes;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use weft_model::{
    GuestNetwork, InstanceId, InstanceSpec, InstanceStatus, Phase, Problem, Record, Timestamp,
};
use weft_planner::{
    Action, Attached, GuestState, InstanceStep, Observation, SeenInstance, Wanted, is_to_end,
    plan_growth, plan_instance, wanted,
};
use weft_store::Txn;

use super::queue::Next;
use super::{Reconciler, Shutdown, probe};
use crate::admission::seat_keys;
use crate::error_chain::ErrorChain;
use crate::host::{HostError, SeenGuest, Starved};
use crate::monitoring::Outcome;
use crate::repo::{Instances, object_key, public_key, status_key, uid_key};
use interface::NetworkView;
use nics::detach;
pub(crate) use plugged::Plugged;
use sweep::sweep;

type InstanceRecord = Record<InstanceId, InstanceSpec>;

/// How often a guest that was asked to shut down is asked again and looked at.
const SHUTDOWN_POLL: Duration = Duration::from_millis(500);
/// How often a guest is looked at whose memory is being written or read.
const MEMORY_POLL: Duration = Duration::from_millis(500);
/// How often a guest that a full disk has halted is looked at.
const STARVED_POLL: Duration = Duration::from_secs(2);
/// Steps of one pass: a plan that does not converge must not spin.
const MAX_STEPS: usize = 16;

/// Why a pass ended early.
enum Failure {
    Step(HostError),
    /// The guest cannot be hibernated, and runs on.
    NotHibernated(HostError),
    Network(String),
    Store(Problem),
}

pub(super) async fn pass(reconciler: Arc<Reconciler>, id: InstanceId) -> Next {
    let record = reconciler.cache.read().instances.get(&id).cloned();
    let next = match record {
        Some(record) => reconcile(&reconciler, &record).await,
        None => sweep(&reconciler, &id).await,
    };
    reconciler.figures.pass(match next {
        Next::Done => Outcome::Done,
        Next::After(_) => Outcome::Waiting,
        Next::Retry => Outcome::Failed,
    });
    next
}

/// What a pass has found out so far.
struct Pass<'a> {
    reconciler: &'a Arc<Reconciler>,
    record: &'a InstanceRecord,
    status: InstanceStatus,
    phases: Vec<(Phase, Timestamp)>,
    /// Whether this pass wrote the seed.
    seed_written: bool,
    /// Whether this pass started the guest.
    started: bool,
    /// What ailed the guest when it was last looked at.
    trouble: Option<String>,
    /// Whether its memory was kept then.
    memory: bool,
    /// Whether it went on from there at its start.
    resumed: bool,
}

async fn reconcile(reconciler: &Arc<Reconciler>, record: &InstanceRecord) -> Next {
    let status = reconciler.status(&record.id);
    let restarts_after = match reconciler.restart(record, &status).await {
        Ok(wait) => wait,
        Err(next) => return next,
    };
    let mut pass = Pass::new(reconciler, record, status);
    let outcome = pass.steps().await;
    let mut observation = Observation::default();
    let (guest, next) = match outcome {
        Ok((guest, next, shutting_down)) => {
            observation.shutting_down = shutting_down;
            (Some(guest), Ok(next))
        }
        Err(failure) => (pass.guest_now().await, Err(failure)),
    };
    observation.started = pass.started;
    observation.trouble = pass.trouble.take();
    observation.memory = pass.memory;
    observation.resumed = pass.resumed;
    let next = match next {
        Ok(Some(next)) => next,
        // Nothing is left of it, not even the record.
        Ok(None) => return Next::Done,
        Err(Failure::NotHibernated(error)) => {
            let why = ErrorChain(&error).to_string();
            if let Err(problem) = reconciler.withdraw_hibernation(record, &why).await {
                tracing::error!(instance.id = %record.id, error = %problem, "the store failed");
                return Next::Retry;
            }
            observation.trouble = Some(format!("it was not hibernated: {why}"));
            Next::After(Duration::ZERO)
        }
        Err(Failure::Step(error)) if error.is_retryable() => {
            tracing::warn!(instance.id = %record.id, error = %ErrorChain(&error), "a step failed, trying again");
            observation.retrying = Some(ErrorChain(&error).to_string());
            Next::Retry
        }
        Err(Failure::Step(error)) => {
            tracing::error!(instance.id = %record.id, error = %ErrorChain(&error), "a step failed for good");
            observation.failed = Some(ErrorChain(&error).to_string());
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
    // What became of the guest is not known: what was reported stays, and it keeps what it has of the
    // host.
    let Some(guest) = guest else { return Next::Retry };
    observation.guest = guest;
    // An instance that has been asked to go goes, however often a step fails.
    let next = match (next, record.deleting_since) {
        (Next::Done, Some(_)) => Next::Retry,
        (next, _) => next,
    };
    match pass.report(&observation).await {
        // A launch that has just ended changes what is wanted: look once more.
        Ok(true) => Next::After(Duration::ZERO),
        Ok(false) => match (next, restarts_after) {
            (Next::Done, Some(wait)) => Next::After(wait),
            (next, _) => next,
        },
        Err(problem) => {
            tracing::error!(instance.id = %record.id, error = %problem, "the status could not be stored");
            Next::Retry
        }
    }
}

impl<'a> Pass<'a> {
    fn new(
        reconciler: &'a Arc<Reconciler>,
        record: &'a InstanceRecord,
        status: InstanceStatus,
    ) -> Self {
        Self {
            reconciler,
            record,
            status,
            phases: Vec::new(),
            seed_written: false,
            started: false,
            trouble: None,
            memory: false,
            resumed: false,
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
        let mut unplugged = BTreeSet::new();
        let mut unplugged_volumes = BTreeSet::new();
        let (mut not_grown, mut not_thawed, mut not_bigger) = (None, None, None);
        for _ in 0..MAX_STEPS {
            let _held = self.reconciler.hold_volumes(id).await;
            let attached =
                Attached { nics: self.attached_nics(), volumes: self.attached_volumes() };
            let now = self.reconciler.clock.moment();
            let seen_guest = host.observe_guest(id).await.map_err(Failure::Step)?;
            // Before the next step: a start forgets how the guest before it ended.
            let metered = self.reconciler.note_usage(self.record, &seen_guest, &now).await;
            metered.map_err(Failure::Store)?;
            self.trouble = seen_guest.trouble.clone();
            (self.memory, self.resumed) = (seen_guest.memory, seen_guest.resumed);
            let has_run = self.status.launched_at.is_some();
            let seed_is_current = self.seed_written;
            let seen = SeenInstance {
                has_run,
                seed_is_current,
                unplugged: unplugged.clone(),
                unplugged_volumes: unplugged_volumes.clone(),
                not_grown: not_bigger.is_some(),
                ..network.complete(self.record, &attached.nics, &seen_guest)
            };
            if seen_guest.left_frozen && not_thawed.is_none() {
                match host.apply(&Action::ThawGuest { instance_id: id.clone() }).await {
                    Ok(_) => {
                        tracing::info!(instance.id = %id, "thawed a guest that was left frozen");
                        continue;
                    }
                    // It must not keep a guest from being stopped.
                    Err(error) => not_thawed = Some(error),
                }
            }
            let mut waits_for_thaw = false;
            let is_another = match self.seal(wanted, &seen_guest).await {
                Ok(sealed) => sealed || self.merge(&seen_guest).await?,
                // It has to end all the same, and its disk is sealed without it: what hangs cannot
                // be sealed otherwise.
                Err(Failure::Step(error)) if is_to_end(wanted, &seen.guest) => {
                    let error = ErrorChain(&error).to_string();
                    tracing::warn!(instance.id = %id, error, "no snapshot before its guest has ended");
                    false
                }
                // What is done about a guest that runs does not wait until it is thawed.
                Err(Failure::Step(error)) if not_thawed.is_some() && runs(&seen.guest) => {
                    let error = ErrorChain(&error).to_string();
                    tracing::warn!(instance.id = %id, error, "no snapshot before its guest is thawed");
                    waits_for_thaw = true;
                    false
                }
                Err(error) => return Err(error),
            };
            if is_another {
                return Ok((seen.guest, Some(Next::After(Duration::ZERO)), false));
            }
            let root_bytes = self.root_bytes(seen_guest.root_disk).await;
            let grow = plan_growth(self.record, wanted, &seen.guest, root_bytes);
            // A disk that may have gone over from its file grows when that is over.
            if let Some(grow) = grow.filter(|_| not_grown.is_none() && !waits_for_thaw) {
                match host.apply(&grow).await {
                    Ok(_) => continue,
                    // A full disk must not keep a guest from being stopped, saved or started.
                    Err(error) => not_grown = Some(error),
                }
            }
            let grace_over = self.grace_over(&seen.guest);
            let known = guest_network.as_ref();
            match plan_instance(self.record, known, &attached, wanted, &seen, grace_over) {
                InstanceStep::Rest => {
                    self.note_nics(&attached.nics, &seen.nics);
                    self.note_volumes(&attached.volumes, &seen.volumes);
                    self.note_throttles(&seen);
                    self.note_size(&seen);
                    self.note_console(&seen_guest);
                    self.note_said(&seen_guest);
                    self.after_rest(&seen.guest);
                    self.forget_freezes(&seen_guest).await;
                    let next = self.feed(seen_guest.starved).await;
                    return match not_thawed.or(not_grown).or(not_bigger) {
                        Some(error) => Err(Failure::Step(error)),
                        None => Ok((seen.guest, Some(next), false)),
                    };
                }
                InstanceStep::Do(actions) => {
                    for action in &actions {
                        if let Action::StartGuest(_) = action {
                            let expected = self.reconciler.metering.expect(self.record).await;
                            expected.map_err(Failure::Store)?;
                        }
                        if let Err(error) = host.apply(action).await {
                            // It must not keep the guest from being given anything else, nor from
                            // letting go of it.
                            if makes_bigger(action) {
                                not_bigger = Some(error);
                                break;
                            }
                            // The network may have changed behind our back: look before trying again.
                            networks.forget_seen();
                            return Err(failure(action, error));
                        }
                        self.note(action);
                        match action {
                            Action::UnplugNic { interface_id, .. } => {
                                unplugged.insert(interface_id.clone());
                            }
                            Action::UnplugVolume { volume_id, .. } => {
                                unplugged_volumes.insert(volume_id.clone());
                            }
                            _ => {}
                        }
                    }
                }
                InstanceStep::Release(interfaces) => {
                    self.release(&interfaces).await.map_err(Failure::Store)?;
                }
                InstanceStep::ReleaseVolumes(volumes) => {
                    self.release_volumes(&volumes).await.map_err(Failure::Store)?;
                }
                InstanceStep::AwaitVolume(id) => return Err(self.awaits_volume(&id)),
                InstanceStep::Prepare(actions) => {
                    let all = join_all(actions.iter().map(|action| host.apply(action)));
                    let (prepared, asked) = tokio::join!(
                        all,
                        network.ask(self.reconciler, self.record, &attached.nics)
                    );
                    for (action, outcome) in actions.iter().zip(prepared) {
                        outcome.map_err(Failure::Step)?;
                        self.note(action);
                    }
                    asked?;
                    self.phase(Phase::NetworkReady);
                }
                InstanceStep::AwaitNetwork => {
                    if wanted == Wanted::Gone {
                        networks.release(id);
                    }
                    network.ask(self.reconciler, self.record, &attached.nics).await?;
                    if wanted != Wanted::Gone {
                        self.phase(Phase::NetworkReady);
                    }
                }
                InstanceStep::AwaitShutdown => {
                    let again = self.ask_to_shut_down(&seen.guest).await;
                    return Ok((seen.guest, Some(Next::After(again)), true));
                }
                InstanceStep::AwaitMemory => {
                    return Ok((seen.guest, Some(Next::After(MEMORY_POLL)), false));
                }
                InstanceStep::DiskLost => {
                    let what = format!(
                        "its root disk is missing, and all that was on it; put {} back and start \
                         it, or replace the instance",
                        host.root_disk_file(id).display()
                    );
                    return Err(Failure::Step(HostError::new(what, false)));
                }
                InstanceStep::Forget => {
                    self.forget().await.map_err(Failure::Store)?;
                    return Ok((GuestState::Absent, None, false));
                }
            }
        }
        Err(Failure::Step(HostError::new("the instance does not settle; this is a defect", true)))
    }

    /// What there is of the root disk, in bytes. The disk itself is asked until it is known to be as
    /// large as it should be.
    async fn root_bytes(&self, is_there: bool) -> Option<u64> {
        let (id, wanted) = (&self.record.id, self.record.spec.root_size_bytes());
        let known = || self.reconciler.transients().get(id).and_then(|it| it.root_bytes);
        if is_there && let Some(bytes) = known().filter(|bytes| *bytes >= wanted) {
            return Some(bytes);
        }
        let bytes = match is_there {
            true => self.reconciler.host.root_disk_bytes(id).await,
            false => None,
        };
        self.reconciler.transients().entry(id.clone()).or_default().root_bytes = bytes;
        bytes
    }

    /// Has a guest go on that a full disk has halted, as soon as there is room.
    async fn feed(&self, starved: Starved) -> Next {
        if starved == Starved::No {
            return Next::Done;
        }
        let id = &self.record.id;
        if starved == Starved::RoomAgain {
            let action = Action::ContinueGuest { instance_id: id.clone() };
            match self.reconciler.host.apply(&action).await {
                Ok(_) => {
                    tracing::info!(instance.id = %id, "there is room again: the guest goes on")
                }
                Err(error) => {
                    let error = ErrorChain(&error).to_string();
                    tracing::warn!(instance.id = %id, error, "the guest could not go on");
                }
            }
        }
        Next::After(STARVED_POLL)
    }

    /// The guest after a failure; nothing where it cannot be looked at.
    async fn guest_now(&self) -> Option<GuestState> {
        let id = &self.record.id;
        match self.reconciler.host.observe_guest(id).await {
            Ok(seen) => Some(seen.guest),
            Err(error) => {
                tracing::warn!(instance.id = %id, error = %ErrorChain(&error), "its guest cannot be looked at");
                None
            }
        }
    }

    fn guest_network(&self) -> Option<GuestNetwork> {
        let interface = &self.record.spec.interface;
        let world = self.reconciler.cache.read();
        let vpc = world.vpcs.get(&interface.vpc_id)?;
        let subnet = world.subnets.get(&interface.subnet_id)?;
        Some(GuestNetwork::new(&vpc.spec, &subnet.spec))
    }

    /// The request that the guest of this launch has had.
    fn shutdown_of(&self, epoch: u64) -> Option<Shutdown> {
        let transients = self.reconciler.transients();
        let shutdown = transients.get(&self.record.id).and_then(|transient| transient.shutdown);
        shutdown.filter(|shutdown| shutdown.epoch == epoch)
    }

    /// Whether a guest that was asked to shut down has had its time.
    fn grace_over(&self, guest: &GuestState) -> bool {
        let GuestState::Running { epoch } = guest else { return false };
        let grace = self.shutdown_grace();
        let since = self.shutdown_of(*epoch).map(|shutdown| shutdown.since);
        grace.is_zero() || since.is_some_and(|since| since.elapsed() >= grace)
    }

    /// How long the guest may take to shut down: in this stop, in each of this instance, in general.
    fn shutdown_grace(&self) -> Duration {
        let spec = &self.record.spec;
        let seconds = spec.stop_seconds.or(spec.lifecycle.shutdown_timeout_seconds);
        let general = self.reconciler.config.shutdown_grace;
        seconds.map_or(general, |seconds| Duration::from_secs(seconds.into()))
    }

    /// Presses the power button, if it was not pressed just now: QEMU reports each press, and each
    /// report brings about a pass. Returns when to do so again.
    async fn ask_to_shut_down(&self, guest: &GuestState) -> Duration {
        let GuestState::Running { epoch } = *guest else { return SHUTDOWN_POLL };
        let before = self.shutdown_of(epoch);
        let waited = before.map_or(SHUTDOWN_POLL, |shutdown| shutdown.asked.elapsed());
        if waited < SHUTDOWN_POLL {
            return SHUTDOWN_POLL - waited;
        }
        let id = &self.record.id;
        let asked = tokio::time::Instant::now();
        let shutdown = Shutdown { epoch, since: before.map_or(asked, |s| s.since), asked };
        self.reconciler.transients().entry(id.clone()).or_default().shutdown = Some(shutdown);
        let action = Action::PressPowerButton { instance_id: id.clone() };
        if let Err(error) = self.reconciler.host.apply(&action).await {
            tracing::warn!(instance.id = %id, error = %ErrorChain(&error), "the power button could not be pressed");
        }
        SHUTDOWN_POLL
    }

    fn phase(&mut self, phase: Phase) {
        self.phases.push((phase, self.reconciler.clock.now()));
    }

    /// Which phases a step that has just been taken completes.
    fn note(&mut self, action: &Action) {
        match action {
            // The root disk is there already, or comes before the seed.
            Action::MakeRootDisk { .. } | Action::WriteSeed { .. } => {
                self.seed_written |= matches!(action, Action::WriteSeed { .. });
                self.phase(Phase::Placed);
                self.phase(Phase::ImageReady);
                self.phase(Phase::DiskReady);
            }
            Action::StartGuest(_) => {
                self.started = true;
                // While no guest had it, anybody could put another file there.
                self.reconciler
                    .transients()
                    .entry(self.record.id.clone())
                    .or_default()
                    .root_bytes = None;
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

    /// Nothing is left on the host: removes the record, its status and its address.
    async fn forget(&self) -> Result<(), Problem> {
        let id = &self.record.id;
        // Who hears that it is gone may ask for its address at once: see `wait`.
        let _turn = self.reconciler.turns.object(id.as_str()).await;
        let interface = &self.record.spec.interface;
        let txn = Txn::new()
            .delete(object_key::<Instances>(id))
            .delete(status_key(id))
            .delete(uid_key(self.record.spec.uid));
        let public = self.record.spec.public_ip.map(public_key);
        let txn = public.into_iter().fold(txn, Txn::delete);
        let txn = seat_keys(interface).into_iter().fold(txn, Txn::delete);
        // What was attached to it survives it.
        let attached = self.attachments();
        let txn = attached.iter().fold(txn, detach);
        let txn = self.forget_volumes(txn).await?;
        let revision = self.reconciler.metering.end(self.record, txn).await?;
        self.reconciler.statuses().remove(id);
        self.reconciler.transients().remove(id);
        self.reconciler.networks.forget(id);
        self.reconciler.forget_plugged(id);
        self.reconciler.ledger.release(id);
        self.reconciler.ledger.seats.release(&interface.id);
        // A hint that comes next must not find the record again.
        self.reconciler.cache.reached(revision).await;
        tracing::info!(instance.id = %id, "instance is gone");
        Ok(())
    }
}

fn runs(guest: &GuestState) -> bool {
    matches!(guest, GuestState::Running { .. })
}

/// Whether the guest runs on as it is where this fails.
fn makes_bigger(action: &Action) -> bool {
    matches!(
        action,
        Action::RaiseLimits { .. } | Action::AddVcpus { .. } | Action::AddMemory { .. }
    )
}

/// What it means that a step failed.
fn failure(action: &Action, error: HostError) -> Failure {
    match action {
        Action::HibernateGuest { .. } | Action::KeepMemory { .. } if !error.is_retryable() => {
            Failure::NotHibernated(error)
        }
        _ => Failure::Step(error),
    }
}
