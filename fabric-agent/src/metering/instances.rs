//! What instances run and send.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_metering::{Entry, Item, Labels, Meter, Moment, Run, Sent};
use weft_model::{Interface, LinkCounters, LinkName, Problem, VpcId};
use weft_planner::GuestState;
use weft_store::Txn;

use super::Metering;
use super::books::{Books, Draft, MeterKey};
use crate::error_chain::ErrorChain;
use crate::host::{Host, SeenGuest};
use crate::reconcile::Reconciler;
use crate::repo::{Instances, RecordOf};

/// What a guest of the specification is counted as.
pub(crate) fn running_item(spec: &weft_model::InstanceSpec) -> Item {
    Item::Instance {
        instance_type: spec.instance_type.clone(),
        vcpus: spec.vcpus,
        memory_mib: spec.memory_mib,
    }
}

pub(super) fn labels(record: &RecordOf<Instances>) -> Labels {
    let name = record.spec.name.as_ref().map(ToString::to_string);
    Labels { name, tags: record.tags.clone() }
}

/// The counters of the links of an instance's interfaces, by the interfaces' ids.
type Carried = BTreeMap<String, Sent>;

impl Metering {
    /// The next guest of the instance will be as the record says: to be stored before it starts, as
    /// the record may have changed when somebody sees it run.
    pub(crate) async fn expect(&self, record: &RecordOf<Instances>) -> Result<(), Problem> {
        let mut books = self.books.lock().await;
        books.load(&self.repo).await?;
        let key = MeterKey::of_instance(&record.id);
        let (item, labels) = (running_item(&record.spec), labels(record));
        let known = books.get(&key);
        let mut meter = known.cloned().unwrap_or_else(|| Meter::idle(item.clone(), labels.clone()));
        meter.expect(item, labels);
        if known == Some(&meter) {
            return Ok(());
        }
        let mut draft = Draft::default();
        draft.put(key, Some(meter), Vec::new());
        books.commit(&self.repo, draft, Txn::new()).await.map(|_| ())
    }

    /// Takes in what the host has of an instance; `now` was before the host was asked. Cheap where
    /// nothing has changed. `carried` is asked for when a guest has ended, and its links are still
    /// there; nobody waits for the books meanwhile.
    pub(crate) async fn note(
        &self,
        record: &RecordOf<Instances>,
        seen: &SeenGuest,
        now: &Moment,
        carried: impl AsyncFnOnce() -> Carried,
    ) -> Result<(), Problem> {
        self.take(record, seen, now, carried, false).await
    }

    async fn take(
        &self,
        record: &RecordOf<Instances>,
        seen: &SeenGuest,
        now: &Moment,
        carried: impl AsyncFnOnce() -> Carried,
        count: bool,
    ) -> Result<(), Problem> {
        let mut books = self.books.lock().await;
        books.load(&self.repo).await?;
        let mut found = Found::of(&books, record, seen, now, count);
        if found.wants_counters {
            let was_known = found.known.is_some();
            drop(books);
            // The kernel is asked while nobody waits for the books.
            let carried = carried().await;
            books = self.books.lock().await;
            books.load(&self.repo).await?;
            found = Found::of(&books, record, seen, now, count);
            if was_known && found.known.is_none() {
                return Ok(()); // It was removed meanwhile, and counted to its end.
            }
            if found.wants_counters {
                found.count_sent(carried, now);
            }
        }
        let Found { known, meter, entries, runs, .. } = found;
        if runs {
            books.seen.insert(record.id.clone());
        }
        let is_nothing = known.is_none() && !meter.is_counting() && entries.is_empty();
        if is_nothing || known.as_ref() == Some(&meter) {
            return Ok(());
        }
        let mut draft = Draft::default();
        draft.put(MeterKey::of_instance(&record.id), Some(meter), entries);
        books.commit(&self.repo, draft, Txn::new()).await.map(|_| ())
    }
}

/// What the host has of an instance, and what follows for its meter.
struct Found {
    /// The meter before.
    known: Option<Meter>,
    meter: Meter,
    entries: Vec<Entry>,
    runs: bool,
    /// Whether what its interfaces have carried is to be counted.
    wants_counters: bool,
}

impl Found {
    fn of(
        books: &Books,
        record: &RecordOf<Instances>,
        seen: &SeenGuest,
        now: &Moment,
        count: bool,
    ) -> Self {
        let known = books.get(&MeterKey::of_instance(&record.id)).cloned();
        let was_counting = known.as_ref().is_some_and(Meter::is_counting);
        let mut meter = known
            .clone()
            .unwrap_or_else(|| Meter::idle(running_item(&record.spec), labels(record)));
        let mut entries = meter.see(&seen.run, books.last_seen(&record.id, now));
        let mut runs = false;
        if let (Run::Running { .. }, GuestState::Running { epoch }) = (&seen.run, &seen.guest) {
            runs = true;
            // A guest of an older launch goes on as it was started; one that is to grow counts as it
            // was until it has.
            let is_as_wanted =
                *epoch >= record.spec.run_epoch && seen.size.covers(record.spec.size());
            let item = match is_as_wanted {
                true => running_item(&record.spec),
                false => meter.item.clone(),
            };
            entries.extend(meter.relabel(item, labels(record), now));
            if count {
                entries.extend(meter.advance(now));
            }
        }
        let has_ended = was_counting && !meter.is_counting();
        let wants_counters = has_ended || (count && meter.is_counting());
        Self { known, meter, entries, runs, wants_counters }
    }

