//! `weft_instance`: a virtual machine.

mod downtime;
mod fits;
mod guard;
mod keys;
pub(crate) mod order;
mod plan;
pub(crate) mod room;
pub(crate) mod schema;
pub(crate) mod types;
pub(crate) mod wait;

use std::sync::Arc;
use std::time::Duration;

use tfplugin::{
    ApplyContext, ConvertError, DestroyPlanContext, Diagnostic, Diagnostics, IdentitySchema,
    ImportContext, PlanContext, ReadContext, Resource, Schema, ValidateContext, Value, async_trait,
};
use tokio::time::Instant;
use weft_model::{InstanceView, PowerState, Problem, Reason, WaitFor};
use weft_proto::convert::instance_from_wire;
use weft_proto::v1::wait_request::Until;
use weft_proto::v1::{self};

use crate::agent::reads::{self, Claim};
use crate::agent::{Agent, Connection};
use crate::kind::wire::Wire as _;
use crate::kind::{self, Kind};
use crate::references;
use wait::Wait;

/// Unless `timeouts` says otherwise.
const CREATE_TIMEOUT: Duration = Duration::from_secs(600);
const UPDATE_TIMEOUT: Duration = Duration::from_secs(600);
const DELETE_TIMEOUT: Duration = Duration::from_secs(300);

/// What a user who cancels a wait has to know.
const CREATE_CANCELLED: &str =
    "the instance is in the state, as tainted: the next apply replaces it";
/// What a user whose instance did not come has to know.
const CREATE_FAILED: &str = "It is in the state, as tainted: the next apply replaces it, unless \
                             terraform untaint says that it may stay";
const UPDATE_CANCELLED: &str =
    "the agent goes on with the change: terraform plan shows what is left to do";
const DELETE_CANCELLED: &str =
    "the agent goes on removing it: the next apply or destroy sees that it is gone";

#[derive(Debug)]
pub(crate) struct Instance(pub(crate) Arc<Agent>);

impl Kind for Instance {
    type Wire = v1::Instance;
    type Kept = order::Kept;
    const TYPE: &'static str = "weft_instance";
    const NOUN: &'static str = "instance";
    const LINGERS: bool = true;
    const VOLATILE: &'static [&'static str] = &["launched_at", "power_state"];

    fn schema() -> Schema {
        schema::schema()
    }

    fn kept(plan: &Value) -> Result<order::Kept, ConvertError> {
        order::Kept::of(plan)
    }

    fn state(wire: v1::Instance) -> Result<Value, Problem> {
        order::state(instance_from_wire(wire)?)
    }

    /// A type says the size.
    fn written(mut config: Value) -> Value {
        if config.get("instance_type").is_set() {
            config.set("vcpus", Value::Null);
            config.set("memory_mib", Value::Null);
        }
        config
    }

    /// User data of the same version may be others by now in the configuration: they are not sent.
    fn keep(spec: &mut v1::InstanceSpec, now: &v1::Instance, ctx: &ApplyContext) {
        if order::keeps_user_data(&ctx.plan, &ctx.prior) {
            spec.user_data = now.spec.as_ref().and_then(|spec| spec.user_data.clone());
        }
    }

    /// An instance that should run and does not, or that is on its way out.
    fn remark(wire: &v1::Instance, state: &Value) -> Option<Diagnostic> {
        let view = instance_from_wire(wire.clone()).ok()?;
        if order::is_terminating(state) {
            return Some(
                Diagnostic::warning(format!("Instance {} is being removed", view.object.id))
                    .cause("somebody has removed it, or a destroy did not wait for its end")
                    .remedy("An apply waits until it is gone and makes another one")
                    .at("power_state"),
            );
        }
        let managed = state.get("power_state").as_str() != Some("unmanaged");
        let wanted = view.object.spec.power == Some(PowerState::Running);
        if !managed || !wanted || !order::has_settled_down(&view) {
            return None;
        }
        let id = &view.object.id;
        let reason = view.status.reason.as_deref().unwrap_or("the agent gave no reason");
        Some(
            Diagnostic::warning(format!("Instance {id} does not run: it is {}", view.status.state))
                .cause(reason)
                .remedy(format!("The next apply starts it; weft logs {id} shows its console"))
                .at("power_state"),
        )
    }
}

/// The instance of this state as it is now, where the agent can be asked.
async fn now(connection: Option<&Arc<Connection>>, state: &Value) -> Option<InstanceView> {
    let found = reads::read::<Instance>(connection?, state.get("id").as_str()?, Claim::No).await;
    instance_from_wire(found.ok()??).ok()
}

fn fail(doing: &str, problem: &Problem, config: &Value) -> Diagnostics {
    kind::fail::<Instance>(doing, problem, config)
}

