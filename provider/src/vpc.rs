//! `weft_vpc`: an isolated address space.

use serde::{Deserialize, Serialize};
use tfplugin::{
    Attribute, ConvertError, Diagnostic, Diagnostics, PlanContext, Schema, Validator, Value,
    async_trait,
};
use weft_model::{Problem, VLAN_IDS, VpcMode};
use weft_proto::convert::vpc_from_wire;
use weft_proto::v1;

use crate::agent::Agent;
use crate::kind::Kind;
use crate::kind::plain::Plain;
use crate::tags::TagMap;
use crate::{checks, elastic_ip, kept, problem, tags};

#[derive(Debug)]
pub(crate) enum Vpc {}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    tags: Option<TagMap>,
}

impl Kind for Vpc {
    type Wire = v1::Vpc;
    type Kept = Kept;
    const TYPE: &'static str = "weft_vpc";
    const NOUN: &'static str = "VPC";

    fn schema() -> Schema {
        Schema::new(
            "An isolated address space. VPCs do not reach each other, and their ranges may overlap. \
             A VPC comes with a default security group, which goes with it.",
        )
        .subcategory("Network")
        .attribute(
            Attribute::string("name", "For people; need not be unique.")
                .required()
                .validate(checks::name()),
        )
        .attribute(
            Attribute::string(
                "cidr_block",
                "Its addresses, such as `10.0.0.0/16`: from /16 to /28. With `mode = \"bridge\"`, the range of the LAN.",
            )
            .required()
            .replace_on_change()
            .validate(checks::network_cidr()),
        )
        .attribute(
            Attribute::string(
                "ipv6_cidr_block",
                "Its IPv6 addresses beside the IPv4 ones, such as `fd12:3456:789a::/56`: from /44 to /64, a range of your own or a private one (RFC 4193). With `mode = \"bridge\"`, the range of the LAN.",
            )
            .replace_on_change()
            .validate(checks::vpc_ipv6_cidr()),
        )
        .attribute(
            Attribute::string(
                "mode",
                "`routed`: as in EC2, each guest talks to the VPC's router only, and goes out behind the host's address. `bridge`: the guests are on one LAN, which is one of the host's where `bridge_name` or `uplink` says so. Security groups hold in both.",
            )
            .default(VpcMode::default().as_str())
            .replace_on_change()
            .validate(Validator::one_of(VpcMode::WORDS.iter().copied())),
        )
        .attribute(
            Attribute::string(
                "bridge_name",
                "A bridge of the host, such as `br0`, whose LAN the guests join; only with `mode = \"bridge\"`. With neither this nor `uplink`, they are on a LAN of their own, without a way out.",
            )
            .replace_on_change()
            .validate(checks::link_name()),
        )
        .attribute(
            Attribute::string(
                "uplink",
                "A link of the host, such as a spare network card `eth1`, whose LAN the guests join where the host has no bridge; only with `mode = \"bridge\"`. It must have no addresses and be in no bridge, unless `vlan_id` takes one VLAN of it only. It is given back as it was.",
            )
            .replace_on_change()
            .validate(checks::link_name()),
        )
        .attribute(
            Attribute::number(
                "vlan_id",
                "A VLAN (802.1Q) of the bridge or of the uplink, from 1 to 4094: the guests join it, and see no tags.",
            )
            .replace_on_change()
            .validate(checks::numbered("a VLAN", vlan_ids())),
        )
        .attributes(tags::attributes())
        .attribute(Attribute::string("id", "`vpc-` and 17 hexadecimal digits.").computed())
        .attribute(
            Attribute::string(
                "default_security_group_id",
                "The group of instances that name none: in from its own members, out to everywhere.",
            )
            .computed(),
        )
    }

    fn kept(plan: &Value) -> Result<Kept, ConvertError> {
        Ok(Kept { tags: tags::own(plan)? })
    }

