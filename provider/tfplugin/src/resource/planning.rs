//! What the plan hooks get.

use tokio_util::sync::CancellationToken;

use crate::{
    cty::{Path, Value},
    diag::{Diagnostic, Diagnostics},
    private::Private,
    provider::ClientCapabilities,
};

/// A creation or update that is being planned. The rules of [`crate::plan`] have run already.
#[derive(Debug)]
pub struct PlanContext {
    /// As written by the user; parts may be unknown.
    pub config: Value,
    /// The state before; null on creation.
    pub prior: Value,
    /// What will be, as far as it is known. Change it with the methods below.
    pub plan: Value,
    /// Private state. Note that Terraform plans again within apply, with the private state of
    /// the last apply: what is put here while planning reaches only the very next call.
    pub private: Private,
    pub client: ClientCapabilities,
    pub cancel: CancellationToken,
    pub(crate) replace: Vec<Path>,
    pub(crate) diagnostics: Diagnostics,
}

impl PlanContext {
    pub fn is_create(&self) -> bool {
        self.prior.is_null()
    }

    /// Whether the plan changes anything so far.
    pub fn has_changes(&self) -> bool {
        self.plan != self.prior
    }

    /// Whether the plan changes the value at `path`; unknown counts as changed.
    pub fn changes(&self, path: impl Into<Path>) -> bool {
        let path = path.into();
        self.plan.get(&path) != self.prior.get(&path)
    }

    /// Fills in a computed attribute.
    pub fn set(&mut self, path: impl Into<Path>, value: impl Into<Value>) {
        self.plan.set(path, value);
    }

    /// A computed attribute will change, but it is not known yet to what.
    pub fn mark_unknown(&mut self, path: impl Into<Path>) {
        self.plan.set(path, Value::Unknown);
    }

    /// The difference at `path` can only be made by a replacement. Terraform ignores it where
    /// plan and prior state are the same.
    pub fn replace(&mut self, path: impl Into<Path>) {
        self.replace.push(path.into());
    }

    /// Tells the user something without failing.
    pub fn warn(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Fails the plan, but goes on, so that the user sees all errors at once.
    pub fn error(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Whether the plan is refused already.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.has_errors()
    }
}

/// A destruction that is being planned.
#[derive(Debug)]
pub struct DestroyPlanContext {
    pub prior: Value,
    pub private: Private,
    pub client: ClientCapabilities,
    pub cancel: CancellationToken,
    pub(crate) diagnostics: Diagnostics,
}

impl DestroyPlanContext {
    /// Tells the user something without failing.
    pub fn warn(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }
}
