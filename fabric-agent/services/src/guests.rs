//! How much one guest may have under way at once.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts what is under way, for each guest and for all of a VPC.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    counts: Arc<Mutex<HashMap<Ipv4Addr, usize>>>,
    per_guest: usize,
    in_all: usize,
}

/// One thing under way; over when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    limits: Limits,
    guest: Ipv4Addr,
}

impl Limits {
    pub(crate) fn new(per_guest: usize, in_all: usize) -> Self {
        Self { counts: Arc::default(), per_guest, in_all }
    }

    /// A place for one more thing of `guest`, if there is one.
    pub(crate) fn take(&self, guest: Ipv4Addr) -> Option<Place> {
        let mut counts = self.counts();
        let in_all: usize = counts.values().sum();
        let count = counts.entry(guest).or_default();
        if *count >= self.per_guest || in_all >= self.in_all {
            return None;
        }
        *count += 1;
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

    #[test]
    fn one_guest_cannot_take_the_places_of_the_others() {
        let limits = Limits::new(2, 3);
        let guest = |n| Ipv4Addr::new(10, 0, 0, n);
        let first = limits.take(guest(1)).unwrap();
        let _second = limits.take(guest(1)).unwrap();
        assert!(limits.take(guest(1)).is_none(), "it has two");
        let _third = limits.take(guest(2)).unwrap();
        assert!(limits.take(guest(3)).is_none(), "all three are taken");
        drop(first);
        limits.take(guest(3)).unwrap();
        assert!(!limits.counts().contains_key(&guest(3)), "what is over is forgotten");
    }
}
