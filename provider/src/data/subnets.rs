//! `data.weft_subnets`: every subnet that fits.

use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostics, Nesting, Schema, Type, Value,
    async_trait,
};
use weft_model::{Problem, VpcId};
use weft_proto::v1;

use super::filter::Filter;
use super::found::values;
use crate::agent::Agent;
use crate::checks;
use crate::kind::Kind as _;
use crate::kind::wire::Listed as _;
use crate::subnet::Subnet;

#[derive(Debug)]
pub(crate) struct Subnets(pub(crate) Arc<Agent>);

const NOUN: &str = "subnets";

#[async_trait]
impl DataSource for Subnets {
    fn type_name(&self) -> &str {
        "weft_subnets"
    }

    fn schema(&self) -> Schema {
        let mut shown = super::shown("weft_subnet", &Subnet::schema(), &["tags"]);
        shown.push(Attribute::bool("default", "Whether it is the default subnet.").computed());
        Schema::new("The subnets that fit, those of one VPC, say. None is no error.")
            .subcategory("Network")
            .attribute(
                Attribute::string("vpc_id", "By the VPC that they are a part of.")
                    .validate(checks::id::<VpcId>(VpcId::PREFIX, "a VPC")),
            )
            .attributes(Filter::attributes())
            .attribute(Attribute::list("ids", Type::String, "Their ids.").computed())
            .attribute(
                Attribute::nested(
                    "subnets",
                    Nesting::List,
                    "The subnets, in the order of `ids`.",
                    shown,
                )
                .computed(),
            )
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let connection = super::connection(&self.0, NOUN)?;
        let filter = Filter::read(&ctx.config)?;
        let vpc: Option<String> = ctx.config.read("vpc_id")?;
        let listed = connection.call(|channel| v1::Subnet::list(channel, filter.request())).await;
        let mut subnets = Vec::new();
        for wire in listed.map_err(|problem: Problem| super::fail(NOUN, &problem))? {
            let values = values::<Subnet>(wire)?;
            let in_vpc = vpc.as_deref().is_none_or(|id| values.get("vpc_id").as_str() == Some(id));
            if in_vpc && filter.fits(values.get("name").as_str().unwrap_or_default()) {
                subnets.push(values);
            }
        }
        Ok(super::plural("subnets", subnets, &ctx.config))
    }
}
