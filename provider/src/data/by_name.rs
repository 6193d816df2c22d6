//! A data source that finds one object by its id or its name.

use std::future::Future;

use tfplugin::{
    Attribute, DataSourceContext, Diagnostic, Diagnostics, Schema, ValidateContext, Value,
};
use tonic::transport::Channel;
use weft_model::Problem;
use weft_proto::v1;

use crate::agent::Agent;
use crate::agent::reads::{self, Claim};
use crate::checks;
use crate::kind::Kind;
use crate::kind::wire::{Answer, Wire};

/// The schema of a data source that shows all of a `K`.
pub(super) fn schema<K: Kind>(description: &str, id: Attribute) -> Schema {
    let name = Attribute::string("name", "Which, by name; it has to be the only one of that name.")
        .optional_computed()
        .validate(checks::name());
    Schema::new(description)
        .subcategory("Network")
        .attribute(id.optional_computed())
        .attribute(name)
        .attributes(super::shown(K::TYPE, &K::schema(), &["id", "name", "tags"]))
}

pub(super) fn validate<K: Kind>(ctx: &ValidateContext) -> Diagnostics {
    let [id, name] = ["id", "name"].map(|name| ctx.config.get(name));
    if (id.is_null() && name.is_null()) || (id.is_set() && name.is_set()) {
        return Diagnostic::error("Either id or name")
            .cause(format!("the {} is looked up by its id or by its name", K::NOUN))
            .remedy("Set one of both")
            .into();
    }
    Diagnostics::new()
}

/// The one that `ctx` asks for; `list` asks for those of a name.
pub(super) async fn read<K, F>(
    agent: &Agent,
    ctx: &DataSourceContext,
    schema: &Schema,
    list: impl Fn(Channel, v1::ListRequest) -> F,
) -> Result<Value, Diagnostics>
where
    K: Kind,
    F: Future<Output = Answer<Vec<K::Wire>>>,
{
    let connection = super::connection(agent, K::NOUN)?;
    let failed = |problem: Problem| super::fail(K::NOUN, &problem);
    let wire = match ctx.config.read::<Option<String>>("id")? {
        Some(id) => reads::read::<K>(&connection, &id, Claim::No)
            .await
            .map_err(failed)?
            .ok_or_else(|| failed(Problem::not_found(format!("{id} does not exist")).at("id")))?,
        None => {
            let name: String = ctx.config.read("name")?;
            let request = v1::ListRequest { name: name.clone(), ..Default::default() };
            let found = connection.call(|channel| list(channel, request.clone())).await;
            one_of::<K>(&name, found.map_err(failed)?)?
        }
    };
    let mut values = K::state(wire).map_err(failed)?;
    if let Value::Map(entries) = &mut values {
        entries.remove("tags");
    }
    Ok(super::answer(values, &ctx.config, schema))
}

fn one_of<K: Kind>(name: &str, found: Vec<K::Wire>) -> Result<K::Wire, Diagnostics> {
    let id = |wire: &K::Wire| wire.metadata().map(|m| m.id.clone()).unwrap_or_default();
    let ids: Vec<String> = found.iter().map(id).collect();
    let mut found = found.into_iter();
    match (found.next(), ids.len()) {
        (Some(wire), 1) => Ok(wire),
        (None, _) => {
            let cause = format!("no {} is called \"{name}\"", K::NOUN);
            Err(super::not_one(K::NOUN, cause, "Check the name, or use id"))
        }
        (Some(_), n) => {
            let cause = format!("{n} are called \"{name}\": {}", ids.join(", "));
            Err(super::not_one(K::NOUN, cause, "Use id"))
        }
    }
}
