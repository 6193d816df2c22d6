//! The network interfaces of an instance besides the one that it was made with: they come and go
//! while its guest runs.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use weft_model::{InstanceId, InstanceSpec, InterfaceId, Record};

use super::{InstanceStep, SeenInstance};
use crate::{Action, GuestNic};

/// An interface that is attached to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedNic {
    /// What the hypervisor has to know.
    pub nic: GuestNic,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its IPv6 address, if it has one.
    pub ipv6: Option<Ipv6Addr>,
    /// Bits of the network that it reaches without a router.
    pub prefix_len: u8,
    /// Whether it is to be detached.
    pub leaving: bool,
}

/// What a host knows of the interfaces of a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SeenNics {
    /// Nothing: no guest runs, or it does not answer.
    #[default]
    Unknown,
    /// The guest can be given none while it runs.
    Fixed,
    /// The guest has these, and can be given others.
    Has(BTreeSet<InterfaceId>),
}

/// What is next for a guest that runs and goes on running.
pub(super) fn keep(
    record: &Record<InstanceId, InstanceSpec>,
    attached: &[AttachedNic],
    seen: &SeenInstance,
) -> InstanceStep {
    if !seen.network_ready {
        return InstanceStep::AwaitNetwork;
    }
    let none = BTreeSet::new();
    let (has, can_be_given) = match &seen.nics {
        SeenNics::Has(has) => (has, true),
        SeenNics::Unknown | SeenNics::Fixed => (&none, false),
    };
    // Also those that it does not seem to have: what was left half way is cleared up.
    let leaving = attached.iter().filter(|one| one.leaving).map(|one| &one.nic.interface_id);
    let is_known = |id: &InterfaceId| {
        *id == record.spec.interface.id || attached.iter().any(|one| one.nic.interface_id == *id)
    };
    let unknown = has.iter().filter(|id| !is_known(id));
    let unplug: Vec<Action> = leaving
        .chain(unknown)
        .filter(|id| !seen.unplugged.contains(*id))
        .map(|id| Action::UnplugNic { instance_id: record.id.clone(), interface_id: id.clone() })
        .collect();
    if !unplug.is_empty() {
        return InstanceStep::Do(unplug);
    }
    if let Some(release) = release(attached) {
        return release;
    }
    let missing =
        attached.iter().filter(|one| can_be_given && !has.contains(&one.nic.interface_id));
    let plug: Vec<Action> = missing
        .map(|one| Action::PlugNic {
            instance_id: record.id.clone(),
            vpc_id: record.spec.interface.vpc_id.clone(),
            nic: one.nic.clone(),
        })
        .collect();
    match plug.is_empty() {
        true => InstanceStep::Rest,
        false => InstanceStep::Do(plug),
    }
}

/// Lets go of what is to be detached, now that no guest has it.
pub(super) fn release(attached: &[AttachedNic]) -> Option<InstanceStep> {
    let leaving = attached.iter().filter(|one| one.leaving);
    let ids: Vec<InterfaceId> = leaving.map(|one| one.nic.interface_id.clone()).collect();
    (!ids.is_empty()).then_some(InstanceStep::Release(ids))
}

#[cfg(test)]
mod tests {
    use weft_model::{MacAddr, PowerState};

    use super::*;
    use crate::instance::tests::{guest_network, record};
    use crate::{Attached, GuestState, Wanted, plan_instance};

    fn id(n: u8) -> InterfaceId {
        InterfaceId::from_random([n; 9])
    }

    fn attached(n: u8, leaving: bool) -> AttachedNic {
        AttachedNic {
            nic: GuestNic {
                interface_id: id(n),
                device_index: n,
                link: format!("weft{n}").parse().unwrap(),
                mac: MacAddr::from_random([n; 5]),
            },
            address: Ipv4Addr::new(10, 0, 0, n),
            ipv6: None,
            prefix_len: 24,
            leaving,
        }
    }

