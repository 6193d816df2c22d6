//! `weft_security_group`: a stateful set of allow rules; the rules are resources of their own.

use serde::{Deserialize, Serialize};
use tfplugin::{Attribute, ConvertError, Diagnostics, Known, Schema, Value};
use weft_model::{Problem, VpcId};
use weft_proto::convert::group_from_wire;
use weft_proto::v1::{self};

use crate::kind::Kind;
use crate::kind::plain::Plain;
use crate::tags::TagMap;
use crate::{checks, kept, tags};

#[derive(Debug)]
pub(crate) enum SecurityGroup {}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    tags: Option<TagMap>,
}

impl Kind for SecurityGroup {
    type Wire = v1::SecurityGroup;
    type Kept = Kept;
    const TYPE: &'static str = "weft_security_group";
    const NOUN: &'static str = "security group";

    fn schema() -> Schema {
        Schema::new(
            "A stateful set of allow rules for instances: what no rule lets in stays out. Rules are \
             resources of their own (`weft_security_group_ingress_rule`, \
             `weft_security_group_egress_rule`) and take effect on running guests at once.",
        )
        .subcategory("Network")
        .attribute(
            Attribute::string("name", "For people; need not be unique.")
                .required()
                .validate(checks::name()),
        )
        .attribute(
            Attribute::string("description", "Free text.")
                .default("")
                .validate(checks::description()),
        )
        .attribute(
            Attribute::string("vpc_id", "The VPC of its members; unset, the default VPC.")
                .optional_computed()
                .replace_on_change()
                .validate(checks::id::<VpcId>(VpcId::PREFIX, "a VPC")),
        )
        .attribute(
            Attribute::bool(
                "allow_all_egress",
                "Whether members may open any connection to anywhere. Egress rules matter only with `false`.",
            )
            .default(true),
        )
        .attribute(
            Attribute::bool(
                "revoke_now",
                "Whether open connections of members are cut as soon as no rule admits them any more. With `false`, as in EC2, a change of rules is about new connections, and what is open goes on.",
            )
            .default(false),
        )
        .attributes(tags::attributes())
        .attribute(Attribute::string("id", "`sg-` and 17 hexadecimal digits.").computed())
    }

    fn kept(plan: &Value) -> Result<Kept, ConvertError> {
        Ok(Kept { tags: tags::own(plan)? })
    }

    fn state(wire: v1::SecurityGroup) -> Result<Value, Problem> {
        let object = group_from_wire(wire)?;
        let kept: Kept = kept::decode(&object.client_data);
        Ok(Value::object([
            ("id", Value::from(object.id.to_string())),
            ("name", object.spec.name.into()),
            ("description", object.spec.description.into()),
            ("vpc_id", object.spec.vpc_id.to_string().into()),
            ("allow_all_egress", object.spec.allow_all_egress.into()),
            ("revoke_now", object.spec.revoke_now.into()),
            ("tags", kept.tags.into()),
            ("tags_all", object.tags.into_map().into()),
        ]))
    }
}

impl Plain for SecurityGroup {
    fn spec(plan: &Value) -> Result<v1::SecurityGroupSpec, Diagnostics> {
        Ok(v1::SecurityGroupSpec {
            name: plan.read("name")?,
            description: plan.read("description")?,
            vpc_id: plan.read::<Known<String>>("vpc_id")?.value(),
            allow_all_egress: plan.read("allow_all_egress")?,
            revoke_now: plan.read("revoke_now")?,
        })
    }
}
