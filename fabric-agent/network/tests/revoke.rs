//! What is open goes on when rules change, unless it is cut: real connections through real taps.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use support::guest::{Guest, connect, echoes};
use support::{Vpc, address, cidr, group_id, on_a_machine, tcp_in};
use weft_model::{Firewall, Opening, Service, TrackedFlow};

/// Cuts what the change from `before` revokes, as the agent does after it; how many those were.
fn cut(vpc: &Vpc, before: &Firewall) -> usize {
    let open = weft_network::connections(&vpc.namespace).unwrap();
    let now = &vpc.network.firewall;
    let revoked: Vec<TrackedFlow> =
        open.into_iter().filter(|flow| now.revokes(Some(before), flow)).collect();
    weft_network::forget(&vpc.namespace, &revoked).unwrap();
    // What is gone already is no error.
    weft_network::forget(&vpc.namespace, &revoked).unwrap();
    revoked.len()
}

/// A server in the group 1, which lets 80 and 81 in, and a client in the group 2.
async fn pair(vpc: &mut Vpc) -> (Guest, Guest) {
    vpc.rules(1, &[tcp_in(80, cidr("10.0.0.0/24")), tcp_in(81, cidr("10.0.0.0/24"))], true).await;
    vpc.rules(2, &[], true).await;
    vpc.firewall(|firewall| {
        firewall.groups.get_mut(&group_id(1)).unwrap().revoke_now = true;
    })
    .await;
    let guests = (vpc.launch(10, &[1]).await, vpc.launch(11, &[2]).await);
    guests.0.serve(80);
    guests.0.serve(81);
    guests
}

#[test]
fn a_connection_that_no_rule_admits_any_more_is_cut_and_does_not_come_back() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await;
        let (server, client) = pair(&mut vpc).await;
        let (mut kept, _) = connect(&client.namespace, server.address, 80).unwrap();
        let (mut revoked, _) = connect(&client.namespace, server.address, 81).unwrap();
        assert!(echoes(&mut kept) && echoes(&mut revoked));

        let before = vpc.network.firewall.clone();
        vpc.firewall(|firewall| {
            let group = firewall.groups.get_mut(&group_id(1)).unwrap();
            group.rules.retain(|_, rule| rule.is_about(&Service::Tcp(80)));
        })
        .await;
        assert!(echoes(&mut revoked), "a change alone cuts nothing");
        assert_eq!(cut(&vpc, &before), 1);
        // Its server may open anything: that its answers go out must not bring it back.
        assert!(!echoes(&mut revoked));
        assert!(!echoes(&mut revoked));
        assert!(echoes(&mut kept), "what is still admitted goes on");
        assert!(client.connects(server.address, 80));
        assert_eq!(cut(&vpc, &before), 0);
    });
}

#[test]
fn who_leaves_a_group_that_revokes_loses_what_only_that_admitted() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await;
        let (server, client) = pair(&mut vpc).await;
        let (mut flow, _) = connect(&client.namespace, server.address, 80).unwrap();
        let before = vpc.network.firewall.clone();
        vpc.join(10, &[2]).await;
        assert!(echoes(&mut flow));
        assert_eq!(cut(&vpc, &before), 1);
        assert!(!echoes(&mut flow));
    });
}

#[test]
fn a_connection_is_listed_as_the_groups_saw_it() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await;
        let (server, client) = pair(&mut vpc).await;
        let _flow = connect(&client.namespace, server.address, 80).unwrap();
        let open = weft_network::connections(&vpc.namespace).unwrap();
        let wanted = Opening {
            service: Service::Tcp(80),
            source: address(11).into(),
            destination: address(10).into(),
        };
        assert!(open.iter().any(|flow| flow.opening == wanted), "{open:?}");
    });
}
