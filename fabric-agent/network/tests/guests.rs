//! What reaches whom: guests behind real taps, the packet filter in the kernel.
mod support;

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use support::guest::{connect, echoes, serve};
use support::{Vpc, address, all_in, cidr, group_id, on_a_machine, rule, tap, tcp_in};
use weft_model::{Direction, IpProtocol, RulePeer, RulePorts};
use weft_network::{add_tap, tap_up};

#[test]
fn nothing_comes_in_unless_a_rule_says_so() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await;
        vpc.rules(1, &[], true).await;
        vpc.rules(2, &[], true).await;
        let (web, client) = (vpc.launch(10, &[1]).await, vpc.launch(11, &[2]).await);
        web.serve(80);
        web.serve(22);
        assert!(!client.connects(web.address, 80), "default deny");

        vpc.rules(1, &[tcp_in(80, cidr("10.0.0.11/32"))], true).await;
        assert!(client.connects(web.address, 80), "allowed by range");
        assert!(!client.connects(web.address, 22), "another port");

        vpc.rules(1, &[tcp_in(80, cidr("10.0.0.12/31"))], true).await;
        assert!(!client.connects(web.address, 80), "another range");

        vpc.rules(1, &[tcp_in(80, RulePeer::Group(group_id(2)))], true).await;
        assert!(client.connects(web.address, 80), "allowed as a member");
        vpc.rules(3, &[], true).await;
        vpc.join(11, &[3]).await;
        assert!(!client.connects(web.address, 80), "no longer a member");
    });
}

#[test]
fn an_established_flow_survives_the_removal_of_its_rule() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await;
        vpc.rules(1, &[tcp_in(80, cidr("0.0.0.0/0"))], true).await;
        let (web, client) = (vpc.launch(10, &[1]).await, vpc.launch(11, &[1]).await);
        web.serve(80);
        let (mut flow, seen_from) = connect(&client.namespace, web.address, 80).unwrap();
        assert_eq!(seen_from, client.address);
        vpc.rules(1, &[], true).await;
        assert!(!client.connects(web.address, 80), "a new connection");
        assert!(echoes(&mut flow), "the established one");
        vpc.nft.replace(&vpc.network.firewall).await.unwrap();
        assert!(echoes(&mut flow), "also when the whole table is replaced");
    });
}

#[test]
fn a_guest_sends_only_as_itself() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await;
        vpc.rules(1, &[all_in()], true).await;
        let (victim, liar) = (vpc.launch(10, &[1]).await, vpc.launch(11, &[1]).await);
        assert!(liar.datagram_arrives(None, &victim));

        liar.ip("addr add 10.0.0.12/32 dev lo");
        assert!(!liar.datagram_arrives(Some(address(12)), &victim), "another address");
        liar.ip("link set eth0 address 02:00:00:00:00:77");
        assert!(!liar.datagram_arrives(None, &victim), "another MAC");
        liar.ip(&format!("link set eth0 address {}", support::mac(11)));
        assert!(liar.datagram_arrives(None, &victim), "as itself again");
    });
}

#[test]
fn icmp_is_judged_by_type_and_code() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await;
        let icmp = |kind, code| {
            let ports = RulePorts::Icmp { kind, code };
            rule(Direction::Ingress, IpProtocol::Icmp, ports, cidr("10.0.0.0/16"))
        };
        vpc.rules(1, &[icmp(8, None), icmp(13, Some(1))], true).await;
        let (to, from) = (vpc.launch(10, &[1]).await, vpc.launch(11, &[1]).await);
        assert!(from.icmp_arrives(8, 0, &to), "echo request");
        assert!(!from.icmp_arrives(17, 0, &to), "another type");
        assert!(from.icmp_arrives(13, 1, &to), "timestamp with code 1");
        assert!(!from.icmp_arrives(13, 0, &to), "another code");
    });
}

