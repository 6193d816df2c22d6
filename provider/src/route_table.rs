//! `weft_route_table`: where a subnet's guests' packets go that do not stay in the VPC.

use serde::{Deserialize, Serialize};
use tfplugin::{Attribute, ConvertError, Diagnostic, Diagnostics, Nesting, Schema, Value};
use weft_model::{InstanceId, InterfaceId, Problem, RouteSpec, Target, VpcId};
use weft_proto::convert::route_table_from_wire;
use weft_proto::v1;

use crate::kind::Kind;
use crate::kind::plain::Plain;
use crate::tags::TagMap;
use crate::{checks, kept, tags};

#[derive(Debug)]
pub(crate) enum RouteTable {}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    tags: Option<TagMap>,
}

impl Kind for RouteTable {
    type Wire = v1::RouteTable;
    type Kept = Kept;
    const TYPE: &'static str = "weft_route_table";
    const NOUN: &'static str = "route table";

    fn schema() -> Schema {
        Schema::new(
            "Where packets of a subnet's instances go that do not stay in the VPC: to an instance \
             that routes them (a NAT, a VPN appliance, a firewall), or nowhere. What no route \
             matches takes the VPC's own way out. A subnet uses the table by a \
             `weft_route_table_association`.",
        )
        .subcategory("Network")
        .attribute(
            Attribute::string("name", "For people; need not be unique.")
                .required()
                .validate(checks::name()),
        )
        .attribute(
            Attribute::string("vpc_id", "The VPC whose subnets may use it; a routed one.")
                .required()
                .replace_on_change()
                .validate(checks::id::<VpcId>(VpcId::PREFIX, "a VPC")),
        )
        .attribute(
            Attribute::nested(
                "routes",
                Nesting::Set,
                "Where packets for a range go; the longest prefix wins. Packets for the VPC's own \
                 range never follow a route. Changes live. While the target is off, its range is \
                 unreachable.",
                [
                    Attribute::string("cidr_block", "The range, such as `0.0.0.0/0`.")
                        .required()
                        .validate(checks::cidr()),
                    Attribute::string(
                        "instance_id",
                        "The instance that routes, by its primary interface; it needs `source_dest_check = false`.",
                    )
                    .validate(checks::id::<InstanceId>(InstanceId::PREFIX, "an instance")),
                    Attribute::string(
                        "network_interface_id",
                        "The network interface of the instance that routes.",
                    )
                    .validate(checks::id::<InterfaceId>(InterfaceId::PREFIX, "a network interface")),
                    Attribute::bool("blackhole", "`true`: the range is unreachable."),
                ],
            )
            .required(),
        )
        .attributes(tags::attributes())
        .attribute(Attribute::string("id", "`rtb-` and 17 hexadecimal digits.").computed())
    }

    fn kept(plan: &Value) -> Result<Kept, ConvertError> {
        Ok(Kept { tags: tags::own(plan)? })
    }

    fn state(wire: v1::RouteTable) -> Result<Value, Problem> {
        let object = route_table_from_wire(wire)?;
        let kept: Kept = kept::decode(&object.client_data);
        let routes: Vec<Value> = object.spec.routes.into_iter().map(route).collect();
        Ok(Value::object([
            ("id", Value::from(object.id.to_string())),
            ("name", object.spec.name.into()),
            ("vpc_id", object.spec.vpc_id.to_string().into()),
            ("routes", routes.into()),
            ("tags", kept.tags.into()),
            ("tags_all", object.tags.into_map().into()),
        ]))
    }
}

fn route(route: RouteSpec) -> Value {
    let instance = route.target.as_ref().and_then(Target::instance_id);
    let interface = route.target.as_ref().and_then(Target::interface_id);
    Value::object([
        ("cidr_block", Value::from(route.cidr_block.to_string())),
        ("instance_id", instance.map(ToString::to_string).into()),
        ("network_interface_id", interface.map(ToString::to_string).into()),
        ("blackhole", route.target.is_none().then_some(true).into()),
    ])
}

tfplugin::object! {
    /// One route as it is configured.
    #[derive(Debug)]
    struct Planned {
        cidr_block: String,
        instance_id: Option<String>,
        network_interface_id: Option<String>,
        blackhole: Option<bool>,
    }
}

impl Planned {
    fn into_wire(self) -> v1::Route {
        use v1::route::Target;
        let target = self
            .instance_id
            .map(Target::InstanceId)
            .or_else(|| self.network_interface_id.map(Target::NetworkInterfaceId))
            .or_else(|| self.blackhole.map(Target::Blackhole));
        v1::Route { cidr_block: self.cidr_block, target }
    }
}

/// The attributes of a route of which exactly one says where it leads.
const TARGETS: [&str; 3] = ["instance_id", "network_interface_id", "blackhole"];

/// What is wrong with a route's target, where that is known.
fn judge(route: &Value) -> Option<Diagnostic> {
    if TARGETS.iter().any(|name| route.get(*name).is_unknown()) {
        return None;
    }
    let range = route.get("cidr_block").as_str().unwrap_or_default();
    let set: Vec<&str> = TARGETS.into_iter().filter(|name| route.get(*name).is_set()).collect();
    let no_hole = route.get("blackhole").as_bool() == Some(false);
    match set.as_slice() {
        ["blackhole"] if no_hole => Some(
            Diagnostic::error("A route leads nowhere")
                .cause(format!("the route to {range} has no target, and blackhole is false"))
                .remedy("Remove the route: what no route matches takes the VPC's own way out"),
        ),
        [_] => None,
        [] => Some(
            Diagnostic::error("A route leads nowhere")
                .cause(format!("for {range} none of {} is set", TARGETS.join(", ")))
                .remedy("Set one of them"),
        ),
        several => Some(
            Diagnostic::error("A route leads to two targets")
                .cause(format!("for {range} {} are set", several.join(" and ")))
                .remedy("Keep one of them"),
        ),
    }
}

impl Plain for RouteTable {
    fn spec(plan: &Value) -> Result<v1::RouteTableSpec, Diagnostics> {
        let routes: Vec<Planned> = plan.read("routes")?;
        Ok(v1::RouteTableSpec {
            name: plan.read("name")?,
            vpc_id: plan.read("vpc_id")?,
            routes: routes.into_iter().map(Planned::into_wire).collect(),
        })
    }

    fn validate(config: &Value) -> Diagnostics {
        let mut found = Diagnostics::new();
        for route in config.get("routes").as_list().unwrap_or_default() {
            if let Some(diagnostic) = judge(route) {
                found.push(diagnostic.at("routes"));
            }
        }
        found
    }
}
