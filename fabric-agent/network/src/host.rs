//! The agent's own namespace: what it routes already, and that it forwards.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use weft_model::LinkName;

use crate::netlink::{Netlink, Route};
use crate::{Namespace, NetworkError, sysctl};

/// The first of `candidates` that overlaps no route of the agent's namespace; the default route
/// does not count.
///
/// Routes of ours count: this picks the range of a new VPC, and one that a VPC has, or a VPC of
/// another agent on this host, would be the wrong one. Whether a range that is already decided
/// collides with the host's own network is a question for [`overlaps`].
///
/// # Errors
/// The kernel could not be asked.
pub async fn first_free_range(
    agent: &Namespace,
    candidates: &[Ipv4Network],
) -> Result<Option<Ipv4Network>, NetworkError> {
    let routes = Netlink::of(agent)?.routes().await?;
    let taken = |range: &Ipv4Network| {
        routes.iter().any(|route| route.to.prefix() > 0 && route.to.overlaps(*range))
    };
    Ok(candidates.iter().find(|range| !taken(range)).copied())
}

/// The IPv4 addresses of links in the agent's namespace that are not ours.
///
/// # Errors
/// The kernel could not be asked.
pub async fn own_addresses(agent: &Namespace) -> Result<BTreeSet<Ipv4Addr>, NetworkError> {
    let netlink = Netlink::of(agent)?;
    let links = netlink.links().await?;
    let ours: BTreeSet<u32> =
        links.into_iter().filter(|link| link.ours).map(|link| link.index).collect();
    let all = netlink.addresses().await?.into_iter();
    Ok(all.filter(|(link, _)| !ours.contains(link)).map(|(_, address)| address.ip()).collect())
}

/// A route of the agent's namespace that overlaps `range` and is not this agent's, in the words of
/// `ip route`; `None` if there is none. The default route does not count, nor does any route over
/// a link of ours whose name starts with `prefix`: those are this agent's VPCs.
///
/// # Errors
/// The kernel could not be asked.
pub async fn overlaps(
    agent: &Namespace,
    prefix: &str,
    range: Ipv4Network,
) -> Result<Option<String>, NetworkError> {
    let netlink = Netlink::of(agent)?;
    let links = netlink.links().await?;
    let is_ours = |route: &Route| {
        let mut ours = links.iter().filter(|l| l.ours && l.name.as_str().starts_with(prefix));
        ours.any(|link| route.out == Some(link.index))
    };
    let routes = netlink.routes().await?;
    let mut foreign = routes.iter().filter(|route| route.to.prefix() > 0 && !is_ours(route));
    Ok(foreign.find(|route| route.to.overlaps(range)).map(|route| route.describe(&links)))
}

/// Switches IPv4 forwarding on in the agent's namespace; returns whether it was off. This is the
/// one thing that is changed and not ours: say so in the log.
///
/// # Errors
/// The switch could not be set.
pub fn enable_forwarding(agent: &Namespace) -> Result<bool, NetworkError> {
    sysctl::set(agent, &[("ipv4/ip_forward".to_owned(), "1")])
}

/// Whether IPv4 forwarding is on in the agent's namespace.
///
/// # Errors
/// The switch could not be read.
pub fn forwards(agent: &Namespace) -> Result<bool, NetworkError> {
    let checked = sysctl::check(agent, &[vec![sysctl::forwarding(true)]])?;
    Ok(checked.iter().all(|is_on| *is_on))
}

/// The outer ends of uplinks in the agent's namespace whose names start with `prefix`: ours, of
/// this agent, whether a VPC still wants them or not.
///
/// # Errors
/// The kernel could not be asked.
pub async fn uplinks(agent: &Namespace, prefix: &str) -> Result<Vec<LinkName>, NetworkError> {
    let links = Netlink::of(agent)?.links().await?;
    let ours = links.into_iter().filter(|link| link.ours && link.name.as_str().starts_with(prefix));
    Ok(ours.map(|link| link.name).collect())
}
