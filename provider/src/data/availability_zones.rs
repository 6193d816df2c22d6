//! `data.weft_availability_zones`: the zones that hosts are in.

use std::collections::BTreeMap;
use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostics, Nesting, Schema, Type, Value,
    async_trait,
};

use super::host;
use crate::agent::Agent;

#[derive(Debug)]
pub(crate) struct AvailabilityZones(pub(crate) Arc<Agent>);

const NOUN: &str = "availability zones";

#[async_trait]
impl DataSource for AvailabilityZones {
    fn type_name(&self) -> &str {
        "weft_availability_zones"
    }

    fn schema(&self) -> Schema {
        Schema::new(
            "The availability zones: names for hosts that fail together. A host is in the zone that its \
             agent was started with (`fabric-agent serve --zone`), `default` if nothing was said.",
        )
        .subcategory("Compute")
        .attribute(Attribute::list("names", Type::String, "Their names, sorted.").computed())
        .attribute(
            Attribute::nested(
                "zones",
                Nesting::List,
                "The zones, in the order of `names`.",
                [
                    Attribute::string("name", "The zone's name.").computed(),
                    Attribute::list("host_ids", Type::String, "The hosts in it.").computed(),
                ],
            )
            .computed(),
        )
    }

    async fn read(&self, _ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let connection = super::connection(&self.0, NOUN)?;
        let failed = |problem| super::fail(NOUN, &problem);
        let mut zones: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for wire in host::all(&connection).await.map_err(failed)? {
            let host = host::values(wire).map_err(failed)?;
            let zone: String = host.read("availability_zone")?;
            zones.entry(zone).or_default().push(host.get("id").clone());
        }
        let names: Vec<Value> = zones.keys().map(|name| name.as_str().into()).collect();
        let zone = |(name, host_ids): (String, Vec<Value>)| {
            Value::object([("name", Value::from(name)), ("host_ids", host_ids.into())])
        };
        let zones: Vec<Value> = zones.into_iter().map(zone).collect();
        Ok(Value::object([("names", names), ("zones", zones)]))
    }
}
