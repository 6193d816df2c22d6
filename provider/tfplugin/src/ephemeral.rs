//! Ephemeral resources: values that live as long as one run and are in no plan and no state
//! (Terraform 1.10 and later).
//!
//! Terraform opens one when something needs it, renews it while the run goes on, and closes it when
//! nothing needs it any more, in each plan and each apply.

use std::time::SystemTime;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{
    cty::Value,
    diag::{Diagnostic, Diagnostics},
    provider::ClientCapabilities,
    resource::ValidateContext,
    schema::Schema,
};

/// An ephemeral resource. In its schema nothing is write-only or replaces.
#[async_trait]
pub trait EphemeralResource: Send + Sync + 'static {
    /// The full name, such as `shop_ticket`.
    fn type_name(&self) -> &str;

    fn schema(&self) -> Schema;

    /// Checks beyond the validators of the schema. Values may be unknown.
    async fn validate(&self, _ctx: &ValidateContext) -> Diagnostics {
        Diagnostics::new()
    }

    /// Makes it. All of `ctx.config` is known.
    async fn open(&self, ctx: &mut EphemeralContext) -> Result<Opened, Diagnostics>;

    /// Has it live on: called at `Opened::renew_at`, with what `open` or the last renewal left in
    /// `ctx.private`. Returns when it has to be renewed next.
    async fn renew(&self, _ctx: &mut EphemeralContext) -> Result<Option<SystemTime>, Diagnostics> {
        Ok(None)
    }

    /// Ends it. Called also where `open` has succeeded and the run has failed.
    async fn close(&self, _ctx: &mut EphemeralContext) -> Result<(), Diagnostics> {
        Ok(())
    }
}

/// What opening gives.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The configuration with everything computed filled in.
    pub result: Value,
    /// When it has to be renewed; never, where there is nothing.
    pub renew_at: Option<SystemTime>,
}

/// What the calls about an ephemeral resource get.
#[derive(Debug)]
pub struct EphemeralContext {
    /// The configuration, defaults filled in; null when it is renewed or closed.
    pub config: Value,
    pub client: ClientCapabilities,
    /// Cancelled when the user presses Ctrl-C. A close that comes after it is to be carried out.
    pub cancel: CancellationToken,
    /// What the next call about it gets back. Terraform keeps it in memory only.
    pub private: Vec<u8>,
    pub(crate) warnings: Diagnostics,
}

impl EphemeralContext {
    /// Tells the user something without failing.
    pub fn warn(&mut self, diagnostic: Diagnostic) {
        self.warnings.push(diagnostic);
    }
}