/// What makes the wait for `power` end.
fn until(power: Option<PowerState>, wait_for: WaitFor) -> Option<Until> {
    match (power, wait_for) {
        (Some(PowerState::Stopped), WaitFor::None) => None,
        (Some(PowerState::Stopped), _) => Some(Until::Stopped(true)),
        (_, WaitFor::None) => None,
        (_, wait_for) => Some(Until::WaitFor(wait_for.to_string())),
    }
}

#[async_trait]
impl Resource for Instance {
    fn type_name(&self) -> &str {
        Self::TYPE
    }

    fn schema(&self) -> Schema {
        <Self as Kind>::schema()
    }

    fn identity(&self) -> Option<IdentitySchema> {
        Some(kind::identity::<Self>())
    }

    async fn validate(&self, ctx: &ValidateContext) -> Diagnostics {
        plan::validate(ctx)
    }

    async fn modify_plan(&self, ctx: &mut PlanContext) -> Result<(), Diagnostics> {
        references::check(&self.0, ctx).await;
        let connection = self.0.connection().ok();
        if let Some(connection) = &connection
            && let Some(diagnostic) = types::check(connection, ctx).await
        {
            ctx.warn(diagnostic);
        }
        let (replaces, interruption) =
            plan::plan(connection.as_deref().map(|connection| &connection.settings), ctx);
        let asked = self.0.asked_in_plans();
        downtime::warn(asked.as_ref(), interruption, ctx).await;
        keys::warn(asked.as_ref(), ctx).await;
        let Some(connection) = asked else { return Ok(()) };
        fits::check(&connection, ctx).await?;
        if let Some(diagnostic) = room::check(&connection, ctx, replaces).await {
            ctx.warn(diagnostic);
        }
        Ok(())
    }

    async fn plan_destroy(&self, ctx: &mut DestroyPlanContext) -> Result<(), Diagnostics> {
        guard::check_destruction(ctx)?;
        room::destroys(&self.0, &ctx.prior);
        Ok(())
    }

    async fn create(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        let connection = kind::connection::<Self>(&self.0, "create")?;
        let power = order::power(&ctx.plan);
        let ordered = async {
            let deadline = Instant::now() + ctx.timeout(CREATE_TIMEOUT)?;
            let mut spec = order::spec(&ctx.plan, power)?;
            spec.user_data = order::user_data(&ctx.config);
            let made = kind::create::<Self>(&connection, ctx, &ctx.plan, spec).await?;
            Ok::<_, Diagnostics>((made, deadline))
        }
        .await;
        // However that ended, it is no plan any more.
        room::settled(&connection, ctx);
        let (made, deadline) = ordered?;
        // From here on it exists: whatever happens, it has to be in the state.
        let state = kind::state::<Self>(made)?;
        let id: String = state.read("id")?;
        ctx.set_state(state);
        if let Some(until) = until(power, order::wait_for(&ctx.plan)) {
            let wait = Wait {
                connection: &connection,
                cancel: &ctx.cancel,
                id: &id,
                deadline,
                if_cancelled: CREATE_CANCELLED,
                told: None,
            };
            let waited = wait.until(until).await;
            waited.map_err(|problem| {
                let diagnostic = not_ready(&id, &problem, &ctx.config);
                // Who cancels is told so already.
                let failed = problem.evidence.is_some();
                if failed { diagnostic.remedy(CREATE_FAILED) } else { diagnostic }
            })?;
        }
        settle(&connection, ctx, &id, "create").await
    }

    async fn read(&self, ctx: &mut ReadContext) -> Result<(), Diagnostics> {
        kind::read::<Self>(&self.0, ctx).await
    }

    async fn update(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        let connection = kind::connection::<Self>(&self.0, "update")?;
        let power = order::power(&ctx.plan).filter(|_| ctx.changes("power_state"));
        let ordered = async {
            let deadline = Instant::now() + ctx.timeout(UPDATE_TIMEOUT)?;
            let id: String = ctx.prior.read("id")?;
            let mut spec = order::spec(&ctx.plan, power)?;
            spec.user_data = order::user_data(&ctx.config);
            spec.image_id = self.made_from(&connection, ctx).await?;
            let now = kind::update::<Self>(&connection, ctx, spec).await?;
            Ok::<_, Diagnostics>((id, now, deadline))
        }
        .await;
        room::settled(&connection, ctx);
        let (id, now, deadline) = ordered?;
        let ended = has_ended(&now);
        ctx.set_state(kind::state::<Self>(now)?);
        let starts = power == Some(PowerState::Running);
        if starts && ended {
            // It was to run all the time and is down: only a Start asks for another launch.
            let request = v1::GetRequest { id: id.clone(), claim: true };
            connection
                .call(|channel| {
                    let request = request.clone();
                    async move { v1::Instance::client(channel).start(request).await }
                })
                .await
                .map_err(|problem| fail("start", &problem, &ctx.config))?;
        }
        let restarts = ctx.plan.get("launched_at").is_unknown()
            && order::power(&ctx.plan) == Some(PowerState::Running);
        if (power.is_some() || restarts)
            && let Some(until) = until(order::power(&ctx.plan), order::wait_for(&ctx.plan))
        {
            let wait = Wait {
                connection: &connection,
                cancel: &ctx.cancel,
                id: &id,
                deadline,
                if_cancelled: UPDATE_CANCELLED,
                told: None,
            };
            wait.until(until).await.map_err(|problem| not_ready(&id, &problem, &ctx.config))?;
        }
        settle(&connection, ctx, &id, "update").await
    }

