//! What the loop has found out of each thing, for those who ask or wait.

use std::collections::BTreeMap;

use tokio::sync::watch;

/// The last that was found of each.
#[derive(Debug)]
pub(crate) struct Noted<K, V>(watch::Sender<BTreeMap<K, V>>);

impl<K, V> Default for Noted<K, V> {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeMap::new()))
    }
}

impl<K: Clone + Ord, V: Clone + PartialEq> Noted<K, V> {
    /// `found` is what there is of it now; `None` where it is gone, or nothing is known.
    pub(super) fn note(&self, id: &K, found: Option<V>) {
        self.0.send_if_modified(|all| {
            if all.get(id) == found.as_ref() {
                return false;
            }
            match found {
                Some(found) => all.insert(id.clone(), found),
                None => all.remove(id),
            };
            true
        });
    }

    pub(crate) fn get(&self, id: &K) -> Option<V> {
        self.0.borrow().get(id).cloned()
    }

    /// Returns when something was found of it of which `holds` is true.
    pub(crate) async fn until(&self, id: &K, holds: impl Fn(&V) -> bool) {
        // The sender lives as long as self: waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|all| all.get(id).is_some_and(&holds)).await;
    }
}
