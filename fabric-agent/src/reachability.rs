//! Whether one end can open a connection to another, judged from the data that is enforced. Pure.
//!
//! What is judged are security groups: whether there is a route, and what the guests themselves
//! let in, is another question.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use weft_model::{
    Admission, Direction, Firewall, GroupId, InstanceId, InterfaceId, Opening, Problem, Reason,
    RuleId, Service, VpcId, VpcMode,
};

use crate::cache::{Placed, World};

/// An end as somebody names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Instance(InstanceId),
    Interface(InterfaceId),
    Address(IpAddr),
}

impl Named {
    /// The attribute that it was named by, of the end `source` or `destination`.
    pub(crate) fn attribute(&self, end: &str) -> String {
        let by = match self {
            Self::Instance(_) => "instance_id",
            Self::Interface(_) => "network_interface_id",
            Self::Address(_) => "address",
        };
        format!("{end}_{by}")
    }
}

/// An end as one VPC's packet filter sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// As people know it.
    label: String,
    address: IpAddr,
    /// `None`: outside of the VPC, where none of its groups has a say.
    groups: Option<BTreeSet<GroupId>>,
}

/// A connection's way through one VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) vpc_id: VpcId,
    source: End,
    destination: End,
}

/// How packets get from one end to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ways {
    /// Both ends are of one VPC, or one is outside.
    Within(Way),
    /// Out of one VPC and into another one, by public addresses: each judges by itself.
    Between { out: Way, into: Way },
    /// Not at all, and why.
    Apart(String),
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) allowed: bool,
    pub(crate) egress_rule: Option<RuleId>,
    pub(crate) ingress_rule: Option<RuleId>,
    pub(crate) reason: String,
}

impl Verdict {
    pub(crate) fn refused(reason: String) -> Self {
        Self { allowed: false, egress_rule: None, ingress_rule: None, reason }
    }

    /// What both say together: each has judged a part of the way.
    pub(crate) fn and(self, next: Self) -> Self {
        Self {
            allowed: self.allowed && next.allowed,
            egress_rule: self.egress_rule.or(next.egress_rule),
            ingress_rule: self.ingress_rule.or(next.ingress_rule),
            reason: format!("{}; {}", self.reason, next.reason),
        }
    }
}

/// An interface that an end was found to be.
struct Place<'a> {
    label: String,
    at: Placed<'a>,
    /// It was named by the public address that leads to it.
    public: Option<Ipv4Addr>,
}

impl Place<'_> {
    fn vpc_id(&self) -> &VpcId {
        &self.at.interface.vpc_id
    }
}

/// Finds both ends, and the way between them.
///
/// # Errors
/// At the attribute that names the end: an id that does not exist, two addresses and nothing that
/// says of which VPC, or what the far end sees instead of a guest is not known.
pub(crate) fn find(world: &World, source: &Named, destination: &Named) -> Result<Ways, Problem> {
    let from = place(world, source, "source")?;
    let to = place(world, destination, "destination")?;
    let vpc_id = match (&from, &to) {
        (Some(from), Some(to)) if from.vpc_id() != to.vpc_id() => {
            return between(world, from, to, source);
        }
        (Some(place), _) | (None, Some(place)) => place.vpc_id().clone(),
        (None, None) => {
            let message = "both ends are addresses, which any VPC may have";
            return Err(Problem::invalid(source.attribute("source"), message)
                .remedy("name one of them by its instance or its network interface"));
        }
    };
    // The family of an address decides, else IPv4, which every interface has.
    let wants_v6 = [source, destination]
        .iter()
        .any(|named| matches!(named, Named::Address(address) if address.is_ipv6()));
    let from = from.map_or_else(|| within(world, &vpc_id, source), |place| Ok(Some(place)));
    let to = to.map_or_else(|| within(world, &vpc_id, destination), |place| Ok(Some(place)));
    let (from, to) = match (from, to) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(nobody), _) | (_, Err(nobody)) => return Ok(Ways::Apart(nobody)),
    };
    if let Some(reason) = [&from, &to].into_iter().flatten().find_map(unattached) {
        return Ok(Ways::Apart(reason));
    }
    let end = |place: Option<Place<'_>>, named: &Named, which: &str| match (place, named) {
        (Some(place), _) => inside(world, &place, wants_v6).ok_or_else(|| {
            let message = format!("{} has no IPv6 address", place.label);
            Problem::invalid(named.attribute(which), message).remedy("ask with an IPv4 address")
        }),
        (None, Named::Address(address)) => Ok(outside(*address)),
        (None, _) => Err(Problem::invalid(named.attribute(which), "this end is not known")),
    };
    let (of_source, of_destination) =
        (end(from, source, "source")?, end(to, destination, "destination")?);
    if of_source.address.is_ipv4() != of_destination.address.is_ipv4() {
        let (one, other) = (of_source.address, of_destination.address);
        let message = format!("{one} and {other} are of two families");
        return Err(Problem::invalid(destination.attribute("destination"), message)
            .remedy("ask with addresses of one"));
    }
    Ok(Ways::Within(Way { vpc_id, source: of_source, destination: of_destination }))
}