#[test]
fn nothing_goes_out_unless_a_rule_says_so() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await;
        vpc.rules(1, &[all_in()], false).await;
        let (open, closed) = (vpc.launch(10, &[1]).await, vpc.launch(11, &[1]).await);
        open.serve(80);
        open.serve(81);
        assert!(!closed.connects(open.address, 80), "egress is denied");
        let out = |port| {
            let ports = RulePorts::Range { from: port, to: port };
            rule(Direction::Egress, IpProtocol::Tcp, ports, cidr("10.0.0.0/16"))
        };
        vpc.rules(1, &[all_in(), out(80)], false).await;
        assert!(closed.connects(open.address, 80), "allowed by a rule");
        assert!(!closed.connects(open.address, 81), "another port");
        vpc.rules(1, &[all_in()], true).await;
        assert!(closed.connects(open.address, 81), "all egress");
    });
}

#[test]
fn the_router_answers_echo_requests_and_nothing_else() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await;
        vpc.rules(1, &[], true).await;
        let guest = vpc.launch(10, &[1]).await;
        let router = Ipv4Addr::new(10, 0, 0, 1);
        assert!(guest.pings(router));
        serve(&vpc.namespace, 80);
        assert!(!guest.connects(router, 80));
        let uplink = vpc.uplink().guest_addr;
        assert!(!guest.connects(uplink, 80), "the namespace has no other door");
    });
}

#[test]
fn the_agent_reaches_a_guest_past_its_groups_from_inside_and_not_from_outside() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await;
        vpc.rules(1, &[], false).await;
        let guest = vpc.launch(10, &[1]).await;
        guest.serve(22);
        let target = std::net::SocketAddrV4::new(guest.address, 22);
        let inside = vpc.namespace.connect(target, Duration::from_secs(5)).await.unwrap();
        assert_eq!(inside.local_addr().unwrap().ip(), Ipv4Addr::new(10, 0, 0, 1), "as the router");

        assert!(connect(&machine.agent, guest.address, 22).is_none(), "closed from outside");
        vpc.rules(1, &[tcp_in(22, cidr("169.254.128.0/17"))], false).await;
        let (_, seen) = connect(&machine.agent, guest.address, 22).unwrap();
        assert_eq!(seen, vpc.uplink().host_addr);
    });
}

#[test]
fn nobody_outside_passes_for_a_member() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await;
        vpc.rules(1, &[rule_from_members()], true).await;
        let guest = vpc.launch(10, &[1]).await;
        let friend = vpc.launch(11, &[1]).await;
        guest.serve(80);
        assert!(friend.connects(guest.address, 80));
        drop(friend);
        // The host itself claims the member's address, and the path back is open to it.
        support::ip(&machine.agent, "addr add 10.0.0.11/32 dev lo");
        support::ip(&machine.agent, "route change 10.0.0.0/16 via 169.254.128.6 src 10.0.0.11");
        weft_network::remove_tap(&vpc.namespace, &tap(11)).await.unwrap();
        assert!(connect(&machine.agent, guest.address, 80).is_none());
    });
}

fn rule_from_members() -> weft_model::RuleSpec {
    tcp_in(80, RulePeer::Group(group_id(1)))
}

#[test]
fn guests_leave_by_the_hosts_address() {
    on_a_machine(|machine| async move {
        let (mut routed, mut hidden) = (machine.vpc(1, true).await, machine.vpc(2, false).await);
        let internet = machine.internet();
        serve(&internet, 443);
        assert!(weft_network::enable_forwarding(&machine.agent).unwrap());
        assert!(!weft_network::enable_forwarding(&machine.agent).unwrap(), "it is on already");
        machine.nat(&[&routed, &hidden]).await;
        for vpc in [&mut routed, &mut hidden] {
            vpc.rules(1, &[all_in()], true).await;
            // Equal addresses in both.
            let guest = vpc.launch(10, &[1]).await;
            let target = Ipv4Addr::new(203, 0, 113, 9);
            let (mut flow, seen) = connect(&guest.namespace, target, 443).unwrap();
            assert_eq!(seen, Ipv4Addr::new(203, 0, 113, 1));
            assert!(echoes(&mut flow));
        }
        // A link of the owner's whose name begins like ours is not ours, but a way out.
        let lan = machine.lan("weftlan", Ipv4Addr::new(192, 0, 2, 1));
        serve(&lan, 443);
        let guest = routed.launch(13, &[1]).await;
        let (_, seen) = connect(&guest.namespace, Ipv4Addr::new(192, 0, 2, 9), 443).unwrap();
        assert_eq!(seen, Ipv4Addr::new(192, 0, 2, 1));
        // The host forwards and has a route to the other VPC; that is no way in.
        let outsider = hidden.launch(12, &[1]).await;
        assert!(!outsider.pings(routed.uplink().guest_addr));
    });
}

