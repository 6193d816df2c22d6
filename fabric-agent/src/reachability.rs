//! Whether one end can open a connection to another, judged from the data that is enforced. Pure.
//!
//! What is judged are security groups: whether there is a route, and what the guests themselves
//! let in, is another question.

use std::collections::BTreeSet;
use std::net::IpAddr;

use weft_model::{
    Admission, Direction, Firewall, GroupId, InstanceId, Interface, InterfaceId, Opening, Problem,
    RuleId, Service, VpcId,
};

use crate::cache::World;

/// An end as somebody names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Instance(InstanceId),
    Interface(InterfaceId),
    Address(IpAddr),
}

/// An end of a connection in a VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// As people know it.
    label: String,
    address: IpAddr,
    /// `None`: outside, where no group has a say.
    groups: Option<BTreeSet<GroupId>>,
}

/// The two ends in the VPC that they are in, or why there can be no packet between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    In { vpc_id: VpcId, source: End, destination: End },
    Apart(String),
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) allowed: bool,
    pub(crate) egress_rule: Option<RuleId>,
    pub(crate) ingress_rule: Option<RuleId>,
    pub(crate) reason: String,
}

/// Finds both ends.
///
/// # Errors
/// An id that does not exist, or two addresses and nothing that says of which VPC.
pub(crate) fn find(world: &World, source: &Named, destination: &Named) -> Result<Ends, Problem> {
    let of = |named: &Named, field: &str| match named {
        Named::Address(_) => Ok(None),
        Named::Instance(id) => match world.instances.get(id) {
            Some(instance) => Ok(Some((id.to_string(), instance.spec.interface.clone()))),
            None => Err(Problem::not_found(format!("instance {id} does not exist")).at(field)),
        },
        Named::Interface(id) => {
            match interfaces(world).find(|(_, interface)| interface.id == *id) {
                Some((_, interface)) => Ok(Some((id.to_string(), interface.clone()))),
                None => {
                    let message = format!("network interface {id} does not exist");
                    Err(Problem::not_found(message).at(field))
                }
            }
        }
    };
    let ends = (of(source, "source")?, of(destination, "destination")?);
    let vpc_id = match &ends {
        (Some((one, from)), Some((other, to))) if from.vpc_id != to.vpc_id => {
            return Ok(Ends::Apart(format!(
                "{one} is in {} and {other} in {}: no packet passes from one VPC to another",
                from.vpc_id, to.vpc_id
            )));
        }
        (Some((_, end)), _) | (None, Some((_, end))) => end.vpc_id.clone(),
        (None, None) => {
            return Err(Problem::invalid(
                "source",
                "both ends are addresses, which any VPC may have",
            )
            .remedy("name one of them by its instance or its network interface"));
        }
    };
    for (_, interface) in ends_of(&ends) {
        if world.network_interfaces.contains_key(&interface.id)
            && world.interface(&interface.id).is_none_or(|placed| placed.instance.is_none())
        {
            let message = format!("{} is attached to no instance", interface.id);
            return Ok(Ends::Apart(format!("{message}: nobody sends or receives there")));
        }
    }
    // The family of an address decides, else IPv4, which every interface has.
    let wants_v6 =
        [source, destination].iter().any(|named| matches!(named, Named::Address(IpAddr::V6(_))));
    let address_of = |label: &str, interface: &Interface, field: &str| match wants_v6 {
        false => Ok(IpAddr::V4(interface.private_ip)),
        true => interface.ipv6.map(IpAddr::V6).ok_or_else(|| {
            Problem::invalid(field, format!("{label} has no IPv6 address"))
                .remedy("ask with an IPv4 address")
        }),
    };
    let end = |found: Found, named: &Named, field: &str| {
        let found = match (found, named) {
            (None, Named::Address(address)) => with_address(world, &vpc_id, *address),
            (found, _) => found,
        };
        match (found, named) {
            (Some((label, interface)), _) => Ok(End {
                address: address_of(&label, &interface, field)?,
                groups: Some(world.groups_of(&interface)),
                label,
            }),
            (None, Named::Address(address)) => {
                Ok(End { label: address.to_string(), address: *address, groups: None })
            }
            (None, _) => Err(Problem::invalid(field, "this end is not known")),
        }
    };
    let (from, to) = ends;
    let source = end(from, source, "source")?;
    let destination = end(to, destination, "destination")?;
    if source.address.is_ipv4() != destination.address.is_ipv4() {
        let message = format!("{} and {} are of two families", source.address, destination.address);
        return Err(Problem::invalid("destination", message).remedy("ask with addresses of one"));
    }
    Ok(Ends::In { vpc_id, source, destination })
}

