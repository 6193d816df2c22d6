//! Whether a new connection is let through, and by which rule: the same data that is enforced,
//! judged without a packet. That both agree is tested with real ones (`weft-network`).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    Direction, Firewall, GroupId, IpProtocol, LinkName, Problem, RuleId, RulePeer, RulePorts,
    RuleSpec,
};

/// What a new connection asks for, above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// A destination port.
    Tcp(u16),
    /// A destination port.
    Udp(u16),
    /// An ICMP message of IPv4.
    Icmp {
        /// Its type.
        kind: u8,
        /// Its code.
        code: u8,
    },
    /// An ICMP message of IPv6.
    Icmpv6 {
        /// Its type.
        kind: u8,
        /// Its code.
        code: u8,
    },
    /// Any other protocol, by its number.
    Other(u8),
}

/// A connection as its first packet shows it to the groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// What is asked for.
    pub service: Service,
    /// Who opens it.
    pub source: IpAddr,
    /// Whom it is for.
    pub destination: IpAddr,
}

/// What lets a connection through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// This rule.
    Rule(RuleId),
    /// `allow_all_egress` of this group.
    AllEgress(GroupId),
}

impl Service {
    /// Judges what is asked for together, as an attribute each.
    ///
    /// # Errors
    /// At `protocol`, `port`, `icmp_type` or `icmp_code`: missing, out of range, or of another
    /// protocol.
    pub fn parse(
        protocol: IpProtocol,
        port: Option<i64>,
        icmp_type: Option<i64>,
        icmp_code: Option<i64>,
    ) -> Result<Self, Problem> {
        let has_ports = matches!(protocol, IpProtocol::Tcp | IpProtocol::Udp);
        let is_icmp = matches!(protocol, IpProtocol::Icmp | IpProtocol::Icmpv6);
        for (field, set, fits) in [
            ("port", port.is_some(), has_ports),
            ("icmp_type", icmp_type.is_some(), is_icmp),
            ("icmp_code", icmp_code.is_some(), is_icmp),
        ] {
            if set && !fits {
                let message = format!("protocol {protocol} has no {field}");
                return Err(Problem::invalid(field, message).remedy(format!("remove {field}")));
            }
        }
        let byte = |field: &str, value: Option<i64>, unset: u8| match value.map(u8::try_from) {
            None => Ok(unset),
            Some(Ok(byte)) => Ok(byte),
            Some(Err(_)) => {
                Err(Problem::invalid(field, "this is not an ICMP number").remedy("use 0 to 255"))
            }
        };
        let port = || match port.map(u16::try_from) {
            Some(Ok(port)) => Ok(port),
            Some(Err(_)) => {
                Err(Problem::invalid("port", "this is not a port").remedy("use 0 to 65535"))
            }
            None => Err(Problem::invalid("port", format!("{protocol} needs a port"))
                .remedy("set port to the destination port")),
        };
        Ok(match protocol {
            IpProtocol::Tcp => Self::Tcp(port()?),
            IpProtocol::Udp => Self::Udp(port()?),
            // Unset, echo requests (RFC 792, RFC 4443).
            IpProtocol::Icmp => {
                let (kind, code) =
                    (byte("icmp_type", icmp_type, 8)?, byte("icmp_code", icmp_code, 0)?);
                Self::Icmp { kind, code }
            }
            IpProtocol::Icmpv6 => {
                let (kind, code) =
                    (byte("icmp_type", icmp_type, 128)?, byte("icmp_code", icmp_code, 0)?);
                Self::Icmpv6 { kind, code }
            }
            IpProtocol::Other(number) => Self::Other(number),
            IpProtocol::All => {
                return Err(Problem::invalid("protocol", "a connection has one protocol, not all")
                    .remedy("name one, such as tcp"));
            }
        })
    }

