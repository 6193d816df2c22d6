//! What a host has after a step, had it been carried out: for the simulated host, for the agent's
//! memory of what it has applied, and for the proof that plans converge.

use std::collections::{BTreeMap, BTreeSet};

use weft_model::{ObservedNetwork, ObservedUplink};

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
            network.gateways = desired.gateways.clone();
            network.unreachable = BTreeSet::from([desired.cidr]);
        }
        Action::SetUplink { network: desired } => {
            network.uplink = desired.uplink.as_ref().map(|uplink| ObservedUplink {
                guest_link: uplink.guest_link.clone(),
                guest_up: true,
                guest_addr: Some(uplink.guest_addr),
                default_gateway: Some(uplink.host_addr),
                link: Some(uplink.link.clone()),
                host_up: true,
                host_addr: Some(uplink.host_addr),
                routes: uplink.routed.then_some(desired.cidr).into_iter().collect(),
            });
        }
        Action::RemoveUplink { .. } => network.uplink = None,
        Action::AddTap { link, tap, .. } => {
            let made = network.taps.entry(link.clone()).or_default();
            made.sysctls_ok = true;
            made.owner_uid = tap.owner_uid;
        }
        Action::OpenTap { link, tap, .. } => {
            if let Some(made) = network.taps.get_mut(link) {
                made.up = true;
                made.routes = BTreeMap::from([(tap.address, Some(tap.gateway))]);
                made.neighbours = BTreeMap::from([(tap.address, tap.mac)]);
            }
        }
        Action::RemoveTap { link, .. } => {
            network.taps.remove(link);
        }
        _ => {}
    }
}
