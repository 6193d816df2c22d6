//! Clients' sessions: which are alive, and so whether what they made may be adopted.
//!
//! A session is alive as long as its stream is open. It ends gracefully when the client says so;
//! a stream that breaks without that leaves it dead, as does a restart of the agent.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use weft_model::SessionId;

/// The sessions that are alive.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions {
    alive: Arc<Mutex<BTreeSet<SessionId>>>,
}

/// Keeps a session alive; dropping it is the session's death.
#[derive(Debug)]
pub(crate) struct LiveSession {
    id: SessionId,
    sessions: Sessions,
}

impl Sessions {
    /// A new session.
    pub(crate) fn open(&self) -> LiveSession {
        let id = SessionId::from_random(crate::random::bytes());
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
        LiveSession { id, sessions: self.clone() }
    }

    /// Whether the session's stream is open.
    pub(crate) fn is_alive(&self, id: &SessionId) -> bool {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }
}

impl LiveSession {
    pub(crate) fn id(&self) -> &SessionId {
        &self.id
    }
}

impl Drop for LiveSession {
    fn drop(&mut self) {
        let mut alive = self.sessions.alive.lock().unwrap_or_else(PoisonError::into_inner);
        alive.remove(&self.id);
    }
}
