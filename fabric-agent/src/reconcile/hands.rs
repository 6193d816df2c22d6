//! Who works on which volumes' disks: a snapshot of one and the guests that come to it and leave it
//! must not meet.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use weft_model::VolumeId;

/// The volumes that somebody works on. Several are taken at once or not at all, so nobody waits in a
/// circle. Taken before an object's turn, never after it.
#[derive(Debug, Default)]
pub(super) struct Hands {
    busy: Mutex<BTreeSet<VolumeId>>,
    freed: Notify,
}

/// The right to work on volumes, until it is dropped.
#[derive(Debug)]
pub(super) struct Held<'a> {
    hands: &'a Hands,
    ids: BTreeSet<VolumeId>,
}

impl Held<'_> {
    pub(super) fn ids(&self) -> &BTreeSet<VolumeId> {
        &self.ids
    }
}

impl Hands {
    fn busy(&self) -> MutexGuard<'_, BTreeSet<VolumeId>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes them, if nobody has any of them.
    pub(super) fn try_take(&self, ids: &BTreeSet<VolumeId>) -> Option<Held<'_>> {
        let mut busy = self.busy();
        if !busy.is_disjoint(ids) {
            return None;
        }
        busy.extend(ids.iter().cloned());
        Some(Held { hands: self, ids: ids.clone() })
    }

    /// Returns when all of them are the caller's.
    pub(super) async fn take(&self, ids: BTreeSet<VolumeId>) -> Held<'_> {
        loop {
            // Before it is looked: what is freed in between is not missed.
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if let Some(held) = self.try_take(&ids) {
                return held;
            }
            freed.await;
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut busy = self.hands.busy();
        self.ids.iter().for_each(|id| {
            busy.remove(id);
        });
        drop(busy);
        self.hands.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn ids(numbers: &[u8]) -> BTreeSet<VolumeId> {
        numbers.iter().map(|n| VolumeId::from_random([*n; 9])).collect()
    }

    #[tokio::test]
    async fn several_volumes_are_taken_at_once_or_not_at_all() {
        let hands = Arc::new(Hands::default());
        let first = hands.take(ids(&[1, 2])).await;
        assert!(hands.try_take(&ids(&[2, 3])).is_none());
        let third = hands.try_take(&ids(&[3])).unwrap();
        let (others, wanted) = (Arc::clone(&hands), ids(&[2, 3]));
        let waits = tokio::spawn(async move { others.take(wanted).await.ids().len() });
        tokio::task::yield_now().await;
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waits.is_finished(), "one of both is somebody's");
        drop(third);
        assert_eq!(waits.await.unwrap(), 2);
        assert!(hands.try_take(&ids(&[1, 2, 3])).is_some());
    }
}
