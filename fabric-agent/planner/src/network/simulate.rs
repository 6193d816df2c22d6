//! What a host has after a step, had it been carried out: for the simulated host, for the agent's
//! memory of what it has applied, and for the proof that plans converge.

use std::collections::{BTreeMap, BTreeSet};

use weft_model::{
    Bridge, ObservedBridge, ObservedJoin, ObservedNetwork, ObservedNetworkV6, ObservedPort,
    ObservedShaper, ObservedTapV6, ObservedUplink, ObservedUplinkV6, SERVICE_ADDRESSES, VpcNetwork,
};

use super::SeenNetwork;
use crate::Action;

/// Changes `seen` as `action` changes a host. Actions of other things are ignored.
pub fn simulate_network(seen: &mut SeenNetwork, action: &Action) {
    match action {
        Action::MakeNamespace { .. } => {
            seen.network.get_or_insert_with(ObservedNetwork::default);
        }
        Action::RemoveNamespace { .. } => *seen = SeenNetwork::default(),
        Action::SetFirewall { firewall, .. } => seen.firewall = Some(firewall.clone()),
        other => {
            if let Some(network) = &mut seen.network {
                simulate_links(network, other);
            }
        }
    }
}

fn simulate_links(network: &mut ObservedNetwork, action: &Action) {
    match action {
        Action::SetBase { network: desired } => {
            network.loopback_up = true;
            network.sysctls_ok = true;
            network.forwarding = desired.bridge.is_none();
            (network.gateways, network.unreachable) = desired.on_loopback();
            network.services = BTreeSet::from(SERVICE_ADDRESSES);
            network.ipv6 = ObservedNetworkV6::of(desired);
        }
        Action::SetUplink { network: desired } => {
            network.uplink = desired.uplink.as_ref().map(|uplink| ObservedUplink {
                guest_link: uplink.guest_link.clone(),
                guest_up: true,
                guest_sysctls_ok: true,
                guest_addr: Some(uplink.guest_addr),
                default_gateway: Some(uplink.host_addr),
                link: Some(uplink.link.clone()),
                host_up: true,
                host_addr: Some(uplink.host_addr),
                routes: uplink.host_routes(desired.cidr),
                ipv6: ObservedUplinkV6::of(uplink, desired.ipv6),
            });
        }
        Action::RemoveUplink { .. } => {
            network.uplink = None;
            if let Some(bridge) = &mut network.bridge {
                bridge.joined = None;
            }
        }
        Action::SetBridge { network: desired } => set_bridge(network, desired),
        Action::JoinBridge { network: desired } => {
            let wanted = desired.bridge.as_ref().and_then(|bridge| bridge.joined.as_ref());
            if let Some(bridge) = &mut network.bridge {
                bridge.joined = wanted.map(ObservedJoin::of);
            }
        }
        Action::AddTap { link, tap, .. } => {
            network.routes.lose(link);
            let made = network.taps.entry(link.clone()).or_default();
            made.sysctls_ok = true;
            made.source_dest_check = Some(tap.source_dest_check);
            made.owner_uid = tap.owner_uid;
            made.ipv6.on = Some(tap.ipv6.is_some());
        }
        Action::OpenTap { link, tap, bridge, .. } => {
            if let Some(made) = network.taps.get_mut(link) {
                made.up = true;
                made.routes = match bridge {
                    None => BTreeMap::from([(tap.address, Some(tap.gateway))]),
                    Some(_) => BTreeMap::new(),
                };
                made.port = bridge.as_ref().map(|bridge| ObservedPort::of(&bridge.link, tap));
                made.neighbours = BTreeMap::from([(tap.address, tap.mac)]);
                made.ipv6 = ObservedTapV6::of(tap);
                made.shaper = ObservedShaper::of(tap.network_mbps);
            }
        }
        Action::SetRoutes { routes, .. } => network.routes = routes.clone(),
        Action::RemoveTap { link, .. } => {
            network.taps.remove(link);
            network.routes.lose(link);
        }
        _ => {}
    }
}

/// Another bridge has none of the ports of the one before.
fn set_bridge(network: &mut ObservedNetwork, desired: &VpcNetwork) {
    let wanted = desired.bridge.as_ref();
    let before = network.bridge.take().filter(|seen| Some(&seen.link) == wanted.map(|b| &b.link));
    if before.is_none() {
        for tap in network.taps.values_mut().filter(|tap| tap.port.is_some()) {
            tap.port = None;
            tap.neighbours.clear();
        }
    }
    network.bridge = wanted.map(|bridge| ObservedBridge {
        link: bridge.link.clone(),
        settings_ok: true,
        mac: Some(Bridge::mac(&desired.vpc_id)),
        addresses: desired.bridge_addresses(),
        joined: before.and_then(|before| before.joined),
    });
}
