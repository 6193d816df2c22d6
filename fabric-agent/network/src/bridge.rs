//! A VPC's bridge, and the pair that joins it to a bridge of the operator's.

use ipnetwork::Ipv4Network;
use rtnetlink::packet_route::link::{BridgeStpState, InfoBridge, InfoKind};
use rtnetlink::{LinkBridge, LinkMessageBuilder};
use weft_model::{Bridge, BridgeJoin, LinkName, MacAddr, VpcNetwork};

use crate::error::asking;
use crate::netlink::{ALIAS, BridgeSettings, Link, Netlink};
use crate::pair::ensure_pair;
use crate::{Namespace, NetworkError, sysctl};

/// What our bridges are set to: they pass frames at once and never speak themselves, and every
/// IPv4 packet between two ports is shown to the packet filter.
pub(crate) const SETTINGS: BridgeSettings =
    BridgeSettings { stp: false, multicast_snooping: false, filtered: true };

/// Brings the VPC's bridge and its addresses in order, or removes one that is not wanted.
/// Idempotent. It has no ports yet.
///
/// # Errors
/// [`NetworkError::NoBridgeFilter`] where groups could not be enforced: nothing is made then. The
/// kernel refused a step; steps before it hold.
pub async fn ensure_bridge(vpc: &Namespace, network: &VpcNetwork) -> Result<(), NetworkError> {
    let inside = Netlink::of(vpc)?;
    let wanted = network.bridge.as_ref();
    for link in inside.links().await? {
        let is_wanted = Some(&link.name) == wanted.map(|bridge| &bridge.link);
        if link.kind == Some(InfoKind::Bridge) && !is_wanted {
            inside.delete(&link.name).await?;
        }
    }
    let Some(wanted) = wanted else { return Ok(()) };
    // Asked each time: the kernel takes the bridge's own switch also where nothing heeds it.
    if !vpc.enter(filters_bridges)? {
        return Err(NetworkError::NoBridgeFilter);
    }
    let mac = Bridge::mac(&network.vpc_id);
    let link = ensure_link(&inside, &wanted.link, mac).await?;
    sysctl::set(vpc, &sysctl::for_bridge(&wanted.link))?;
    weft_crash_points::point("bridge.set.switched");
    let addresses: Vec<Ipv4Network> = network.bridge_addresses().into_iter().collect();
    inside.set_addresses(&link, &addresses).await?;
    weft_crash_points::point("bridge.set.addressed");
    inside.change(&link, "up", |l| l.up()).await
}

/// Whether br_netfilter is there. Before Linux 5.1 it showed itself in the first namespace only,
/// and its module everywhere.
fn filters_bridges() -> bool {
    sysctl::bridge_filter().exists() || std::path::Path::new("/sys/module/br_netfilter").exists()
}

async fn ensure_link(
    inside: &Netlink,
    name: &LinkName,
    mac: MacAddr,
) -> Result<Link, NetworkError> {
    if inside.find(name).await?.is_none() {
        let message = LinkMessageBuilder::<LinkBridge>::new(name.as_str()).build();
        let made = inside.handle.link().add(message).execute().await;
        made.map_err(asking(format!("make bridge {name}")))?;
        weft_crash_points::point("bridge.set.made");
    }
    let link = inside.get(name).await?;
    let message = LinkMessageBuilder::<LinkBridge>::new(name.as_str())
        .index(link.index)
        .stp_state(BridgeStpState::Disabled)
        .mcast_snooping(SETTINGS.multicast_snooping)
        .append_info_data(InfoBridge::NfCallIpTables(SETTINGS.filtered))
        .build();
    let changed = inside.handle.link().change(message).execute().await;
    changed.map_err(asking(format!("set up bridge {name}")))?;
    let address = mac.octets().to_vec();
    inside.change(&link, "address and alias", |l| l.address(address).alias(ALIAS)).await?;
    Ok(link)
}

/// Joins our bridge to the operator's. Idempotent. Call it only when the packet filter knows the
/// pair's inner end.
///
/// The operator's bridge gets a port, and is otherwise as it was: the port has the bridge's own
/// MTU and a MAC above all others, because a bridge takes the smallest of both from its ports.
///
/// # Errors
/// [`NetworkError::NoSuchBridge`]; the kernel refused a step; steps before it hold.
pub async fn join_bridge(
    agent: &Namespace,
    vpc: &Namespace,
    bridge: &LinkName,
    join: &BridgeJoin,
) -> Result<(), NetworkError> {
    let (outside, inside) = (Netlink::of(agent)?, Netlink::of(vpc)?);
    let theirs = operators(&outside, &join.host_bridge).await?;
    let ours = inside.get(bridge).await?;
    let (host, guest) =
        ensure_pair(&outside, &inside, vpc, &join.host_link, &join.guest_link).await?;
    weft_crash_points::point("bridge.join.pair_made");
    sysctl::set(agent, &sysctl::for_uplink(&join.host_link))?;
    sysctl::set(vpc, &sysctl::for_uplink(&join.guest_link))?;

    if guest.controller != Some(ours.index) {
        inside.change(&guest, "to its bridge", |link| link.controller(ours.index)).await?;
        weft_crash_points::point("bridge.join.inside_enslaved");
    }
    inside.change(&guest, "up", |link| link.mtu(theirs.mtu).up()).await?;
    if host.controller != Some(theirs.index) {
        let address = port_mac(&host);
        let prepared = |link: LinkMessageBuilder<_>| link.address(address).mtu(theirs.mtu);
        outside.change(&host, "address and MTU", prepared).await?;
        weft_crash_points::point("bridge.join.port_prepared");
        let what = format!("to bridge {}", join.host_bridge);
        outside.change(&host, &what, |link| link.controller(theirs.index)).await?;
        weft_crash_points::point("bridge.join.outside_enslaved");
    }
    outside.change(&host, "up", |link| link.up()).await
}

/// Looks whether the operator's bridge exists.
///
/// # Errors
/// [`NetworkError::NoSuchBridge`]; the kernel cannot be asked.
pub async fn find_operators_bridge(agent: &Namespace, name: &LinkName) -> Result<(), NetworkError> {
    operators(&Netlink::of(agent)?, name).await.map(drop)
}

async fn operators(outside: &Netlink, name: &LinkName) -> Result<Link, NetworkError> {
    let missing = |kind| NetworkError::NoSuchBridge { link: name.clone(), kind };
    let found = outside.find(name).await?.ok_or_else(|| missing(None))?;
    match &found.kind {
        Some(InfoKind::Bridge) => Ok(found),
        Some(other) => Err(missing(Some(other.to_string()))),
        None => Err(missing(Some("device".to_owned()))),
    }
}

/// The port's own MAC with a first byte that no network card has.
fn port_mac(host: &Link) -> Vec<u8> {
    let rest = host.mac.map(|mac| mac.octets()).unwrap_or_default();
    [0xfe].into_iter().chain(rest.into_iter().skip(1)).collect()
}
