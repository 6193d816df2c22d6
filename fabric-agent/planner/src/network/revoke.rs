//! Which open connections are to be cut because nothing admits them any more.

use weft_model::{Firewall, TrackedFlow, VpcId};

use crate::Action;

/// Whether connections must be looked at on the way from `before`, up to which they were judged
/// (`None`: not since the agent's start), to `now`.
pub fn must_judge_connections(before: Option<&Firewall>, now: &Firewall) -> bool {
    let has_say = now.has_revoking_groups() || before.is_some_and(Firewall::has_revoking_groups);
    has_say && before != Some(now)
}

/// The step that cuts what of `connections` is revoked; `None` where nothing is.
pub fn plan_cuts(
    vpc_id: &VpcId,
    before: Option<&Firewall>,
    now: &Firewall,
    connections: &[TrackedFlow],
) -> Option<Action> {
    let revoked = connections.iter().filter(|flow| now.revokes(before, flow));
    let flows: Vec<_> = revoked.cloned().collect();
    (!flows.is_empty()).then(|| Action::CutConnections { vpc_id: vpc_id.clone(), flows })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weft_model::{FirewallGroup, GroupId, Opening, Service};

    use super::*;

    fn firewall(revoke_now: bool, allow_all_egress: bool) -> Firewall {
        let group = FirewallGroup {
            members: Arc::new([[10, 0, 0, 5].into()].into()),
            allow_all_egress,
            revoke_now,
            ..FirewallGroup::default()
        };
        Firewall { groups: [(GroupId::from_random([1; 9]), group)].into(), ..Firewall::default() }
    }

    #[test]
    fn connections_are_looked_at_only_where_a_group_may_cut_them_and_something_changed() {
        let (open, closed) = (firewall(true, true), firewall(true, false));
        let patient = firewall(false, false);
        assert!(must_judge_connections(None, &open), "after a start of the agent");
        assert!(must_judge_connections(Some(&open), &closed));
        assert!(must_judge_connections(Some(&open), &patient), "a group that was there before");
        assert!(!must_judge_connections(Some(&open), &open));
        assert!(!must_judge_connections(Some(&patient), &firewall(false, true)));
        assert!(!must_judge_connections(None, &patient));
    }

    #[test]
    fn what_is_still_admitted_stays() {
        let vpc_id = VpcId::from_random([1; 9]);
        let opening = Opening {
            service: Service::Tcp(443),
            source: [10, 0, 0, 5].into(),
            destination: [192, 0, 2, 1].into(),
        };
        let flow = TrackedFlow { id: 3, tuple: vec![1], opening };
        let flows = [flow.clone()];
        assert_eq!(plan_cuts(&vpc_id, None, &firewall(true, true), &flows), None);
        assert_eq!(plan_cuts(&vpc_id, None, &firewall(false, false), &flows), None);
        let cut = plan_cuts(&vpc_id, None, &firewall(true, false), &flows);
        assert_eq!(cut, Some(Action::CutConnections { vpc_id, flows: vec![flow] }));
    }
}
