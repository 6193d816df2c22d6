//! Whether all instances that one run plans find room beside each other, with what it replaces or
//! removes counted as free.
//!
//! Terraform plans one resource after the other, in an order of its own, and never says which is the
//! last. So the agent is asked about all that is known so far; where that does not fit, the first who
//! finds out waits until nothing new is planned any more, asks again, and says it once for all.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tfplugin::{ApplyContext, Diagnostic, PlanContext, Value};
use weft_model::Problem;
use weft_proto::v1::{self, hosts_client::HostsClient};

use crate::agent::{Agent, Connection, PlanChecks};
use crate::problem;

/// Nothing new for so long: what can be planned beside what waits here has been planned.
const QUIET: Duration = Duration::from_millis(300);
/// How often quiet is waited for: a plan that goes on for longer is judged by what is known then.
const MAX_WAITS: u32 = 30;
/// What the first half of a replacement's plan tells the second, in private data: the instance that goes, or
/// that it is counted already.
const REPLACED: &str = "room";
const COUNTED: &str = "counted";
/// What a guest may take beyond its memory, in MiB, as long as the agent is not asked.
const ALLOWANCE_MIB: u64 = 1024;

/// What this run plans.
#[derive(Debug, Default)]
pub(crate) struct PlannedInstances {
    planned: Mutex<Planned>,
    /// Held while the agent is asked: who comes next finds the answer.
    asking: tokio::sync::Mutex<()>,
    /// Somebody says it, or has said it.
    is_told: AtomicBool,
}

#[derive(Debug, Default)]
struct Planned {
    demands: Vec<v1::PlacementDemand>,
    freed: BTreeSet<String>,
    /// MiB that the last answer left, less what has come since.
    spare_mib: u64,
    /// How often something was planned.
    events: u64,
}

/// What one plan means for the host's room.
#[derive(Debug, PartialEq)]
struct Effect {
    frees: Option<String>,
    takes: Option<v1::PlacementDemand>,
}

impl PlannedInstances {
    fn planned(&self) -> MutexGuard<'_, Planned> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes it in; whether there is surely room for it.
    fn add(&self, effect: Effect) -> bool {
        let mut planned = self.planned();
        planned.events += 1;
        planned.freed.extend(effect.frees);
        let Some(demand) = effect.takes else { return true };
        let most = demand.memory_mib.map(|memory| u64::from(memory) + ALLOWANCE_MIB);
        planned.demands.push(demand);
        match most {
            Some(most) if most <= planned.spare_mib => {
                planned.spare_mib -= most;
                true
            }
            _ => false,
        }
    }

    /// It is no plan any more: the agent has it, or has refused it.
    fn take_out(&self, effect: &Effect) {
        let mut planned = self.planned();
        if let Some(id) = &effect.frees {
            planned.freed.remove(id);
        }
        let found = planned.demands.iter().position(|one| Some(one) == effect.takes.as_ref());
        if let Some(at) = found {
            planned.demands.swap_remove(at);
        }
    }

    async fn ask(&self, connection: &Connection) -> Result<v1::CheckPlacementResponse, Problem> {
        let request = {
            let planned = self.planned();
            v1::CheckPlacementRequest {
                demands: planned.demands.clone(),
                freed_instance_ids: planned.freed.iter().cloned().collect(),
            }
        };
        let answer = connection
            .call(|channel| {
                let request = request.clone();
                async move { HostsClient::new(channel).check_placement(request).await }
            })
            .await?;
        let free: u64 = answer.hosts.iter().map(|host| host.free_memory_mib).sum();
        self.planned().spare_mib = match answer.fits {
            true => free.saturating_sub(answer.needed_memory_mib),
            false => 0,
        };
        Ok(answer)
    }

    /// Returns when nothing has been planned for a while.
    async fn quiet(&self) {
        for _ in 0..MAX_WAITS {
            let before = self.planned().events;
            tokio::time::sleep(QUIET).await;
            if self.planned().events == before {
                return;
            }
        }
    }
}

/// What a planned creation, update or replacement means. Terraform plans a replacement twice, the second time
/// as a creation, and drops the second's warnings: so the first counts for both, where it knows of it. It
/// does not where somebody asked for the replacement (`-replace`, `replace_triggered_by`).
fn effect(ctx: &mut PlanContext, replaces: bool) -> Option<Effect> {
    if ctx.is_create() {
        let replaced = ctx.private.get_str(REPLACED).map(str::to_owned);
        ctx.private.remove(REPLACED);
        return match replaced.as_deref() {
            Some(COUNTED) => None,
            _ => Some(Effect { frees: replaced, takes: demand(&ctx.plan) }),
        };
    }
    let id = ctx.prior.get("id").as_str()?.to_owned();
    let effect = (replaces || changes_size(&ctx.prior, &ctx.plan))
        .then(|| Effect { frees: Some(id.clone()), takes: demand(&ctx.plan) });
    let tells = if effect.is_some() { COUNTED } else { &id };
    ctx.private.set(REPLACED, tells);
    effect
}

