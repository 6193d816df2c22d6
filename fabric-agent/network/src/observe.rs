//! Reads a VPC's network back from the kernel.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use rtnetlink::packet_route::link::InfoKind;
use rtnetlink::packet_route::route::RouteType;
use weft_model::{
    ObservedBridge, ObservedNetwork, ObservedPort, ObservedTap, ObservedUplink, SERVICE_ADDRESSES,
};

use crate::base::loopback;
use crate::bridge::SETTINGS;
use crate::netlink::{Link, Netlink, Route, is_whole};
use crate::pair::is_pair;
use crate::port::static_macs;
use crate::shaper::shapers;
use crate::v6::SeenV6;
use crate::{Namespace, NetworkError, lan, sysctl, sysctl_v6};

/// What the kernel has of a VPC's network; only what is ours. Changes nothing.
///
/// # Errors
/// The kernel could not be asked.
pub async fn observe(agent: &Namespace, vpc: &Namespace) -> Result<ObservedNetwork, NetworkError> {
    let inside = Netlink::of(vpc)?;
    let links = inside.links().await?;
    let routes = inside.routes().await?;
    let addresses = inside.addresses().await?;
    let neighbours = inside.neighbours().await?;
    let loopback = loopback(&inside).await?;
    let v6 = SeenV6::of(&inside).await?;
    let shapers = shapers(&inside).await?;

    // A tap is ours by being in our namespace: a half-made one has no alias yet.
    let taps: Vec<_> = links.iter().filter(|l| l.kind == Some(InfoKind::Tun)).collect();
    let bridge = links.iter().find(|l| l.kind == Some(InfoKind::Bridge));
    let behind_ports = match bridge {
        Some(_) => static_macs(&inside).await?,
        None => Vec::new(),
    };
    let of_bridge = bridge.map(|bridge| sysctl::for_bridge(&bridge.name)).unwrap_or_default();
    let guest = links.iter().find(|l| l.kind == Some(InfoKind::Veth));
    let of_guest = guest.map(|guest| sysctl::for_uplink_inside(&guest.name)).unwrap_or_default();
    let mut switches =
        vec![sysctl::for_namespace(), vec![sysctl::forwarding(true)], of_bridge, of_guest];
    switches.extend([true, false].map(sysctl_v6::for_namespace));
    for tap in &taps {
        switches.push(sysctl::for_tap(&tap.name));
        switches.extend([true, false].map(|on| vec![sysctl::source_check(&tap.name, on)]));
        switches.extend([true, false].map(|on| sysctl_v6::for_link(&tap.name, on)));
    }
    let switches = sysctl::check(vpc, &switches)?;
    let mut switches = switches.into_iter();
    let mut next = || switches.next().unwrap_or(false);
    let (sysctls_ok, forwarding, bridge_ok, guest_ok) = (next(), next(), next(), next());
    let ipv6_on = is_on(next(), next());

    let taps = taps.into_iter().map(|tap| {
        let sysctls_ok = next();
        let (source_dest_check, on) = (is_on(next(), next()), is_on(next(), next()));
        let of_tap = routes.iter().filter(|r| r.ours && r.out == Some(tap.index));
        let behind = behind_ports.iter().filter(|(port, _)| *port == tap.index);
        let port = bridge.filter(|bridge| tap.controller == Some(bridge.index)).map(|bridge| {
            let macs = behind.map(|(_, mac)| *mac).collect();
            ObservedPort { bridge: bridge.name.clone(), switches_ok: tap.quiet, macs }
        });
        // Of a port, the bridge's neighbours that are behind it.
        let is_neighbour = |index: u32, mac| match (&port, bridge) {
            (Some(port), Some(bridge)) => index == bridge.index && port.macs.contains(mac),
            _ => index == tap.index,
        };
        let seen = ObservedTap {
            up: tap.up,
            sysctls_ok: sysctls_ok && tap.ours,
            source_dest_check,
            owner_uid: tap.owner_uid,
            routes: of_tap.map(|route| (route.to.ip(), route.source)).collect(),
            neighbours: neighbours
                .iter()
                .filter(|((index, _), mac)| is_neighbour(*index, mac))
                .map(|((_, address), mac)| (*address, *mac))
                .collect(),
            ipv6: v6.tap(on, tap),
            port,
            shaper: shapers.get(&tap.index).copied().unwrap_or_default(),
        };
        (tap.name.clone(), seen)
    });
    let taps = taps.collect::<BTreeMap<_, _>>();

    let seen_bridge = match bridge {
        Some(bridge) => {
            let mut seen = seen_bridge(bridge, bridge_ok, &addresses);
            seen.joined = lan::observe(agent, bridge, &links).await?;
            Some(seen)
        }
        None => None,
    };
    // Where there is a bridge, the pair is what joins it to the operator's.
    let uplink = match guest.filter(|_| bridge.is_none()) {
        Some(guest) => {
            let mut uplink = seen_inside(guest, guest_ok, &routes);
            uplink.guest_addr = whole_address(guest, &addresses, &routes);
            uplink.ipv6 = v6.inside(guest);
            add_outside(agent, guest, &mut uplink).await?;
            Some(uplink)
        }
        None => None,
    };
    let on_loopback = addresses.iter().filter(|(index, _)| *index == loopback.index);
    let on_loopback = on_loopback.map(|(_, a)| a.ip()).filter(|ip| !ip.is_loopback());
    let (services, gateways) = on_loopback.partition(|ip| SERVICE_ADDRESSES.contains(ip));
    Ok(ObservedNetwork {
        loopback_up: loopback.up,
        sysctls_ok,
        forwarding,
        gateways,
        services,
        unreachable: routes
            .iter()
            .filter(|r| r.ours && r.kind == RouteType::Unreachable)
            .map(|r| r.to)
            .collect(),
        ipv6: v6.base(ipv6_on, &loopback),
        uplink,
        bridge: seen_bridge,
        routes: crate::routes::observe(&inside, &links).await?,
        taps,
    })
}