#[test]
fn equal_addresses_in_two_vpcs_never_meet() {
    on_a_machine(|machine| async move {
        let (mut one, mut two) = (machine.vpc(1, true).await, machine.vpc(2, false).await);
        for vpc in [&mut one, &mut two] {
            vpc.rules(1, &[all_in()], true).await;
        }
        let (a, b) = (one.launch(10, &[1]).await, two.launch(10, &[1]).await);
        let (near_a, near_b) = (one.launch(11, &[1]).await, two.launch(11, &[1]).await);
        a.serve(1001);
        b.serve(1002);
        assert!(near_a.connects(address(10), 1001) && !near_a.connects(address(10), 1002));
        assert!(near_b.connects(address(10), 1002) && !near_b.connects(address(10), 1001));
    });
}

#[test]
fn a_tap_is_down_until_it_is_set_up() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await;
        vpc.rules(1, &[all_in()], true).await;
        let interface = Vpc::interface(10);
        add_tap(&vpc.namespace, &tap(10), &interface).await.unwrap();
        let guest = support::guest::Guest::plug_in(&vpc.namespace, &tap(10), &interface);
        let router = Ipv4Addr::new(10, 0, 0, 1);
        let seen = weft_network::observe(&machine.agent, &vpc.namespace).await.unwrap();
        assert!(!seen.taps[&tap(10)].up && seen.taps[&tap(10)].is_made_for(&interface));
        assert!(!guest.pings(router));

        tap_up(&vpc.namespace, &tap(10), &interface, None).await.unwrap();
        assert!(!guest.pings(router), "up, but unknown to the packet filter");
        vpc.join(10, &[1]).await;
        assert!(guest.pings(router));
    });
}

#[test]
fn a_guest_cannot_fill_the_neighbour_table() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await;
        vpc.rules(1, &[all_in()], true).await;
        let (victim, liar) = (vpc.launch(10, &[1]).await, vpc.launch(11, &[1]).await);
        liar.ip("addr add 10.0.0.99/32 dev lo");
        let claims_another_address = async || {
            // The question "who has 10.0.0.10" then comes from 10.0.0.99.
            liar.ip("neigh flush dev eth0");
            assert!(!liar.datagram_arrives(Some(address(99)), &victim));
            let listed = vpc.namespace.enter(|| Command::new("ip").args(["neigh"]).output());
            String::from_utf8(listed.unwrap().unwrap().stdout).unwrap().contains("10.0.0.99 ")
        };
        assert!(!claims_another_address().await);
        assert!(liar.datagram_arrives(None, &victim), "its own questions are answered");

        // The packet filter does not let it through either; without both the kernel would have
        // believed it.
        let unguarded = || {
            for scope in ["all", "tap11"] {
                std::fs::write(format!("/proc/sys/net/ipv4/conf/{scope}/rp_filter"), "0").unwrap();
            }
        };
        vpc.namespace.enter(unguarded).unwrap();
        assert!(!claims_another_address().await);
        let nft = || Command::new("nft").args(["delete", "table", "arp", "weft"]).status();
        assert!(vpc.namespace.enter(nft).unwrap().unwrap().success());
        assert!(claims_another_address().await);
    });
}