/// Whether a guest of `plan` takes something else of the host than one of `prior`.
fn changes_size(prior: &Value, plan: &Value) -> bool {
    let sized = ["instance_type", "vcpus", "memory_mib", "display", "power_state"];
    sized.iter().any(|name| prior.get(*name) != plan.get(*name))
}

/// What a guest of such values takes, where it is to run and something is known of its size.
fn demand(values: &Value) -> Option<v1::PlacementDemand> {
    if values.get("power_state").as_str() == Some("stopped") {
        return None;
    }
    let memory_mib = values.get("memory_mib").as_i64().and_then(|mib| u32::try_from(mib).ok());
    let instance_type = values.get("instance_type").as_str().map(str::to_owned);
    let demand = v1::PlacementDemand {
        // Of a type that is not built in the agent knows the size, once it exists.
        instance_type: instance_type.filter(|_| memory_mib.is_none()),
        memory_mib,
        display: values.get("display").as_bool() == Some(true),
    };
    (demand.memory_mib.is_some() || demand.instance_type.is_some()).then_some(demand)
}

/// What `plan_checks` has to say of a plan that does not fit the fabric.
pub(super) async fn check(
    connection: &Connection,
    ctx: &mut PlanContext,
    replaces: bool,
) -> Option<Diagnostic> {
    let room = &connection.planned_instances;
    if room.add(effect(ctx, replaces)?) || room.is_told.load(Ordering::Relaxed) {
        return None;
    }
    {
        let _asking = room.asking.lock().await;
        fits(room.ask(connection).await)?;
    }
    if room.is_told.swap(true, Ordering::Relaxed) {
        return None;
    }
    room.quiet().await;
    let Some(refused) = fits(room.ask(connection).await) else {
        room.is_told.store(false, Ordering::Relaxed);
        return None;
    };
    let plan_checks = connection.settings.plan_checks;
    let problem = no_room(&refused, plan_checks == PlanChecks::Error);
    let size = ["instance_type", "memory_mib"];
    let named = size.into_iter().find(|name| ctx.config.get(*name).is_set());
    let summary = "There is no room for all that this plan makes";
    plan_checks.told(problem::plain(summary, &problem).at(named.unwrap_or("memory_mib")))
}

/// `None`: it fits, or nobody knows. An agent before this does not answer; Create does.
fn fits(answer: Result<v1::CheckPlacementResponse, Problem>) -> Option<v1::CheckPlacementResponse> {
    match answer {
        Ok(answer) => (!answer.fits).then_some(answer),
        Err(problem) => {
            tracing::debug!(%problem, "the agent does not say whether there is room");
            None
        }
    }
}

fn no_room(answer: &v1::CheckPlacementResponse, is_error: bool) -> Problem {
    let room = |host: &v1::HostRoom| {
        format!("{} of {} MiB are free on {}", host.free_memory_mib, host.memory_mib, host.name)
    };
    let rooms: Vec<String> = answer.hosts.iter().map(room).collect();
    let message = format!(
        "the instances that this plan makes, starts or changes take {} MiB of memory with what runs \
         them, and {}, with all that it removes or replaces counted as free",
        answer.needed_memory_mib,
        rooms.join(", ")
    );
    let mut remedy =
        "use smaller types, or stop or remove other instances; data.weft_capacity shows how \
                      many more of each type there is room for"
            .to_owned();
    if is_error {
        remedy += ". Where room is made by what terraform plans later, as with -parallelism=1 or in a \
                   destroy, set plan_checks = \"warn\"";
    }
    Problem::new(weft_model::Reason::ResourceExhausted, message).remedy(remedy)
}

/// That an instance will be removed.
pub(super) fn destroys(agent: &Agent, prior: &Value) {
    if let (Some(connection), Some(id)) = (agent.asked_in_plans(), prior.get("id").as_str()) {
        let frees = Some(id.to_owned());
        connection.planned_instances.add(Effect { frees, takes: None });
    }
}

/// That the agent has got what was planned, or has refused it: a creation, or a change of an instance.
pub(super) fn settled(connection: &Connection, ctx: &mut ApplyContext) {
    // What plans tell each other is not kept in the state.
    ctx.remove_private(REPLACED);
    if !ctx.prior.is_null() && !changes_size(&ctx.prior, &ctx.plan) {
        return;
    }
    let frees = ctx.prior.get("id").as_str().map(str::to_owned);
    connection.planned_instances.take_out(&Effect { frees, takes: demand(&ctx.plan) });
}
