//! What every VPC's namespace has: loopback, switches, the routers' addresses, and a range that
//! ends inside it.

use ipnetwork::Ipv4Network;
use rtnetlink::packet_route::route::RouteType;
use weft_model::{SERVICE_ADDRESSES, VpcNetwork};

use crate::netlink::Netlink;
use crate::{Namespace, NetworkError, sysctl, sysctl_v6, v6};

/// Brings loopback, switches, gateways, services' addresses and the VPC's own range in order. Idempotent.
///
/// The range is unreachable as a whole: an address of it that no interface has gets an answer
/// here instead of a way out through the uplink, and no proxy ARP. A bridge has addresses and
/// range itself: see [`ensure_bridge`](crate::ensure_bridge).
///
/// # Errors
/// The kernel refused a step; steps before it hold.
pub async fn ensure_base(vpc: &Namespace, network: &VpcNetwork) -> Result<(), NetworkError> {
    sysctl::set(vpc, &sysctl::for_namespace())?;
    sysctl::set(vpc, &[sysctl::forwarding(network.bridge.is_none())])?;
    sysctl::set(vpc, &sysctl_v6::for_namespace(network.ipv6.is_some()))?;
    let netlink = Netlink::of(vpc)?;
    let loopback = loopback(&netlink).await?;
    netlink.change(&loopback, "up", |link| link.up()).await?;
    let (gateways, unreachable) = network.on_loopback();
    let addresses = gateways.into_iter().chain(SERVICE_ADDRESSES);
    let addresses: Vec<_> = addresses.map(Ipv4Network::from).collect();
    netlink.set_addresses(&loopback, &addresses).await?;
    weft_crash_points::point("base.set.addressed");
    for stale in netlink.routes().await? {
        if stale.ours && stale.kind == RouteType::Unreachable && !unreachable.contains(&stale.to) {
            netlink.delete_route(&stale).await?;
        }
    }
    for range in unreachable {
        netlink.add_route(range, |route| route.kind(RouteType::Unreachable)).await?;
    }
    v6::ensure_base(&netlink, &loopback, network).await
}

pub(crate) async fn loopback(netlink: &Netlink) -> Result<crate::netlink::Link, NetworkError> {
    match "lo".parse() {
        Ok(name) => netlink.get(&name).await,
        Err(invalid) => unreachable!("the kernel's own name: {invalid}"),
    }
}
