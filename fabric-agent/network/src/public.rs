//! Public addresses in the agent's namespace: routes into the VPCs, and answers to who asks for
//! them on a network that the host is in.
//!
//! An address of such a network is answered for by a proxy neighbour entry on the host's link to
//! it (`ip neigh add proxy`): Linux `net/ipv4/arp.c`, `arp_process` answers for those where the
//! link forwards and the route to the address leads elsewhere. It needs no `proxy_arp`, which would
//! answer for everything that is routed; nothing of the operator's changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt as _;
use ipnetwork::Ipv4Network;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};
use rtnetlink::packet_route::route::RouteProtocol;

use crate::error::{asking, errno};
use crate::netlink::{Link, MAIN_TABLE, Netlink, PROTOCOL, our_route};
use crate::{Namespace, NetworkError};

/// Leads `public` through `gateway` out of `link`. A route of ours into another VPC is taken over:
/// the address has moved.
///
/// # Errors
/// [`NetworkError::RangeTaken`] where a route of somebody else leads to an address.
pub(crate) async fn lead_here(
    outside: &Netlink,
    public: &BTreeSet<Ipv4Addr>,
    gateway: Ipv4Addr,
    link: &Link,
) -> Result<(), NetworkError> {
    if public.is_empty() {
        return Ok(());
    }
    let routes = outside.routes().await?;
    for address in public {
        let to = Ipv4Network::from(*address);
        let same: Vec<_> =
            routes.iter().filter(|route| route.to == to && route.table() == MAIN_TABLE).collect();
        if let Some(foreign) = same.iter().find(|route| !route.ours) {
            let by = foreign.describe(&outside.links().await?);
            return Err(NetworkError::RangeTaken { range: to.into(), by });
        }
        if same.iter().any(|route| route.out == Some(link.index) && route.gateway == Some(gateway))
        {
            continue;
        }
        for elsewhere in same {
            outside.delete_route(elsewhere).await?;
        }
        let route = our_route(to).gateway(gateway).output_interface(link.index);
        let added = outside.handle.route().add(route.build()).execute().await;
        added.map_err(asking(format!("add route to {to} on {}", link.name)))?;
    }
    Ok(())
}

/// Answers for those of `public` that are addresses of a network which one of the host's links is
/// in, and no longer for those that nothing leads to. Returns those that it answers for: what
/// carries them as its source is answered there.
///
/// Links are `ours` by their alias and `prefix`. Entries of another agent of this namespace stay:
/// they have a route of its own.
///
/// # Errors
/// The kernel refused.
pub async fn answer_for(
    agent: &Namespace,
    prefix: &str,
    public: &BTreeSet<Ipv4Addr>,
) -> Result<BTreeSet<Ipv4Addr>, NetworkError> {
    let netlink = Netlink::of(agent)?;
    let links = netlink.links().await?;
    let addresses = netlink.addresses().await?;
    let wanted = places(&links, &addresses, public);
    let seen = proxies(&netlink).await?;
    for ((index, address), message) in &seen {
        if wanted.get(address) == Some(index) {
            continue;
        }
        let routes = netlink.routes().await?;
        let theirs = routes.iter().any(|route| {
            let out = links.iter().find(|link| route.out == Some(link.index));
            let of_other = out.is_some_and(|link| !link.name.as_str().starts_with(prefix));
            route.ours && of_other && route.to == Ipv4Network::from(*address)
        });
        if !theirs {
            delete(&netlink, message, *address).await?;
        }
    }
    for (address, index) in &wanted {
        if !seen.contains_key(&(*index, *address)) {
            add(&netlink, *address, *index).await?;
        }
    }
    Ok(wanted.into_keys().collect())
}

/// Those of `public` that [`answer_for`] answers for, and those of them that nobody answers for now.
///
/// # Errors
/// The kernel could not be asked.
pub async fn unanswered(
    agent: &Namespace,
    public: &BTreeSet<Ipv4Addr>,
) -> Result<(BTreeSet<Ipv4Addr>, BTreeSet<Ipv4Addr>), NetworkError> {
    let netlink = Netlink::of(agent)?;
    let wanted = places(&netlink.links().await?, &netlink.addresses().await?, public);
    let seen = proxies(&netlink).await?;
    let lacks = wanted.iter().filter(|(address, index)| !seen.contains_key(&(**index, **address)));
    let lacking = lacks.map(|(address, _)| *address).collect();
    Ok((wanted.into_keys().collect(), lacking))
}

/// The link to the smallest network of the host's that each of `public` is in.
fn places(
    links: &[Link],
    addresses: &[(u32, Ipv4Network)],
    public: &BTreeSet<Ipv4Addr>,
) -> BTreeMap<Ipv4Addr, u32> {
    let foreign = |index: u32| links.iter().any(|link| link.index == index && !link.ours);
    let networks: Vec<_> = addresses
        .iter()
        .filter(|(index, network)| foreign(*index) && network.prefix() <= 30)
        .filter(|(_, network)| !network.ip().is_loopback())
        .collect();
    let place = |address: &Ipv4Addr| {
        let containing = networks.iter().filter(|(_, network)| network.contains(*address));
        let (index, _) = containing.max_by_key(|(_, network)| network.prefix())?;
        Some((*address, *index))
    };
    public.iter().filter_map(place).collect()
}

/// Our entries, by the index of their link and their address.
async fn proxies(
    netlink: &Netlink,
) -> Result<BTreeMap<(u32, Ipv4Addr), NeighbourMessage>, NetworkError> {
    let request = netlink.handle.neighbours().get().proxies();
    let request = request.set_address_family(AddressFamily::Inet);
    let listed: Vec<_> =
        request.execute().try_collect().await.map_err(asking("list proxy neighbours"))?;
    let ours = NeighbourAttribute::Protocol(RouteProtocol::from(PROTOCOL));
    let found = listed.into_iter().filter(|message| message.attributes.contains(&ours));
    Ok(found
        .filter_map(|message| {
            let address = message.attributes.iter().find_map(|attribute| match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(*address),
                _ => None,
            })?;
            Some(((message.header.ifindex, address), message))
        })
        .collect())
}

async fn add(netlink: &Netlink, address: Ipv4Addr, index: u32) -> Result<(), NetworkError> {
    let request = netlink.handle.neighbours().add(index, IpAddr::V4(address));
    let mut request = request.flags(NeighbourFlags::Proxy);
    let protocol = NeighbourAttribute::Protocol(RouteProtocol::from(PROTOCOL));
    request.message_mut().attributes.push(protocol);
    match request.execute().await {
        Err(error) if errno(&error) != Some(libc::EEXIST) => {
            Err(asking(format!("answer for {address}"))(error))
        }
        _ => Ok(()),
    }
}

async fn delete(
    netlink: &Netlink,
    message: &NeighbourMessage,
    address: Ipv4Addr,
) -> Result<(), NetworkError> {
    match netlink.handle.neighbours().del(message.clone()).execute().await {
        Err(error) if errno(&error) != Some(libc::ENOENT) => {
            Err(asking(format!("stop answering for {address}"))(error))
        }
        _ => Ok(()),
    }
}
