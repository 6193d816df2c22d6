//! Connections that are open, and which of them nothing admits any more.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Firewall, Opening};
use crate::{Direction, GroupId};

/// A connection as the kernel keeps track of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackedFlow {
    /// The kernel's number of the entry.
    pub id: u32,
    /// How the kernel tells it from others, in its own form.
    pub tuple: Vec<u8>,
    /// As the groups saw it when it was opened.
    pub opening: Opening,
}

impl Firewall {
    /// Whether `flow` is to be cut: a group with `revoke_now` has a say about one of its ends, and
    /// that end's groups do not admit it. `before` is what was enforced until now, where known: an
    /// interface that has left such a group is judged once more as its member.
    pub fn revokes(&self, before: Option<&Self>, flow: &TrackedFlow) -> bool {
        let opening = &flow.opening;
        let ends = [(Direction::Egress, opening.source), (Direction::Ingress, opening.destination)];
        ends.into_iter().any(|(direction, end)| {
            let has_say =
                self.revoking_member(end) || before.is_some_and(|b| b.revoking_member(end));
            has_say && self.admission(direction, &self.groups_at(end), opening).is_none()
        })
    }

    /// Whether any group wants connections cut.
    pub fn has_revoking_groups(&self) -> bool {
        self.groups.values().any(|group| group.revoke_now)
    }

    fn revoking_member(&self, address: IpAddr) -> bool {
        self.groups.values().any(|group| group.revoke_now && group.has_member(address))
    }

    fn groups_at(&self, address: IpAddr) -> BTreeSet<GroupId> {
        let members = self.groups.iter().filter(|(_, group)| group.has_member(address));
        members.map(|(id, _)| id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{FirewallGroup, IpProtocol, RuleId, RulePeer, RulePorts, RuleSpec, Service};

    fn group(n: u8) -> GroupId {
        GroupId::from_random([n; 9])
    }

    /// 10.0.0.5 is in the group 1, which lets ssh in from everywhere.
    fn firewall(revoke_now: bool) -> Firewall {
        let rule = RuleSpec {
            group_id: group(1),
            direction: Direction::Ingress,
            protocol: IpProtocol::Tcp,
            ports: RulePorts::Range { from: 22, to: 22 },
            peer: RulePeer::Cidr("0.0.0.0/0".parse().unwrap()),
            description: String::new(),
        };
        let web = FirewallGroup {
            members: Arc::new([[10, 0, 0, 5].into()].into()),
            rules: [(RuleId::from_random([1; 9]), rule)].into(),
            allow_all_egress: true,
            revoke_now,
            ..FirewallGroup::default()
        };
        Firewall { groups: [(group(1), web)].into(), ..Firewall::default() }
    }

    fn flow(source: [u8; 4], destination: [u8; 4], port: u16) -> TrackedFlow {
        let opening = Opening {
            service: Service::Tcp(port),
            source: source.into(),
            destination: destination.into(),
        };
        TrackedFlow { id: 1, tuple: Vec::new(), opening }
    }

    #[test]
    fn only_what_nothing_admits_any_more_is_cut_and_only_where_a_group_says_so() {
        let (guest, office) = ([10, 0, 0, 5], [192, 0, 2, 1]);
        let (ssh, web) = (flow(office, guest, 22), flow(office, guest, 80));
        let (out, transit) = (flow(guest, office, 443), flow(office, [10, 0, 0, 9], 80));
        let cut = |firewall: &Firewall, before: Option<&Firewall>| {
            [&ssh, &web, &out, &transit].map(|flow| firewall.revokes(before, flow))
        };
        assert_eq!(cut(&firewall(true), None), [false, true, false, false]);
        assert_eq!(cut(&firewall(false), None), [false; 4]);

        let mut closed = firewall(true);
        closed.groups.get_mut(&group(1)).unwrap().allow_all_egress = false;
        assert_eq!(cut(&closed, None), [false, true, true, false]);

        let mut left = firewall(true);
        left.groups.get_mut(&group(1)).unwrap().members = Arc::default();
        assert_eq!(cut(&left, None), [false; 4], "who has left is nobody's");
        assert_eq!(cut(&left, Some(&firewall(true))), [true, true, true, false]);
    }
}
