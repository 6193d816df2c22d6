//! Routes of guests' packets by where they come in, beside the one table that all follow.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

use crate::LinkName;

/// The route tables of a VPC on this host, wanted or seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routes {
    /// The tables by number, and in each where packets for a range go. Beside a way there always
    /// is an "unreachable" of lower rank: a tap that vanishes takes its routes along, and nothing
    /// is to leave by another way.
    pub tables: BTreeMap<u32, BTreeMap<Ipv4Network, Option<NextHop>>>,
    /// The table that packets follow that come in by a tap.
    pub links: BTreeMap<LinkName, u32>,
    /// Whether the VPC's own addresses come before any table.
    pub main_first: bool,
    /// Whether a namespace's own rule is gone by which packets follow the main table in the end: no
    /// packet finds a way out then. Seen, never wanted.
    pub main_lost: bool,
}

/// The guest that packets are given to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHop {
    /// Its tap.
    pub link: LinkName,
    /// Its address.
    pub address: Ipv4Addr,
}

impl Routes {
    /// The number of the first table: above 255, which are the kernel's and the administrator's.
    pub const FIRST_TABLE: u32 = 10_000;

    /// What is left of them when a tap has vanished.
    pub fn lose(&mut self, gone: &LinkName) {
        for hop in self.tables.values_mut().flat_map(BTreeMap::values_mut) {
            if hop.as_ref().is_some_and(|hop| hop.link == *gone) {
                *hop = None;
            }
        }
    }
}
