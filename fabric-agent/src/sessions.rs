//! Clients' sessions: which are alive, and so whether what they made may be adopted.
//!
//! A session is alive as long as its stream is open. It ends gracefully when the client says so;
//! a stream that breaks without that leaves it dead, as does a restart of the agent. A client that
//! lives on opens its session again, under the same id.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weft_model::SessionId;

/// The sessions that are alive.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions {
    /// How many streams each of them has: for a moment two, when a broken one is not noticed yet.
    alive: Arc<Mutex<BTreeMap<SessionId, usize>>>,
}

/// Keeps a session alive; dropping it is the session's death.
#[derive(Debug)]
pub(crate) struct LiveSession {
    id: SessionId,
    sessions: Sessions,
}

impl Sessions {
    /// A new session, or one that goes on after its stream broke.
    pub(crate) fn open(&self, again: Option<SessionId>) -> LiveSession {
        let id = again.unwrap_or_else(|| SessionId::from_random(crate::random::bytes()));
        *self.lock().entry(id.clone()).or_default() += 1;
        LiveSession { id, sessions: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, usize>> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the session's stream is open.
    pub(crate) fn is_alive(&self, id: &SessionId) -> bool {
        self.lock().contains_key(id)
    }
}

impl LiveSession {
    pub(crate) fn id(&self) -> &SessionId {
        &self.id
    }
}

impl Drop for LiveSession {
    fn drop(&mut self) {
        let mut alive = self.sessions.lock();
        if let Some(streams) = alive.get_mut(&self.id) {
            *streams -= 1;
            if *streams == 0 {
                alive.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_is_opened_again_outlives_its_broken_stream() {
        let sessions = Sessions::default();
        let broken = sessions.open(None);
        let id = broken.id().clone();
        let again = sessions.open(Some(id.clone()));
        drop(broken);
        assert!(sessions.is_alive(&id));
        drop(again);
        assert!(!sessions.is_alive(&id));
    }
}
