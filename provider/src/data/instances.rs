//! `data.weft_instances`: every instance that fits, with the state that it is in.

use std::collections::BTreeSet;
use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostics, Nesting, Schema, Type, Validator, Value,
    async_trait,
};
use weft_model::{InstanceState, InstanceView, Problem};
use weft_proto::convert::instance_from_wire;
use weft_proto::v1;

use super::filter::Filter;
use crate::agent::{Agent, Connection};
use crate::instance::{order, schema};
use crate::kind::wire::Wire as _;

#[derive(Debug)]
pub(crate) struct Instances(pub(crate) Arc<Agent>);

const NOUN: &str = "instances";
/// Large, and maybe secret: `data.weft_instance` shows them of one.
const NOT_SHOWN: [&str; 2] = ["user_data", "user_data_base64"];

#[async_trait]
impl DataSource for Instances {
    fn type_name(&self) -> &str {
        "weft_instances"
    }

    fn schema(&self) -> Schema {
        let mut shown = super::shown("weft_instance", &schema::schema(), &NOT_SHOWN);
        shown.extend(super::instance::state_attributes());
        Schema::new("The instances that fit, the oldest first. None is no error.")
            .subcategory("Compute")
            .attributes(Filter::attributes())
            .attribute(
                Attribute::set(
                    "states",
                    Type::String,
                    "In one of these states; unset, in any but `terminating`.",
                )
                .validate(Validator::each(Validator::one_of(InstanceState::WORDS.iter().copied()))),
            )
            .attribute(Attribute::list("ids", Type::String, "Their ids.").computed())
            .attribute(
                Attribute::nested(
                    "instances",
                    Nesting::List,
                    "The instances, in the order of `ids`; without their user data.",
                    shown,
                )
                .computed(),
            )
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let connection = super::connection(&self.0, NOUN)?;
        let failed = |problem: Problem| super::fail(NOUN, &problem);
        let filter = Filter::read(&ctx.config)?;
        let states: Option<BTreeSet<String>> = ctx.config.read("states")?;
        let views = fitting(&connection, &filter, states.as_ref()).await.map_err(failed)?;
        let shown = |view: InstanceView| {
            let (now, reason) = (view.status.state, view.status.reason.clone());
            let mut values = order::state(view)?;
            if let Value::Map(entries) = &mut values {
                entries.retain(|name, _| !NOT_SHOWN.contains(&name.as_str()));
            }
            values.set("state", now.as_str());
            values.set("state_reason", reason);
            Ok(values)
        };
        let instances = views.into_iter().map(shown).collect::<Result<Vec<_>, _>>();
        Ok(super::plural("instances", instances.map_err(failed)?, &ctx.config))
    }
}

/// The instances that fit, the oldest first: in one of `states`, or in any but `terminating`.
///
/// # Errors
/// As the agent says.
pub(super) async fn fitting(
    connection: &Connection,
    filter: &Filter,
    states: Option<&BTreeSet<String>>,
) -> Result<Vec<InstanceView>, Problem> {
    let list = connection
        .call(|channel| {
            let request = filter.request();
            async move { v1::Instance::client(channel).list(request).await }
        })
        .await?;
    let views = list.items.into_iter().map(instance_from_wire);
    let mut views = views.collect::<Result<Vec<_>, _>>()?;
    views.retain(|view| {
        let name = view.object.spec.name.as_ref().map_or("", |name| name.as_str());
        let state = view.status.state;
        filter.fits(name)
            && match states {
                Some(wanted) => wanted.contains(state.as_str()),
                None => state != InstanceState::Terminating,
            }
    });
    views.sort_by_key(|view| (view.object.created_at, view.object.id.clone()));
    Ok(views)
}
