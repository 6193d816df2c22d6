//! Prefix lists in the kernel: entries come and go under a rule that stays, guests behind real taps.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use support::guest::{connect, echoes};
use support::{Vpc, address_v6, on_a_machine, tcp_in};
use weft_model::{AddressFamily, FirewallPrefixList, PrefixListId, PrefixListSpec, RulePeer};
use weft_network::Namespace;

fn list_id(n: u8) -> PrefixListId {
    PrefixListId::from_random([n; 9])
}

/// Makes these the entries of list `n`, as the agent does.
async fn enter(vpc: &mut Vpc, n: u8, family: AddressFamily, entries: &[&str]) {
    let entries = entries.iter().map(|text| (text.parse().unwrap(), String::new()));
    let ranges = PrefixListSpec::new(String::new(), family, entries).unwrap().ranges();
    vpc.firewall(|firewall| {
        firewall.prefix_lists.insert(list_id(n), FirewallPrefixList { family, ranges });
    })
    .await;
}

/// The rules with a list, with the kernel's handles: a rule that is written again has another.
fn rules_with_lists(vpc: &Vpc) -> Vec<String> {
    let list = || Command::new("nft").args(["-a", "list", "table", "inet", "weft"]).output();
    let listing = String::from_utf8(vpc.namespace.enter(list).unwrap().unwrap().stdout).unwrap();
    listing.lines().filter(|line| line.contains("@prefixes_")).map(str::to_owned).collect()
}

fn connects_v6(from: &Namespace, to: Ipv6Addr) -> bool {
    let patience = Duration::from_millis(1500);
    let to = SocketAddr::from((to, 80));
    from.enter(|| TcpStream::connect_timeout(&to, patience).is_ok()).unwrap()
}

#[test]
fn entries_come_and_go_under_a_rule_that_stays() {
    on_a_machine(|machine| async move {
        use AddressFamily::Ipv4;
        let mut vpc = machine.vpc(1, true).await;
        vpc.rules(1, &[], true).await;
        vpc.rules(2, &[], true).await;
        let (web, client) = (vpc.launch(10, &[1]).await, vpc.launch(11, &[2]).await);
        web.serve(80);
        enter(&mut vpc, 7, Ipv4, &[]).await;
        vpc.rules(1, &[tcp_in(80, RulePeer::PrefixList(list_id(7)))], true).await;
        let standing = rules_with_lists(&vpc);
        assert_eq!(standing.len(), 1, "{standing:?}");
        assert!(!client.connects(web.address, 80), "an empty list lets nobody in");

        enter(&mut vpc, 7, Ipv4, &["10.0.0.11/32", "192.0.2.0/24"]).await;
        let (mut flow, _) = connect(&client.namespace, web.address, 80).unwrap();
        enter(&mut vpc, 7, Ipv4, &["10.0.0.0/28", "10.0.0.16/28", "192.0.2.0/24"]).await;
        assert!(client.connects(web.address, 80), "of a wider range");
        enter(&mut vpc, 7, Ipv4, &["10.0.0.0/29", "10.0.0.12/30", "192.0.2.0/24"]).await;
        assert!(!client.connects(web.address, 80), "between two ranges");
        enter(&mut vpc, 7, Ipv4, &["0.0.0.0/0"]).await;
        assert!(client.connects(web.address, 80), "everybody");
        enter(&mut vpc, 7, Ipv4, &["192.0.2.0/24"]).await;
        assert!(!client.connects(web.address, 80), "only others");
        assert!(echoes(&mut flow), "what was open stays open");
        assert_eq!(rules_with_lists(&vpc), standing, "the rule was never touched");

        vpc.firewall(|firewall| {
            firewall.prefix_lists.clear();
            firewall.groups.values_mut().for_each(|group| group.rules.clear());
        })
        .await;
        assert_eq!(rules_with_lists(&vpc), Vec::<String>::new(), "both go at once");
    });
}

#[test]
fn a_list_of_the_other_family_never_matches() {
    on_a_machine(|machine| async move {
        use AddressFamily::{Ipv4, Ipv6};
        let mut vpc = machine.vpc(1, true).await.dual_stack(1).await;
        vpc.rules(1, &[], true).await;
        vpc.rules(2, &[], true).await;
        let (web, client) = (vpc.launch(10, &[1]).await, vpc.launch(11, &[2]).await);
        web.serve(80);
        let v6 = (address_v6(10), 80);
        let listener = web.namespace.enter(|| TcpListener::bind(v6).unwrap()).unwrap();
        enter(&mut vpc, 4, Ipv4, &["0.0.0.0/0"]).await;
        enter(&mut vpc, 6, Ipv6, &["::/0"]).await;

        vpc.rules(1, &[tcp_in(80, RulePeer::PrefixList(list_id(4)))], true).await;
        assert!(client.connects(web.address, 80));
        assert!(!connects_v6(&client.namespace, address_v6(10)), "IPv4's everybody");
        vpc.rules(1, &[tcp_in(80, RulePeer::PrefixList(list_id(6)))], true).await;
        assert!(!client.connects(web.address, 80), "IPv6's everybody");
        assert!(connects_v6(&client.namespace, address_v6(10)));
        enter(&mut vpc, 6, Ipv6, &["fd00:1:2:3::a/127", "2001:db8::/32"]).await;
        assert!(connects_v6(&client.namespace, address_v6(10)), "fd00:1:2:3::b is in the range");
        enter(&mut vpc, 6, Ipv6, &["fd00:1:2:3::/125", "2001:db8::/32"]).await;
        assert!(!connects_v6(&client.namespace, address_v6(10)), "and not in this one");
        drop(listener);
    });
}
