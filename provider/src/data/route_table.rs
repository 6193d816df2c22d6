//! `data.weft_route_table`: a route table by id, or by name and VPC.

use tfplugin::{Attribute, Validator};
use weft_model::{RouteTableId, VpcId};

use super::found::Lookup;
use crate::checks;
use crate::route_table::RouteTable;

impl Lookup for RouteTable {
    const DESCRIPTION: &'static str = "A route table by its id, or by its name and its VPC.";

    fn id_rule() -> Validator {
        checks::id::<RouteTableId>(RouteTableId::PREFIX, "a route table")
    }

    fn filters() -> Vec<Attribute> {
        vec![
            Attribute::string("vpc_id", "By the VPC whose subnets may use it.")
                .validate(checks::id::<VpcId>(VpcId::PREFIX, "a VPC")),
        ]
    }
}
