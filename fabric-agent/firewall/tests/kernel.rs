//! The same against the kernel, in a namespace of the test's own.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests may panic and must not skip quietly"
)]

mod support;

use std::collections::BTreeSet;

use nix::sched::{CloneFlags, unshare};
use support::{TABLE, bridge, firewall, group, interface, limited, nat, uplink};
use weft_firewall::{FirewallError, HostNat, Nft, host_changes, host_nat, keep_apart, remove};
use weft_model::{
    AddressFamily, Firewall, FirewallNat, FirewallPrefixList, HostForward, LinkName,
    TransportProtocol,
};

/// Runs `test` on a thread in a new network namespace; the machine's own rules are never touched.
fn in_new_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: this test needs root to make a network namespace");
        return;
    }
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    });
    thread.join().unwrap();
}

fn nft(table: &str) -> Nft {
    Nft::new(table, None)
}

fn all_shapes() -> Firewall {
    let rules: Vec<u8> = (0..26).collect();
    let groups = [
        (0, group(&[1, 2], &rules, true)),
        (1, group(&[3], &[], false)),
        (2, group(&[], &[6, 7], false)),
    ];
    let plain = firewall(&groups, &[interface(1, &[0, 1]), interface(2, &[])], Some(uplink(true)));
    Firewall { nat: nat(&[1, 2], &[80]), ..plain }
}

fn stages() -> Vec<Firewall> {
    let web =
        |rules: &[u8]| firewall(&[(1, group(&[1, 2], rules, true))], &[interface(1, &[1])], None);
    vec![
        Firewall::default(),
        web(&[1]),
        web(&[1, 2, 4]),
        firewall(&[], &[interface(1, &[])], Some(uplink(false))),
        all_shapes(),
        limited(all_shapes(), &[(1, 100_000)]),
        limited(all_shapes(), &[(1, 1), (2, 50)]),
        limited(dual_stack(&[1, 2]), &[(2, 50)]),
        // Ranges that grow, shrink, join, part and cover everything.
        listed(&[(7, &[(0, 63), (65, 65), (128, 255)])]),
        listed(&[(7, &[(0, 127), (200, 255)]), (8, &[])]),
        listed(&[(7, &[(32, 40), (50, 90)]), (8, &[(0, 255)])]),
        listed(&[(7, &[(0, 255)])]),
        everything_listed(),
        dual_stack(&[1, 2]),
        forwarding(dual_stack(&[2])),
        dual_stack(&[2]),
        forwarding(all_shapes()),
        Firewall { nat: nat(&[2], &[80, 81]), ..all_shapes() },
        Firewall { nat: swapped(), ..all_shapes() },
        Firewall { bridge: Some(bridge(None)), uplink: None, ..all_shapes() },
        Firewall { bridge: Some(bridge(Some("wlan"))), uplink: None, ..all_shapes() },
        bridged(&[1, 2]),
        limited(bridged(&[1, 2]), &[(2, 10)]),
        limited(bridged(&[1, 2, 3]), &[(1, 10), (2, 20)]),
        bridged(&[1, 2, 3]),
        dual_bridged(&[1, 2]),
        dual_bridged(&[2, 3]),
        bridged(&[2]),
        firewall(&[(2, group(&[9], &[6], false))], &[interface(1, &[2]), interface(3, &[2])], None),
        Firewall::default(),
    ]
}

fn listed(lists: &[(u8, &[(u8, u8)])]) -> Firewall {
    Firewall { prefix_lists: support::prefix_lists(lists), ..all_shapes() }
}

