//! What is wrong, where, and what to do: the one shape of every refusal.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A stable word for programs; the message is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The request can never be right as it is.
    InvalidArgument,
    /// The object, or one it refers to, does not exist.
    NotFound,
    /// Something with this name, address or token exists with other content.
    AlreadyExists,
    /// The object is used by others, which the message names.
    InUse,
    /// The object changed since it was read.
    StaleGeneration,
    /// The request is right but the object's state does not allow it now.
    FailedPrecondition,
    /// No room: memory, addresses or disk.
    ResourceExhausted,
    /// The past that is asked for is not kept any more.
    OutOfRange,
    /// What was waited for did not happen in time.
    DeadlineExceeded,
    /// The agent, or what it stands on, is not reachable now.
    Unavailable,
    /// A defect or a fault of the machine.
    Internal,
}

/// A refusal or failure as people see it. `Display` is the message alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Problem {
    /// For programs.
    pub reason: Reason,
    /// What is wrong, with the offending value. Lowercase, no final dot.
    pub message: String,
    /// The offending field, as the API names it: `root_volume.size_gib`.
    pub field: Option<String>,
    /// What to do about it.
    pub remedy: Option<String>,
    /// What was seen, in as many lines as it takes: phases, the console's tail.
    pub evidence: Option<String>,
}

impl Problem {
    /// A problem without field or remedy.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), field: None, remedy: None, evidence: None }
    }

    /// An [`Reason::InvalidArgument`] at `field`.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Reason::InvalidArgument, message).at(field)
    }

    /// A [`Reason::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Reason::NotFound, message)
    }

    /// Names the offending field.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Adds what was seen.
    #[must_use]
    pub fn evidence(mut self, evidence: impl Into<String>) -> Self {
        self.evidence = Some(evidence.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
