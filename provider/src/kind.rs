//! What all resources do in the same way: read, update, delete and import by id.
//!
//! A state is made from the agent's object alone ([`Kind::state`]); what only the provider knows
//! comes back in its `client_data`. So a read, an import and the end of an apply cannot disagree.

pub(crate) mod plain;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tfplugin::{
    ApplyContext, Attribute, ConvertError, Diagnostic, Diagnostics, IdentitySchema, ImportContext,
    PlanContext, ReadContext, Schema, Value,
};
use weft_model::{Problem, Reason};
use weft_proto::v1;

use crate::agent::reads::{self, Claim};
use crate::agent::{Agent, Connection};
use crate::{kept, problem, tags};
use wire::{Listed, Wire};

/// How often an update or a delete starts again because something else changed the object
/// meanwhile.
const MAX_STALE: u32 = 3;

/// What `weft ls` calls several of `K`.
pub(crate) fn listed<K: Kind>() -> String {
    let name = K::TYPE.trim_start_matches("weft_").replace('_', "-") + "s";
    weft_model::listed(&name).to_owned()
}

/// A kind of object of the agent that is a resource.
pub(crate) trait Kind: Send + Sync + 'static {
    type Wire: Wire;
    /// What only the provider knows.
    type Kept: Serialize;
    /// In HCL: `weft_key_pair`.
    const TYPE: &'static str;
    /// For people: `key pair`.
    const NOUN: &'static str;
    /// Attributes that change without the specification's doing.
    const VOLATILE: &'static [&'static str] = &[];

    fn schema() -> Schema;
    fn kept(plan: &Value) -> Result<Self::Kept, ConvertError>;
    fn state(wire: Self::Wire) -> Result<Value, Problem>;

    /// Whether it takes a while to be removed, so that Terraform keeps it until it is gone: who
    /// destroys it once more waits, and what it uses is not destroyed before it.
    const LINGERS: bool = false;

    /// Of what exists, the configuration that a person would write. `config` is the state without
    /// what is computed and what is a default.
    fn written(config: Value) -> Value {
        config
    }

    /// Fills in what an update leaves as it is `now`, and no state holds.
    fn keep(_spec: &mut Spec<Self>, _now: &Self::Wire, _ctx: &ApplyContext)
    where
        Self: Sized,
    {
    }

    /// What the user should know about the object, though nothing is wrong with the request.
    fn remark(_wire: &Self::Wire, _state: &Value) -> Option<Diagnostic> {
        None
    }
}

/// What a `K` is to be.
pub(crate) type Spec<K> = <<K as Kind>::Wire as Wire>::Spec;

/// `problem` as an error about `doing` something with a `K`: "create", "read".
pub(crate) fn fail<K: Kind>(doing: &str, problem: &Problem, config: &Value) -> Diagnostics {
    let summary = format!("Cannot {doing} the {}", K::NOUN);
    problem::diagnostic(summary, problem, &K::schema(), config).into()
}

pub(crate) fn connection<K: Kind>(
    agent: &Agent,
    doing: &str,
) -> Result<Arc<Connection>, Diagnostics> {
    agent.connection().map_err(|problem| fail::<K>(doing, &problem, &Value::Null))
}

pub(crate) fn state<K: Kind>(wire: K::Wire) -> Result<Value, Diagnostics> {
    K::state(wire).map_err(|problem| fail::<K>("understand", &problem, &Value::Null))
}

/// What is there now. Answers from the agent's store; never waits for a guest.
pub(crate) async fn read<K: Kind>(agent: &Agent, ctx: &mut ReadContext) -> Result<(), Diagnostics> {
    let connection = connection::<K>(agent, "read")?;
    let id: String = ctx.state.read("id")?;
    let found = reads::read::<K>(&connection, &id, Claim::Yes).await;
    let Some(wire) = found.map_err(|problem| fail::<K>("read", &problem, &Value::Null))? else {
        ctx.gone();
        return Ok(());
    };
    if wire.is_being_removed() && !K::LINGERS {
        ctx.gone();
        return Ok(());
    }
    let state = state::<K>(wire.clone())?;
    if let Some(remark) = K::remark(&wire, &state) {
        ctx.warn(remark);
    }
    ctx.set_state(state);
    Ok(())
}

