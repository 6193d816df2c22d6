//! Waiting for what the world becomes.

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use weft_model::{Problem, Reason};

use super::{Cache, Change, World};

impl Cache {
    /// Changes from now on; a receiver that lags behind looks at the whole world again.
    pub(crate) fn changes(&self) -> Receiver<Change> {
        self.changes.subscribe()
    }

    /// Returns when `holds` is true of the world: at once, or after the change that makes it so.
    pub(crate) async fn until(&self, holds: impl Fn(&World) -> bool) {
        // Subscribed before the first look: no change in between is missed.
        let mut changes = self.changes();
        while !holds(&self.read()) {
            // Who lags behind looks again, too. The sender lives as long as self.
            if let Err(RecvError::Closed) = changes.recv().await {
                return;
            }
        }
    }
}

/// Returns after a change of the object with this id, or of its status; also where changes were
/// missed, as it may have been among them.
///
/// # Errors
/// That the agent is ending: there are no changes any more.
pub(crate) async fn next_of(changes: &mut Receiver<Change>, id: &str) -> Result<(), Problem> {
    loop {
        match changes.recv().await {
            Ok(change) if change.id == id => return Ok(()),
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return Ok(()),
            Err(RecvError::Closed) => {
                return Err(Problem::new(Reason::Unavailable, "the agent is ending"));
            }
        }
    }
}
