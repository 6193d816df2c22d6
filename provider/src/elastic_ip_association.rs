//! `weft_elastic_ip_association`: what an elastic IP leads to.

use tfplugin::{Attribute, ConvertError, Diagnostics, Schema, Value};
use weft_model::{ElasticIpId, Problem};
use weft_proto::convert::association_from_wire;
use weft_proto::v1;

use crate::kind::Kind;
use crate::kind::plain::Plain;
use crate::{checks, target};

#[derive(Debug)]
pub(crate) enum ElasticIpAssociation {}

impl Kind for ElasticIpAssociation {
    type Wire = v1::ElasticIpAssociation;
    type Kept = ();
    const TYPE: &'static str = "weft_elastic_ip_association";
    const NOUN: &'static str = "elastic IP association";

    fn schema() -> Schema {
        Schema::new(
            "Leads an elastic IP to a guest, one to one: what comes to the address goes to the \
             guest, and what the guest sends out of its VPC carries it, as far as the address is \
             known: one of the pool that only this host reaches is hidden behind the host's outside \
             of it. An elastic IP leads to one \
             interface, and an interface has one elastic IP. Any change replaces the association, \
             not the address or the guest; connections of others are not touched.",
        )
        .subcategory("Network")
        .attribute(
            Attribute::string("elastic_ip_id", "The elastic IP.")
                .required()
                .replace_on_change()
                .validate(checks::id::<ElasticIpId>(ElasticIpId::PREFIX, "an elastic IP")),
        )
        .attributes(target::attributes().map(Attribute::replace_on_change))
        .attribute(
            Attribute::string("id", "The ids of both ends: `eip-.../i-...` or `eip-.../eni-...`.")
                .computed(),
        )
    }

    fn kept(_: &Value) -> Result<(), ConvertError> {
        Ok(())
    }

    fn state(wire: v1::ElasticIpAssociation) -> Result<Value, Problem> {
        let object = association_from_wire(wire)?;
        let target = object.spec.target;
        Ok(Value::object([
            ("id", Value::from(object.id.to_string())),
            ("elastic_ip_id", object.spec.elastic_ip_id.to_string().into()),
            ("instance_id", target.instance_id().map(ToString::to_string).into()),
            ("network_interface_id", target.interface_id().map(ToString::to_string).into()),
        ]))
    }
}

impl Plain for ElasticIpAssociation {
    const TAGGED: bool = false;

    fn spec(plan: &Value) -> Result<v1::ElasticIpAssociationSpec, Diagnostics> {
        Ok(v1::ElasticIpAssociationSpec {
            elastic_ip_id: plan.read("elastic_ip_id")?,
            instance_id: plan.read("instance_id")?,
            network_interface_id: plan.read("network_interface_id")?,
        })
    }

    fn validate(config: &Value) -> Diagnostics {
        target::validate(config)
    }
}
