//! Turns: work on one thing is done by one at a time: Creates with the same token, changes of an
//! object.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

/// Things that share a lane wait for each other without need; with this many they seldom do.
const LANES: usize = 256;

/// Who may work on what. Cheap to clone.
///
/// Whoever has the turn of a Create may take `Context::references` and then one object's turn after
/// it, in this order and never in another; nobody has two turns of one sort. As the sorts share no
/// lane, nobody waits in a circle.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    creations: Arc<[Arc<Mutex<()>>]>,
    objects: Arc<[Arc<Mutex<()>>]>,
}

/// The right to work on a thing, until it is dropped.
pub(crate) type Turn = OwnedMutexGuard<()>;

impl Turns {
    pub(crate) fn new() -> Self {
        let lanes = || (0..LANES).map(|_| Arc::default()).collect();
        Self { creations: lanes(), objects: lanes() }
    }

    /// Returns when no other Create with this token is under way.
    pub(crate) async fn creation(&self, token: &str) -> Turn {
        take(&self.creations, token).await
    }

    /// Returns when nobody else changes this object.
    pub(crate) async fn object(&self, id: &str) -> Turn {
        take(&self.objects, id).await
    }
}

async fn take(lanes: &[Arc<Mutex<()>>], name: &str) -> Turn {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let lane = usize::try_from(hasher.finish() % LANES as u64).unwrap_or_default();
    Arc::clone(&lanes[lane]).lock_owned().await
}
