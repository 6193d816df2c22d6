//! Turns: work on one thing is done by one at a time: Creates with the same token, changes of an
//! object.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

/// Things that share a lane wait for each other without need; with this many they seldom do.
const LANES: usize = 256;

/// Who may work on what. Cheap to clone.
///
/// Whoever has the turn of a Create may take `Context::references`, then one object's turn and then
/// that of one count after it, in this order and never in another; nobody has two turns of one sort,
/// which may be one lane. As the sorts share no lane, nobody waits in a circle.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    creations: Lanes,
    objects: Lanes,
    counts: Lanes,
}

type Lanes = Arc<[Arc<Mutex<()>>]>;

/// The right to work on a thing, until it is dropped.
pub(crate) type Turn = OwnedMutexGuard<()>;

impl Turns {
    pub(crate) fn new() -> Self {
        let lanes = || (0..LANES).map(|_| Arc::default()).collect();
        Self { creations: lanes(), objects: lanes(), counts: lanes() }
    }

    /// Returns when no other Create with this token is under way.
    pub(crate) async fn creation(&self, token: &str) -> Turn {
        take(&self.creations, token).await
    }

    /// Returns when nobody else changes this object.
    pub(crate) async fn object(&self, id: &str) -> Turn {
        take(&self.objects, id).await
    }

    /// Returns when nobody else counts what this object has, to add to it.
    pub(crate) async fn count(&self, id: &str) -> Turn {
        take(&self.counts, id).await
    }
}

async fn take(lanes: &[Arc<Mutex<()>>], name: &str) -> Turn {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let lane = usize::try_from(hasher.finish() % LANES as u64).unwrap_or_default();
    Arc::clone(&lanes[lane]).lock_owned().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_of_different_sorts_never_wait_for_each_other() {
        let turns = Turns::new();
        let _creation = turns.creation("it").await;
        let _object = turns.object("it").await;
        let _count = turns.count("it").await;
    }
}
