//! What has become of a network since it was brought in order, in words.

use weft_model::{ObservedShaper, ObservedTap, VpcNetwork};

use super::{SeenNetwork, plan_network};
use crate::Action;

/// A hypervisor holds the tap that it was started with: another of the same name is not its.
const REBOOT: &str = " (its guest has a network again after weft reboot)";
const REBOOT_ALL: &str = " (guests that ran in it have a network again after weft reboot)";

/// How `seen` differs from `applied`, the network as it was left; empty where it does not. Each
/// finding is a sentence without a capital and a full stop.
pub fn drift(applied: &VpcNetwork, seen: &SeenNetwork) -> Vec<String> {
    if seen.network.is_none() {
        return vec![format!("the network namespace was gone, with everything in it{REBOOT_ALL}")];
    }
    let steps = plan_network(&applied.vpc_id, Some(applied), seen);
    let mut findings: Vec<String> = Vec::new();
    for step in &steps {
        let finding = finding(step, applied, seen);
        // A tap that is made is opened as well: that is one finding.
        if let Some(finding) = finding.filter(|_| !is_remade(step, &steps)) {
            findings.push(finding);
        }
    }
    findings.dedup();
    findings
}

fn is_remade(step: &Action, steps: &[Action]) -> bool {
    let Action::OpenTap { link, .. } = step else { return false };
    steps.iter().any(|other| matches!(other, Action::AddTap { link: made, .. } if made == link))
}

fn finding(step: &Action, applied: &VpcNetwork, seen: &SeenNetwork) -> Option<String> {
    Some(match step {
        Action::SetBase { .. } => {
            "the router's addresses, its routes or its switches had been changed".to_owned()
        }
        Action::SetUplink { .. } | Action::RemoveUplink { .. } => match &applied.uplink {
            Some(uplink) => format!("the way out, {}, was gone or had been changed", uplink.link),
            None => "there was a way out that is not wanted".to_owned(),
        },
        Action::SetBridge { .. } => "the bridge was gone or had been changed".to_owned(),
        Action::JoinBridge { .. } => {
            let joined = applied.bridge.as_ref().and_then(|bridge| bridge.joined.as_ref())?;
            format!("the connection to {} was gone or had been changed", joined.path.host_name())
        }
        Action::RemoveTap { link, .. } => format!("there was a tap {link} that is not wanted"),
        Action::AddTap { link, tap, .. } => {
            let there = seen.network.as_ref().is_some_and(|seen| seen.taps.contains_key(link));
            let fate = if there { "had been changed" } else { "was gone" };
            format!("the tap {link} of {} {fate}{REBOOT}", tap.address)
        }
        Action::OpenTap { link, tap, .. } if only_limit_differs(step, seen) => {
            format!("the limit of the tap {link} of {} had been changed", tap.address)
        }
        Action::OpenTap { link, tap, .. } => format!(
            "the tap {link} of {} was down, or its route or neighbour entry had been changed",
            tap.address
        ),
        Action::SetRoutes { .. } => {
            "the route tables, or the rules that lead to them, had been changed".to_owned()
        }
        Action::SetFirewall { .. } => "the packet filter had been changed".to_owned(),
        // Nothing else is a step of a network.
        _ => return None,
    })
}

fn only_limit_differs(step: &Action, seen: &SeenNetwork) -> bool {
    let Action::OpenTap { link, tap, bridge, .. } = step else { return false };
    let seen = seen.network.as_ref().and_then(|network| network.taps.get(link));
    seen.is_some_and(|seen| {
        let shaper = ObservedShaper::of(tap.network_mbps);
        ObservedTap { shaper, ..seen.clone() }.is_up_for(tap, bridge.as_ref())
    })
}