/// The interface that `named` means in itself: an address does where it is a public one.
fn place<'a>(world: &'a World, named: &Named, end: &str) -> Result<Option<Place<'a>>, Problem> {
    let missing = |what: String| {
        Problem::not_found(format!("{what} does not exist")).at(named.attribute(end))
    };
    let (label, at, public) = match named {
        Named::Instance(id) => {
            let instance = world.instances.get(id);
            let instance = instance.ok_or_else(|| missing(format!("instance {id}")))?;
            let interface = &instance.spec.interface;
            (id.to_string(), Placed { interface, instance: Some(instance) }, None)
        }
        Named::Interface(id) => {
            let at = world.interface(id);
            (id.to_string(), at.ok_or_else(|| missing(format!("network interface {id}")))?, None)
        }
        Named::Address(IpAddr::V4(address)) => match world.interface_behind(*address) {
            Some(at) => (format!("{address} ({})", label_of(at)), at, Some(*address)),
            None => return Ok(None),
        },
        Named::Address(IpAddr::V6(_)) => return Ok(None),
    };
    Ok(Some(Place { label, at, public }))
}

/// The interface that has an address of the VPC; `None` outside of it, where all other addresses
/// are, and whatever of a bridge's LAN is no guest.
///
/// # Errors
/// The address is in the VPC, and nobody has it.
fn within<'a>(
    world: &'a World,
    vpc_id: &VpcId,
    named: &Named,
) -> Result<Option<Place<'a>>, String> {
    let Named::Address(address) = named else { return Ok(None) };
    let at = match address {
        IpAddr::V4(address) => world.interface_at(vpc_id, *address),
        IpAddr::V6(address) => world.interface_at_v6(vpc_id, *address),
    };
    if let Some(at) = at {
        return Ok(Some(Place { label: label_of(at), at, public: None }));
    }
    let Some(vpc) = world.vpcs.get(vpc_id).map(|vpc| &vpc.spec) else { return Ok(None) };
    let is_inside = match address {
        IpAddr::V4(address) => vpc.cidr_block.contains(*address),
        IpAddr::V6(address) => vpc.ipv6_cidr_block.is_some_and(|range| range.contains(*address)),
    };
    match is_inside && vpc.mode == VpcMode::Routed {
        true => Err(format!("{address} is of {vpc_id}, and no interface has it")),
        false => Ok(None),
    }
}

/// The instance that an interface is a part of, else the interface.
fn label_of(at: Placed<'_>) -> String {
    match at.instance {
        Some(instance) if instance.spec.interface.id == at.interface.id => instance.id.to_string(),
        _ => at.interface.id.to_string(),
    }
}

fn unattached(place: &Place<'_>) -> Option<String> {
    let id = &place.at.interface.id;
    place
        .at
        .instance
        .is_none()
        .then(|| format!("{id} is attached to no instance: nobody sends or receives there"))
}

/// From one VPC to another, which packets pass by the destination's public address only.
fn between(
    world: &World,
    from: &Place<'_>,
    to: &Place<'_>,
    source: &Named,
) -> Result<Ways, Problem> {
    let Some(public) = to.public else {
        return Ok(Ways::Apart(format!(
            "{} is in {} and {} in {}: packets pass from one VPC to another by public addresses only",
            from.label,
            from.vpc_id(),
            to.label,
            to.vpc_id()
        )));
    };
    if let Some(reason) = [from, to].into_iter().find_map(unattached) {
        return Ok(Ways::Apart(reason));
    }
    let own = &from.at.interface.id;
    let seen_as = from.public.or_else(|| world.public_ip_of(own)).ok_or_else(|| {
        let message = format!(
            "{} has no public address: what {public} sees it as is the host's choice",
            from.label
        );
        Problem::new(Reason::FailedPrecondition, message)
            .at(source.attribute("source"))
            .remedy("give it an elastic IP, or ask from the address that the far end sees")
    })?;
    let inside = |place| inside(world, place, false);
    let (Some(sender), Some(receiver)) = (inside(from), inside(to)) else {
        return Err(Problem::invalid(source.attribute("source"), "it has no IPv4 address"));
    };
    let (there, here) = (outside(public.into()), outside(seen_as.into()));
    Ok(Ways::Between {
        out: Way { vpc_id: from.vpc_id().clone(), source: sender, destination: there },
        into: Way { vpc_id: to.vpc_id().clone(), source: here, destination: receiver },
    })
}

/// `None` where it has no address of the family.
fn inside(world: &World, place: &Place<'_>, wants_v6: bool) -> Option<End> {
    let interface = place.at.interface;
    let address = match wants_v6 {
        false => IpAddr::V4(interface.private_ip),
        true => IpAddr::V6(interface.ipv6?),
    };
    let groups = Some(world.groups_of(interface));
    Some(End { label: place.label.clone(), address, groups })
}

fn outside(address: IpAddr) -> End {
    End { label: address.to_string(), address, groups: None }
}

/// What the groups of the VPC say to a connection on its way through it.
pub(crate) fn judge(firewall: &Firewall, way: &Way, service: Service) -> Verdict {
    let Way { source, destination, .. } = way;
    let is_v4 = source.address.is_ipv4();
    if matches!(service, Service::Icmp { .. }) && !is_v4
        || matches!(service, Service::Icmpv6 { .. }) && is_v4
    {
        let protocol = service.protocol();
        return Verdict::refused(format!("{protocol} is not for these addresses' family"));
    }
    if !service.opens() {
        let what = describe(service);
        return Verdict::refused(format!("{what} opens nothing: it passes as an answer only"));
    }
    let opening = Opening { service, source: source.address, destination: destination.address };
    let mut verdict = Verdict { allowed: true, ..Verdict::refused(String::new()) };
    let mut said = Vec::new();
    for (direction, end) in [(Direction::Egress, source), (Direction::Ingress, destination)] {
        let (way, verb) = match direction {
            Direction::Egress => ("egress", "out of"),
            Direction::Ingress => ("ingress", "in to"),
        };
        let Some(groups) = &end.groups else {
            said.push(format!("{} is not in the VPC, so no group of it judges it", end.label));
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
