//! Security groups and their rules, with the words of EC2.

use std::fmt;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::{AddressFamily, GroupId, PrefixListId, Problem, Reason, VpcId};

/// Rules of one group in one direction, per address family (as in EC2).
pub const MAX_RULES_PER_GROUP: usize = 60;
/// Groups of one network interface (EC2's upper limit).
pub const MAX_GROUPS_PER_INTERFACE: usize = 16;

/// A stateful set of allow rules. Deny in, allow out, unless rules say otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSpec {
    /// Shown to people; need not be unique.
    pub name: String,
    /// Free text.
    pub description: String,
    /// The VPC whose interfaces may be members.
    pub vpc_id: VpcId,
    /// Whether members may open any connection to anywhere.
    pub allow_all_egress: bool,
    /// Whether members' connections are cut that nothing admits any more; else they go on, as in
    /// EC2.
    #[serde(default)]
    pub revoke_now: bool,
    /// The group every interface gets that names none. Allows everything from its own members.
    pub is_default: bool,
}

impl GroupSpec {
    /// Refuses an interface of another VPC than the group's.
    ///
    /// # Errors
    /// At `security_group_ids`.
    pub fn check_vpc(&self, id: &GroupId, vpc_id: &VpcId) -> Result<(), Problem> {
        if self.vpc_id == *vpc_id {
            return Ok(());
        }
        let message =
            format!("security group {id} is of {}, the subnet is of {vpc_id}", self.vpc_id);
        Err(Problem::invalid("security_group_ids", message)
            .remedy("use groups of the subnet's VPC"))
    }
}

/// Seen from the member of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Towards the member.
    Ingress,
    /// From the member.
    Egress,
}

/// What a rule matches above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpProtocol {
    /// Everything (written `-1`, as in EC2).
    All,
    /// Protocol 6.
    Tcp,
    /// Protocol 17.
    Udp,
    /// Protocol 1.
    Icmp,
    /// Protocol 58.
    Icmpv6,
    /// Any other number of the IANA protocol registry.
    Other(u8),
}

/// The ports of a rule, or ICMP's type and code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RulePorts {
    /// Every port, type or code; the only choice for protocols without ports.
    Any,
    /// Destination ports `from..=to` of TCP or UDP.
    Range {
        /// The lowest port.
        from: u16,
        /// The highest port.
        to: u16,
    },
    /// An ICMP type and, unless it is `None`, one code of it.
    Icmp {
        /// The ICMP type.
        kind: u8,
        /// The ICMP code; `None` is every code.
        code: Option<u8>,
    },
}

/// Whom a rule lets in, or whom it lets the member reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RulePeer {
    /// Addresses in this range; packets of the other family are not meant.
    Cidr(IpNetwork),
    /// Members of this group.
    Group(GroupId),
    /// Addresses in the ranges of this list.
    PrefixList(PrefixListId),
}

/// One allow rule of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSpec {
    /// The group whose members it is about.
    pub group_id: GroupId,
    /// Which way connections are opened.
    pub direction: Direction,
    /// The protocol.
    pub protocol: IpProtocol,
    /// Ports, or ICMP type and code.
    pub ports: RulePorts,
    /// The other end.
    pub peer: RulePeer,
    /// Free text.
    pub description: String,
}

impl FromStr for IpProtocol {
    type Err = Problem;
    fn from_str(text: &str) -> Result<Self, Problem> {
        let by_name = |name: &str| {
            Problem::new(Reason::InvalidArgument, format!("protocol \"{text}\" has a name"))
                .at("ip_protocol")
                .remedy(format!("write \"{name}\""))
        };
        Ok(match text {
            "-1" => Self::All,
            "tcp" => Self::Tcp,
            "udp" => Self::Udp,
            "icmp" => Self::Icmp,
            "icmpv6" => Self::Icmpv6,
            "6" => return Err(by_name("tcp")),
            "17" => return Err(by_name("udp")),
            "1" => return Err(by_name("icmp")),
            "58" => return Err(by_name("icmpv6")),
            "all" | "any" | "*" => return Err(by_name("-1")),
            other => match other.parse::<u8>() {
                Ok(number) => Self::Other(number),
                Err(_) => {
                    let lower = other.to_ascii_lowercase();
                    let remedy = match lower.as_str() {
                        "tcp" | "udp" | "icmp" | "icmpv6" => format!("write \"{lower}\""),
                        "all" | "any" => "write \"-1\" for every protocol".to_owned(),
                        _ => "use tcp, udp, icmp, icmpv6, -1 for all, or a number from 0 to 255"
                            .to_owned(),
                    };
                    return Err(Problem::new(
                        Reason::InvalidArgument,
                        format!("\"{text}\" is not a protocol"),
                    )
                    .at("ip_protocol")
                    .remedy(remedy));
                }
            },
        })
    }
}

