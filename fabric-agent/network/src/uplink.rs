//! The way out of a VPC: a pair of virtual Ethernet links to the agent's namespace.

use ipnetwork::Ipv4Network;
use weft_model::{LinkName, Uplink, VpcNetwork};

use crate::netlink::Netlink;
use crate::pair::ensure_pair;
use crate::{Namespace, NetworkError, lan, public, sysctl, sysctl_v6, v6};

/// Brings both ends, their addresses and the routes in order. Idempotent.
///
/// # Errors
/// The kernel refused a step; steps before it hold. A link of the same name in the agent's
/// namespace that is not ours is never touched: [`NetworkError::Netlink`] with "File exists". Nor
/// is a route that is not ours: [`NetworkError::RangeTaken`] where one leads to the VPC's range.
pub async fn ensure_uplink(
    agent: &Namespace,
    vpc: &Namespace,
    network: &VpcNetwork,
    uplink: &Uplink,
) -> Result<(), NetworkError> {
    let cidr = network.cidr;
    let (outside, inside) = (Netlink::of(agent)?, Netlink::of(vpc)?);
    let (host, guest) =
        ensure_pair(&outside, &inside, vpc, &uplink.link, &uplink.guest_link).await?;
    weft_crash_points::point("uplink.set.pair_made");
    sysctl::set(agent, &sysctl::for_uplink(&uplink.link))?;
    sysctl::set(vpc, &sysctl::for_uplink_inside(&uplink.guest_link))?;
    let on = uplink.ipv6.is_some();
    sysctl::set(agent, &sysctl_v6::for_link(&uplink.link, on))?;
    sysctl::set(vpc, &sysctl_v6::for_link(&uplink.guest_link, on))?;

    outside.set_addresses(&host, &[transit(uplink.host_addr)]).await?;
    inside.set_addresses(&guest, &[transit(uplink.guest_addr)]).await?;
    weft_crash_points::point("uplink.set.addressed");
    outside.change(&host, "up", |link| link.up()).await?;
    inside.change(&guest, "up", |link| link.up()).await?;
    weft_crash_points::point("uplink.set.up");

    inside
        .add_route(default_route(), |route| {
            route.gateway(uplink.host_addr).output_interface(guest.index)
        })
        .await?;
    let wanted = uplink.host_routes(cidr);
    for stale in outside.routes().await? {
        if stale.ours && stale.out == Some(host.index) && !wanted.contains(&stale.to) {
            outside.delete_route(&stale).await?;
        }
    }
    weft_crash_points::point("uplink.set.routed_inside");
    if uplink.routed {
        outside.add_route_beside(cidr, uplink.guest_addr, &host).await?;
    }
    public::lead_here(&outside, &uplink.public, uplink.guest_addr, &host).await?;
    v6::ensure_uplink((&outside, &host), (&inside, &guest), network, uplink).await
}

fn transit(address: std::net::Ipv4Addr) -> Ipv4Network {
    Ipv4Network::new(address, Uplink::PREFIX).unwrap_or_else(|_| Ipv4Network::from(address))
}

fn default_route() -> Ipv4Network {
    Ipv4Network::new(std::net::Ipv4Addr::UNSPECIFIED, 0)
        .unwrap_or_else(|_| unreachable!("0 is a valid prefix length"))
}

/// Removes the uplink whose outer end is `link`, with its routes, or what else of ours has that name
/// in the agent's namespace. Absence is success; a link that is not ours is left alone.
///
/// # Errors
/// The kernel refused.
pub async fn remove_uplink(agent: &Namespace, link: &LinkName) -> Result<(), NetworkError> {
    let outside = Netlink::of(agent)?;
    match outside.find(link).await? {
        Some(found) if found.ours => lan::delete_ours(&outside, &found).await,
        _ => Ok(()),
    }
}
