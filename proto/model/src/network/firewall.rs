//! What the packet filter of a VPC lets through, and the answer to "would it?".

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use crate::{Direction, GroupId, IpProtocol, LinkName, MacAddr, RuleId, RulePorts, RuleSpec};

/// The packet filter of one VPC's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firewall {
    /// Every group of the VPC, whether it has members here or not.
    pub groups: BTreeMap<GroupId, FirewallGroup>,
    /// The interfaces on this host, by the name of their tap. Shared by those who remember it: most
    /// changes are of rules.
    pub interfaces: Arc<BTreeMap<LinkName, FirewallInterface>>,
    /// The way out of the VPC.
    pub uplink: Option<FirewallUplink>,
    /// The bridge whose ports the interfaces are; `None` where they are routed.
    #[serde(default)]
    pub bridge: Option<FirewallBridge>,
    /// The routers' addresses: guests may ask them for names and for their own address.
    #[serde(default)]
    pub gateways: BTreeSet<Ipv4Addr>,
    /// The VPC's IPv6 range; without one no IPv6 packet passes. Never with a bridge.
    #[serde(default)]
    pub ipv6: Option<Ipv6Network>,
}

/// A group as the packet filter sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallGroup {
    /// The addresses of all members, on every host; shared like [`Firewall::interfaces`].
    pub members: Arc<BTreeSet<Ipv4Addr>>,
    /// The IPv6 addresses of all members that have one; shared likewise.
    #[serde(default)]
    pub members_v6: Arc<BTreeSet<Ipv6Addr>>,
    /// Its rules.
    pub rules: BTreeMap<RuleId, RuleSpec>,
    /// Whether members may open any connection to anywhere.
    pub allow_all_egress: bool,
}

/// What is known, and enforced, about a tap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallInterface {
    /// The only source MAC let in.
    pub mac: MacAddr,
    /// The only source address let in.
    pub address: Ipv4Addr,
    /// The only IPv6 source let in besides the link's own; `None` lets no IPv6 in.
    #[serde(default)]
    pub ipv6: Option<Ipv6Addr>,
    /// Its groups; with none, nothing passes.
    pub groups: BTreeSet<GroupId>,
}

/// The link out of the VPC, as seen from inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallUplink {
    /// The end in the VPC's namespace.
    pub link: LinkName,
    /// The VPC's range: nobody outside may claim an address of it.
    pub vpc_cidr: Ipv4Network,
    /// Whether guests appear outside as this link's own address.
    pub masquerade: bool,
}

/// Our bridge, as seen from inside the VPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallBridge {
    /// The bridge.
    pub link: LinkName,
    /// Its MAC: where frames for the agent's services go.
    pub mac: MacAddr,
    /// Its own addresses: nobody else may claim one of them.
    pub addresses: BTreeSet<Ipv4Addr>,
    /// The port behind which the operator's network is.
    pub outside: Option<LinkName>,
}

impl Firewall {
    /// Whether the groups of `interface` let a new connection through, whose far end is `peer`.
    ///
    /// `port` is the destination port; for ICMP pass the type in the high byte and the code in
    /// the low byte. An interface that is not known admits nothing.
    pub fn admits(
        &self,
        direction: Direction,
        interface: &LinkName,
        protocol: IpProtocol,
        port: u16,
        peer: Ipv4Addr,
    ) -> bool {
        let Some(interface) = self.interfaces.get(interface) else { return false };
        let groups = interface.groups.iter().filter_map(|id| self.groups.get(id));
        groups.into_iter().any(|group| {
            (direction == Direction::Egress && group.allow_all_egress)
                || group
                    .rules
                    .values()
                    .filter(|rule| rule.direction == direction)
                    .any(|rule| self.rule_admits(rule, protocol, port, peer))
        })
    }

