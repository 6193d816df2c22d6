//! Turns: work on the same thing, named by its id or a client's token, is done one after the other.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

/// Things that share a lane wait for each other without need; with this many they seldom do.
const LANES: usize = 256;

/// Who may work on what. Cheap to clone. Nobody takes a second turn while having one.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    lanes: Arc<[Arc<Mutex<()>>]>,
}

/// The right to work on a thing, until it is dropped.
pub(crate) type Turn = OwnedMutexGuard<()>;

impl Turns {
    pub(crate) fn new() -> Self {
        Self { lanes: (0..LANES).map(|_| Arc::default()).collect() }
    }

    /// Returns when nobody else works on `name`.
    pub(crate) async fn take(&self, name: &str) -> Turn {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let lane = usize::try_from(hasher.finish() % LANES as u64).unwrap_or_default();
        Arc::clone(&self.lanes[lane]).lock_owned().await
    }
}
