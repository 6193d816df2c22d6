//! What the packet filter has counted.

use serde::{Deserialize, Serialize};

use crate::{Direction, GroupId, RuleId};

/// What is counted. A packet that belongs to a known connection is not looked at by any rule, so
/// packets are those that open connections, and their replies as long as there is none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// What this rule let through.
    Rule(RuleId),
    /// What `allow_all_egress` of this group let through.
    AllEgress(GroupId),
    /// What no group of an interface of the VPC let through.
    Denied(Direction),
}

/// Packets and their bytes, with the IP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Packets.
    pub packets: u64,
    /// Bytes of these.
    pub bytes: u64,
}

impl Counts {
    /// What has come since `before`. A counter that has less than it had was made anew.
    pub fn since(self, before: Self) -> Self {
        if self.packets < before.packets {
            return self;
        }
        Self {
            packets: self.packets - before.packets,
            bytes: self.bytes.saturating_sub(before.bytes),
        }
    }

    /// Both together.
    pub fn plus(self, more: Self) -> Self {
        Self {
            packets: self.packets.saturating_add(more.packets),
            bytes: self.bytes.saturating_add(more.bytes),
        }
    }
}
