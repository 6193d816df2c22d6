//! `data.weft_subnet`: a subnet by id, or by name, VPC and range, or the default one.

use tfplugin::{Attribute, Validator, Value};
use weft_model::{SubnetId, VpcId};
use weft_proto::v1;

use super::found::Lookup;
use crate::checks;
use crate::subnet::Subnet;

impl Lookup for Subnet {
    const DESCRIPTION: &'static str =
        "A subnet by its id, or by its name, VPC and range, or the default subnet.";

    fn id_rule() -> Validator {
        checks::id::<SubnetId>(SubnetId::PREFIX, "a subnet")
    }

    fn filters() -> Vec<Attribute> {
        vec![
            Attribute::string("vpc_id", "By the VPC that it is a part of.").validate(checks::id::<
                VpcId,
            >(
                VpcId::PREFIX,
                "a VPC",
            )),
            Attribute::string("cidr_block", "By its range.").validate(checks::network_cidr()),
            Attribute::bool(
                "default",
                "`true`: the default subnet, where instances are that name none.",
            ),
        ]
    }

    fn more(wire: &v1::Subnet) -> Vec<(&'static str, Value)> {
        vec![("default", wire.is_default.into())]
    }
}
