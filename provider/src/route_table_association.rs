//! `weft_route_table_association`: which subnet uses which route table.

use serde::{Deserialize, Serialize};
use tfplugin::{Attribute, ConvertError, Diagnostics, Schema, Value};
use weft_model::{Problem, RouteTableId, SubnetId};
use weft_proto::convert::route_table_association_from_wire;
use weft_proto::v1;

use crate::checks;
use crate::kind::Kind;
use crate::kind::plain::Plain;

#[derive(Debug)]
pub(crate) enum RouteTableAssociation {}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {}

impl Kind for RouteTableAssociation {
    type Wire = v1::RouteTableAssociation;
    type Kept = Kept;
    const TYPE: &'static str = "weft_route_table_association";
    const NOUN: &'static str = "route table association";

    fn schema() -> Schema {
        Schema::new(
            "Has a subnet's instances use a route table. A subnet uses one at most; without one, \
             everything takes the VPC's own way out.",
        )
        .subcategory("Network")
        .attribute(
            Attribute::string("route_table_id", "The route table.")
                .required()
                .replace_on_change()
                .validate(checks::id::<RouteTableId>(RouteTableId::PREFIX, "a route table")),
        )
        .attribute(
            Attribute::string("subnet_id", "The subnet, of the same VPC.")
                .required()
                .replace_on_change()
                .validate(checks::id::<SubnetId>(SubnetId::PREFIX, "a subnet")),
        )
        .attribute(Attribute::string("id", "The ids of both, as `rtb-.../subnet-...`.").computed())
    }

    fn kept(_plan: &Value) -> Result<Kept, ConvertError> {
        Ok(Kept {})
    }

    fn state(wire: v1::RouteTableAssociation) -> Result<Value, Problem> {
        let object = route_table_association_from_wire(wire)?;
        Ok(Value::object([
            ("id", Value::from(object.id.to_string())),
            ("route_table_id", object.spec.route_table_id.to_string().into()),
            ("subnet_id", object.spec.subnet_id.to_string().into()),
        ]))
    }
}

impl Plain for RouteTableAssociation {
    const TAGGED: bool = false;

    fn spec(plan: &Value) -> Result<v1::RouteTableAssociationSpec, Diagnostics> {
        Ok(v1::RouteTableAssociationSpec {
            route_table_id: plan.read("route_table_id")?,
            subnet_id: plan.read("subnet_id")?,
        })
    }
}