    async fn delete(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        let deadline = Instant::now() + ctx.timeout(DELETE_TIMEOUT)?;
        kind::delete::<Self>(&self.0, ctx).await?;
        let connection = kind::connection::<Self>(&self.0, "delete")?;
        let id: String = ctx.prior.read("id")?;
        let wait = Wait {
            connection: &connection,
            cancel: &ctx.cancel,
            id: &id,
            deadline,
            if_cancelled: DELETE_CANCELLED,
            told: None,
        };
        match wait.until(Until::Gone(true)).await {
            Err(problem) if problem.reason != Reason::NotFound => {
                Err(fail("delete", &problem, &ctx.prior))
            }
            _ => Ok(()),
        }
    }

    fn configuration(&self, config: Value) -> Value {
        Self::written(config)
    }

    async fn import(&self, ctx: &mut ImportContext) -> Result<(), Diagnostics> {
        kind::import::<Self>(ctx)
    }

    async fn import_by_identity(&self, ctx: &mut ImportContext) -> Result<(), Diagnostics> {
        kind::import::<Self>(ctx)
    }
}

impl Instance {
    /// The image that the instance was made from, which the agent holds it to. One that is only
    /// recorded has to exist all the same.
    async fn made_from(
        &self,
        connection: &Arc<Connection>,
        ctx: &ApplyContext,
    ) -> Result<String, Diagnostics> {
        let failed = |problem: Problem| fail("update", &problem, &ctx.config);
        if ctx.changes("image_id") {
            let wanted: String = ctx.plan.read("image_id")?;
            let found = reads::read::<crate::image::Image>(connection, &wanted, Claim::No).await;
            if found.map_err(failed)?.is_none() {
                let problem = Problem::not_found(format!("image {wanted} does not exist"));
                return Err(failed(problem.at("image_id").remedy("weft ls images lists them")));
            }
        }
        if ctx.prior.get("image_outdated").as_bool() != Some(true) {
            return Ok(ctx.prior.read("image_id")?);
        }
        let id: String = ctx.prior.read("id")?;
        let found = reads::read::<Self>(connection, &id, Claim::Yes).await.map_err(failed)?;
        let spec = found.and_then(|wire| wire.spec);
        let gone = || failed(Problem::not_found(format!("{id} does not exist any more")));
        Ok(spec.ok_or_else(gone)?.image_id)
    }
}

/// Whether the newest launch that was asked for is over.
fn has_ended(wire: &v1::Instance) -> bool {
    let (Some(assigned), Some(status)) = (&wire.assigned, &wire.status) else { return false };
    status.ended_epoch >= assigned.run_epoch
}

/// The state as it is at the end of a change.
async fn settle(
    connection: &Arc<Connection>,
    ctx: &mut ApplyContext,
    id: &str,
    doing: &str,
) -> Result<(), Diagnostics> {
    // Terraform writes the state after this; until then nobody is known to have it.
    let found = reads::read::<Instance>(connection, id, Claim::No).await;
    let found = found.map_err(|problem| fail(doing, &problem, &ctx.config))?;
    let Some(wire) = found else {
        let gone = Problem::not_found(format!("{id} was removed by somebody else meanwhile"));
        return Err(fail(doing, &gone, &ctx.config));
    };
    let mut state = kind::state::<Instance>(wire)?;
    // A guest that powers itself off right after its start is the next read's business: what was
    // planned did happen.
    let planned = ctx.plan.get("power_state").clone();
    state.set("power_state", planned);
    if !ctx.plan.get("launched_at").is_unknown() {
        state.set("launched_at", ctx.plan.get("launched_at").clone());
    }
    ctx.set_state(state);
    Ok(())
}

/// The instance exists but is not what was waited for.
fn not_ready(id: &str, problem: &Problem, config: &Value) -> Diagnostic {
    let summary = format!("Instance {id} is not ready");
    crate::problem::diagnostic(summary, problem, &schema::schema(), config)
}
