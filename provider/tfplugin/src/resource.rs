//! Resources: what a provider's author implements for each of them.

mod apply;
mod moving;
mod planning;
mod reading;

use async_trait::async_trait;

pub use apply::ApplyContext;
pub(crate) use apply::Outcome;
pub use moving::MoveSource;
pub use planning::{DestroyPlanContext, PlanContext};
pub use reading::{ImportContext, ReadContext};

use crate::{
    cty::Value,
    diag::{Diagnostic, Diagnostics},
    identity::IdentitySchema,
    provider::ClientCapabilities,
    schema::Schema,
};

/// A managed resource.
#[async_trait]
pub trait Resource: Send + Sync + 'static {
    /// The full name, such as `shop_disk`.
    fn type_name(&self) -> &str;

    fn schema(&self) -> Schema;

    /// Which attributes of the state are its identity. They must not change while the object
    /// lives: mark them to replace it, or let them be computed.
    fn identity(&self) -> Option<IdentitySchema> {
        None
    }

    /// Checks beyond the validators of the schema, such as one attribute against another.
    /// Values may be unknown: then say nothing about them.
    async fn validate(&self, _ctx: &ValidateContext) -> Diagnostics {
        Diagnostics::new()
    }

    /// Looks at a planned creation or update, and changes it where needed. Terraform calls it
    /// again within apply and, for a replacement, a second time without prior state.
    async fn modify_plan(&self, _ctx: &mut PlanContext) -> Result<(), Diagnostics> {
        Ok(())
    }

    /// Looks at a planned destruction. A replacement makes none.
    async fn plan_destroy(&self, _ctx: &mut DestroyPlanContext) -> Result<(), Diagnostics> {
        Ok(())
    }

    /// Makes what `ctx.plan` says and hands the result to `ctx.set_state`, early and often.
    async fn create(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics>;

    /// Looks at what is there: `ctx.set_state`, `ctx.keep` or `ctx.gone`.
    async fn read(&self, ctx: &mut ReadContext) -> Result<(), Diagnostics>;

    /// Changes `ctx.prior` to `ctx.plan`. Without it, every change must be a replacement.
    async fn update(&self, _ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        Err(Diagnostic::provider_bug(
            format!("{} cannot be updated", self.type_name()),
            "an attribute changed that is not marked to replace the resource",
        )
        .into())
    }

    /// Removes it. It is no error if it is gone already.
    async fn delete(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics>;

    /// Starts a state from `ctx.id`; `read` then fills in the rest. See [`ImportContext::by`].
    async fn import(&self, _ctx: &mut ImportContext) -> Result<(), Diagnostics> {
        Err(Diagnostic::error(format!("{} cannot be imported", self.type_name()))
            .cause("the provider does not support importing this kind of resource")
            .into())
    }

    /// Starts a state from `ctx.identity`; unless it says otherwise, from the attributes of the
    /// same name.
    async fn import_by_identity(&self, ctx: &mut ImportContext) -> Result<(), Diagnostics> {
        ctx.set_state(ctx.identity.clone());
        Ok(())
    }

    /// What a person would write for an object that exists (`terraform query
    /// -generate-config-out`). `config` is its state without what is computed and what is a
    /// default; of two attributes that say the same, take one away.
    fn configuration(&self, config: Value) -> Value {
        config
    }

    /// Turns a state of an older schema version into one of this schema.
    async fn upgrade(
        &self,
        from_version: i64,
        _state: serde_json::Value,
    ) -> Result<Value, Diagnostics> {
        Err(Diagnostic::error(format!("The state of {} is too old", self.type_name()))
            .cause(format!("it has schema version {from_version}, which cannot be upgraded"))
            .remedy("Remove it from the state with terraform state rm and import it again")
            .into())
    }

    /// Turns an identity of an older version into one of this.
    async fn upgrade_identity(
        &self,
        from_version: i64,
        _identity: serde_json::Value,
    ) -> Result<Value, Diagnostics> {
        Err(Diagnostic::error(format!("The identity of {} is too old", self.type_name()))
            .cause(format!("it has version {from_version}, which cannot be upgraded"))
            .remedy("Remove it from the state with terraform state rm and import it again")
            .into())
    }

    /// Takes over the state of another kind of resource, maybe of another provider, for a
    /// `moved` block: the state to go on with, which is read next. `None`: not of this kind.
    async fn moved_from(&self, _source: &MoveSource) -> Result<Option<Value>, Diagnostics> {
        Ok(None)
    }
}

/// What validation gets.
#[derive(Debug)]
pub struct ValidateContext {
    /// The configuration as written; parts may be unknown.
    pub config: Value,
    pub client: ClientCapabilities,
}