impl fmt::Display for IpProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("-1"),
            Self::Tcp => f.write_str("tcp"),
            Self::Udp => f.write_str("udp"),
            Self::Icmp => f.write_str("icmp"),
            Self::Icmpv6 => f.write_str("icmpv6"),
            Self::Other(number) => write!(f, "{number}"),
        }
    }
}

crate::net::serde_as_text!(IpProtocol);

impl RulePorts {
    /// Judges `from_port` and `to_port` as EC2 does, for `protocol`.
    ///
    /// # Errors
    /// A [`Problem`] at `from_port` or `to_port`: ports with `-1`, only one of both, a wrong order,
    /// a number out of range, or ports for a protocol that has none.
    pub fn parse(
        protocol: IpProtocol,
        from_port: Option<i64>,
        to_port: Option<i64>,
    ) -> Result<Self, Problem> {
        let bad = |field: &str, message: String, remedy: &str| {
            Err(Problem::new(Reason::InvalidArgument, message).at(field).remedy(remedy))
        };
        let (from, to) = match (protocol, from_port, to_port) {
            (_, None, None) => match protocol {
                IpProtocol::Tcp | IpProtocol::Udp => {
                    return bad(
                        "from_port",
                        format!("a {protocol} rule needs ports"),
                        "set from_port and to_port (0 and 65535 for all of them)",
                    );
                }
                _ => return Ok(Self::Any),
            },
            (IpProtocol::All, from, _) => {
                let field = if from.is_some() { "from_port" } else { "to_port" };
                return bad(
                    field,
                    "ports cannot be set with ip_protocol \"-1\", which means every protocol"
                        .to_owned(),
                    "remove from_port and to_port, or name the protocol",
                );
            }
            (IpProtocol::Other(number), from, _) => {
                let field = if from.is_some() { "from_port" } else { "to_port" };
                return bad(
                    field,
                    format!("protocol {number} has no ports"),
                    "remove from_port and to_port",
                );
            }
            (IpProtocol::Icmp | IpProtocol::Icmpv6, Some(from), to) => (from, to.unwrap_or(-1)),
            (_, Some(from), Some(to)) => (from, to),
            (_, None, Some(_)) => {
                return bad("from_port", "to_port is set, from_port is not".to_owned(), "set both");
            }
            (_, Some(_), None) => {
                return bad("to_port", "from_port is set, to_port is not".to_owned(), "set both");
            }
        };
        if let IpProtocol::Icmp | IpProtocol::Icmpv6 = protocol {
            return Self::parse_icmp(from, to);
        }
        let port = |field: &str, value: i64| {
            u16::try_from(value).map_err(|_| {
                Problem::new(Reason::InvalidArgument, format!("{value} is not a port"))
                    .at(field)
                    .remedy("use a number from 0 to 65535")
            })
        };
        let (from, to) = (port("from_port", from)?, port("to_port", to)?);
        if from > to {
            return bad(
                "from_port",
                format!("from_port {from} is above to_port {to}"),
                "exchange them",
            );
        }
        Ok(Self::Range { from, to })
    }

    fn parse_icmp(kind: i64, code: i64) -> Result<Self, Problem> {
        let number = |field: &str, what: &str, value: i64| {
            u8::try_from(value).map_err(|_| {
                Problem::new(Reason::InvalidArgument, format!("{value} is not an ICMP {what}"))
                    .at(field)
                    .remedy("use 0 to 255, or -1 for all")
            })
        };
        match (kind, code) {
            (-1, -1) => Ok(Self::Any),
            (-1, _) => Err(Problem::new(
                Reason::InvalidArgument,
                "an ICMP code (to_port) without a type (from_port)",
            )
            .at("to_port")
            .remedy("set from_port to the ICMP type, or to_port to -1")),
            (kind, -1) => Ok(Self::Icmp { kind: number("from_port", "type", kind)?, code: None }),
            (kind, code) => Ok(Self::Icmp {
                kind: number("from_port", "type", kind)?,
                code: Some(number("to_port", "code", code)?),
            }),
        }
    }

    /// `from_port` and `to_port` as the API and the provider show them.
    pub fn as_ports(&self) -> (Option<i64>, Option<i64>) {
        match *self {
            Self::Any => (None, None),
            Self::Range { from, to } => (Some(from.into()), Some(to.into())),
            Self::Icmp { kind, code } => (Some(kind.into()), Some(code.map_or(-1, i64::from))),
        }
    }
}