    fn rule_admits(
        &self,
        rule: &RuleSpec,
        protocol: IpProtocol,
        port: u16,
        peer: Ipv4Addr,
    ) -> bool {
        let is_member = |id: &GroupId, address| {
            self.groups.get(id).is_some_and(|group| group.members.contains(&address))
        };
        match rule.ports {
            RulePorts::Icmp { kind, code } => {
                let [sent_kind, sent_code] = port.to_be_bytes();
                let any = RuleSpec { ports: RulePorts::Any, ..rule.clone() };
                kind == sent_kind
                    && code.is_none_or(|code| code == sent_code)
                    && any.admits(protocol, 0, peer, is_member)
            }
            _ => rule.admits(protocol, port, peer, is_member),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RulePeer;

    fn group(n: u8) -> GroupId {
        GroupId::from_random([n; 9])
    }

    fn rule(
        direction: Direction,
        protocol: IpProtocol,
        ports: RulePorts,
        peer: RulePeer,
    ) -> RuleSpec {
        RuleSpec {
            group_id: group(1),
            direction,
            protocol,
            ports,
            peer,
            description: String::new(),
        }
    }

    fn firewall() -> Firewall {
        use Direction::Ingress;
        let ssh = RulePorts::Range { from: 22, to: 22 };
        let office = RulePeer::Cidr("192.0.2.0/24".parse().unwrap());
        let ping = RulePorts::Icmp { kind: 8, code: None };
        let rules = [
            rule(Ingress, IpProtocol::Tcp, ssh, office),
            rule(Ingress, IpProtocol::All, RulePorts::Any, RulePeer::Group(group(2))),
            rule(Ingress, IpProtocol::Icmp, ping, RulePeer::Cidr("0.0.0.0/0".parse().unwrap())),
        ];
        let rules = (0u8..).zip(rules).map(|(n, r)| (RuleId::from_random([n; 9]), r)).collect();
        let address = Ipv4Addr::new(10, 0, 0, 5);
        let web =
            FirewallGroup { members: Arc::new([address].into()), rules, ..Default::default() };
        let friends = FirewallGroup {
            members: Arc::new([Ipv4Addr::new(10, 0, 0, 9)].into()),
            allow_all_egress: true,
            ..Default::default()
        };
        let interface = FirewallInterface {
            mac: MacAddr::from_random([0; 5]),
            address,
            ipv6: None,
            groups: [group(1)].into(),
        };
        Firewall {
            groups: [(group(1), web), (group(2), friends)].into(),
            interfaces: Arc::new([("t0".parse().unwrap(), interface)].into()),
            uplink: None,
            bridge: None,
            gateways: BTreeSet::new(),
            ipv6: None,
        }
    }

    #[test]
    fn admits_what_some_rule_of_some_group_allows() {
        use Direction::{Egress, Ingress};
        use IpProtocol::{Icmp, Tcp, Udp};
        #[rustfmt::skip]
        let cases = [
            ("ssh from the office",       Ingress, "t0", Tcp,  22,     "192.0.2.7", true),
            ("ssh from elsewhere",        Ingress, "t0", Tcp,  22,     "198.51.100.7", false),
            ("another port",              Ingress, "t0", Tcp,  23,     "192.0.2.7", false),
            ("another protocol",          Ingress, "t0", Udp,  22,     "192.0.2.7", false),
            ("anything from a member",    Ingress, "t0", Udp,  9,      "10.0.0.9", true),
            ("not from a non-member",     Ingress, "t0", Udp,  9,      "10.0.0.8", false),
            ("echo request from anyone",  Ingress, "t0", Icmp, 0x0800, "203.0.113.1", true),
            ("no other ICMP",             Ingress, "t0", Icmp, 0x0d00, "203.0.113.1", false),
            ("out without a rule",        Egress,  "t0", Tcp,  443,    "203.0.113.1", false),
            ("an interface not known",    Ingress, "t9", Tcp,  22,     "192.0.2.7", false),
        ];
        let mut firewall = firewall();
        for (name, direction, link, protocol, port, peer, want) in cases {
            let link = link.parse().unwrap();
            let got = firewall.admits(direction, &link, protocol, port, peer.parse().unwrap());
            assert_eq!(got, want, "{name}");
        }
        firewall.groups.get_mut(&group(1)).unwrap().allow_all_egress = true;
        let anywhere = Ipv4Addr::new(203, 0, 113, 1);
        assert!(firewall.admits(Egress, &"t0".parse().unwrap(), Tcp, 443, anywhere));
    }
}
