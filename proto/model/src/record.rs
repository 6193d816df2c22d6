//! What the store keeps of every object, whatever its kind.

use serde::{Deserialize, Serialize};

use crate::{SessionId, Tags, Timestamp};

/// An object of the store: what should be.
///
/// `generation` counts changes of the specification; status has its own key and does not bump it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record<I, S> {
    /// Made by the agent.
    pub id: I,
    /// Starts at 1, counts updates.
    pub generation: u64,
    /// What should be.
    pub spec: S,
    /// Labels (the provider's `tags_all`).
    pub tags: Tags,
    /// What only the client knows (timeouts, wait_for, source_path): kept as it is.
    pub client_data: String,
    /// When Create was accepted.
    pub created_at: Timestamp,
    /// When Delete was accepted; the object goes once the host holds nothing of it.
    pub deleting_since: Option<Timestamp>,
    /// Whether a client is known to have it in its state.
    pub claim: Claim,
}

/// Whether some client's state is known to hold the object.
///
/// Created objects are unclaimed until their first Read or their session's graceful end. A Create
/// with the same content may adopt an unclaimed object whose session is dead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// Nobody but the session that made it may know of it.
    Unclaimed {
        /// The session of the Create.
        session: SessionId,
        /// Of the content of the Create.
        content: ContentHash,
        /// The store's key of the Create's token: forgotten when somebody else adopts the object.
        token_key: String,
    },
    /// Some client has it.
    Claimed,
}

/// The SHA-256 of a Create's content in hexadecimal; the token and the session are not part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContentHash(pub String);
