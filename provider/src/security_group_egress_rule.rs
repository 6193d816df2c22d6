//! `weft_security_group_egress_rule`: to whom a group's members may open connections.

use weft_model::Direction;
use weft_proto::v1::RuleDirection;

use crate::rule::Way;

#[derive(Debug)]
pub(crate) struct Egress;

impl Way for Egress {
    const TYPE: &'static str = "weft_security_group_egress_rule";
    const NOUN: &'static str = "egress rule";
    const DIRECTION: RuleDirection = RuleDirection::Egress;
    const MODEL: Direction = Direction::Egress;
    const DESCRIPTION: &'static str = "Lets the members of a security group open connections. It \
        matters only where the group has `allow_all_egress = false`.";
    const PEER: &'static str = "Where connections may go to";
}
