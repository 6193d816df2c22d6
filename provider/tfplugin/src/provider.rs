//! The provider: its settings and what it offers.

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{
    action::Action, cty::Value, data_source::DataSource, diag::Diagnostics,
    ephemeral::EphemeralResource, function::Function, list::ListResource, proto,
    resource::Resource, schema::Schema,
};

/// A Terraform provider. `resources` and `data_sources` are asked once, when serving begins;
/// what they share with `configure` (a connection, say) goes into an `Arc` of the provider.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// The provider's settings.
    fn schema(&self) -> Schema;

    /// Checks settings beyond the validators of the schema. Values may be unknown.
    async fn validate(&self, _config: &Value) -> Diagnostics {
        Diagnostics::new()
    }

    /// Takes the settings, defaults filled in. Values may be unknown while planning: then
    /// connect later, or not at all.
    async fn configure(&self, _ctx: &ConfigureContext) -> Diagnostics {
        Diagnostics::new()
    }

    fn resources(&self) -> Vec<Box<dyn Resource>> {
        Vec::new()
    }

    fn data_sources(&self) -> Vec<Box<dyn DataSource>> {
        Vec::new()
    }

    /// Terraform 1.8 and later calls them, also before `configure`.
    fn functions(&self) -> Vec<Box<dyn Function>> {
        Vec::new()
    }

    /// Terraform 1.10 and later opens them.
    fn ephemeral_resources(&self) -> Vec<Box<dyn EphemeralResource>> {
        Vec::new()
    }

    /// Terraform 1.14 and later invokes them.
    fn actions(&self) -> Vec<Box<dyn Action>> {
        Vec::new()
    }

    /// Each is named as a resource that has an identity.
    fn list_resources(&self) -> Vec<Box<dyn ListResource>> {
        Vec::new()
    }

    /// Called before each change that Terraform wants carried out: what it is about was there when it
    /// was planned, a moment ago or in a saved plan. The plan's provider was another process.
    fn on_apply(&self) {}

    /// Called once when Terraform ends in good order, for at most 1.5 s. Not called when
    /// Terraform died: a peer that sees the connection break without it knows the difference.
    async fn on_shutdown(&self) {}
}

/// What the running Terraform understands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientCapabilities {
    pub deferral_allowed: bool,
    pub write_only_attributes_allowed: bool,
}

impl From<Option<proto::ClientCapabilities>> for ClientCapabilities {
    fn from(capabilities: Option<proto::ClientCapabilities>) -> Self {
        let proto::ClientCapabilities { deferral_allowed, write_only_attributes_allowed } =
            capabilities.unwrap_or_default();
        Self { deferral_allowed, write_only_attributes_allowed }
    }
}

/// What `configure` gets.
#[derive(Debug)]
pub struct ConfigureContext {
    pub config: Value,
    pub terraform_version: String,
    pub client: ClientCapabilities,
    /// Cancelled when the user presses Ctrl-C.
    pub cancel: CancellationToken,
}
