//! `weft_port_forward`: a port of the host that leads to a guest.

use serde::{Deserialize, Serialize};
use tfplugin::{Attribute, ConvertError, Diagnostics, Schema, Validator, Value};
use weft_model::{Problem, TransportProtocol};
use weft_proto::convert::port_forward_from_wire;
use weft_proto::v1;

use crate::kind::Kind;
use crate::kind::plain::Plain;
use crate::tags::TagMap;
use crate::{checks, kept, tags, target};

#[derive(Debug)]
pub(crate) enum PortForward {}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    tags: Option<TagMap>,
    /// Whether it was left out.
    same_port: bool,
}

impl Kind for PortForward {
    type Wire = v1::PortForward;
    type Kept = Kept;
    const TYPE: &'static str = "weft_port_forward";
    const NOUN: &'static str = "port forward";

    fn schema() -> Schema {
        let port = || checks::numbered("a port", 1..=65535);
        Schema::new(
            "Leads a port of the host's own addresses to a guest, from outside and from the host \
             itself (but not from 127.0.0.1). The guest sees who it is, and its security groups \
             judge that.",
        )
        .subcategory("Network")
        .attribute(
            Attribute::string("name", "For people; need not be unique. Changes live.")
                .required()
                .validate(checks::name()),
        )
        .attribute(
            Attribute::string("protocol", "`tcp` or `udp`.")
                .required()
                .replace_on_change()
                .validate(Validator::one_of(TransportProtocol::WORDS.iter().copied())),
        )
        .attribute(
            Attribute::number(
                "host_port",
                "The host's port. Refused where another port forward has it, or a service of the host listens there.",
            )
            .required()
            .replace_on_change()
            .validate(port()),
        )
        .attribute(
            Attribute::string(
                "host_address",
                "One of the host's addresses; unset, each of them but 127.0.0.0/8.",
            )
            .replace_on_change()
            .validate(checks::ipv4()),
        )
        .attributes(target::attributes().map(Attribute::replace_on_change))
        .attribute(
            Attribute::number("target_port", "The guest's port; unset, `host_port`. Changes live.")
                .validate(port()),
        )
        .attributes(tags::attributes())
        .attribute(Attribute::string("id", "`pf-` and 17 hexadecimal digits.").computed())
    }

    fn kept(plan: &Value) -> Result<Kept, ConvertError> {
        Ok(Kept { tags: tags::own(plan)?, same_port: plan.get("target_port").is_null() })
    }

    fn state(wire: v1::PortForward) -> Result<Value, Problem> {
        let object = port_forward_from_wire(wire)?;
        let kept: Kept = kept::decode(&object.client_data);
        let spec = object.spec;
        let same_port = kept.same_port && spec.target_port == spec.host_port;
        let target = spec.target;
        Ok(Value::object([
            ("id", Value::from(object.id.to_string())),
            ("name", spec.name.to_string().into()),
            ("protocol", spec.protocol.as_str().into()),
            ("host_port", i64::from(spec.host_port).into()),
            ("host_address", spec.host_address.map(|address| address.to_string()).into()),
            ("instance_id", target.instance_id().map(ToString::to_string).into()),
            ("network_interface_id", target.interface_id().map(ToString::to_string).into()),
            ("target_port", (!same_port).then(|| i64::from(spec.target_port)).into()),
            ("tags", kept.tags.into()),
            ("tags_all", object.tags.into_map().into()),
        ]))
    }
}

impl Plain for PortForward {
    fn spec(plan: &Value) -> Result<v1::PortForwardSpec, Diagnostics> {
        Ok(v1::PortForwardSpec {
            name: plan.read("name")?,
            protocol: plan.read("protocol")?,
            host_port: plan.read("host_port")?,
            host_address: plan.read("host_address")?,
            instance_id: plan.read("instance_id")?,
            network_interface_id: plan.read("network_interface_id")?,
            target_port: plan.read("target_port")?,
        })
    }

    fn validate(config: &Value) -> Diagnostics {
        target::validate(config)
    }
}
