//! The LAN that the guests of a bridge VPC join: which link of the host leads to it.

use std::fmt;
use std::ops::RangeInclusive;

use super::{VpcMode, VpcOrder, VpcSpec};
use crate::{LinkName, Problem};

/// VLANs that a link can be in (IEEE 802.1Q, 9.6: 0 is none, 4095 is reserved).
pub const VLAN_IDS: RangeInclusive<u16> = 1..=4094;

/// A LAN, by what leads to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lan {
    /// The link of the host.
    pub link: LanLink,
    /// The VLAN of it whose frames are the guests'; `None` is what has no tag.
    pub vlan_id: Option<u16>,
}

/// A link of the operator's that leads to a LAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LanLink {
    /// A bridge, which gets one port more.
    Bridge(LinkName),
    /// A link that is in no bridge: as a whole, or one VLAN of it.
    Uplink(LinkName),
}

impl LanLink {
    /// Its name, whichever it is.
    pub fn name(&self) -> &LinkName {
        match self {
            Self::Bridge(name) | Self::Uplink(name) => name,
        }
    }

    /// The attribute that names it.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Bridge(_) => "bridge_name",
            Self::Uplink(_) => "uplink",
        }
    }
}

/// As it is said to people: `br0`, `VLAN 20 of eth1`.
impl fmt::Display for Lan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.vlan_id {
            None => write!(f, "{}", self.link.name()),
            Some(id) => write!(f, "VLAN {id} of {}", self.link.name()),
        }
    }
}

impl Lan {
    fn new(
        bridge_name: Option<&LinkName>,
        uplink: Option<&LinkName>,
        vlan_id: Option<u16>,
    ) -> Option<Self> {
        let bridge = bridge_name.cloned().map(LanLink::Bridge);
        let link = bridge.or_else(|| uplink.cloned().map(LanLink::Uplink))?;
        Some(Self { link, vlan_id })
    }

    /// Whether a VPC with the one takes from the link what a VPC with the other has: a link that
    /// is given as a whole is given with all its VLANs. On a bridge there is room for many.
    pub fn takes_from(&self, other: &Self) -> bool {
        matches!(self.link, LanLink::Uplink(_))
            && self.link == other.link
            && (self.vlan_id == other.vlan_id || self.vlan_id.is_none() || other.vlan_id.is_none())
    }
}

impl VpcSpec {
    /// The LAN that its guests join; `None` joins them with each other only.
    pub fn lan(&self) -> Option<Lan> {
        Lan::new(self.bridge_name.as_ref(), self.uplink.as_ref(), self.vlan_id)
    }
}

impl VpcOrder {
    /// As [`VpcSpec::lan`].
    pub fn lan(&self) -> Option<Lan> {
        Lan::new(self.bridge_name.as_ref(), self.uplink.as_ref(), self.vlan_id)
    }

    /// Refuses a LAN that no VPC can join.
    pub(super) fn check_lan(&self) -> Result<(), Problem> {
        let given = [
            ("bridge_name", self.bridge_name.is_some()),
            ("uplink", self.uplink.is_some()),
            ("vlan_id", self.vlan_id.is_some()),
        ];
        let first = given.iter().find(|(_, is_given)| *is_given);
        if let (VpcMode::Routed, Some((field, _))) = (self.mode, first) {
            return Err(Problem::invalid(*field, "a routed VPC is not joined to a LAN")
                .remedy(format!("set mode = \"bridge\", or leave {field} out")));
        }
        if let (Some(bridge), Some(uplink)) = (&self.bridge_name, &self.uplink) {
            let message = format!("a VPC joins one LAN, and not {bridge} and {uplink} at once");
            return Err(
                Problem::invalid("uplink", message).remedy("leave bridge_name or uplink out")
            );
        }
        let Some(id) = self.vlan_id else { return Ok(()) };
        if !VLAN_IDS.contains(&id) {
            return Err(Problem::invalid("vlan_id", format!("{id} is not the number of a VLAN"))
                .remedy(format!("VLANs are {} to {}", VLAN_IDS.start(), VLAN_IDS.end())));
        }
        if self.lan().is_none() {
            return Err(Problem::invalid("vlan_id", "there is no link whose VLAN it could be")
                .remedy("name the link as uplink, or a bridge as bridge_name"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
