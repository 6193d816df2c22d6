//! The way out of a VPC: a pair of virtual Ethernet links to the agent's namespace.

use std::os::fd::AsRawFd;

use ipnetwork::Ipv4Network;
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};
use weft_model::{LinkName, Uplink};

use crate::error::asking;
use crate::netlink::{ALIAS, Link, Netlink};
use crate::observe::is_pair;
use crate::{Namespace, NetworkError, sysctl};

/// Brings both ends, their addresses and the routes in order. Idempotent.
///
/// # Errors
/// The kernel refused a step; steps before it hold. A link of the same name in the agent's
/// namespace that is not ours is never touched: [`NetworkError::Netlink`] with "File exists". Nor
/// is a route that is not ours: [`NetworkError::RangeTaken`] where one leads to the VPC's range.
pub async fn ensure_uplink(
    agent: &Namespace,
    vpc: &Namespace,
    cidr: Ipv4Network,
    uplink: &Uplink,
) -> Result<(), NetworkError> {
    let (outside, inside) = (Netlink::of(agent)?, Netlink::of(vpc)?);
    let (host, guest) = ensure_pair(&outside, &inside, vpc, uplink).await?;
    weft_crash_points::point("uplink.set.pair_made");
    sysctl::set(agent, &sysctl::for_uplink(&uplink.link))?;
    sysctl::set(vpc, &sysctl::for_uplink(&uplink.guest_link))?;

    outside.set_addresses(&host, &[transit(uplink.host_addr)]).await?;
    inside.set_addresses(&guest, &[transit(uplink.guest_addr)]).await?;
    outside.change(&host, "up", |link| link.up()).await?;
    inside.change(&guest, "up", |link| link.up()).await?;

    inside
        .add_route(default_route(), |route| {
            route.gateway(uplink.host_addr).output_interface(guest.index)
        })
        .await?;
    for stale in outside.routes().await? {
        let wanted = uplink.routed && stale.to == cidr;
        if stale.ours && stale.out == Some(host.index) && !wanted {
            outside.delete_route(&stale).await?;
        }
    }
    if uplink.routed {
        outside.add_route_beside(cidr, uplink.guest_addr, &host).await?;
    }
    Ok(())
}

fn transit(address: std::net::Ipv4Addr) -> Ipv4Network {
    Ipv4Network::new(address, Uplink::PREFIX).unwrap_or_else(|_| Ipv4Network::from(address))
}

fn default_route() -> Ipv4Network {
    Ipv4Network::new(std::net::Ipv4Addr::UNSPECIFIED, 0)
        .unwrap_or_else(|_| unreachable!("0 is a valid prefix length"))
}

async fn ensure_pair(
    outside: &Netlink,
    inside: &Netlink,
    vpc: &Namespace,
    uplink: &Uplink,
) -> Result<(Link, Link), NetworkError> {
    let host = outside.find(&uplink.link).await?;
    let guest = inside.find(&uplink.guest_link).await?;
    if let (Some(host), Some(guest)) = (&host, &guest)
        && is_pair(host, guest)
    {
        return mark(outside, inside, host.clone(), guest.clone()).await;
    }
    // Half a pair, or one that leads elsewhere: deleting one end deletes the other.
    if host.is_some_and(|host| host.ours) {
        outside.delete(&uplink.link).await?;
    }
    if guest.is_some() {
        inside.delete(&uplink.guest_link).await?;
    }
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(uplink.guest_link.to_string())
        .setns_by_fd(vpc.file().as_raw_fd())
        .build();
    let pair = LinkVeth::new(uplink.link.as_str(), uplink.guest_link.as_str())
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    let made = outside.handle.link().add(pair).execute().await;
    made.map_err(asking(format!("make uplink {} - {}", uplink.link, uplink.guest_link)))?;
    let (host, guest) = (outside.get(&uplink.link).await?, inside.get(&uplink.guest_link).await?);
    mark(outside, inside, host, guest).await
}

/// A step of its own: the kernel takes no alias while it makes a pair.
async fn mark(
    outside: &Netlink,
    inside: &Netlink,
    host: Link,
    guest: Link,
) -> Result<(Link, Link), NetworkError> {
    outside.change(&host, "alias", |link| link.alias(ALIAS)).await?;
    inside.change(&guest, "alias", |link| link.alias(ALIAS)).await?;
    Ok((host, guest))
}

/// Removes the uplink whose outer end is `link`, with its routes. Absence is success; a link that
/// is not ours is left alone.
///
/// # Errors
/// The kernel refused.
pub async fn remove_uplink(agent: &Namespace, link: &LinkName) -> Result<(), NetworkError> {
    let outside = Netlink::of(agent)?;
    match outside.find(link).await? {
        Some(found) if found.ours => outside.delete(link).await,
        _ => Ok(()),
    }
}