fn everything_listed() -> Firewall {
    let mut firewall = listed(&[]);
    let ends = [
        (AddressFamily::Ipv4, "0.0.0.0", "255.255.255.255"),
        (AddressFamily::Ipv6, "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ];
    for (n, (family, first, last)) in (7..).zip(ends) {
        let ranges = vec![(first.parse().unwrap(), last.parse().unwrap())];
        firewall.prefix_lists.insert(support::list_id(n), FirewallPrefixList { family, ranges });
    }
    firewall
}

fn dual_stack(members: &[u16]) -> Firewall {
    let mut firewall = all_shapes();
    firewall.ipv6 = Some("fd00:a::/56".parse().unwrap());
    for group in firewall.groups.values_mut() {
        let address = |n: &u16| std::net::Ipv6Addr::new(0xfd00, 0xa, 0, 0, 0, 0, 0, *n);
        group.members_v6 = std::sync::Arc::new(members.iter().map(address).collect());
    }
    firewall
}

/// The same, with a guest that forwards for others.
fn forwarding(mut firewall: Firewall) -> Firewall {
    let interfaces = std::sync::Arc::make_mut(&mut firewall.interfaces);
    let (_, router) = interfaces.iter_mut().next().unwrap();
    router.source_dest_check = false;
    router.ipv6 = firewall.ipv6.map(|_| "fd00:a::1".parse().unwrap());
    firewall
}

/// The same addresses, each with the other guest.
fn swapped() -> FirewallNat {
    let mut nat = nat(&[1, 2], &[]);
    let others: Vec<_> = nat.public.values().rev().copied().collect();
    nat.public.values_mut().zip(others).for_each(|(one, other)| *one = other);
    nat
}

fn bridged(interfaces: &[u8]) -> Firewall {
    let interfaces: Vec<_> = interfaces.iter().map(|n| interface(*n, &[1])).collect();
    let plain = firewall(&[(1, group(&[1, 2], &[1, 6], true))], &interfaces, None);
    Firewall { bridge: Some(bridge(Some("wlan"))), ..plain }
}

/// The same with IPv6.
fn dual_bridged(interfaces: &[u8]) -> Firewall {
    let mut firewall = bridged(interfaces);
    firewall.ipv6 = Some("fd00:a::/64".parse().unwrap());
    let interfaces = std::sync::Arc::make_mut(&mut firewall.interfaces);
    for (n, interface) in (1..).zip(interfaces.values_mut()) {
        interface.ipv6 = Some(std::net::Ipv6Addr::new(0xfd00, 0xa, 0, 0, 0, 0, 0, n));
    }
    firewall
}

#[test]
fn what_was_applied_is_read_back() {
    in_new_namespace(|| async {
        let nft = nft(TABLE);
        assert_eq!(nft.observe(true).await.unwrap(), None);
        for firewall in stages() {
            nft.replace(&firewall).await.unwrap();
            let seen = nft.observe(firewall.bridge.is_some()).await.unwrap().unwrap();
            assert!(seen.is(&firewall), "{seen:#?}");
            assert_eq!(seen.changes(TABLE, &firewall), []);
        }
        nft.remove().await.unwrap();
        nft.remove().await.unwrap();
        assert_eq!(nft.observe(true).await.unwrap(), None);
    });
}

#[test]
fn incremental_changes_equal_a_full_load_in_the_kernel() {
    in_new_namespace(|| async {
        let (stepwise, at_once) = (nft(TABLE), nft("weft_other"));
        let mut old = Firewall::default();
        stepwise.replace(&old).await.unwrap();
        let all: Vec<_> = stages().into_iter().chain(stages().into_iter().rev()).collect();
        for new in all {
            stepwise.change(&old, &new).await.unwrap();
            at_once.replace(&new).await.unwrap();
            // A VPC that is no bridge has nobody to ask the bridge family.
            let with_bridge = new.bridge.is_some();
            let seen = stepwise.observe(with_bridge).await.unwrap();
            assert_eq!(seen, at_once.observe(with_bridge).await.unwrap());
            old = new;
        }
    });
}

#[test]
fn a_table_that_somebody_changed_is_mended() {
    in_new_namespace(|| async {
        let nft = nft(TABLE);
        let wanted = all_shapes();
        let members = format!("members_{}", support::group_id(1).digits());
        let damages = [
            format!("flush chain inet {TABLE} base_sources"),
            format!("add element inet {TABLE} {members} {{ 203.0.113.9 }}"),
            format!("delete element inet {TABLE} {members} {{ 10.0.0.3 }}"),
            format!("add rule inet {TABLE} base_in accept"),
            format!(
                "add chain inet {TABLE} extra {{ type filter hook input priority 0; policy accept; }}"
            ),
            format!("add chain inet {TABLE} base_out {{ policy accept; }}"),
            format!("delete element inet {TABLE} public_in {{ 198.18.0.1 : 10.0.0.1 }}"),
            format!("add element inet {TABLE} public_out {{ 10.0.0.9 : 198.18.0.9 }}"),
            format!("flush chain inet {TABLE} base_nat_in"),
            format!("delete table inet {TABLE}; add table inet {TABLE}"),
            format!("delete table arp {TABLE}"),
            format!("flush chain arp {TABLE} arp_in"),
            format!("flush set arp {TABLE} bound_sources"),
        ];
        for damage in damages {
            nft.replace(&wanted).await.unwrap();
            let done = std::process::Command::new("nft").arg(&damage).status().unwrap();
            assert!(done.success(), "{damage}");
            let seen = nft.observe(false).await.unwrap().unwrap();
            assert!(!seen.is(&wanted), "{damage} goes unseen");
            nft.apply(&seen.changes(TABLE, &wanted)).await.unwrap();
            assert!(
                nft.observe(false).await.unwrap().unwrap().is(&wanted),
                "{damage} is not mended"
            );
        }
    });
}

#[test]
fn a_bridges_table_that_somebody_changed_is_mended() {
    in_new_namespace(|| async {
        let nft = nft(TABLE);
        let wanted = bridged(&[1, 2]);
        let damages = [
            format!("flush chain bridge {TABLE} frames_in"),
            format!("add element bridge {TABLE} own_addresses {{ 203.0.113.9 }}"),
            format!("flush set bridge {TABLE} bound_sources"),
            format!("add chain bridge {TABLE} frames_on {{ policy accept; }}"),
            format!("delete table bridge {TABLE}"),
            format!("add rule inet {TABLE} base_in accept"),
        ];
        for damage in damages {
            nft.replace(&wanted).await.unwrap();
            let done = std::process::Command::new("nft").arg(&damage).status().unwrap();
            assert!(done.success(), "{damage}");
            let seen = nft.observe(true).await.unwrap().unwrap();
            assert!(!seen.is(&wanted), "{damage} goes unseen");
            nft.apply(&seen.changes(TABLE, &wanted)).await.unwrap();
            let after = nft.observe(true).await.unwrap().unwrap();
            assert!(after.is(&wanted), "{damage} is not mended");
        }
    });
}

#[test]
fn the_hosts_table_is_made_and_removed() {
    in_new_namespace(|| async {
        let nft = nft("weft_host");
        let sources =
            BTreeSet::from(["172.31.0.0/16".parse().unwrap(), "169.254.128.2/32".parse().unwrap()]);
        let links = links(&["eu0", "eu1"]);
        let forward = HostForward {
            protocol: TransportProtocol::Udp,
            port: 53,
            address: Some("192.0.2.1".parse().unwrap()),
            to: "169.254.128.2".parse().unwrap(),
        };
        let wanted = HostNat {
            links,
            sources,
            sources_v6: ["fd00:1::/64".parse().unwrap(), "fd00:2::2/128".parse().unwrap()].into(),
            public: ["198.18.0.1".parse().unwrap()].into(),
            hidden: ["198.18.0.1".parse().unwrap()].into(),
            forwards: [forward.clone(), HostForward { address: None, ..forward }].into(),
            guest_access: ["tcp/8080".parse().unwrap()].into(),
        };
        nft.apply(&host_nat("weft_host", &wanted)).await.unwrap();
        let seen = nft.observe(true).await.unwrap().unwrap();
        assert!(seen.is_host_nat(&wanted));
        assert!(!seen.is_host_nat(&HostNat::default()));
        let closed = HostNat { guest_access: BTreeSet::new(), ..wanted.clone() };
        let open = HostNat { public: BTreeSet::new(), ..wanted };
        for next in [closed, open, HostNat::default()] {
            let seen = nft.observe(true).await.unwrap().unwrap();
            nft.apply(&host_changes("weft_host", &seen, &next)).await.unwrap();
            let seen = nft.observe(true).await.unwrap().unwrap();
            assert!(seen.is_host_nat(&next), "{seen:#?}");
            assert_eq!(host_changes("weft_host", &seen, &next), []);
        }
        nft.apply(&remove("weft_host")).await.unwrap();
        assert_eq!(nft.observe(true).await.unwrap(), None);
    });
}

fn links(names: &[&str]) -> BTreeSet<LinkName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

#[test]
fn a_new_link_joins_those_that_are_kept_apart_and_the_rest_stays() {
    in_new_namespace(|| async {
        let nft = nft("weft_host");
        let link: LinkName = "eu1".parse().unwrap();
        let sources = BTreeSet::from(["172.31.0.0/16".parse().unwrap()]);
        let before =
            HostNat { links: links(&["eu0"]), sources: sources.clone(), ..HostNat::default() };
        nft.apply(&host_nat("weft_host", &before)).await.unwrap();
        let after = HostNat { links: links(&["eu0", "eu1"]), sources, ..HostNat::default() };
        for changes in [1, 0] {
            let seen = nft.observe(true).await.unwrap();
            let commands = keep_apart("weft_host", seen.as_ref(), &link);
            assert_eq!(commands.len(), changes);
            nft.apply(&commands).await.unwrap();
            assert!(nft.observe(true).await.unwrap().unwrap().is_host_nat(&after));
        }
    });
}

#[test]
fn a_link_is_kept_apart_also_where_there_is_no_table_or_one_that_does_not() {
    in_new_namespace(|| async {
        let nft = nft("weft_host");
        let alone = HostNat { links: links(&["eu1"]), ..HostNat::default() };
        let damages = [
            "list ruleset",
            "flush chain inet weft_host base_apart",
            "flush chain inet weft_host base_closed",
        ];
        for damage in damages {
            let done = std::process::Command::new("nft").args(damage.split(' ')).output().unwrap();
            assert!(done.status.success(), "{damage}");
            let seen = nft.observe(true).await.unwrap();
            let link = "eu1".parse().unwrap();
            nft.apply(&keep_apart("weft_host", seen.as_ref(), &link)).await.unwrap();
            assert!(nft.observe(true).await.unwrap().unwrap().is_host_nat(&alone), "{damage}");
        }
    });
}

#[test]
fn a_refused_transaction_says_why_and_changes_nothing() {
    in_new_namespace(|| async {
        let nft = nft(TABLE);
        let wanted = all_shapes();
        nft.replace(&wanted).await.unwrap();
        // As if something else had been applied before: the first step is valid, another is not.
        let imagined = firewall(&[(7, group(&[1], &[], true))], &[], None);
        let error = nft.change(&imagined, &Firewall::default()).await.unwrap_err();
        let FirewallError::Refused { stderr, .. } = &error else { panic!("{error}") };
        assert!(stderr.contains("No such file or directory"), "{stderr}");
        assert!(nft.observe(false).await.unwrap().unwrap().is(&wanted));
    });
}

#[test]
fn a_namespace_is_entered_by_its_file_only() {
    in_new_namespace(|| async {
        let here = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&here));
        let there = Nft::new(TABLE, Some(path.into()));
        there.replace(&all_shapes()).await.unwrap();
        assert!(there.observe(false).await.unwrap().unwrap().is(&all_shapes()));
        assert_eq!(
            nft(TABLE).observe(true).await.unwrap(),
            None,
            "the calling thread stayed outside"
        );
        let gone = Nft::new(TABLE, Some("/proc/self/fd/4000".into()));
        assert!(matches!(gone.observe(true).await, Err(FirewallError::Namespace { .. })));
    });
}
