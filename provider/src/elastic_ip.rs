//! `weft_elastic_ip`: an address of the public pool.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use tfplugin::{
    Attribute, ConvertError, Diagnostic, Diagnostics, PlanContext, Schema, Value, async_trait,
};
use weft_model::{AddressRange, Problem, PublicPool};
use weft_proto::convert::elastic_ip_from_wire;
use weft_proto::v1;

use crate::agent::{Agent, Connection};
use crate::host::only_host;
use crate::kind::Kind;
use crate::kind::plain::Plain;
use crate::tags::TagMap;
use crate::{checks, kept, tags};

#[derive(Debug)]
pub(crate) enum ElasticIp {}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    tags: Option<TagMap>,
}

impl Kind for ElasticIp {
    type Wire = v1::ElasticIp;
    type Kept = Kept;
    const TYPE: &'static str = "weft_elastic_ip";
    const NOUN: &'static str = "elastic IP";

    fn schema() -> Schema {
        Schema::new(
            "An address of the host's public pool, kept for as long as the resource lives. A \
             `weft_elastic_ip_association` leads it to a guest.",
        )
        .subcategory("Network")
        .attribute(
            Attribute::string("name", "For people; need not be unique. Changes live.")
                .validate(checks::name()),
        )
        .attribute(
            Attribute::string(
                "address",
                "Which address of the pool (the agent's `--public-pool`); unset, the lowest one that is free.",
            )
            .replace_on_change()
            .validate(checks::ipv4()),
        )
        .attributes(tags::attributes())
        .attribute(Attribute::string("id", "`eip-` and 17 hexadecimal digits.").computed())
        .attribute(Attribute::string("public_ip", "The address.").computed())
    }

    fn kept(plan: &Value) -> Result<Kept, ConvertError> {
        Ok(Kept { tags: tags::own(plan)? })
    }

    fn state(wire: v1::ElasticIp) -> Result<Value, Problem> {
        let object = elastic_ip_from_wire(wire)?;
        let kept: Kept = kept::decode(&object.client_data);
        let spec = object.spec;
        let public_ip = spec.public_ip.to_string();
        Ok(Value::object([
            ("id", Value::from(object.id.to_string())),
            ("name", spec.name.map(|name| name.to_string()).into()),
            ("address", spec.chosen.then(|| public_ip.clone()).into()),
            ("public_ip", public_ip.into()),
            ("tags", kept.tags.into()),
            ("tags_all", object.tags.into_map().into()),
        ]))
    }
}

/// The pool of the only host; `None` where it cannot be known now: Create says what is wrong.
pub(crate) async fn pool(connection: &Connection) -> Option<PublicPool> {
    let host = only_host(connection).await?;
    let ranges: Option<Vec<AddressRange>> =
        host.public_pool.iter().map(|text| text.parse().ok()).collect();
    ranges.filter(|ranges| !ranges.is_empty()).map(PublicPool::new)
}

#[async_trait]
impl Plain for ElasticIp {
    fn spec(plan: &Value) -> Result<v1::ElasticIpSpec, Diagnostics> {
        Ok(v1::ElasticIpSpec { name: plan.read("name")?, address: plan.read("address")? })
    }

    async fn plan(agent: &Agent, ctx: &mut PlanContext) -> Result<(), Diagnostics> {
        let Some(connection) = agent.asked_in_plans() else { return Ok(()) };
        let address = ctx.plan.get("address").as_str().and_then(|text| text.parse().ok());
        let Some(address): Option<Ipv4Addr> = address else { return Ok(()) };
        if !(ctx.is_create() || ctx.changes("address")) {
            return Ok(());
        }
        if let Some(pool) = pool(&connection).await.filter(|pool| !pool.contains(address)) {
            return Err(Diagnostic::error("The address is not in the public pool")
                .cause(format!("{address} is not in the host's public pool {pool}"))
                .remedy("Use an address of the pool, or leave address out")
                .at("address")
                .into());
        }
        Ok(())
    }
}