    fn count_sent(&mut self, carried: Carried, now: &Moment) {
        if !carried.is_empty() {
            let ids: BTreeSet<String> = carried.keys().cloned().collect();
            let sent = carried.into_iter().filter_map(|(id, sent)| self.meter.sent(&id, sent, now));
            self.entries.extend(sent);
            self.meter.keep_interfaces(|id| ids.contains(id));
        }
    }
}

impl Reconciler {
    /// Takes in what the host has of an instance for its meter; see [`Metering::note`].
    pub(crate) async fn note_usage(
        &self,
        record: &RecordOf<Instances>,
        seen: &SeenGuest,
        now: &Moment,
    ) -> Result<(), Problem> {
        let carried = async || {
            let interfaces = interfaces(self, record);
            let vpcs: BTreeSet<&VpcId> = interfaces.iter().map(|one| &one.vpc_id).collect();
            let mut links = BTreeMap::new();
            for vpc_id in vpcs {
                links.insert(vpc_id.clone(), links_of(self.host.as_ref(), vpc_id).await);
            }
            carried(&interfaces, &links, |vpc_id| space(self.host.as_ref(), vpc_id, now))
        };
        self.metering.note(record, seen, now, carried).await
    }
}

/// Every interface of an instance: its own and those that are attached.
pub(crate) fn interfaces(reconciler: &Reconciler, record: &RecordOf<Instances>) -> Vec<Interface> {
    let world = reconciler.cache.read();
    let attached = world.attachments_of(&record.id);
    let attached = attached.filter_map(|one| world.network_interfaces.get(one.id.second()));
    let attached = attached.map(|own| own.spec.interface.clone());
    std::iter::once(record.spec.interface.clone()).chain(attached).collect()
}

/// Nothing where they cannot be read: they are counted the next time.
async fn links_of(host: &dyn Host, vpc_id: &VpcId) -> BTreeMap<LinkName, LinkCounters> {
    host.link_counters(vpc_id).await.unwrap_or_else(|error| {
        tracing::debug!(vpc.id = %vpc_id, error = %ErrorChain(&error), "links' counters are not read");
        BTreeMap::new()
    })
}

/// Which namespace of which boot the VPC has.
fn space(host: &dyn Host, vpc_id: &VpcId, now: &Moment) -> String {
    let namespace = host.namespace_of(vpc_id).ok().flatten();
    format!("{} {}", now.boot, namespace.map(|its| its.0).unwrap_or_default())
}

fn carried(
    interfaces: &[Interface],
    links: &BTreeMap<VpcId, BTreeMap<LinkName, LinkCounters>>,
    namespaces: impl Fn(&VpcId) -> String,
) -> Carried {
    let sent = |interface: &Interface| {
        let counters = links.get(&interface.vpc_id)?.get(&interface.link)?;
        let (space, index) = (namespaces(&interface.vpc_id), counters.index);
        Some((interface.id.to_string(), Sent { space, index, bytes: counters.sent_bytes }))
    };
    interfaces.iter().filter_map(sent).collect()
}

/// Counts what every instance has run and sent up to now.
pub(super) async fn count_all(reconciler: &Arc<Reconciler>) {
    let host = reconciler.host.as_ref();
    let records: Vec<_> = reconciler.cache.read().instances.values().cloned().collect();
    let of_records: Vec<_> = records.iter().map(|it| interfaces(reconciler, it)).collect();
    let vpcs: BTreeSet<VpcId> = of_records.iter().flatten().map(|it| it.vpc_id.clone()).collect();
    let mut links = BTreeMap::new();
    for vpc_id in vpcs {
        let of_vpc = links_of(host, &vpc_id).await;
        links.insert(vpc_id, of_vpc);
    }
    for (record, interfaces) in records.iter().zip(&of_records) {
        let now = reconciler.clock.moment();
        let seen = match host.observe_guest(&record.id).await {
            Ok(seen) => seen,
            Err(error) => {
                tracing::debug!(instance.id = %record.id, error = %ErrorChain(&error), "not counted now");
                continue;
            }
        };
        let carried = async || carried(interfaces, &links, |vpc_id| space(host, vpc_id, &now));
        if let Err(problem) = reconciler.metering.take(record, &seen, &now, carried, true).await {
            tracing::warn!(instance.id = %record.id, error = %problem, "its usage is not counted");
        }
    }
}
