//! Resources that are their specification and nothing besides: made, changed and removed by one
//! request each.

use std::marker::PhantomData;
use std::sync::Arc;

use tfplugin::{
    ApplyContext, Diagnostics, IdentitySchema, ImportContext, PlanContext, ReadContext, Resource,
    Schema, ValidateContext, Value, async_trait,
};

use super::{Kind, Spec};
use crate::agent::Agent;
use crate::{kind, references, tags};

/// What differs between them.
#[async_trait]
pub(crate) trait Plain: Kind + std::fmt::Debug {
    /// Whether it has `tags`.
    const TAGGED: bool = true;

    /// What `plan` asks for.
    fn spec(plan: &Value) -> Result<Spec<Self>, Diagnostics>
    where
        Self: Sized;

    /// What the configuration alone shows to be wrong.
    fn validate(_config: &Value) -> Diagnostics {
        Diagnostics::new()
    }

    /// What a plan knows besides: values that follow, and what the agent would refuse.
    async fn plan(_agent: &Agent, _ctx: &mut PlanContext) -> Result<(), Diagnostics> {
        Ok(())
    }

    /// By id, unless it is otherwise known by something else too.
    async fn import(_agent: &Agent, ctx: &mut ImportContext) -> Result<(), Diagnostics>
    where
        Self: Sized,
    {
        kind::import::<Self>(ctx)
    }
}

/// The resource of such a kind.
#[derive(Debug)]
pub(crate) struct PlainResource<K> {
    agent: Arc<Agent>,
    kind: PhantomData<K>,
}

impl<K> PlainResource<K> {
    pub(crate) fn new(agent: Arc<Agent>) -> Self {
        Self { agent, kind: PhantomData }
    }
}

#[async_trait]
impl<K: Plain> Resource for PlainResource<K> {
    fn type_name(&self) -> &str {
        K::TYPE
    }

    fn schema(&self) -> Schema {
        K::schema()
    }

    fn identity(&self) -> Option<IdentitySchema> {
        Some(kind::identity::<K>())
    }

    async fn validate(&self, ctx: &ValidateContext) -> Diagnostics {
        K::validate(&ctx.config)
    }

    async fn modify_plan(&self, ctx: &mut PlanContext) -> Result<(), Diagnostics> {
        if K::TAGGED {
            let connection = self.agent.connection().ok();
            tags::plan(connection.as_deref().map(|connection| &connection.settings), ctx);
        }
        references::check(&self.agent, ctx).await;
        K::plan(&self.agent, ctx).await
    }

    async fn create(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        let connection = kind::connection::<K>(&self.agent, "create")?;
        let made = kind::create::<K>(&connection, ctx, &ctx.plan, K::spec(&ctx.plan)?).await?;
        let state = kind::state::<K>(made.clone())?;
        if let Some(remark) = K::remark(&made, &state) {
            ctx.warn(remark);
        }
        ctx.set_state(state);
        Ok(())
    }

    async fn read(&self, ctx: &mut ReadContext) -> Result<(), Diagnostics> {
        kind::read::<K>(&self.agent, ctx).await
    }

    async fn update(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        kind::change::<K>(&self.agent, ctx, K::spec).await
    }

    async fn delete(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        kind::delete::<K>(&self.agent, ctx).await
    }

    fn configuration(&self, config: Value) -> Value {
        K::written(config)
    }

    async fn import(&self, ctx: &mut ImportContext) -> Result<(), Diagnostics> {
        K::import(&self.agent, ctx).await
    }

    async fn import_by_identity(&self, ctx: &mut ImportContext) -> Result<(), Diagnostics> {
        kind::import::<K>(ctx)
    }
}
