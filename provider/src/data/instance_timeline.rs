//! `data.weft_instance_timeline`: the phases of an instance's newest launch.

use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostics, Nesting, Schema, Value, async_trait,
};
use weft_model::InstanceId;
use weft_proto::convert::status_from_wire;
use weft_proto::v1;

use crate::agent::Agent;
use crate::checks;
use crate::kind::wire::Wire as _;

#[derive(Debug)]
pub(crate) struct InstanceTimeline(pub(crate) Arc<Agent>);

const NOUN: &str = "instance's timeline";

#[async_trait]
impl DataSource for InstanceTimeline {
    fn type_name(&self) -> &str {
        "weft_instance_timeline"
    }

    fn schema(&self) -> Schema {
        Schema::new(
            "The phases of an instance's newest launch. It changes by itself, so an output that \
             shows it makes plans after a restart non-empty.",
        )
        .subcategory("Compute")
        .attribute(Attribute::string("instance_id", "Whose.").required().validate(checks::id::<
            InstanceId,
        >(
            InstanceId::PREFIX,
            "an instance",
        )))
        .attribute(
            Attribute::nested(
                "phases",
                Nesting::List,
                "In the order in which they were reached.",
                [
                    Attribute::string("name", "Such as `kernel` or `ssh_banner`.").computed(),
                    Attribute::string("at", "When it was reached (RFC 3339).").computed(),
                    Attribute::number("offset_ms", "Milliseconds since the first phase.")
                        .computed(),
                ],
            )
            .computed(),
        )
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let connection = super::connection(&self.0, NOUN)?;
        let failed = |problem| super::fail(NOUN, &problem);
        let id: String = ctx.config.read("instance_id")?;
        let wire = connection
            .call(|channel| {
                let request = v1::GetRequest { id: id.clone(), claim: false };
                async move { v1::Instance::client(channel).get(request).await }
            })
            .await
            .map_err(failed)?;
        let phases = status_from_wire(wire.status).map_err(failed)?.phases;
        let start = phases.first().map(|record| record.at);
        let phases: Vec<Value> = phases
            .into_iter()
            .map(|record| {
                let offset = start.map(|start| record.at.as_millisecond() - start.as_millisecond());
                Value::object([
                    ("name", Value::from(record.phase.as_str())),
                    ("at", record.at.to_string().into()),
                    ("offset_ms", offset.into()),
                ])
            })
            .collect();
        Ok(Value::object([("instance_id", Value::from(id)), ("phases", phases.into())]))
    }
}
