//! The networks' loop: one pass at a time over every VPC, with memory of what was applied.
//!
//! An instance that needs its interface, or wants to give it back, asks with [`Networks::settle`]
//! and is answered by the first pass that began after it asked. Many ask, one pass serves them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use weft_model::{
    EventKind, InstanceId, LinkName, ObservedNetwork, Problem, Reason, VpcId, VpcNetwork,
};
use weft_planner::{
    Action, HostEdge, HostRoute, SeenNetwork, drift, must_judge_connections, plan_cuts,
    plan_network, simulate_network,
};

use super::Reconciler;
use super::desired::{self, AttachedOfAll};
use crate::error_chain::ErrorChain;
use crate::host::{Host, HostError};

/// How a pass left the networks.
#[derive(Clone, Debug, Default)]
pub(crate) struct NetworkReport {
    /// Taps that are open, with their groups enforced.
    pub(crate) open: BTreeSet<LinkName>,
    /// Taps that exist.
    pub(crate) present: BTreeSet<LinkName>,
    /// Taps, or whole VPCs, that could not be brought in order, and why.
    pub(crate) failed_links: BTreeMap<LinkName, String>,
    pub(crate) failed_vpcs: BTreeMap<VpcId, String>,
    /// Whether something is left to do that no interface waits for: the services of a VPC, or
    /// connections to be cut.
    pub(crate) unfinished: bool,
}

impl NetworkReport {
    /// Why an interface is not usable.
    pub(crate) fn failure(&self, vpc: &VpcId, link: &LinkName) -> Option<&str> {
        let of_link = self.failed_links.get(link);
        of_link.or_else(|| self.failed_vpcs.get(vpc)).map(String::as_str)
    }
}

/// Requests to the networks' loop.
#[derive(Debug)]
pub(crate) struct Networks {
    requests: Mutex<Requests>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Requests {
    waiting: Vec<oneshot::Sender<Arc<NetworkReport>>>,
    released: BTreeSet<InstanceId>,
    observe_again: bool,
    pending: bool,
    /// The loop has ended: nobody answers any more.
    closed: bool,
}

impl Networks {
    pub(super) fn new() -> Self {
        Self { requests: Mutex::default(), wake: Notify::new() }
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a pass.
    pub(crate) fn look(&self) {
        self.requests().pending = true;
        self.wake.notify_one();
    }

    /// Has the next pass look at the kernel instead of trusting its memory.
    pub(super) fn forget_seen(&self) {
        self.requests().observe_again = true;
    }

    /// From now on the instance's interface is not wanted, whatever the store says.
    pub(super) fn release(&self, id: &InstanceId) {
        self.requests().released.insert(id.clone());
    }

    /// The instance is forgotten altogether.
    pub(super) fn forget(&self, id: &InstanceId) {
        self.requests().released.remove(id);
    }

    /// The end of the loop: who waits, and who asks from now on, is told so.
    fn close(&self) {
        let mut requests = self.requests();
        requests.closed = true;
        requests.waiting.clear();
    }

    /// The report of a whole pass that begins after this call.
    ///
    /// # Errors
    /// The agent is ending.
    pub(crate) async fn settle(&self) -> Result<Arc<NetworkReport>, Problem> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut requests = self.requests();
            if requests.closed {
                return Err(ending());
            }
            requests.waiting.push(sender);
        }
        self.look();
        receiver.await.map_err(|_| ending())
    }
}

fn ending() -> Problem {
    Problem::new(Reason::Unavailable, "the agent is ending")
}

const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What the loop remembers between two passes.
#[derive(Debug, Default)]
struct Memory {
    seen: HashMap<VpcId, SeenNetwork>,
    /// Each network as it was left when all of it was in order: what differs from that when the
    /// kernel is looked at again was somebody else's doing.
    applied: HashMap<VpcId, Arc<VpcNetwork>>,
    host: Option<(BTreeMap<LinkName, HostRoute>, HostEdge)>,
    /// The host's own forwarding as it was left, as `applied`.
    host_applied: Option<(BTreeMap<LinkName, HostRoute>, HostEdge)>,
    /// By whose packet filter open connections were judged last.
    judged: HashMap<VpcId, Arc<VpcNetwork>>,
    attached: AttachedOfAll,
}

