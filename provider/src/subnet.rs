//! `weft_subnet`: a range of a VPC's addresses.

mod fits;
pub(crate) mod planned;

use serde::{Deserialize, Serialize};
use tfplugin::{
    Attribute, ConvertError, Diagnostics, Known, PlanContext, Schema, Type, Value, async_trait,
};
use weft_model::{DNS_ADDRESS, Problem, VpcId};
use weft_proto::convert::subnet_from_wire;
use weft_proto::v1;

use crate::agent::Agent;
use crate::kind::Kind;
use crate::kind::plain::Plain;
use crate::tags::TagMap;
use crate::{checks, kept, tags};

#[derive(Debug)]
pub(crate) enum Subnet {}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    tags: Option<TagMap>,
}

impl Kind for Subnet {
    type Wire = v1::Subnet;
    type Kept = Kept;
    const TYPE: &'static str = "weft_subnet";
    const NOUN: &'static str = "subnet";

    fn schema() -> Schema {
        Schema::new(
            "A range of a VPC's addresses, from which instances get theirs. The first four and the \
             last are kept, as in EC2.",
        )
        .subcategory("Network")
        .attribute(
            Attribute::string("name", "For people; need not be unique.")
                .required()
                .validate(checks::name()),
        )
        .attribute(
            Attribute::string("vpc_id", "The VPC that it is a part of.")
                .required()
                .replace_on_change()
                .validate(checks::id::<VpcId>(VpcId::PREFIX, "a VPC")),
        )
        .attribute(
            Attribute::string(
                "cidr_block",
                "A part of the VPC's range that no other subnet has: from /16 to /28. In a bridge VPC, the part of the LAN that Weft may give out.",
            )
            .required()
            .replace_on_change()
            .validate(checks::network_cidr()),
        )
        .attribute(
            Attribute::string(
                "ipv6_cidr_block",
                "A /64 of the VPC's `ipv6_cidr_block` that no other subnet has, such as `cidrsubnet(weft_vpc.NAME.ipv6_cidr_block, 8, 0)` of a /56: each interface then gets an IPv6 address of it as well. In a bridge VPC the LAN's /64, and its addresses are those that guests make of their MAC there.",
            )
            .replace_on_change()
            .validate(checks::subnet_ipv6_cidr()),
        )
        .attribute(
            Attribute::string(
                "gateway_ip",
                "The guests' router. In a routed VPC one of the first three addresses, unset the first. In a bridge VPC the LAN's router, anywhere in the VPC's range, unset its first address; the agent itself then has the first of the subnet's first three addresses that is free.",
            )
            .optional_computed()
            .replace_on_change()
            .validate(checks::ipv4()),
        )
        .attribute(
            Attribute::list(
                "dns_servers",
                Type::String,
                "What guests ask for names, the first one first; with `[]`, nobody. Unset, the VPC's own resolver, which asks those of the host. Changes live (a guest sees it at its next start).",
            )
            .default(vec![DNS_ADDRESS.to_string()])
            .validate(checks::ipv4s()),
        )
        .attribute(
            Attribute::bool(
                "map_public_ip_on_launch",
                "Whether new instances in it get an address of the public pool, unless they say otherwise. Changes live, for instances made from then on.",
            )
            .default(false),
        )
        .attributes(tags::attributes())
        .attribute(Attribute::string("id", "`subnet-` and 17 hexadecimal digits.").computed())
    }

    fn kept(plan: &Value) -> Result<Kept, ConvertError> {
        Ok(Kept { tags: tags::own(plan)? })
    }

    fn state(wire: v1::Subnet) -> Result<Value, Problem> {
        let object = subnet_from_wire(wire)?;
        let kept: Kept = kept::decode(&object.client_data);
        let spec = object.spec;
        let servers: Vec<String> = spec.dns_servers.iter().map(ToString::to_string).collect();
        Ok(Value::object([
            ("id", Value::from(object.id.to_string())),
            ("name", spec.name.into()),
            ("vpc_id", spec.vpc_id.to_string().into()),
            ("cidr_block", spec.cidr_block.to_string().into()),
            ("ipv6_cidr_block", spec.ipv6_cidr_block.map(|range| range.to_string()).into()),
            ("gateway_ip", spec.gateway.to_string().into()),
            ("dns_servers", servers.into()),
            ("map_public_ip_on_launch", spec.map_public_ip.into()),
            ("tags", kept.tags.into()),
            ("tags_all", object.tags.into_map().into()),
        ]))
    }
}

#[async_trait]
impl Plain for Subnet {
    fn spec(plan: &Value) -> Result<v1::SubnetSpec, Diagnostics> {
        Ok(v1::SubnetSpec {
            name: plan.read("name")?,
            vpc_id: plan.read("vpc_id")?,
            cidr_block: plan.read("cidr_block")?,
            gateway_ip: plan.read::<Known<String>>("gateway_ip")?.value(),
            dns_servers: plan.read("dns_servers")?,
            ipv6_cidr_block: plan.read("ipv6_cidr_block")?,
            map_public_ip_on_launch: plan.read("map_public_ip_on_launch")?,
        })
    }

    async fn plan(agent: &Agent, ctx: &mut PlanContext) -> Result<(), Diagnostics> {
        fits::check(agent, ctx).await
    }
}
