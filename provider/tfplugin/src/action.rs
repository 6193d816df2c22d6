//! Actions: what is done once and leaves no state (Terraform 1.14 and later).
//!
//! They run when a resource that triggers them changes, or by `terraform apply -invoke=...`.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use crate::{
    cty::Value,
    diag::{Diagnostic, Diagnostics},
    provider::ClientCapabilities,
    resource::ValidateContext,
    schema::Schema,
    timeouts,
};

/// An action. In its schema nothing is computed, write-only or replaces; defaults are filled in.
#[async_trait]
pub trait Action: Send + Sync + 'static {
    /// The full name, such as `shop_disk_wipe`.
    fn type_name(&self) -> &str;

    fn schema(&self) -> Schema;

    /// Checks beyond the validators of the schema. Values may be unknown.
    async fn validate(&self, _ctx: &ValidateContext) -> Diagnostics {
        Diagnostics::new()
    }

    /// May look at what is going to be done, warn and refuse. Values may be unknown.
    async fn plan(&self, _ctx: &mut ActionPlanContext) -> Result<(), Diagnostics> {
        Ok(())
    }

    /// Does it, and returns when it is done. All of `ctx.config` is known.
    async fn invoke(&self, ctx: &mut ActionContext) -> Result<(), Diagnostics>;
}

/// What planning an action gets.
#[derive(Debug)]
pub struct ActionPlanContext {
    /// The configuration, defaults filled in.
    pub config: Value,
    pub client: ClientCapabilities,
    /// Cancelled when the user presses Ctrl-C.
    pub cancel: CancellationToken,
    pub(crate) warnings: Diagnostics,
}

impl ActionPlanContext {
    /// Tells the user something without failing.
    pub fn warn(&mut self, diagnostic: Diagnostic) {
        self.warnings.push(diagnostic);
    }
}

/// What carrying out an action gets.
#[derive(Debug)]
pub struct ActionContext {
    /// The configuration, defaults filled in.
    pub config: Value,
    pub client: ClientCapabilities,
    /// Cancelled when the user presses Ctrl-C.
    pub cancel: CancellationToken,
    pub(crate) warnings: Diagnostics,
    pub(crate) progress: UnboundedSender<String>,
}

impl ActionContext {
    /// A line that the user sees at once.
    pub fn progress(&self, message: impl Into<String>) {
        // Nobody reads it when Terraform has gone away; the action is carried to its end.
        let _ = self.progress.send(message.into());
    }

    /// Tells the user something without failing, at the end.
    pub fn warn(&mut self, diagnostic: Diagnostic) {
        self.warnings.push(diagnostic);
    }

    /// The duration that the attribute `name` holds, such as `10m`, else `default`.
    ///
    /// # Errors
    /// The text is no duration.
    pub fn duration(&self, name: &str, default: Duration) -> Result<Duration, Diagnostics> {
        match self.config.get(name).as_str() {
            None => Ok(default),
            Some(text) => timeouts::parse(text).ok_or_else(|| {
                Diagnostic::error(format!("Invalid {name}"))
                    .cause(format!("{text:?} is not a duration"))
                    .remedy("Write it as \"90s\", \"10m\" or \"1h30m\"")
                    .at(name)
                    .into()
            }),
        }
    }
}