impl RulePeer {
    /// The families for which the rule is counted. `family_of` tells a list's; a list that is gone
    /// counts nowhere.
    pub fn families(
        &self,
        family_of: impl FnOnce(&PrefixListId) -> Option<AddressFamily>,
    ) -> &'static [AddressFamily] {
        use AddressFamily::{Ipv4, Ipv6};
        match self {
            Self::Cidr(IpNetwork::V4(_)) => &[Ipv4],
            Self::Cidr(IpNetwork::V6(_)) => &[Ipv6],
            Self::Group(_) => &[Ipv4, Ipv6],
            Self::PrefixList(id) => match family_of(id) {
                Some(Ipv4) => &[Ipv4],
                Some(Ipv6) => &[Ipv6],
                None => &[],
            },
        }
    }

    /// The API's field that says it.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Cidr(IpNetwork::V4(_)) => "cidr_ipv4",
            Self::Cidr(IpNetwork::V6(_)) => "cidr_ipv6",
            Self::Group(_) => "referenced_security_group_id",
            Self::PrefixList(_) => "prefix_list_id",
        }
    }

    /// Refuses ICMP of one family with a range of the other, as EC2 does: no packet could match.
    ///
    /// # Errors
    /// At the range's field.
    pub fn check_family(&self, protocol: IpProtocol) -> Result<(), Problem> {
        let (has, other, wants) = match (protocol, self) {
            (IpProtocol::Icmp, Self::Cidr(IpNetwork::V6(_))) => ("IPv6", "icmpv6", "cidr_ipv4"),
            (IpProtocol::Icmpv6, Self::Cidr(IpNetwork::V4(_))) => ("IPv4", "icmp", "cidr_ipv6"),
            _ => return Ok(()),
        };
        let message = format!("{protocol} with an {has} range matches no packet");
        Err(Problem::invalid(self.field(), message)
            .remedy(format!("set ip_protocol = \"{other}\", or use {wants}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_follow_the_protocol() {
        use IpProtocol::{All, Icmp, Other, Tcp};
        #[rustfmt::skip]
        let cases = [
            // protocol, from,       to,          what it means, or the field and a word of the error
            (All,        None,       None,        "any"),
            (All,        Some(1),    Some(2),     "from_port: ports cannot be set"),
            (Tcp,        Some(22),   Some(22),    "22-22"),
            (Tcp,        Some(9),    Some(8),     "from_port: from_port 9 is above"),
            (Tcp,        Some(-1),   Some(8),     "from_port: -1 is not a port"),
            (Tcp,        Some(1),    Some(65536), "to_port: 65536 is not a port"),
            (Tcp,        None,       Some(8),     "from_port: to_port is set"),
            (Tcp,        None,       None,        "from_port: a tcp rule needs ports"),
            (Icmp,       Some(8),    Some(-1),    "icmp 8"),
            (Icmp,       Some(-1),   Some(-1),    "any"),
            (Icmp,       Some(-1),   Some(3),     "to_port: an ICMP code"),
            (Icmp,       Some(300),  Some(-1),    "from_port: 300 is not an ICMP type"),
            (Other(47),  None,       None,        "any"),
            (Other(47),  Some(1),    None,        "from_port: protocol 47 has no ports"),
        ];
        for (protocol, from, to, want) in cases {
            let got = match RulePorts::parse(protocol, from, to) {
                Ok(RulePorts::Any) => "any".to_owned(),
                Ok(RulePorts::Range { from, to }) => format!("{from}-{to}"),
                Ok(RulePorts::Icmp { kind, .. }) => format!("icmp {kind}"),
                Err(problem) => {
                    format!("{}: {}", problem.field.unwrap_or_default(), problem.message)
                }
            };
            assert!(got.starts_with(want), "{protocol} {from:?} {to:?}: {got}");
        }
    }

    #[test]
    fn icmp_keeps_to_its_family() {
        #[rustfmt::skip]
        let cases = [
            (IpProtocol::Icmp,   "10.0.0.0/8", None),
            (IpProtocol::Icmp,   "::/0",       Some("cidr_ipv6")),
            (IpProtocol::Icmpv6, "fd00::/8",   None),
            (IpProtocol::Icmpv6, "0.0.0.0/0",  Some("cidr_ipv4")),
            (IpProtocol::Tcp,    "::/0",       None),
            (IpProtocol::All,    "::/0",       None),
        ];
        for (protocol, range, want) in cases {
            let peer = RulePeer::Cidr(range.parse().unwrap());
            let got = peer.check_family(protocol).err().and_then(|problem| problem.field);
            assert_eq!(got.as_deref(), want, "{protocol} {range}");
        }
    }

    #[test]
    fn numbers_with_a_name_are_sent_back() {
        let problem = "6".parse::<IpProtocol>().unwrap_err();
        assert_eq!(problem.remedy.as_deref(), Some("write \"tcp\""));
        assert_eq!("47".parse::<IpProtocol>().unwrap(), IpProtocol::Other(47));
        assert!("TCP".parse::<IpProtocol>().is_err());
    }
}