    fn show(step: &InstanceStep) -> String {
        let last = |id: &InterfaceId| id.digits()[1..2].to_owned();
        let action = |action: &Action| match action {
            Action::PlugNic { nic, .. } => format!("plug {}", last(&nic.interface_id)),
            Action::UnplugNic { interface_id, .. } => format!("unplug {}", last(interface_id)),
            Action::StartGuest(launch) => format!("start {}", launch.nics.len()),
            other => other.name().to_owned(),
        };
        match step {
            InstanceStep::Do(actions) => actions.iter().map(action).collect::<Vec<_>>().join(" "),
            InstanceStep::Release(ids) => {
                format!("release {}", ids.iter().map(last).collect::<String>())
            }
            other => format!("{other:?}"),
        }
    }

    /// The record's own interface is 1.
    #[test]
    fn interfaces_come_and_go_while_the_guest_runs() {
        let has = |ids: &[u8]| SeenNics::Has(ids.iter().map(|n| id(*n)).collect());
        let (stays, leaves) = (|n| attached(n, false), |n| attached(n, true));
        #[rustfmt::skip]
        let cases = [
            // attached,               the guest has,     unplugged, network, step
            (vec![],                   has(&[1]),         vec![],    true,  "Rest"),
            (vec![stays(2)],           has(&[1]),         vec![],    false, "AwaitNetwork"),
            (vec![stays(2)],           has(&[1]),         vec![],    true,  "plug 2"),
            (vec![stays(2), stays(3)], has(&[1]),         vec![],    true,  "plug 2 plug 3"),
            (vec![stays(2)],           has(&[1, 2]),      vec![],    true,  "Rest"),
            (vec![stays(2)],           SeenNics::Fixed,   vec![],    true,  "Rest"),
            (vec![stays(2)],           SeenNics::Unknown, vec![],    true,  "Rest"),
            (vec![leaves(2)],          has(&[1, 2]),      vec![],    true,  "unplug 2"),
            (vec![leaves(2)],          has(&[1]),         vec![],    true,  "unplug 2"),
            (vec![leaves(2)],          has(&[1]),         vec![2],   true,  "release 2"),
            (vec![leaves(2)],          SeenNics::Fixed,   vec![2],   true,  "release 2"),
            (vec![leaves(2), stays(3)],has(&[1, 2]),      vec![],    true,  "unplug 2"),
            // One that the store does not know goes too, and takes no attachment with it.
            (vec![],                   has(&[1, 4]),      vec![],    true,  "unplug 4"),
            (vec![],                   has(&[1, 4]),      vec![4],   true,  "Rest"),
        ];
        let record = record(PowerState::Running, 1);
        let wanted = Wanted::Run { epoch: 1 };
        for (attached, nics, unplugged, network_ready, want) in cases {
            let seen = SeenInstance {
                root_disk: true,
                seed: true,
                seed_is_current: true,
                guest: GuestState::Running { epoch: 1 },
                network_ready,
                nics,
                unplugged: unplugged.into_iter().map(id).collect(),
                ..SeenInstance::default()
            };
            let attached = Attached { nics: attached, volumes: Vec::new() };
            let step =
                plan_instance(&record, Some(&guest_network()), &attached, wanted, &seen, false);
            assert_eq!(show(&step), want, "{attached:?} {seen:?}");
        }
    }

    #[test]
    fn a_guest_that_is_off_lets_go_at_once_and_starts_with_what_stays() {
        let record = record(PowerState::Running, 1);
        let seen = SeenInstance {
            root_disk: true,
            seed: true,
            seed_is_current: true,
            network_ready: true,
            ..SeenInstance::default()
        };
        let plan = |attached: &[AttachedNic], wanted| {
            let attached = Attached { nics: attached.to_vec(), volumes: Vec::new() };
            let step =
                plan_instance(&record, Some(&guest_network()), &attached, wanted, &seen, false);
            show(&step)
        };
        let both = [attached(2, true), attached(3, false)];
        assert_eq!(plan(&both, Wanted::Off), "release 2");
        assert_eq!(plan(&both, Wanted::Run { epoch: 1 }), "release 2");
        assert_eq!(plan(&both[1..], Wanted::Off), "Rest");
        assert_eq!(plan(&both[1..], Wanted::Run { epoch: 1 }), "start 2");
    }
}
