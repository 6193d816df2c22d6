//! What create, update and delete get.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{
    cty::Value,
    diag::{Diagnostic, Diagnostics},
    private::Private,
    timeouts::{self, Operation},
};

/// A change that is being made.
#[derive(Debug)]
pub struct ApplyContext {
    pub operation: Operation,
    /// The configuration, wholly known; write-only attributes are only here. Null on delete.
    pub config: Value,
    /// What was planned; what is unknown in it must be known in the new state. Null on delete.
    pub plan: Value,
    /// The state before. Null on create.
    pub prior: Value,
    /// Cancelled when the user presses Ctrl-C: stop soon, with what is done so far in the state.
    pub cancel: CancellationToken,
    pub(crate) outcome: Outcome,
}

impl ApplyContext {
    /// Hands over the state as it is now. What is still unknown in it is fine if an error
    /// follows (it is saved as null) and a mistake if not.
    pub fn set_state(&mut self, state: impl Into<Value>) {
        let state = state.into();
        self.outcome.with(|outcome| outcome.state = Some(state));
    }

    /// The state handed over last.
    pub fn state(&self) -> Option<Value> {
        self.outcome.with(|outcome| outcome.state.clone())
    }

    pub fn private(&self) -> Private {
        self.outcome.with(|outcome| outcome.private.clone())
    }

    /// Keeps nothing called `key` any more.
    pub fn remove_private(&mut self, key: &str) {
        self.outcome.with(|outcome| outcome.private.remove(key));
    }

    /// Keeps `value` with the resource, unseen by the user.
    pub fn set_private(&mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.outcome.with(|outcome| outcome.private.set(key, value));
    }

    /// Tells the user something without failing.
    pub fn warn(&mut self, diagnostic: Diagnostic) {
        self.outcome.with(|outcome| outcome.warnings.push(diagnostic));
    }

    /// The timeout that the user set for this operation, else `default`.
    pub fn timeout(&self, default: Duration) -> Result<Duration, Diagnostics> {
        let values = if self.operation == Operation::Delete { &self.prior } else { &self.plan };
        timeouts::get(values, self.operation, default)
    }

    /// Whether the plan changes the value at `path`.
    pub fn changes(&self, path: &str) -> bool {
        self.plan.get(path) != self.prior.get(path)
    }
}

/// What the operation has produced so far. Shared, so that it outlives a panic of the operation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome(Arc<Mutex<Produced>>);

#[derive(Debug, Clone, Default)]
pub(crate) struct Produced {
    pub(crate) state: Option<Value>,
    pub(crate) private: Private,
    pub(crate) warnings: Diagnostics,
}

impl Outcome {
    pub(crate) fn new(private: Private) -> Self {
        Self(Arc::new(Mutex::new(Produced { private, ..Produced::default() })))
    }

    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Produced) -> T) -> T {
        // No code of the provider runs under the lock, so what is behind it is whole.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn take(&self) -> Produced {
        self.with(std::mem::take)
    }
}
