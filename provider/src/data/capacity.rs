//! `data.weft_capacity`: how many more instances there is room for.

use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostics, Nesting, Schema, Value, async_trait,
};
use weft_proto::v1::{self, hosts_client::HostsClient};

use crate::agent::Agent;

#[derive(Debug)]
pub(crate) struct Capacity(pub(crate) Arc<Agent>);

const NOUN: &str = "capacity";

#[async_trait]
impl DataSource for Capacity {
    fn type_name(&self) -> &str {
        "weft_capacity"
    }

    fn schema(&self) -> Schema {
        let text = |name: &str, text: &str| Attribute::string(name, text).computed();
        let number = |name: &str, text: &str| Attribute::number(name, text).computed();
        Schema::new(
            "How many more instances there is room for now. It changes with each that starts or stops, \
             so an output that shows it makes plans non-empty.",
        )
        .subcategory("Compute")
        .attribute(
            Attribute::nested(
                "types",
                Nesting::List,
                "Every instance type, from small to large.",
                [
                    text("instance_type", "Its name."),
                    number("vcpus", "Its processors."),
                    number("memory_mib", "Its memory, in MiB."),
                    number(
                        "available_instance_count",
                        "So many more of it find room, if no others are started.",
                    ),
                ],
            )
            .computed(),
        )
        .attribute(
            Attribute::nested(
                "hosts",
                Nesting::List,
                "Every host.",
                [
                    text("host_id", "Its id."),
                    text("name", "Its name."),
                    number("memory_mib", "Memory that guests may have, in MiB."),
                    number("free_memory_mib", "Memory that no instance has, in MiB. A guest takes more than its own: what runs it counts."),
                ],
            )
            .computed(),
        )
    }

    async fn read(&self, _ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let connection = super::connection(&self.0, NOUN)?;
        let answer = connection
            .call(|channel| async move {
                HostsClient::new(channel).get_capacity(v1::GetCapacityRequest {}).await
            })
            .await
            .map_err(|problem| super::fail(NOUN, &problem))?;
        let kind = |kind: v1::TypeCapacity| {
            Value::object([
                ("instance_type", Value::from(kind.instance_type)),
                ("vcpus", kind.vcpus.into()),
                ("memory_mib", kind.memory_mib.into()),
                ("available_instance_count", kind.available_instance_count.into()),
            ])
        };
        let host = |host: v1::HostRoom| {
            Value::object([
                ("host_id", Value::from(host.host_id)),
                ("name", host.name.into()),
                ("memory_mib", host.memory_mib.into()),
                ("free_memory_mib", host.free_memory_mib.into()),
            ])
        };
        let types: Vec<Value> = answer.types.into_iter().map(kind).collect();
        let hosts: Vec<Value> = answer.hosts.into_iter().map(host).collect();
        Ok(Value::object([("types", types), ("hosts", hosts)]))
    }
}
