//! `weft_network_interface`: an address and a MAC that outlive an instance.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tfplugin::{
    Attribute, ConvertError, Diagnostics, Known, PlanContext, Schema, Type, Value, async_trait,
};
use weft_model::{GroupId, NETWORK_MBPS, Problem, SubnetId};
use weft_proto::convert::interface_from_wire;
use weft_proto::v1;

use crate::agent::Agent;
use crate::kind::Kind;
use crate::kind::plain::Plain;
use crate::tags::TagMap;
use crate::{checks, interface, kept, problem, tags};

#[derive(Debug)]
pub(crate) enum NetworkInterface {}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    tags: Option<TagMap>,
}

impl Kind for NetworkInterface {
    type Wire = v1::NetworkInterface;
    type Kept = Kept;
    const TYPE: &'static str = "weft_network_interface";
    const NOUN: &'static str = "network interface";

    fn schema() -> Schema {
        Schema::new(
            "A network interface of its own: its address and its MAC outlive the instances that it \
             is attached to with `weft_network_interface_attachment`.",
        )
        .subcategory("Network")
        .attribute(
            Attribute::string("name", "For people; need not be unique.")
                .required()
                .validate(checks::name()),
        )
        .attribute(
            Attribute::string("subnet_id", "Where its address is from; unset, the default subnet.")
                .optional_computed()
                .replace_on_change()
                .validate(checks::id::<SubnetId>(SubnetId::PREFIX, "a subnet")),
        )
        .attribute(
            Attribute::string("private_ip", "Its address; unset, the lowest free one. Kept for its whole life.")
                .optional_computed()
                .replace_on_change()
                .validate(checks::ipv4()),
        )
        .attribute(
            Attribute::set("security_group_ids", Type::String, "Its security groups; unset, the VPC's default group. Changes live.")
                .validate(checks::group_count())
                .validate(checks::ids::<GroupId>(GroupId::PREFIX, "security groups")),
        )
        .attribute(
            Attribute::bool("source_dest_check", "Whether it may send only from its own addresses. With `false` it may also send from any address outside of the VPC's ranges, as what routes or translates for others does; never as another of the VPC, nor out of the VPC. Not in a VPC with `mode = \"bridge\"`, where all are checked. Changes live.")
                .default(true),
        )
        .attribute(
            Attribute::number("network_mbps", "What it is limited to in each direction, in Mbit/s; unset, what the type of the instance says that it is attached to. Changes live.")
                .validate(checks::number("Mbit/s", checks::wide(NETWORK_MBPS))),
        )
        .attributes(tags::attributes())
        .attribute(Attribute::string("id", "`eni-` and 17 hexadecimal digits.").computed())
        .attribute(Attribute::string("mac_address", "Its MAC, for its whole life.").computed())
        .attribute(
            Attribute::list(
                "ipv6_addresses",
                Type::String,
                "Its IPv6 address, where its subnet has an `ipv6_cidr_block`; kept for its whole life.",
            )
            .computed(),
        )
    }

    fn kept(plan: &Value) -> Result<Kept, ConvertError> {
        Ok(Kept { tags: tags::own(plan)? })
    }

    fn state(wire: v1::NetworkInterface) -> Result<Value, Problem> {
        let object = interface_from_wire(wire)?;
        let kept: Kept = kept::decode(&object.client_data);
        let order = object.spec.order;
        let groups = order
            .security_group_ids
            .map(|ids| ids.iter().map(ToString::to_string).collect::<Vec<_>>());
        let ipv6_addresses: Vec<String> =
            object.spec.ipv6_addresses.iter().map(ToString::to_string).collect();
        Ok(Value::object([
            ("id", Value::from(object.id.to_string())),
            ("name", order.name.into()),
            ("subnet_id", order.subnet_id.map(|id| id.to_string()).into()),
            ("private_ip", order.private_ip.map(|address| address.to_string()).into()),
            ("security_group_ids", groups.into()),
            ("source_dest_check", order.source_dest_check.into()),
            ("network_mbps", order.network_mbps.into()),
            ("mac_address", object.spec.mac.to_string().into()),
            ("ipv6_addresses", ipv6_addresses.into()),
            ("tags", kept.tags.into()),
            ("tags_all", object.tags.into_map().into()),
        ]))
    }
}

#[async_trait]
impl Plain for NetworkInterface {
    fn spec(plan: &Value) -> Result<v1::NetworkInterfaceSpec, Diagnostics> {
        let groups: Option<BTreeSet<String>> = plan.read("security_group_ids")?;
        Ok(v1::NetworkInterfaceSpec {
            name: plan.read("name")?,
            subnet_id: plan.read::<Known<String>>("subnet_id")?.value(),
            private_ip: plan.read::<Known<String>>("private_ip")?.value(),
            security_group_ids: groups
                .map(|ids| v1::SecurityGroupIds { ids: ids.into_iter().collect() }),
            source_dest_check: plan.read("source_dest_check")?,
            network_mbps: plan.read("network_mbps")?,
        })
    }

    async fn plan(agent: &Agent, ctx: &mut PlanContext) -> Result<(), Diagnostics> {
        let Some(connection) = agent.asked_in_plans() else { return Ok(()) };
        interface::check(&connection, ctx).await.map_err(|problem| {
            let summary = "The network interface cannot be made";
            problem::diagnostic(summary, &problem, &Self::schema(), &ctx.config).into()
        })
    }
}
