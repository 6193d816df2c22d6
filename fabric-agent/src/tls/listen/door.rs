//! How many may be let in: handshakes that are under way, clients, and those that stay for a console.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::quiet::Quiet;

/// How many handshakes may be under way: of all peers, and of one (an address, or an IPv6 /64).
const MAX_HANDSHAKES: usize = 64;
const MAX_HANDSHAKES_OF_ONE: usize = 8;
/// How many clients may be connected, so that they leave files for everything else.
pub(super) const MAX_CLIENTS: usize = 256;
/// How many connections without a certificate may stay.
pub(super) const MAX_STAYING: usize = 128;

/// Counts who is let in.
#[derive(Debug)]
pub(super) struct Door {
    handshakes: Arc<Semaphore>,
    by_peer: Arc<Mutex<HashMap<IpAddr, usize>>>,
    pub(super) clients: Arc<Semaphore>,
    pub(super) staying: Arc<Semaphore>,
    quiet: Quiet,
}

impl Default for Door {
    fn default() -> Self {
        Self {
            handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
            by_peer: Arc::default(),
            clients: Arc::new(Semaphore::new(MAX_CLIENTS)),
            staying: Arc::new(Semaphore::new(MAX_STAYING)),
            quiet: Quiet::default(),
        }
    }
}

/// A place for one handshake.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    by_peer: Arc<Mutex<HashMap<IpAddr, usize>>>,
    peer: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_peer = self.by_peer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_peer.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                by_peer.remove(&self.peer);
            }
        }
    }
}

impl Door {
    /// A place, unless all are taken or this peer has its share.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Place> {
        let refuse = || {
            self.say(|| tracing::warn!(peer = %address, "a connection was dropped: too many handshakes are under way"));
        };
        let Ok(permit) = Arc::clone(&self.handshakes).try_acquire_owned() else {
            refuse();
            return None;
        };
        let peer = share(address);
        let mut by_peer = self.by_peer.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_peer.entry(peer).or_default();
        if *count >= MAX_HANDSHAKES_OF_ONE {
            drop(by_peer);
            refuse();
            return None;
        }
        *count += 1;
        drop(by_peer);
        Some(Place { _permit: permit, by_peer: Arc::clone(&self.by_peer), peer })
    }

    pub(super) fn say(&self, say: impl FnOnce()) {
        self.quiet.say(say);
    }
}

/// What counts as one peer: an IPv4 address, or a /64 of IPv6, which one machine has as a whole.
fn share(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_peer_gets_its_share_of_handshakes_and_leaves_room_for_others() {
        let door = Door::default();
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut places: Vec<_> =
            (0..MAX_HANDSHAKES_OF_ONE).map(|_| door.enter(one).unwrap()).collect();
        assert!(door.enter(one).is_none());
        assert!(door.enter(other).is_some());
        drop(places.pop());
        assert!(door.enter(one).is_some());
    }

    #[tokio::test]
    async fn all_peers_together_get_no_more_than_there_are_places() {
        let door = Door::default();
        let mut places = Vec::new();
        while let Some(place) = door.enter(IpAddr::V4(u32::try_from(places.len()).unwrap().into()))
        {
            places.push(place);
        }
        assert_eq!(places.len(), MAX_HANDSHAKES);
        places.clear();
        assert!(door.by_peer.lock().unwrap().is_empty());
        assert!(door.enter("2001:db8::1".parse().unwrap()).is_some());
    }

    #[test]
    fn a_64_of_ipv6_is_one_peer() {
        let share = |text: &str| share(text.parse().unwrap());
        assert_eq!(share("2001:db8::1"), share("2001:db8::ffff:1"));
        assert_ne!(share("2001:db8::1"), share("2001:db8:0:1::1"));
        assert_eq!(share("::ffff:192.0.2.1"), share("192.0.2.1"));
    }
}