    fn state(wire: v1::Vpc) -> Result<Value, Problem> {
        let object = vpc_from_wire(wire)?;
        let kept: Kept = kept::decode(&object.client_data);
        let spec = object.spec;
        Ok(Value::object([
            ("id", Value::from(object.id.to_string())),
            ("name", spec.name.into()),
            ("cidr_block", spec.cidr_block.to_string().into()),
            ("ipv6_cidr_block", spec.ipv6_cidr_block.map(|range| range.to_string()).into()),
            ("mode", spec.mode.as_str().into()),
            ("bridge_name", spec.bridge_name.map(|link| link.to_string()).into()),
            ("uplink", spec.uplink.map(|link| link.to_string()).into()),
            ("vlan_id", spec.vlan_id.map(i64::from).into()),
            ("default_security_group_id", spec.default_group_id.to_string().into()),
            ("tags", kept.tags.into()),
            ("tags_all", object.tags.into_map().into()),
        ]))
    }
}

fn vlan_ids() -> std::ops::RangeInclusive<i64> {
    i64::from(*VLAN_IDS.start())..=i64::from(*VLAN_IDS.end())
}

#[async_trait]
impl Plain for Vpc {
    fn spec(plan: &Value) -> Result<v1::VpcSpec, Diagnostics> {
        Ok(v1::VpcSpec {
            name: plan.read("name")?,
            cidr_block: plan.read("cidr_block")?,
            mode: plan.read("mode")?,
            bridge_name: plan.read("bridge_name")?,
            uplink: plan.read("uplink")?,
            vlan_id: plan.read("vlan_id")?,
            ipv6_cidr_block: plan.read("ipv6_cidr_block")?,
        })
    }

    async fn plan(agent: &Agent, ctx: &mut PlanContext) -> Result<(), Diagnostics> {
        if !ctx.is_create() {
            return Ok(());
        }
        let range = ctx.plan.get("cidr_block").as_str().and_then(|text| text.parse().ok());
        if let Ok(connection) = agent.connection() {
            connection.planned_networks.add_vpc(range);
        }
        let mode = ctx.plan.get("mode").as_str().and_then(|word| word.parse().ok());
        if let (Some(range), Some(mode)) = (range, mode)
            && let Some(connection) = agent.asked_in_plans()
            && let Some(pool) = elastic_ip::pool(&connection).await
        {
            pool.check_vpc(range, mode).map_err(|problem| {
                let summary = "The VPC cannot be made";
                problem::diagnostic(summary, &problem, &Self::schema(), &ctx.config)
            })?;
        }
        Ok(())
    }

    fn validate(config: &Value) -> Diagnostics {
        let mode = config.get("mode");
        let is_routed = mode.is_null() || mode.as_str() == Some(VpcMode::Routed.as_str());
        let mut found = Diagnostics::new();
        let lan = ["bridge_name", "uplink", "vlan_id"].map(|name| (name, config.get(name)));
        if is_routed && let Some((name, value)) = lan.iter().find(|(_, value)| value.is_set()) {
            found.push(
                Diagnostic::error("A routed VPC is not joined to a LAN")
                    .cause(format!("{name} is {value}, and mode is \"routed\""))
                    .remedy(format!("Set mode = \"bridge\", or leave {name} out"))
                    .at(*name),
            );
            return found;
        }
        let [(_, bridge), (_, uplink), (_, vlan)] = lan;
        if bridge.is_set() && uplink.is_set() {
            found.push(
                Diagnostic::error("A VPC joins one LAN")
                    .cause(format!("bridge_name is {bridge}, and uplink is {uplink}"))
                    .remedy("Leave one of them out")
                    .at("uplink"),
            );
        }
        if vlan.is_set() && bridge.is_null() && uplink.is_null() {
            found.push(
                Diagnostic::error("There is no link whose VLAN it could be")
                    .cause(format!("vlan_id is {vlan}, and neither bridge_name nor uplink is set"))
                    .remedy("Name the link as uplink, or a bridge as bridge_name")
                    .at("vlan_id"),
            );
        }
        found
    }
}
