//! What is given out: addresses, uids, tap names, memory. In memory, loaded from the store.
//!
//! A reservation is made before the store's transaction and kept when that has gone through;
//! dropping it gives everything back.

mod seats;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weft_model::{InstanceId, InstanceSpec, Interface, PowerState, Problem, Reason, Record};

pub(crate) use seats::{SeatReservation, SeatV6, SeatWish, Seats};

/// The first uid of guests' hypervisors.
pub(crate) const FIRST_UID: u32 = 1_900_000_000;

/// What one instance has, without its interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) uid: u32,
    /// What it takes of the host while it is on; zero while it is off.
    pub(crate) memory_mib: u64,
    /// Likewise.
    pub(crate) vcpus: u32,
}

/// What is asked for on behalf of a new instance.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) memory_mib: u64,
    pub(crate) vcpus: u32,
}

/// Everything that is given out on this host.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    shared: Arc<Shared>,
    /// What network interfaces have.
    pub(crate) seats: Seats,
}

#[derive(Debug)]
struct Shared {
    memory_mib: u64,
    holdings: Mutex<BTreeMap<InstanceId, Holding>>,
}

/// Given back when dropped, unless [`Reservation::keep`] was called.
#[derive(Debug)]
pub(crate) struct Reservation {
    ledger: Ledger,
    id: InstanceId,
    /// What the instance had before; `None` for a new one.
    before: Option<Holding>,
    kept: bool,
}

impl Ledger {
    /// A ledger of a host with `memory_mib`, with what `instances` have, and the `interfaces` that
    /// are no parts of theirs.
    pub(crate) fn new<'a>(
        memory_mib: u64,
        instances: impl IntoIterator<Item = &'a Record<InstanceId, InstanceSpec>> + Clone,
        interfaces: impl IntoIterator<Item = &'a Interface>,
        cost_mib: impl Fn(&InstanceSpec) -> u64,
    ) -> Self {
        let primary = instances.clone().into_iter().map(|record| &record.spec.interface);
        let seats = Seats::of(primary.chain(interfaces));
        let holdings = instances
            .into_iter()
            .map(|record| {
                let spec = &record.spec;
                let on = spec.power == PowerState::Running;
                let holding = Holding {
                    uid: spec.uid,
                    memory_mib: if on { cost_mib(spec) } else { 0 },
                    vcpus: if on { spec.vcpus } else { 0 },
                };
                (record.id.clone(), holding)
            })
            .collect();
        Self { shared: Arc::new(Shared { memory_mib, holdings: Mutex::new(holdings) }), seats }
    }

    fn holdings(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Holding>> {
        self.shared.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// MiB that no instance has.
    pub(crate) fn free_memory_mib(&self) -> u64 {
        free(self.shared.memory_mib, &self.holdings(), None)
    }

    /// MiB that no instance has, if `these` had nothing.
    pub(crate) fn free_memory_without(&self, these: &BTreeSet<InstanceId>) -> u64 {
        let holdings = self.holdings();
        let others = holdings.iter().filter(|(id, _)| !these.contains(*id));
        let taken: u64 = others.map(|(_, holding)| holding.memory_mib).sum();
        self.shared.memory_mib.saturating_sub(taken)
    }

    /// vCPUs of instances that are on.
    pub(crate) fn used_vcpus(&self) -> u32 {
        self.holdings().values().map(|holding| holding.vcpus).sum()
    }

    /// Takes what a new instance needs.
    ///
    /// # Errors
    /// [`Reason::ResourceExhausted`] at the memory.
    pub(crate) fn reserve(
        &self,
        id: &InstanceId,
        wish: Wish,
    ) -> Result<(Reservation, Holding), Problem> {
        let mut holdings = self.holdings();
        check_memory(self.shared.memory_mib, &holdings, None, wish.memory_mib)?;
        let uids: BTreeSet<u32> = holdings.values().map(|holding| holding.uid).collect();
        let uid = (FIRST_UID..).find(|uid| !uids.contains(uid)).unwrap_or(FIRST_UID);
        let holding = Holding { uid, memory_mib: wish.memory_mib, vcpus: wish.vcpus };
        holdings.insert(id.clone(), holding.clone());
        drop(holdings);
        Ok((self.reservation(id, None), holding))
    }

    /// Lets an instance take more of the host's memory and processors. What it takes less is given
    /// back when its guest has ended, see [`Ledger::settle`].
    ///
    /// # Errors
    /// [`Reason::ResourceExhausted`]; nothing has changed then.
    pub(crate) fn raise(
        &self,
        id: &InstanceId,
        memory_mib: u64,
        vcpus: u32,
    ) -> Result<Reservation, Problem> {
        let mut holdings = self.holdings();
        let before = holdings.get(id).cloned();
        if before.as_ref().is_none_or(|before| memory_mib > before.memory_mib) {
            check_memory(self.shared.memory_mib, &holdings, Some(id), memory_mib)?;
        }
        if let Some(holding) = holdings.get_mut(id) {
            holding.memory_mib = holding.memory_mib.max(memory_mib);
            holding.vcpus = holding.vcpus.max(vcpus);
        }
        drop(holdings);
        Ok(self.reservation(id, before))
    }

    /// Whether that is what an instance takes already.
    pub(crate) fn has_settled(&self, id: &InstanceId, memory_mib: u64, vcpus: u32) -> bool {
        let holdings = self.holdings();
        let holding = holdings.get(id);
        holding.is_none_or(|h| h.memory_mib == memory_mib && h.vcpus == vcpus)
    }

    /// What an instance takes now that its guest is as it is wanted.
    pub(crate) fn settle(&self, id: &InstanceId, memory_mib: u64, vcpus: u32) {
        if let Some(holding) = self.holdings().get_mut(id) {
            holding.memory_mib = memory_mib;
            holding.vcpus = vcpus;
        }
    }

    /// Gives back what an instance had, but its interface's seat.
    pub(crate) fn release(&self, id: &InstanceId) {
        self.holdings().remove(id);
    }

    fn reservation(&self, id: &InstanceId, before: Option<Holding>) -> Reservation {
        Reservation { ledger: self.clone(), id: id.clone(), before, kept: false }
    }
}

impl Reservation {
    /// The store knows it now.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let mut holdings = self.ledger.holdings();
        match (self.before.take(), holdings.get_mut(&self.id)) {
            (Some(before), Some(holding)) => *holding = before,
            // It was released meanwhile, and stays so.
            (Some(_), None) => {}
            (None, _) => {
                holdings.remove(&self.id);
            }
        }
    }
}

