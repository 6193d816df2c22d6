//! `data.weft_instance_types`: the named sizes.

use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostics, Nesting, Schema, Value, async_trait,
};
use weft_proto::v1::{self, instance_types_client::InstanceTypesClient};

use crate::agent::Agent;

#[derive(Debug)]
pub(crate) struct InstanceTypes(pub(crate) Arc<Agent>);

const NOUN: &str = "instance types";

#[async_trait]
impl DataSource for InstanceTypes {
    fn type_name(&self) -> &str {
        "weft_instance_types"
    }

    fn schema(&self) -> Schema {
        Schema::new("The named sizes that `weft_instance` takes as `instance_type`.")
            .subcategory("Compute")
            .attribute(
                Attribute::nested(
                    "types",
                    Nesting::List,
                    "From small to large.",
                    [
                        Attribute::string("name", "Such as `w1.small`.").computed(),
                        Attribute::number("vcpus", "Virtual processors.").computed(),
                        Attribute::number("memory_mib", "Memory in MiB.").computed(),
                    ],
                )
                .computed(),
            )
    }

    async fn read(&self, _ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let connection = super::connection(&self.0, NOUN)?;
        let list = connection
            .call(|channel| async move {
                InstanceTypesClient::new(channel).list(v1::ListRequest::default()).await
            })
            .await
            .map_err(|problem| super::fail(NOUN, &problem))?;
        let mut types = list.items;
        types.sort_by_key(|kind| (kind.vcpus, kind.memory_mib));
        let types: Vec<Value> = types
            .into_iter()
            .map(|v1::InstanceType { name, vcpus, memory_mib }| {
                Value::object([
                    ("name", Value::from(name)),
                    ("vcpus", vcpus.into()),
                    ("memory_mib", memory_mib.into()),
                ])
            })
            .collect();
        Ok(Value::object([("types", types)]))
    }
}
