//! The validation of what has a configuration and no state: data sources, ephemeral resources,
//! actions.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Entry, Inner, guard::guard, provider::flatten, registry::Registry, wire};
use crate::{
    action::Action, data_source::DataSource, diag::Diagnostics, ephemeral::EphemeralResource,
    proto, provider::ClientCapabilities, resource::ValidateContext,
};

/// What checks its configuration.
#[async_trait]
pub(super) trait Checks: Send + Sync + 'static {
    async fn check(&self, ctx: &ValidateContext) -> Diagnostics;
}

macro_rules! checks {
    ($($family:ident),+) => {$(
        #[async_trait]
        impl Checks for dyn $family {
            async fn check(&self, ctx: &ValidateContext) -> Diagnostics {
                self.validate(ctx).await
            }
        }
    )+};
}

checks!(Action, DataSource, EphemeralResource);

/// What is wrong with the configuration of the `type_name` among `family`.
pub(super) async fn validate<T: Checks + ?Sized>(
    inner: &Arc<Inner>,
    family: fn(&Inner) -> &Registry<Entry<T>>,
    type_name: String,
    config: Option<proto::DynamicValue>,
) -> Vec<proto::Diagnostic> {
    let this = inner.clone();
    let what = format!("validating {type_name}");
    let work = async move {
        let entry = family(&this).get(&type_name)?;
        let config = wire::decode(config.as_ref(), &entry.ty, "configuration")?;
        let mut diagnostics = entry.schema.validate(&config);
        let ctx = ValidateContext { config, client: ClientCapabilities::default() };
        diagnostics.append(entry.it.check(&ctx).await);
        Ok::<_, Diagnostics>(diagnostics)
    };
    flatten(guard(&what, work).await).into_proto()
}
