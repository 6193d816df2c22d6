//! How much one guest may have under way at once.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts what is under way, for each guest, for all of a VPC, and with all other VPCs of the host.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    counts: Arc<Mutex<HashMap<Ipv4Addr, usize>>>,
    per_guest: usize,
    in_vpc: usize,
    host: HostLimit,
}

/// What all VPCs of a host may have under way together: one VPC's guests must not take the agent's
/// descriptors and memory from the others.
#[derive(Clone, Debug)]
pub(crate) struct HostLimit {
    count: Arc<AtomicUsize>,
    max: usize,
}

impl HostLimit {
    pub(crate) fn new(max: usize) -> Self {
        Self { count: Arc::default(), max }
    }

    fn take(&self) -> bool {
        let more = |count: usize| (count < self.max).then_some(count + 1);
        self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One thing under way; over when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    limits: Limits,
    guest: Ipv4Addr,
}

impl Limits {
    /// Of one VPC. `host` is shared by all VPCs.
    pub(crate) fn new(per_guest: usize, in_vpc: usize, host: &HostLimit) -> Self {
        Self { counts: Arc::default(), per_guest, in_vpc, host: host.clone() }
    }

    /// A place for one more thing of `guest`, if there is one.
    pub(crate) fn take(&self, guest: Ipv4Addr) -> Option<Place> {
        let mut counts = self.counts();
        let in_vpc: usize = counts.values().sum();
        let own = counts.get(&guest).copied().unwrap_or_default();
        if own >= self.per_guest || in_vpc >= self.in_vpc || !self.host.take() {
            return None;
        }
        counts.insert(guest, own + 1);
        Some(Place { limits: self.clone(), guest })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Ipv4Addr, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Whose it is.
    pub(crate) fn guest(&self) -> Ipv4Addr {
        self.guest
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.limits.host.give_back();
        let mut counts = self.limits.counts();
        if let Some(count) = counts.get_mut(&self.guest) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.guest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(n: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, n)
    }

    #[test]
    fn one_guest_cannot_take_the_places_of_the_others() {
        let limits = Limits::new(2, 3, &HostLimit::new(9));
        let first = limits.take(guest(1)).unwrap();
        let _second = limits.take(guest(1)).unwrap();
        assert!(limits.take(guest(1)).is_none(), "it has two");
        let _third = limits.take(guest(2)).unwrap();
        assert!(limits.take(guest(3)).is_none(), "all three are taken");
        drop(first);
        limits.take(guest(3)).unwrap();
        assert!(!limits.counts().contains_key(&guest(3)), "what is over is forgotten");
    }

    #[test]
    fn all_vpcs_together_have_no_more_than_the_host_gives() {
        let host = HostLimit::new(3);
        let (one, other) = (Limits::new(2, 2, &host), Limits::new(2, 2, &host));
        let held = [one.take(guest(1)).unwrap(), one.take(guest(1)).unwrap()];
        let third = other.take(guest(1)).unwrap();
        assert!(other.take(guest(2)).is_none(), "the host's three are taken");
        assert!(!other.counts().contains_key(&guest(2)), "who gets no place is not remembered");
        drop(third);
        drop(held);
        assert_eq!(host.count.load(Ordering::Relaxed), 0);
        other.take(guest(2)).unwrap();
    }
}