/// The objects that are there to stay, in the agent's order.
pub(crate) async fn existing<K: Kind<Wire: Listed>>(
    connection: &Connection,
    request: v1::ListRequest,
) -> Result<Vec<K::Wire>, Problem> {
    let mut listed =
        connection.call(|channel| <K::Wire as Listed>::list(channel, request.clone())).await?;
    listed.retain(|wire| !wire.is_being_removed());
    Ok(listed)
}

/// A `K` of this state for people: its id, and its name where it has one.
pub(crate) fn called<K: Kind>(state: &Value) -> String {
    let id = state.get("id").as_str();
    let id = id.map_or_else(|| format!("the {}", K::NOUN), str::to_owned);
    match state.get("name").as_str() {
        Some(name) => format!("{id} ({name})"),
        None => id,
    }
}

/// The attributes of a `K` that this plan changes and whose change makes another one.
pub(crate) fn replacing<K: Kind>(ctx: &PlanContext) -> Vec<String> {
    let schema = K::schema();
    let by_themselves = schema.iter().filter(|attribute| attribute.replaces());
    let changed = by_themselves.map(Attribute::name).filter(|path| ctx.changes(*path));
    changed.map(str::to_owned).collect()
}

/// The warning that a `K` of this state is replaced, `with` what belongs to it, where there are `causes`.
pub(crate) fn replaced<K: Kind>(
    state: &Value,
    with: &str,
    causes: &[String],
) -> Option<Diagnostic> {
    let first = causes.first()?;
    let warning = Diagnostic::warning(format!("This change replaces the {}", K::NOUN));
    let warning = warning.cause(format!(
        "{} is removed with {with}, and another one is made, because of {}",
        called::<K>(state),
        causes.join(" and ")
    ));
    Some(warning.at(first.as_str()))
}

/// What Terraform knows a `K` by, for its whole life: its id alone.
pub(crate) fn identity<K: Kind>() -> IdentitySchema {
    let schema = K::schema();
    let description = schema.get("id").map_or("", |id| id.description());
    IdentitySchema::new().required("id", description)
}

/// By id, which an identity is too.
pub(crate) fn import<K: Kind>(ctx: &mut ImportContext) -> Result<(), Diagnostics> {
    let id = ctx.identity.get("id").as_str().unwrap_or(&ctx.id).to_owned();
    if let Err(error) = id.parse::<<K::Wire as Wire>::Id>() {
        let summary = format!("Cannot import the {}", K::NOUN);
        return Err(Diagnostic::error(summary).cause(error.to_string()).into());
    }
    ctx.set_state(Value::object([("id", id)]));
    Ok(())
}

/// Removes the object. One that is gone already is what was wanted.
pub(crate) async fn delete<K: Kind>(agent: &Agent, ctx: &ApplyContext) -> Result<(), Diagnostics> {
    let connection = connection::<K>(agent, "delete")?;
    let id: String = ctx.prior.read("id")?;
    let mut stale = 0;
    loop {
        let request = v1::DeleteRequest { id: id.clone() };
        match connection.call(|channel| K::Wire::delete(channel, request.clone())).await {
            Ok(_) => return Ok(()),
            Err(problem) if problem.reason == Reason::NotFound => return Ok(()),
            Err(problem) if problem.reason == Reason::StaleGeneration && stale < MAX_STALE => {
                stale += 1;
            }
            Err(problem) => return Err(fail::<K>("delete", &problem, &ctx.prior)),
        }
    }
}

/// What goes along with a specification: all tags, and what only the provider knows.
fn extras<K: Kind>(
    connection: &Connection,
    plan: &Value,
) -> Result<(BTreeMap<String, String>, String), Diagnostics> {
    let client_data =
        kept::encode(&K::kept(plan)?).map_err(|problem| fail::<K>("describe", &problem, plan))?;
    Ok((tags::all(&connection.settings, plan)?, client_data))
}

/// Makes what `plan` says; it is the context's, where need be with more values known.
pub(crate) async fn create<K: Kind>(
    connection: &Connection,
    ctx: &ApplyContext,
    plan: &Value,
    spec: Spec<K>,
) -> Result<K::Wire, Diagnostics> {
    let (tags, client_data) = extras::<K>(connection, plan)?;
    connection
        .create(tags, client_data, |channel, context| {
            K::Wire::create(channel, context, spec.clone())
        })
        .await
        .map_err(|problem| fail::<K>("create", &problem, &ctx.config))
}