    /// Whether its first packet can open a connection. ICMP messages that answer or report cannot:
    /// connection tracking takes them for parts of one, whatever rules say (`valid_new` of Linux
    /// `nf_conntrack_proto_icmp.c` and `nf_conntrack_proto_icmpv6.c`).
    pub fn opens(&self) -> bool {
        match self {
            Self::Icmp { kind, .. } => matches!(kind, 8 | 13 | 15 | 17),
            Self::Icmpv6 { kind, .. } => matches!(kind, 128 | 139),
            Self::Tcp(_) | Self::Udp(_) | Self::Other(_) => true,
        }
    }

    /// Its protocol; never [`IpProtocol::All`].
    pub fn protocol(&self) -> IpProtocol {
        match self {
            Self::Tcp(_) => IpProtocol::Tcp,
            Self::Udp(_) => IpProtocol::Udp,
            Self::Icmp { .. } => IpProtocol::Icmp,
            Self::Icmpv6 { .. } => IpProtocol::Icmpv6,
            Self::Other(number) => IpProtocol::Other(*number),
        }
    }
}

impl RuleSpec {
    /// Whether the rule is about this service, whoever the peer is.
    pub fn is_about(&self, service: &Service) -> bool {
        if self.protocol == IpProtocol::All {
            return self.ports == RulePorts::Any;
        }
        let fits = match (self.ports, *service) {
            (RulePorts::Any, _) => true,
            (RulePorts::Range { from, to }, Service::Tcp(port) | Service::Udp(port)) => {
                (from..=to).contains(&port)
            }
            (
                RulePorts::Icmp { kind, code },
                Service::Icmp { kind: sent, code: sent_code }
                | Service::Icmpv6 { kind: sent, code: sent_code },
            ) => kind == sent && code.is_none_or(|code| code == sent_code),
            (RulePorts::Range { .. } | RulePorts::Icmp { .. }, _) => false,
        };
        fits && self.protocol == service.protocol()
    }
}

impl Firewall {
    /// What lets `opening` through for an interface in `groups`; `None`: nothing does. Of several
    /// the one that the packet filter meets first.
    pub fn admission<'a>(
        &self,
        direction: Direction,
        groups: impl IntoIterator<Item = &'a GroupId>,
        opening: &Opening,
    ) -> Option<Admission> {
        let peer = match direction {
            Direction::Ingress => opening.source,
            Direction::Egress => opening.destination,
        };
        if !opening.service.opens() {
            return None;
        }
        let known = groups.into_iter().filter_map(|id| self.groups.get_key_value(id));
        known.into_iter().find_map(|(id, group)| {
            let mut rules = group.rules.iter().filter(|(_, rule)| rule.direction == direction);
            let rule = rules.find(|(_, rule)| {
                rule.is_about(&opening.service) && self.is_peer(&rule.peer, peer)
            });
            let all = direction == Direction::Egress && group.allow_all_egress;
            match rule {
                Some((rule_id, _)) => Some(Admission::Rule(rule_id.clone())),
                None => all.then(|| Admission::AllEgress(id.clone())),
            }
        })
    }

    /// Whether the groups of the interface `link` let `opening` through. An interface that is not
    /// known admits nothing.
    pub fn admits(&self, direction: Direction, link: &LinkName, opening: &Opening) -> bool {
        let interface = self.interfaces.get(link);
        interface.is_some_and(|interface| {
            self.admission(direction, &interface.groups, opening).is_some()
        })
    }

    fn is_peer(&self, peer: &RulePeer, address: IpAddr) -> bool {
        match peer {
            RulePeer::Cidr(range) => range.contains(address),
            RulePeer::Group(id) => {
                self.groups.get(id).is_some_and(|group| group.has_member(address))
            }
            RulePeer::PrefixList(id) => self.prefix_lists.get(id).is_some_and(|list| {
                list.ranges.iter().any(|(first, last)| (*first..=*last).contains(&address))
            }),
        }
    }
}

#[cfg(test)]
mod tests;
