//! What guests use, and what the agent itself does: for `/metrics`, `weft top` and data sources.
//!
//! Asking is done by who wants to know, beside the reconcile loop and never in it: a guest whose
//! hypervisor does not answer costs the asker its patience, and nobody else anything.

mod agent;
mod exposition;
mod metrics;
pub(crate) mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant;
use weft_model::{
    GuestFigures, InstanceId, InstanceState, LinkCounters, LinkName, Timestamp, VpcId,
};

use crate::cache::World;
use crate::error_chain::ErrorChain;
use crate::metering::interfaces;
use crate::reconcile::Reconciler;
use crate::repo::{Instances, RecordOf};
pub(crate) use agent::{AgentFigures, Outcome};

/// Counters of links, by VPC.
type Links = BTreeMap<VpcId, BTreeMap<LinkName, LinkCounters>>;

/// Guests that are asked at the same time.
const AT_ONCE: usize = 8;
/// How long one guest may take to be asked.
const PATIENCE: Duration = Duration::from_secs(4);
/// Who asks sooner again is told the same.
const FRESH: Duration = Duration::from_secs(1);

/// One instance, as it was when it was looked at.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) record: Arc<RecordOf<Instances>>,
    pub(crate) state: InstanceState,
    /// What its guest uses; `None` where none runs, or could not be asked.
    pub(crate) figures: Option<GuestFigures>,
}

/// All instances, by id.
#[derive(Debug)]
pub(crate) struct Samples {
    pub(crate) at: Timestamp,
    pub(crate) all: Vec<Sample>,
}

/// The samples that were taken last.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    last: tokio::sync::Mutex<Option<(Instant, Arc<Samples>)>>,
}

impl Monitor {
    /// What all instances use now, or used a moment ago.
    pub(crate) async fn samples(&self, reconciler: &Reconciler) -> Arc<Samples> {
        let mut last = self.last.lock().await;
        if let Some((at, samples)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            tracing::trace!(age = ?at.elapsed(), "told again");
            return Arc::clone(samples);
        }
        let samples = Arc::new(take(reconciler).await);
        *last = Some((Instant::now(), Arc::clone(&samples)));
        samples
    }
}

/// Whether there is a guest to be asked.
fn has_guest(state: InstanceState) -> bool {
    matches!(state, InstanceState::Running | InstanceState::Stopping | InstanceState::Terminating)
}

/// What one instance uses now; nothing where there is no such.
pub(crate) async fn of_one(reconciler: &Reconciler, id: &InstanceId) -> Option<Sample> {
    let (record, state) = {
        let world = reconciler.cache.read();
        (world.instances.get(id)?.clone(), state_of(&world, id))
    };
    let links = links(reconciler, std::iter::once(record.as_ref())).await;
    Some(sample(reconciler, record, state, &links).await)
}

fn state_of(world: &World, id: &InstanceId) -> InstanceState {
    world.statuses.get(id).map_or(InstanceState::Pending, |status| status.state)
}

/// What the links of these instances have carried, by VPC.
async fn links<'a>(
    reconciler: &Reconciler,
    records: impl Iterator<Item = &'a RecordOf<Instances>>,
) -> Links {
    let of_records = records.flat_map(|record| interfaces(reconciler, record));
    let vpcs: BTreeSet<VpcId> = of_records.map(|interface| interface.vpc_id).collect();
    let mut links = BTreeMap::new();
    for vpc_id in vpcs {
        let of_vpc = reconciler.host.link_counters(&vpc_id).await.unwrap_or_else(|error| {
            tracing::debug!(vpc.id = %vpc_id, error = %ErrorChain(&error), "links' counters are not read");
            BTreeMap::new()
        });
        links.insert(vpc_id, of_vpc);
    }
    links
}

async fn take(reconciler: &Reconciler) -> Samples {
    let instances: Vec<_> = {
        let world = reconciler.cache.read();
        let with_state =
            |record: &Arc<RecordOf<Instances>>| (Arc::clone(record), state_of(&world, &record.id));
        world.instances.values().map(with_state).collect()
    };
    let running = instances.iter().filter(|(_, state)| has_guest(*state));
    let links = links(reconciler, running.map(|(record, _)| record.as_ref())).await;
    let links = &links;
    let asked = futures::stream::iter(instances)
        .map(|(record, state)| sample(reconciler, record, state, links));
    let all = asked.buffered(AT_ONCE).collect().await;
    Samples { at: reconciler.clock.now(), all }
}

async fn sample(
    reconciler: &Reconciler,
    record: Arc<RecordOf<Instances>>,
    state: InstanceState,
    links: &Links,
) -> Sample {
    let figures = match has_guest(state) {
        true => ask(reconciler, &record, links).await,
        false => None,
    };
    Sample { record, state, figures }
}

async fn ask(
    reconciler: &Reconciler,
    record: &RecordOf<Instances>,
    links: &Links,
) -> Option<GuestFigures> {
    let id = &record.id;
    let mut figures = match tokio::time::timeout(PATIENCE, reconciler.host.figures(id)).await {
        Ok(Ok(figures)) => figures?,
        Ok(Err(error)) => {
            tracing::debug!(instance.id = %id, error = %ErrorChain(&error), "its figures are not known");
            return None;
        }
        Err(_) => {
            tracing::debug!(instance.id = %id, "its hypervisor does not tell its figures");
            return None;
        }
    };
    let counted = interfaces(reconciler, record).into_iter().filter_map(|interface| {
        let counters = *links.get(&interface.vpc_id)?.get(&interface.link)?;
        Some((interface.id, counters))
    });
    figures.interfaces.extend(counted);
    Some(figures)
}