fn free(total: u64, holdings: &BTreeMap<InstanceId, Holding>, but: Option<&InstanceId>) -> u64 {
    let others = holdings.iter().filter(|(id, _)| Some(*id) != but);
    total.saturating_sub(others.map(|(_, holding)| holding.memory_mib).sum())
}

fn check_memory(
    total: u64,
    holdings: &BTreeMap<InstanceId, Holding>,
    but: Option<&InstanceId>,
    wanted: u64,
) -> Result<(), Problem> {
    let free = free(total, holdings, but);
    if wanted <= free {
        return Ok(());
    }
    let message = format!(
        "the host has no room for the instance: it takes {wanted} MiB with what runs it, and \
         {free} of {total} MiB are free"
    );
    Err(Problem::new(Reason::ResourceExhausted, message)
        .at("memory_mib")
        .remedy("use a smaller type, or stop or remove other instances"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> InstanceId {
        InstanceId::from_random([n; 9])
    }

    fn wish(memory_mib: u64) -> Wish {
        Wish { memory_mib, vcpus: 1 }
    }

    fn ledger() -> Ledger {
        Ledger::new(1000, [], [], |spec| spec.memory_mib.into())
    }

    #[test]
    fn what_is_not_kept_is_given_back() {
        let ledger = ledger();
        let (first, holding) = ledger.reserve(&id(1), wish(600)).unwrap();
        assert_eq!(holding.uid, FIRST_UID);
        assert_eq!(ledger.free_memory_mib(), 400);
        let problem = ledger.reserve(&id(2), wish(600)).unwrap_err();
        assert!(problem.message.contains("400 of 1000 MiB are free"), "{problem}");
        drop(first);
        let (second, holding) = ledger.reserve(&id(2), wish(600)).unwrap();
        assert_eq!(holding.uid, FIRST_UID);
        second.keep();
        assert_eq!(ledger.free_memory_mib(), 400);
    }

    #[test]
    fn what_some_have_can_count_as_free() {
        let ledger = ledger();
        ledger.reserve(&id(1), wish(600)).unwrap().0.keep();
        ledger.reserve(&id(2), wish(300)).unwrap().0.keep();
        let free = |ids: &[u8]| ledger.free_memory_without(&ids.iter().map(|n| id(*n)).collect());
        assert_eq!((free(&[]), free(&[1]), free(&[1, 2]), free(&[3])), (100, 700, 1000, 100));
    }

    #[test]
    fn an_instance_that_grows_does_not_count_twice() {
        let ledger = ledger();
        ledger.reserve(&id(1), wish(600)).unwrap().0.keep();
        ledger.raise(&id(1), 900, 2).unwrap().keep();
        assert_eq!((ledger.free_memory_mib(), ledger.used_vcpus()), (100, 2));
        assert!(ledger.raise(&id(1), 1001, 2).is_err());
        ledger.raise(&id(1), 0, 0).unwrap().keep();
        assert_eq!(ledger.free_memory_mib(), 100, "its guest still runs");
        ledger.settle(&id(1), 0, 0);
        assert_eq!(ledger.free_memory_mib(), 1000);
        ledger.raise(&id(1), 900, 2).unwrap().keep();
        assert_eq!(ledger.free_memory_mib(), 100);
        ledger.release(&id(1));
        assert_eq!(ledger.free_memory_mib(), 1000);
    }
}