/// What two lists of switches, for something and against it, say together. A kernel without IPv6
/// has none of its switches, and so nothing against either.
fn is_on(on: bool, off: bool) -> Option<bool> {
    match (on, off) {
        (_, true) => Some(false),
        (true, false) => Some(true),
        (false, false) => None,
    }
}

fn seen_inside(guest: &Link, guest_sysctls_ok: bool, routes: &[Route]) -> ObservedUplink {
    let default = routes.iter().find(|r| r.ours && r.to.prefix() == 0);
    ObservedUplink {
        guest_link: guest.name.clone(),
        guest_up: guest.up,
        guest_sysctls_ok,
        guest_addr: None,
        default_gateway: default.and_then(|route| route.gateway),
        link: None,
        host_up: false,
        host_addr: None,
        routes: std::collections::BTreeSet::new(),
        ipv6: Default::default(),
    }
}

async fn add_outside(
    agent: &Namespace,
    guest: &Link,
    uplink: &mut ObservedUplink,
) -> Result<(), NetworkError> {
    let outside = Netlink::of(agent)?;
    let links = outside.links().await?;
    let Some(host) = links.into_iter().find(|host| is_pair(host, guest)) else { return Ok(()) };
    let addresses = outside.addresses().await?;
    let routes = outside.routes().await?;
    uplink.host_addr = whole_address(&host, &addresses, &routes);
    let ours = routes.iter().filter(|r| r.ours && r.out == Some(host.index));
    uplink.routes = ours.map(|route| route.to).collect();
    SeenV6::of(&outside).await?.add_outside(&host, &mut uplink.ipv6);
    uplink.host_up = host.up;
    uplink.link = Some(host.name);
    Ok(())
}

/// The address through which the link's range is reached.
fn whole_address(
    link: &Link,
    addresses: &[(u32, Ipv4Network)],
    routes: &[Route],
) -> Option<Ipv4Addr> {
    let mut of_link = addresses.iter().filter(|(index, _)| *index == link.index);
    of_link.find(|(_, address)| is_whole(address, link, routes)).map(|(_, address)| address.ip())
}

fn seen_bridge(
    bridge: &Link,
    switches_ok: bool,
    addresses: &[(u32, Ipv4Network)],
) -> ObservedBridge {
    let settings_ok = switches_ok && bridge.up && bridge.ours && bridge.bridge == Some(SETTINGS);
    ObservedBridge {
        link: bridge.name.clone(),
        settings_ok,
        mac: bridge.mac,
        addresses: addresses.iter().filter(|(i, _)| *i == bridge.index).map(|(_, a)| *a).collect(),
        joined: None,
    }
}