/// Changes the object to the plan, if it still is what the plan was made for.
pub(crate) async fn update<K: Kind>(
    connection: &Arc<Connection>,
    ctx: &ApplyContext,
    spec: Spec<K>,
) -> Result<K::Wire, Diagnostics> {
    let (tags, client_data) = extras::<K>(connection, &ctx.plan)?;
    let id: String = ctx.prior.read("id")?;
    let failed = |problem: Problem| fail::<K>("update", &problem, &ctx.config);
    let mut stale = 0;
    loop {
        let found = reads::read::<K>(connection, &id, Claim::Yes).await.map_err(failed)?;
        let Some(wire) = found else {
            let gone = Problem::not_found(format!("{id} does not exist any more"));
            return Err(failed(gone.remedy("apply again to create it anew")));
        };
        let generation = wire.metadata().map_or(0, |metadata| metadata.generation);
        let now = state::<K>(wire.clone())?;
        // An answer that was lost on its way: the retry finds its own work done.
        if stale > 0 && differences::<K>(&ctx.plan, &now).is_empty() {
            return Ok(wire);
        }
        let differences = differences::<K>(&ctx.prior, &now);
        if !differences.is_empty() {
            return Err(changed_meanwhile::<K>(&id, &differences).into());
        }
        let context = v1::UpdateContext {
            id: id.clone(),
            expected_generation: generation,
            tags: tags.clone().into_iter().collect(),
            client_data: client_data.clone(),
        };
        let mut spec = spec.clone();
        K::keep(&mut spec, &wire, ctx);
        let sent = connection
            .call(|channel| K::Wire::update(channel, context.clone(), spec.clone()))
            .await;
        match sent {
            Ok(wire) => return Ok(wire),
            Err(problem) if problem.reason == Reason::StaleGeneration && stale < MAX_STALE => {
                stale += 1;
            }
            Err(problem) => return Err(failed(problem)),
        }
    }
}

/// An Update, with nothing to do before and after it but to fill the state.
pub(crate) async fn change<K: Kind>(
    agent: &Agent,
    ctx: &mut ApplyContext,
    spec: fn(&Value) -> Result<Spec<K>, Diagnostics>,
) -> Result<(), Diagnostics> {
    let connection = connection::<K>(agent, "update")?;
    let now = update::<K>(&connection, ctx, spec(&ctx.plan)?).await?;
    ctx.set_state(state::<K>(now)?);
    Ok(())
}

/// Name, expected and found value of what differs. Unknown values fit everything.
fn differences<K: Kind>(expected: &Value, found: &Value) -> Vec<(String, Value, Value)> {
    let schema = K::schema();
    let (expected, found) = (schema.complete(expected), schema.complete(found));
    let names = expected.as_map().map(|entries| entries.keys().cloned().collect::<Vec<_>>());
    names
        .unwrap_or_default()
        .into_iter()
        .filter(|name| !K::VOLATILE.contains(&name.as_str()))
        .filter_map(|name| {
            let (want, have) = (expected.get(name.as_str()), found.get(name.as_str()));
            (!want.is_unknown() && want != have).then(|| (name.clone(), want.clone(), have.clone()))
        })
        .collect()
}

fn changed_meanwhile<K: Kind>(id: &str, differences: &[(String, Value, Value)]) -> Diagnostic {
    let one = |(name, planned, found): &(String, Value, Value)| {
        // User data may be secret, and so may a part of a URL.
        let is_url = |value: &Value| value.as_str().is_some_and(|text| text.contains("://"));
        if name.starts_with("user_data") || is_url(planned) || is_url(found) {
            return format!("{name} has changed");
        }
        format!("{name} was {planned} and is {found}")
    };
    let list: Vec<String> = differences.iter().map(one).collect();
    Diagnostic::error(format!("The {} has changed since it was planned", K::NOUN))
        .cause(format!("of {id}, {}", list.join("; ")))
        .remedy("Run terraform plan again to see what is left to do")
}
