//! `data.weft_instance_types`: the named sizes that fit, Weft's own among them.

use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostics, Nesting, Schema, Value, async_trait,
};
use weft_model::Problem;
use weft_proto::v1;

use super::filter::Filter;
use crate::agent::Agent;
use crate::instance_type::InstanceType;
use crate::kind::Kind;
use crate::kind::wire::Wire as _;

#[derive(Debug)]
pub(crate) struct InstanceTypes(pub(crate) Arc<Agent>);

const NOUN: &str = "instance types";

#[async_trait]
impl DataSource for InstanceTypes {
    fn type_name(&self) -> &str {
        "weft_instance_types"
    }

    fn schema(&self) -> Schema {
        let resource = InstanceType::schema();
        Schema::new(
            "The named sizes that `weft_instance` takes as `instance_type`: those built in, and \
             each `weft_instance_type`. None that fits is no error.",
        )
        .subcategory("Compute")
        .attributes(Filter::attributes())
        .attribute(
            Attribute::nested(
                "types",
                Nesting::List,
                "From small to large. Built-in types have no `id` and no tags.",
                super::shown("weft_instance_type", &resource, &[]),
            )
            .computed(),
        )
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let connection = super::connection(&self.0, NOUN)?;
        let failed = |problem: Problem| super::fail(NOUN, &problem);
        let filter = Filter::read(&ctx.config)?;
        let list = connection
            .call(|channel| {
                let request = filter.request();
                async move { v1::InstanceType::client(channel).list(request).await }
            })
            .await
            .map_err(failed)?;
        let name = |kind: &v1::InstanceType| kind.spec.as_ref().map(|spec| spec.name.clone());
        let mut found = list.items;
        found.retain(|kind| filter.fits(&name(kind).unwrap_or_default()));
        found.sort_by_key(|kind| {
            let size = kind.spec.as_ref().map(|spec| (spec.vcpus, spec.memory_mib));
            (size, name(kind))
        });
        let types = found.into_iter().map(InstanceType::state).collect::<Result<Vec<_>, _>>();
        let mut answer = ctx.config.clone();
        answer.set("types", types.map_err(failed)?);
        Ok(answer)
    }
}
