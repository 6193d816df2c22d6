//! Data sources: things that are only read.

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{
    cty::Value,
    diag::{Diagnostic, Diagnostics},
    provider::ClientCapabilities,
    resource::ValidateContext,
    schema::Schema,
};

/// A data source.
#[async_trait]
pub trait DataSource: Send + Sync + 'static {
    /// The full name, such as `shop_host`.
    fn type_name(&self) -> &str;

    fn schema(&self) -> Schema;

    /// Checks beyond the validators of the schema. Values may be unknown.
    async fn validate(&self, _ctx: &ValidateContext) -> Diagnostics {
        Diagnostics::new()
    }

    /// The configuration with everything computed filled in. All of `ctx.config` is known.
    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics>;
}

/// What reading a data source gets.
#[derive(Debug)]
pub struct DataSourceContext {
    /// The configuration, defaults filled in.
    pub config: Value,
    pub client: ClientCapabilities,
    /// Cancelled when the user presses Ctrl-C.
    pub cancel: CancellationToken,
    pub(crate) warnings: Diagnostics,
}

impl DataSourceContext {
    /// Tells the user something without failing.
    pub fn warn(&mut self, diagnostic: Diagnostic) {
        self.warnings.push(diagnostic);
    }
}
