//! `data.weft_instance`: an instance by id or name, with its state.

use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostic, Diagnostics, Schema, ValidateContext,
    Value, async_trait,
};
use weft_model::{InstanceId, Problem};
use weft_proto::convert::instance_from_wire;
use weft_proto::v1;
use weft_proto::v1::usage_client::UsageClient;

use crate::agent::{Agent, Connection};
use crate::checks;
use crate::instance::{order, schema};
use crate::kind::wire::Wire as _;

#[derive(Debug)]
pub(crate) struct Instance(pub(crate) Arc<Agent>);

const NOUN: &str = "instance";

#[async_trait]
impl DataSource for Instance {
    fn type_name(&self) -> &str {
        "weft_instance"
    }

    fn schema(&self) -> Schema {
        let resource = schema::schema();
        Schema::new("An instance by its id or its name, with the state that it is in.")
            .subcategory("Compute")
            .attribute(
                Attribute::string("id", "Which, by id. Either this or `name`.")
                    .optional_computed()
                    .validate(checks::id::<InstanceId>(InstanceId::PREFIX, "an instance")),
            )
            .attribute(
                Attribute::string(
                    "name",
                    "Which, by name; it has to be the only one of that name.",
                )
                .optional_computed()
                .validate(checks::name()),
            )
            .attributes(super::shown("weft_instance", &resource, &["id", "name"]))
            .attributes(state_attributes())
            .attributes(price_attributes())
    }

    async fn validate(&self, ctx: &ValidateContext) -> Diagnostics {
        let [id, name] = ["id", "name"].map(|name| ctx.config.get(name));
        if (id.is_null() && name.is_null()) || (id.is_set() && name.is_set()) {
            return Diagnostic::error("Either id or name")
                .cause("an instance is looked up by its id or by its name")
                .remedy("Set one of both")
                .into();
        }
        Diagnostics::new()
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let connection = super::connection(&self.0, NOUN)?;
        let failed = |problem: Problem| super::fail(NOUN, &problem);
        let wire = match ctx.config.read::<Option<String>>("id")? {
            Some(id) => connection
                .call(|channel| {
                    let request = v1::GetRequest { id: id.clone(), claim: false };
                    async move { v1::Instance::client(channel).get(request).await }
                })
                .await
                .map_err(failed)?,
            None => by_name(&connection, ctx.config.read("name")?).await?,
        };
        let view = instance_from_wire(wire).map_err(failed)?;
        let id = view.object.id.to_string();
        let price = connection
            .call(|channel| {
                let request = v1::GetRequest { id: id.clone(), claim: false };
                async move { UsageClient::new(channel).estimate_instance(request).await }
            })
            .await
            .map_err(failed)?;
        let (now, reason) = (view.status.state, view.status.reason.clone());
        let mut values = order::state(view).map_err(failed)?;
        values.set("state", now.as_str());
        values.set("state_reason", reason);
        values.set("estimated_monthly_price", price.per_month);
        values.set("price_currency", Some(price.currency).filter(|it| !it.is_empty()));
        Ok(super::answer(values, &ctx.config, &DataSource::schema(self)))
    }
}

/// What an instance is doing: attributes that the resource does not have, because they change by
/// themselves.
pub(super) fn state_attributes() -> [Attribute; 2] {
    [
        Attribute::string(
            "state",
            "`pending`, `starting`, `running`, `stopping`, `stopped`, `terminating` or `failed`.",
        )
        .computed(),
        Attribute::string("state_reason", "Why, where the state has a reason.").computed(),
    ]
}

/// What it costs: prices change by themselves, too.
fn price_attributes() -> [Attribute; 2] {
    [
        Attribute::string(
            "estimated_monthly_price",
            "What it costs to have it run for a month of 730 hours, its own public address included, as decimal text; unset where the agent has no price for it.",
        )
        .computed(),
        Attribute::string("price_currency", "Of the price; unset where the agent has no price file.")
            .computed(),
    ]
}

async fn by_name(connection: &Connection, name: String) -> Result<v1::Instance, Diagnostics> {
    let list = connection
        .call(|channel| {
            let request = v1::ListRequest { name: name.clone(), ..Default::default() };
            async move { v1::Instance::client(channel).list(request).await }
        })
        .await
        .map_err(|problem| super::fail(NOUN, &problem))?;
    let id = |wire: &v1::Instance| wire.metadata.as_ref().map(|m| m.id.clone()).unwrap_or_default();
    let ids: Vec<String> = list.items.iter().map(id).collect();
    <[v1::Instance; 1]>::try_from(list.items).map(|[wire]| wire).map_err(|_| match ids.len() {
        0 => super::not_one(
            NOUN,
            format!("no instance is called \"{name}\""),
            "Check the name, or use id",
        ),
        n => {
            let cause = format!("{n} instances are called \"{name}\": {}", ids.join(", "));
            super::not_one(NOUN, cause, "Use id")
        }
    })
}
