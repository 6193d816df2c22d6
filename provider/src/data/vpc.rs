//! `data.weft_vpc`: a VPC by id or name, or the default one.

use tfplugin::{Attribute, Validator, Value};
use weft_model::VpcId;
use weft_proto::v1;

use super::found::Lookup;
use crate::checks;
use crate::vpc::Vpc;

impl Lookup for Vpc {
    const DESCRIPTION: &'static str = "A VPC by its id or its name, or the default VPC.";

    fn id_rule() -> Validator {
        checks::id::<VpcId>(VpcId::PREFIX, "a VPC")
    }

    fn filters() -> Vec<Attribute> {
        vec![
            Attribute::string("cidr_block", "By its range.").validate(checks::network_cidr()),
            Attribute::bool(
                "default",
                "`true`: the default VPC, which each host has from the start.",
            ),
        ]
    }

    fn more(wire: &v1::Vpc) -> Vec<(&'static str, Value)> {
        vec![("default", wire.is_default.into())]
    }
}
