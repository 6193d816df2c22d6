//! What every VPC's namespace has: loopback, switches, the routers' addresses, and a range that
//! ends inside it.

use ipnetwork::Ipv4Network;
use rtnetlink::packet_route::route::RouteType;
use weft_model::VpcNetwork;

use crate::netlink::Netlink;
use crate::{Namespace, NetworkError, sysctl};

/// Brings loopback, switches, gateways and the VPC's own range in order. Idempotent.
///
/// The range is unreachable as a whole: an address of it that no interface has gets an answer
/// here instead of a way out through the uplink, and no proxy ARP.
///
/// # Errors
/// The kernel refused a step; steps before it hold.
pub async fn ensure_base(vpc: &Namespace, network: &VpcNetwork) -> Result<(), NetworkError> {
    sysctl::set(vpc, &sysctl::for_namespace())?;
    let netlink = Netlink::of(vpc)?;
    let loopback = loopback(&netlink).await?;
    netlink.change(&loopback, "up", |link| link.up()).await?;
    let gateways: Vec<_> = network.gateways.iter().map(|ip| Ipv4Network::from(*ip)).collect();
    netlink.set_addresses(&loopback, &gateways).await?;
    for stale in netlink.routes().await? {
        if stale.ours && stale.kind == RouteType::Unreachable && stale.to != network.cidr {
            netlink.delete_route(&stale).await?;
        }
    }
    netlink.add_route(network.cidr, |route| route.kind(RouteType::Unreachable)).await
}

pub(crate) async fn loopback(netlink: &Netlink) -> Result<crate::netlink::Link, NetworkError> {
    match "lo".parse() {
        Ok(name) => netlink.get(&name).await,
        Err(invalid) => unreachable!("the kernel's own name: {invalid}"),
    }
}
