//! A VPC's network: from what the kernel has to what is wanted.

mod drift;
mod revoke;
mod simulate;

pub use drift::drift;
pub use revoke::{must_judge_connections, plan_cuts};
pub use simulate::simulate_network;

use weft_model::{Firewall, ObservedNetwork, VpcId, VpcNetwork};

use crate::Action;

/// What a host has of one VPC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenNetwork {
    /// Links, routes and neighbours; `None` where the namespace does not exist.
    pub network: Option<ObservedNetwork>,
    /// The packet filter, where it is exactly what was once applied; else it is replaced as a whole.
    pub firewall: Option<Firewall>,
}

/// The steps from `seen` to `desired`, in the order they must run. Empty exactly when nothing
/// differs.
///
/// Removals come first, so that a name or an address can be used again in the same pass. A tap is
/// made down, and opened only after the packet filter knows it: what fails in between is closed.
/// The same holds for a bridge: it is joined to the operator's, and has ports, only after that.
pub fn plan_network(
    vpc_id: &VpcId,
    desired: Option<&VpcNetwork>,
    seen: &SeenNetwork,
) -> Vec<Action> {
    let vpc = || vpc_id.clone();
    let Some(desired) = desired else {
        return match seen.network {
            Some(_) => vec![
                Action::RemoveUplink { vpc_id: vpc() },
                Action::RemoveNamespace { vpc_id: vpc() },
            ],
            None => Vec::new(),
        };
    };
    let nothing = ObservedNetwork::default();
    let network = seen.network.as_ref().unwrap_or(&nothing);
    let mut actions = Vec::new();

    for link in network.taps.keys().filter(|link| !desired.interfaces.contains_key(*link)) {
        actions.push(Action::RemoveTap { vpc_id: vpc(), link: link.clone() });
    }
    if seen.network.is_none() {
        actions.push(Action::MakeNamespace { vpc_id: vpc() });
    }
    if !network.base_matches(desired) {
        actions.push(Action::SetBase { network: without_interfaces(desired) });
    }
    let joined = desired.bridge.as_ref().is_some_and(|bridge| bridge.joined.is_some());
    if !joined && !network.join_matches(desired) {
        actions.push(Action::RemoveUplink { vpc_id: vpc() });
    }
    if !network.uplink_matches(desired) {
        actions.push(match desired.uplink {
            Some(_) => Action::SetUplink { network: without_interfaces(desired) },
            None => Action::RemoveUplink { vpc_id: vpc() },
        });
    }
    if !network.bridge_matches(desired) {
        actions.push(Action::SetBridge { network: without_interfaces(desired) });
    }
    for (link, tap) in desired.interfaces.iter() {
        if !network.taps.get(link).is_some_and(|seen| seen.is_made_for(tap)) {
            actions.push(Action::AddTap { vpc_id: vpc(), link: link.clone(), tap: tap.clone() });
        }
    }
    if seen.firewall.as_ref() != Some(&desired.firewall) {
        let firewall = desired.firewall.clone();
        actions.push(Action::SetFirewall { vpc_id: vpc(), firewall });
    }
    if joined && !network.join_matches(desired) {
        actions.push(Action::JoinBridge { network: without_interfaces(desired) });
    }
    let bridge = desired.bridge.as_ref();
    for (link, tap) in desired.interfaces.iter() {
        if !network.taps.get(link).is_some_and(|seen| seen.is_up_for(tap, bridge)) {
            let (link, tap, bridge) = (link.clone(), tap.clone(), bridge.cloned());
            actions.push(Action::OpenTap { vpc_id: vpc(), link, tap, bridge });
        }
    }
    // Taps that are removed, or made anew, take the routes to them along.
    let mut routes = network.routes.clone();
    for action in &actions {
        if let Action::AddTap { link, .. } | Action::RemoveTap { link, .. } = action {
            routes.lose(link);
        }
    }
    if routes != desired.routes {
        actions.push(Action::SetRoutes { vpc_id: vpc(), routes: desired.routes.clone() });
    }
    actions
}

/// Base, bridge and uplink do not need a thousand taps and the packet filter with them.
fn without_interfaces(network: &VpcNetwork) -> VpcNetwork {
    VpcNetwork {
        vpc_id: network.vpc_id.clone(),
        cidr: network.cidr,
        ipv6: network.ipv6,
        gateways: network.gateways.clone(),
        bridge: network.bridge.clone(),
        uplink: network.uplink.clone(),
        interfaces: Default::default(),
        routes: Default::default(),
        firewall: Firewall {
            uplink: network.firewall.uplink.clone(),
            gateways: network.firewall.gateways.clone(),
            range: network.firewall.range,
            ipv6: network.firewall.ipv6,
            ..Firewall::default()
        },
    }
}

#[cfg(test)]
mod tests;
