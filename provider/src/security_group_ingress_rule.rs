//! `weft_security_group_ingress_rule`: who may open connections to a group's members.

use weft_model::Direction;
use weft_proto::v1::RuleDirection;

use crate::rule::Way;

#[derive(Debug)]
pub(crate) struct Ingress;

impl Way for Ingress {
    const TYPE: &'static str = "weft_security_group_ingress_rule";
    const NOUN: &'static str = "ingress rule";
    const DIRECTION: RuleDirection = RuleDirection::Ingress;
    const MODEL: Direction = Direction::Ingress;
    const DESCRIPTION: &'static str = "Lets connections in to the members of a security group. \
        Every change takes effect on running guests at once.";
    const PEER: &'static str = "Where connections may come from";
}
