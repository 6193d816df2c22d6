//! What read and import get.

use tokio_util::sync::CancellationToken;

use super::apply::Outcome;
use crate::{
    cty::{Path, Value},
    diag::{Diagnostic, Diagnostics},
    private::Private,
    provider::ClientCapabilities,
};

/// A resource that is being looked at.
#[derive(Debug)]
pub struct ReadContext {
    /// The state as Terraform knows it; after an import, what `import` set.
    pub state: Value,
    pub client: ClientCapabilities,
    pub cancel: CancellationToken,
    pub(crate) outcome: Outcome,
}

impl ReadContext {
    /// What is there now.
    pub fn set_state(&mut self, state: impl Into<Value>) {
        let state = state.into();
        self.outcome.with(|outcome| outcome.state = Some(state));
    }

    /// Nothing changed.
    pub fn keep(&mut self) {
        self.set_state(self.state.clone());
    }

    /// It no longer exists; Terraform will plan to create it again.
    pub fn gone(&mut self) {
        self.set_state(Value::Null);
    }

    pub fn private(&self) -> Private {
        self.outcome.with(|outcome| outcome.private.clone())
    }

    pub fn set_private(&mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.outcome.with(|outcome| outcome.private.set(key, value));
    }

    /// Tells the user something without failing.
    pub fn warn(&mut self, diagnostic: Diagnostic) {
        self.outcome.with(|outcome| outcome.warnings.push(diagnostic));
    }
}

/// A resource that is being imported.
#[derive(Debug)]
pub struct ImportContext {
    /// What the user gave: `terraform import ADDRESS ID`. Empty where there is an identity.
    pub id: String,
    /// What the user gave in an `import` block instead of an id; null otherwise. What it has to
    /// name, it names.
    pub identity: Value,
    pub client: ClientCapabilities,
    pub cancel: CancellationToken,
    pub(crate) outcome: Outcome,
}

impl ImportContext {
    /// The state to start from; attributes left out are null until `read` fills them in.
    pub fn set_state(&mut self, state: impl Into<Value>) {
        let state = state.into();
        self.outcome.with(|outcome| outcome.state = Some(state));
    }

    /// Starts from the id alone, as the value of the attribute at `path`.
    pub fn by(&mut self, path: impl Into<Path>) -> Result<(), Diagnostics> {
        if self.id.is_empty() {
            return Err(Diagnostic::error("The import id is empty").into());
        }
        let mut state = Value::Null;
        state.set(path, self.id.as_str());
        self.set_state(state);
        Ok(())
    }

    pub fn set_private(&mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.outcome.with(|outcome| outcome.private.set(key, value));
    }

    pub fn warn(&mut self, diagnostic: Diagnostic) {
        self.outcome.with(|outcome| outcome.warnings.push(diagnostic));
    }
}