pub(super) async fn run(reconciler: &Reconciler, shutdown: CancellationToken) {
    let networks = &reconciler.networks;
    let mut memory = Memory::default();
    let mut retry_after = RETRY_MIN;
    let mut failing = false;
    loop {
        let retry = async {
            match failing {
                true => tokio::time::sleep(retry_after).await,
                false => std::future::pending().await,
            }
        };
        // Every arm is cancel safe; a pass is never interrupted.
        tokio::select! {
            () = shutdown.cancelled() => return networks.close(),
            () = networks.wake.notified() => {}
            () = retry => networks.requests().pending = true,
        }
        let (waiting, released) = {
            let mut requests = networks.requests();
            if !std::mem::take(&mut requests.pending) {
                continue;
            }
            if std::mem::take(&mut requests.observe_again) {
                let Memory { applied, host_applied, .. } = memory;
                memory = Memory { applied, host_applied, ..Memory::default() };
            }
            (std::mem::take(&mut requests.waiting), requests.released.clone())
        };
        let report = Arc::new(pass(reconciler, &mut memory, &released).await);
        failing =
            !report.failed_links.is_empty() || !report.failed_vpcs.is_empty() || report.unfinished;
        retry_after = if failing { (retry_after * 2).min(RETRY_MAX) } else { RETRY_MIN };
        for waiter in waiting {
            // Who has stopped waiting does not want to know.
            let _ = waiter.send(Arc::clone(&report));
        }
    }
}

/// One look at every VPC. Infallible: what goes wrong is in the report.
async fn pass(
    reconciler: &Reconciler,
    memory: &mut Memory,
    released: &BTreeSet<InstanceId>,
) -> NetworkReport {
    let prefix = &reconciler.config.prefix;
    let (desired, of_host) = {
        let world = reconciler.cache.read();
        memory.attached.renew(&world, released);
        let network = |id: &VpcId| {
            let attached = memory.attached.of(id);
            Some((id.clone(), Arc::new(desired::vpc_network(&world, id, attached, prefix)?)))
        };
        let desired: BTreeMap<VpcId, _> = world.vpcs.keys().filter_map(network).collect();
        let edge = desired::host_edge(&world, &desired, &reconciler.config.guest_access);
        (desired, (desired::host_routes(&world, prefix), edge))
    };
    let host = reconciler.host.as_ref();
    let mut report = NetworkReport::default();
    for (vpc_id, network) in &desired {
        let mut drifted = Vec::new();
        let outcome = settle_vpc(host, network, memory, &mut drifted, &mut report).await;
        let fails = |link| report.failed_links.contains_key(link);
        let mended = outcome.is_ok() && !network.interfaces.keys().any(fails);
        let mended = if mended { "it was put right" } else { "it could not be put right yet" };
        for finding in drifted {
            let message = format!("{finding}; {mended}");
            reconciler.events.record(EventKind::Drift, vpc_id.as_str(), message).await;
        }
        if outcome.is_ok() {
            let serving = reconciler.services.ensure(host, vpc_id, &network.gateways).await;
            if let Err(error) = serving {
                let error = ErrorChain(&error).to_string();
                tracing::warn!(vpc.id = %vpc_id, error, "a VPC has no services yet, trying again");
                report.unfinished = true;
            }
        }
        if let Err(error) = outcome {
            tracing::warn!(vpc.id = %vpc_id, error, "a network could not be brought in order");
            memory.seen.remove(vpc_id);
            report.failed_vpcs.insert(vpc_id.clone(), error);
        }
    }
    // The uplinks exist now: the host may lead packets into them.
    if memory.host.as_ref() != Some(&of_host) {
        let (routes, edge) = of_host.clone();
        // What is left half done is nobody else's doing.
        let drifted = match (&memory.host, memory.host_applied.take()) {
            (None, Some((routes, edge))) => host.host_drift(&routes, &edge).await,
            _ => Ok(Vec::new()),
        };
        let drifted = drifted.unwrap_or_else(|error| {
            tracing::warn!(error = %ErrorChain(&error), "the host's own forwarding could not be looked at");
            Vec::new()
        });
        let applied = host.apply(&Action::SetHostRouting { routes, edge }).await;
        let mended =
            if applied.is_ok() { "it was put right" } else { "it could not be put right yet" };
        for finding in drifted {
            let message = format!("{finding}; {mended}");
            reconciler.events.record(EventKind::Drift, "host", message).await;
        }
        match applied {
            Ok(_) => {
                memory.host_applied = Some(of_host.clone());
                memory.host = Some(of_host);
            }
            Err(error) => {
                let error = ErrorChain(&error).to_string();
                tracing::warn!(error, "the host's own forwarding could not be set");
                let failed = desired.keys().map(|id| (id.clone(), error.clone()));
                report.failed_vpcs.extend(failed);
            }
        }
    }
    // Their sockets would keep the namespaces of VPCs that are going.
    reconciler.services.retain(|vpc_id| desired.contains_key(vpc_id)).await;
    remove_unwanted(host, &desired, memory, &mut report).await;
    report
}

