//! `data.weft_hosts`: all machines that run guests.

use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostics, Nesting, Schema, Type, Value,
    async_trait,
};

use super::host;
use crate::agent::Agent;

#[derive(Debug)]
pub(crate) struct Hosts(pub(crate) Arc<Agent>);

const NOUN: &str = "hosts";

#[async_trait]
impl DataSource for Hosts {
    fn type_name(&self) -> &str {
        "weft_hosts"
    }

    fn schema(&self) -> Schema {
        let id = Attribute::string("id", "Its id.").computed();
        let shown = std::iter::once(id).chain(host::facts());
        Schema::new("The machines that run guests, and what room is left on each.")
            .subcategory("Compute")
            .attribute(Attribute::string("availability_zone", "Those of this zone only."))
            .attribute(Attribute::list("ids", Type::String, "Their ids.").computed())
            .attribute(
                Attribute::nested(
                    "hosts",
                    Nesting::List,
                    "The hosts, in the order of `ids`.",
                    shown,
                )
                .computed(),
            )
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let connection = super::connection(&self.0, NOUN)?;
        let failed = |problem| super::fail(NOUN, &problem);
        let wires = host::all(&connection).await.map_err(failed)?;
        let hosts = wires.into_iter().map(host::values).collect::<Result<Vec<_>, _>>();
        let mut hosts = hosts.map_err(failed)?;
        let zone: Option<String> = ctx.config.read("availability_zone")?;
        hosts.retain(|host| {
            zone.is_none() || host.get("availability_zone").as_str() == zone.as_deref()
        });
        Ok(super::plural("hosts", hosts, &ctx.config))
    }
}
