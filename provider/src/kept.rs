//! What only the provider knows, kept by the agent as `client_data` so that import gives it back.

use serde::Serialize;
use serde::de::DeserializeOwned;
use weft_model::{Problem, Reason};

/// As it goes along with Create and Update.
pub(crate) fn encode(kept: &impl Serialize) -> Result<String, Problem> {
    serde_json::to_string(kept).map_err(|error| {
        Problem::new(Reason::Internal, "what only the provider knows cannot be encoded")
            .evidence(error.to_string())
    })
}

/// What came back. An object that another client made has none: then everything has its default.
pub(crate) fn decode<T: DeserializeOwned + Default>(client_data: &str) -> T {
    if client_data.is_empty() {
        return T::default();
    }
    serde_json::from_str(client_data).unwrap_or_else(|error| {
        tracing::warn!(%error, "client_data is not of this provider, using defaults");
        T::default()
    })
}