async fn settle_vpc(
    host: &dyn Host,
    network: &Arc<VpcNetwork>,
    memory: &mut Memory,
    drifted: &mut Vec<String>,
    report: &mut NetworkReport,
) -> Result<(), String> {
    let vpc_id = &network.vpc_id;
    // What is left half done is nobody else's doing.
    let applied = memory.applied.remove(vpc_id);
    let mut seen = match memory.seen.remove(vpc_id) {
        Some(seen) => seen,
        None => {
            let expected = applied.as_ref().unwrap_or(network);
            let seen = host.observe_network(expected).await;
            let seen = seen.map_err(|e| ErrorChain(&e).to_string())?;
            drifted.extend(applied.iter().flat_map(|applied| drift(applied, &seen)));
            seen
        }
    };
    let mut broken: BTreeMap<LinkName, String> = BTreeMap::new();
    let steps = plan_network(vpc_id, Some(network), &seen);
    let in_order = applied.filter(|_| steps.is_empty());
    for action in steps {
        let link = owner(&action);
        if link.is_some_and(|link| broken.contains_key(link)) {
            continue;
        }
        match (host.apply(&action).await, link) {
            (Ok(_), _) => simulate_network(&mut seen, &action),
            (Err(error), Some(link)) => {
                let error = ErrorChain(&error).to_string();
                tracing::warn!(link.name = %link, error, "an interface could not be brought in order");
                broken.insert(link.clone(), error);
            }
            (Err(error), None) => return Err(ErrorChain(&error).to_string()),
        }
    }
    // Which is known at the next pass too: the guests need not wait for it.
    if let Err(error) = judge_connections(host, network, memory).await {
        let error = ErrorChain(&error).to_string();
        tracing::warn!(vpc.id = %vpc_id, error, "open connections could not be judged, trying again");
        report.unfinished = true;
    }
    let taps = seen.network.iter().flat_map(|network| &network.taps);
    for (link, tap) in taps {
        report.present.insert(link.clone());
        let wanted = network.interfaces.get(link);
        let known = network.firewall.interfaces.contains_key(link);
        if known && wanted.is_some_and(|wanted| tap.is_up_for(wanted, network.bridge.as_ref())) {
            report.open.insert(link.clone());
        }
    }
    // What failed is looked at in the kernel before it is tried again.
    if broken.is_empty() {
        memory.seen.insert(vpc_id.clone(), seen);
        memory.applied.insert(vpc_id.clone(), in_order.unwrap_or_else(|| Arc::clone(network)));
    }
    report.failed_links.extend(broken);
    Ok(())
}

/// Cuts connections that nothing admits any more, where a group wants that. After the packet filter:
/// what is cut before could be opened again.
async fn judge_connections(
    host: &dyn Host,
    network: &Arc<VpcNetwork>,
    memory: &mut Memory,
) -> Result<(), HostError> {
    let (vpc_id, now) = (&network.vpc_id, &network.firewall);
    let before = memory.judged.get(vpc_id).map(|network| &network.firewall);
    if must_judge_connections(before, now) {
        let connections = host.connections(vpc_id).await?;
        if let Some(action) = plan_cuts(vpc_id, before, now, &connections) {
            if let Action::CutConnections { flows, .. } = &action {
                let openings: Vec<_> = flows.iter().take(10).map(|flow| flow.opening).collect();
                let count = flows.len();
                tracing::info!(vpc.id = %vpc_id, count, first = ?openings, "cutting connections that no rule admits any more");
            }
            host.apply(&action).await?;
        }
    }
    memory.judged.insert(vpc_id.clone(), Arc::clone(network));
    Ok(())
}

/// The interface that an action is about, if it is about one: its failure delays no other.
fn owner(action: &Action) -> Option<&LinkName> {
    match action {
        Action::AddTap { link, .. }
        | Action::OpenTap { link, .. }
        | Action::RemoveTap { link, .. } => Some(link),
        _ => None,
    }
}

async fn remove_unwanted(
    host: &dyn Host,
    desired: &BTreeMap<VpcId, Arc<VpcNetwork>>,
    memory: &mut Memory,
    report: &mut NetworkReport,
) {
    let present = match host.observe_vpcs().await {
        Ok(present) => present,
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "cannot list the host's networks");
            return;
        }
    };
    for vpc_id in present.iter().filter(|id| !desired.contains_key(*id)) {
        tracing::info!(vpc.id = %vpc_id, "removing a network that is not wanted");
        memory.seen.remove(vpc_id);
        memory.applied.remove(vpc_id);
        memory.judged.remove(vpc_id);
        let seen = SeenNetwork { network: Some(ObservedNetwork::default()), firewall: None };
        for action in plan_network(vpc_id, None, &seen) {
            if let Err(error) = host.apply(&action).await {
                let error = ErrorChain(&error).to_string();
                tracing::warn!(vpc.id = %vpc_id, error, "removing a network failed");
                report.failed_vpcs.insert(vpc_id.clone(), error);
                break;
            }
        }
    }
}
