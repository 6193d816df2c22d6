//! `data.weft_security_group`: a security group by id, or by name and VPC.

use tfplugin::{Attribute, Validator};
use weft_model::{GroupId, VpcId};

use super::found::Lookup;
use crate::checks;
use crate::security_group::SecurityGroup;

impl Lookup for SecurityGroup {
    const DESCRIPTION: &'static str = "A security group by its id, or by its name and its VPC. Each VPC has one called `default`.";

    fn id_rule() -> Validator {
        checks::id::<GroupId>(GroupId::PREFIX, "a security group")
    }

    fn filters() -> Vec<Attribute> {
        vec![
            Attribute::string("vpc_id", "By the VPC of its members.")
                .validate(checks::id::<VpcId>(VpcId::PREFIX, "a VPC")),
        ]
    }
}