type Found = Option<(String, Interface)>;

fn ends_of((source, destination): &(Found, Found)) -> impl Iterator<Item = &(String, Interface)> {
    source.iter().chain(destination)
}

/// All interfaces: those that instances were made with, by the instance, and those of their own.
fn interfaces(world: &World) -> impl Iterator<Item = (String, &Interface)> {
    let primary = world.instances.values().map(|i| (i.id.to_string(), &i.spec.interface));
    let own =
        world.network_interfaces.values().map(|own| (own.id.to_string(), &own.spec.interface));
    primary.chain(own)
}

fn with_address(world: &World, vpc_id: &VpcId, address: IpAddr) -> Found {
    let has = |interface: &&Interface| {
        interface.vpc_id == *vpc_id
            && match address {
                IpAddr::V4(address) => interface.private_ip == address,
                IpAddr::V6(address) => interface.ipv6 == Some(address),
            }
    };
    let (label, interface) = interfaces(world).find(|(_, interface)| has(interface))?;
    Some((label, interface.clone()))
}

/// What the groups say to a connection from `source` to `destination`.
pub(crate) fn judge(
    firewall: &Firewall,
    source: &End,
    destination: &End,
    service: Service,
) -> Verdict {
    let is_v4 = source.address.is_ipv4();
    if matches!(service, Service::Icmp { .. }) && !is_v4
        || matches!(service, Service::Icmpv6 { .. }) && is_v4
    {
        let reason = format!("{} is not for these addresses' family", service.protocol());
        return Verdict { reason, ..Verdict::default() };
    }
    let opening = Opening { service, source: source.address, destination: destination.address };
    let mut verdict = Verdict { allowed: true, ..Verdict::default() };
    let mut said = Vec::new();
    for (direction, end) in [(Direction::Egress, source), (Direction::Ingress, destination)] {
        let (way, verb) = match direction {
            Direction::Egress => ("egress", "out of"),
            Direction::Ingress => ("ingress", "in to"),
        };
        let Some(groups) = &end.groups else {
            said.push(format!("{} is not in the VPC, so no group judges it", end.label));
            continue;
        };
        match firewall.admission(direction, groups, &opening) {
            Some(Admission::Rule(rule)) => {
                said.push(format!("the {way} rule {rule} lets it {verb} {}", end.label));
                match direction {
                    Direction::Egress => verdict.egress_rule = Some(rule),
                    Direction::Ingress => verdict.ingress_rule = Some(rule),
                }
            }
            Some(Admission::AllEgress(group)) => {
                said.push(format!("allow_all_egress of {group} lets it {verb} {}", end.label));
            }
            None => {
                verdict.allowed = false;
                let ids: Vec<_> = groups.iter().map(GroupId::as_str).collect();
                let peer = match direction {
                    Direction::Egress => format!("to {}", destination.address),
                    Direction::Ingress => format!("from {}", source.address),
                };
                said.push(format!(
                    "no {way} rule of {}'s groups ({}) admits {} {peer}",
                    end.label,
                    ids.join(", "),
                    describe(service),
                ));
            }
        }
    }
    verdict.reason = said.join("; ");
    verdict
}

fn describe(service: Service) -> String {
    match service {
        Service::Tcp(port) => format!("tcp port {port}"),
        Service::Udp(port) => format!("udp port {port}"),
        Service::Icmp { kind, code } => format!("icmp type {kind} code {code}"),
        Service::Icmpv6 { kind, code } => format!("icmpv6 type {kind} code {code}"),
        Service::Other(number) => format!("protocol {number}"),
    }
}

#[cfg(test)]
mod tests;
