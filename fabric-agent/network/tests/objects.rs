//! What is made, found again, mended and removed in the kernel.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use support::{Vpc, address, ip, on_a_machine, tap};
use weft_model::ObservedNetwork;
use weft_network::{
    HolderCommand, Namespace, NetworkError, add_tap, ensure_base, first_free_range, observe,
    overlaps, remove_tap, remove_uplink, tap_down, tap_up, uplinks,
};

async fn seen(vpc: &Vpc) -> ObservedNetwork {
    observe(&vpc.agent, &vpc.namespace).await.unwrap()
}

#[test]
fn what_was_made_is_seen_and_making_it_again_changes_nothing() {
    on_a_machine(|machine| async move {
        for (n, routed) in [(1, true), (2, false)] {
            let vpc = machine.vpc(n, routed).await;
            let interface = Vpc::interface(10);
            let mut before = None;
            for _ in 0..2 {
                ensure_base(&vpc.namespace, &vpc.network).await.unwrap();
                vpc.ensure_uplink().await;
                add_tap(&vpc.namespace, &tap(10), &interface).await.unwrap();
                tap_up(&vpc.namespace, &tap(10), &interface, None).await.unwrap();
                let now = seen(&vpc).await;
                assert!(now.base_matches(&vpc.network), "{now:#?}");
                assert!(now.uplink_matches(&vpc.network), "{now:#?}");
                assert!(now.taps[&tap(10)].is_up_for(&interface, None), "{now:#?}");
                assert_eq!(*before.get_or_insert_with(|| now.clone()), now);
            }
        }
    });
}

#[test]
fn a_tap_that_goes_down_has_no_routes_and_one_that_is_removed_is_gone() {
    on_a_machine(|machine| async move {
        let vpc = machine.vpc(1, true).await;
        let interface = Vpc::interface(10);
        add_tap(&vpc.namespace, &tap(10), &interface).await.unwrap();
        tap_up(&vpc.namespace, &tap(10), &interface, None).await.unwrap();
        tap_down(&vpc.namespace, &tap(10)).await.unwrap();
        let down = &seen(&vpc).await.taps[&tap(10)];
        assert!(!down.up && down.routes.is_empty());
        for _ in 0..2 {
            remove_tap(&vpc.namespace, &tap(10)).await.unwrap();
            tap_down(&vpc.namespace, &tap(10)).await.unwrap();
        }
        assert!(seen(&vpc).await.taps.is_empty());
        assert!(tap_up(&vpc.namespace, &tap(10), &interface, None).await.is_err());
    });
}

#[test]
fn damage_is_seen_and_mended() {
    on_a_machine(|machine| async move {
        let vpc = machine.vpc(1, true).await;
        let interface = Vpc::interface(10);
        let fits = |seen: &ObservedNetwork| {
            seen.base_matches(&vpc.network)
                && seen.uplink_matches(&vpc.network)
                && seen.taps.get(&tap(10)).is_some_and(|tap| tap.is_up_for(&interface, None))
        };
        let (outside, inside) = (&vpc.agent, &vpc.namespace);
        let damages = [
            (inside, "addr del 10.0.0.1/32 dev lo"),
            (inside, "addr add 10.9.9.9/32 dev lo"),
            (inside, "route del unreachable 10.0.0.0/16"),
            (inside, "route del default"),
            (inside, "link set uplink down"),
            (outside, "link set weft1 down"),
            (outside, "route del 10.0.0.0/16"),
            (outside, "addr del 169.254.128.5/30 dev weft1"),
            (outside, "link del weft1"),
            (inside, "route flush table main"),
            (inside, "route del 169.254.128.4/30 dev uplink"),
            (outside, "route flush dev weft1"),
            (inside, "link set tap10 down"),
            (inside, "link del tap10"),
            (inside, "route del 10.0.0.10"),
            (inside, "route add 10.0.0.44 dev tap10 proto 201"),
            (inside, "neigh replace 10.0.0.10 lladdr 02:00:00:00:00:99 dev tap10 nud permanent"),
        ];
        for (place, damage) in std::iter::once((inside, "link show")).chain(damages) {
            ip(place, damage);
            let harmless = damage == "link show";
            assert!(harmless || !fits(&seen(&vpc).await), "{damage} goes unseen");
            ensure_base(&vpc.namespace, &vpc.network).await.unwrap();
            vpc.ensure_uplink().await;
            add_tap(&vpc.namespace, &tap(10), &interface).await.unwrap();
            tap_up(&vpc.namespace, &tap(10), &interface, None).await.unwrap();
            let after = seen(&vpc).await;
            assert!(fits(&after), "{damage} is not mended: {after:#?}");
        }
    });
}

#[test]
fn a_later_agent_finds_the_namespace_and_all_in_it() {
    on_a_machine(|machine| async move {
        let vpc = machine.vpc(1, true).await;
        let before = seen(&vpc).await;
        let (record, holder) = (vpc.record.clone(), vpc.namespace.holder().unwrap().clone());
        drop(vpc.namespace);

        let found = Namespace::find(&record).unwrap().unwrap();
        assert_eq!(found.holder(), Some(&holder));
        assert_eq!(observe(&machine.agent, &found).await.unwrap(), before);
        let again = Namespace::ensure(&record, &machine.holder_command(1)).await.unwrap();
        assert_eq!(again.holder(), Some(&holder), "no second holder");
    });
}

#[test]
fn removal_leaves_nothing() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await;
        vpc.rules(1, &[support::all_in()], true).await;
        let guest = vpc.launch(10, &[1]).await;
        assert!(guest.pings(address(1)));
        drop(guest);
        let link = vpc.uplink().link.clone();
        assert_eq!(uplinks(&machine.agent, "weft").await.unwrap(), std::slice::from_ref(&link));
        let holder = vpc.namespace.holder().unwrap().pid;
        for _ in 0..2 {
            remove_uplink(&machine.agent, &link).await.unwrap();
            Namespace::remove(&vpc.record).await.unwrap();
        }
        assert_eq!(uplinks(&machine.agent, "weft").await.unwrap(), []);
        // Its process may stay for init to collect; what it held is gone.
        assert!(std::fs::metadata(format!("/proc/{holder}/ns/net")).is_err());
        assert!(!vpc.record.exists());
        let routes = machine
            .agent
            .enter(|| std::process::Command::new("ip").args(["route", "show"]).output());
        assert!(routes.unwrap().unwrap().stdout.is_empty());
    });
}

#[test]
fn a_holder_that_was_killed_is_replaced() {
    on_a_machine(|machine| async move {
        let command = machine.holder_command(1);
        let record = machine.record(1);
        let first = Namespace::ensure(&record, &command).await.unwrap().holder().unwrap().clone();
        let kept = std::fs::read(&record).unwrap();
        Namespace::remove(&record).await.unwrap();
        // As after a crash of the holder: the record is there, the process is not.
        std::fs::write(&record, kept).unwrap();
        assert!(Namespace::find(&record).unwrap().is_none());
        let second = Namespace::ensure(&record, &command).await.unwrap().holder().unwrap().clone();
        assert_ne!((first.pid, first.start_time), (second.pid, second.start_time));
    });
}

#[test]
fn a_holder_that_cannot_start_is_an_error() {
    on_a_machine(|machine| async move {
        let mut command = machine.holder_command(1);
        command.program = "/nonexistent".into();
        assert!(Namespace::ensure(&machine.record(1), &command).await.is_err());
    });
}

#[test]
fn a_holder_that_ends_at_once_is_quoted() {
    on_a_machine(|machine| async move {
        let record = machine.record(1);
        let script = |text: &str| HolderCommand {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), text.into()],
        };
        // An error of this kind is told before the deadline for silence is over.
        let command = script("echo of an earlier start >&2; exit 1");
        Namespace::ensure(&record, &command).await.unwrap_err();
        let command = script("head -c 100000 /dev/zero >&2; echo no more files >&2; exit 1");
        let error = Namespace::ensure(&record, &command).await.unwrap_err();
        assert!(matches!(error, NetworkError::HolderEnded { .. }), "{error}");
        let log = record.with_extension("log");
        assert!(std::fs::metadata(&log).unwrap().len() <= 64 << 10, "the log is bounded");
        let command = script("echo no more files >&2; exit 1");
        let error = Namespace::ensure(&record, &command).await.unwrap_err();
        let text = error.to_string();
        assert!(text.ends_with("it said: no more files"), "{text}");
        Namespace::remove(&record).await.unwrap();
        assert!(!log.exists());
    });
}

#[test]
fn a_namespace_whose_holder_was_killed_is_taken_over_with_all_in_it() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await;
        vpc.rules(1, &[support::all_in()], true).await;
        let guest = vpc.launch(10, &[1]).await;
        let before = seen(&vpc).await;
        // What a guest's holder has open.
        let open = std::fs::File::open(vpc.namespace.path()).unwrap();
        let stranger = std::fs::File::open(machine.agent.path()).unwrap();
        let path = |file: &std::fs::File| {
            format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()).into()
        };
        let candidates = ["/proc/1/fd/99999".into(), path(&stranger), path(&open)];

        kill_holder(&vpc.namespace).await;
        assert!(Namespace::find(&vpc.record).unwrap().is_none());
        let command = machine.holder_command(1);
        let old = vpc.namespace.holder().unwrap().clone();
        vpc.namespace =
            Namespace::ensure_adopting(&vpc.record, &command, &candidates).await.unwrap();
        let new = vpc.namespace.holder().unwrap();
        assert_ne!(new.pid, old.pid);
        assert_eq!((new.namespace, new.cookie), (old.namespace, old.cookie));
        assert_eq!(seen(&vpc).await, before, "with its tap and its rules");
        assert!(guest.pings(address(1)), "and its guest");
        let held = std::fs::metadata(format!("/proc/{}/ns/net", new.pid)).unwrap().ino();
        assert_eq!(held, old.namespace);
    });
}

#[test]
fn a_namespace_that_only_has_the_inode_of_the_lost_one_is_not_taken_over() {
    on_a_machine(|machine| async move {
        let record = machine.record(1);
        let command = machine.holder_command(1);
        let old = Namespace::ensure(&record, &command).await.unwrap();
        kill_holder(&old).await;
        // As if the kernel had given the number to another one.
        let other = support::guest::new_namespace();
        let inode = std::fs::metadata(other.path()).unwrap().ino();
        let mut lost = old.holder().unwrap().clone();
        lost.namespace = inode;
        std::fs::write(&record, serde_json::to_vec(&lost).unwrap()).unwrap();
        let made = Namespace::ensure_adopting(&record, &command, &[other.path()]).await.unwrap();
        assert_ne!(made.holder().unwrap().namespace, inode);
    });
}

#[test]
fn a_namespace_that_cannot_be_taken_over_is_not_replaced_by_an_empty_one() {
    on_a_machine(|machine| async move {
        let record = machine.record(1);
        let command = machine.holder_command(1);
        let old = Namespace::ensure(&record, &command).await.unwrap();
        kill_holder(&old).await;
        // A holder that does not know how to join.
        let (program, record_path) = (command.program.display(), record.display());
        let script = format!("exec {program} {record_path}");
        let deaf =
            HolderCommand { program: "/bin/sh".into(), args: vec!["-c".into(), script.into()] };
        let failed = Namespace::ensure_adopting(&record, &deaf, &[old.path()]).await;
        assert!(matches!(failed, Err(NetworkError::NotJoined { .. })), "{failed:?}");
        let again = Namespace::ensure_adopting(&record, &command, &[old.path()]).await.unwrap();
        assert_eq!(again.holder().unwrap().cookie, old.holder().unwrap().cookie);
    });
}

async fn kill_holder(namespace: &Namespace) {
    let pid = namespace.holder().unwrap().pid;
    let process = nix::unistd::Pid::from_raw(pid.try_into().unwrap());
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL).unwrap();
    while std::fs::metadata(format!("/proc/{pid}/ns/net")).is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[test]
fn a_strangers_link_is_never_touched() {
    on_a_machine(|machine| async move {
        ip(&machine.agent, "link add weft1 type veth peer name other");
        let vpc = machine.vpc(2, true).await;
        let mut uplink = vpc.uplink().clone();
        uplink.link = "weft1".parse().unwrap();
        let (agent, inside) = (&machine.agent, &vpc.namespace);
        let made = weft_network::ensure_uplink(agent, inside, &vpc.network, &uplink).await;
        assert!(made.is_err());
        remove_uplink(agent, &uplink.link).await.unwrap();
        ip(agent, "link show weft1");
        ip(agent, "link show other");
    });
}

#[test]
fn a_strangers_route_is_never_replaced() {
    on_a_machine(|machine| async move {
        let agent = &machine.agent;
        let vpc = machine.vpc(1, false).await;
        let mut uplink = vpc.uplink().clone();
        uplink.routed = true;
        let route = || async {
            weft_network::ensure_uplink(agent, &vpc.namespace, &vpc.network, &uplink).await
        };
        ip(agent, "link add lan0 type veth peer name lan1");
        ip(agent, "link set lan0 up");
        // Connected, as NetworkManager does it, and of a protocol number that equals ours.
        for taken in ["10.0.0.0/16 dev lan0", "10.0.0.0/16 dev lan0 metric 100 proto 201"] {
            ip(agent, &format!("route add {taken}"));
            let error = route().await.unwrap_err();
            assert!(matches!(error, NetworkError::RangeTaken { .. }), "{error}");
            assert!(error.to_string().contains("10.0.0.0/16 dev lan0"), "{error}");
            ip(agent, &format!("route del {taken}"));
        }
        // One of ours that is out of date is no stranger's.
        ip(agent, "route add 10.0.0.0/16 dev weft1 proto 201");
        route().await.unwrap();
        route().await.unwrap();
        let seen = seen(&vpc).await.uplink.unwrap();
        assert_eq!(seen.routes, [vpc.network.cidr].into());
    });
}

#[test]
fn a_range_overlaps_what_the_host_has_and_not_what_the_agent_made() {
    on_a_machine(|machine| async move {
        let vpc = machine.vpc(1, true).await;
        let cidr = vpc.network.cidr;
        let of = async |prefix, range: &str| {
            overlaps(&machine.agent, prefix, range.parse().unwrap()).await.unwrap()
        };
        assert_eq!(of("weft", "10.0.0.0/16").await, None, "{cidr} is this agent's");
        let other = of("other", "10.0.0.0/16").await;
        assert_eq!(other.as_deref(), Some("10.0.0.0/16 via 169.254.128.6 dev weft1"));
        ip(&machine.agent, "link add lan0 type veth peer name lan1");
        ip(&machine.agent, "link set lan0 up");
        ip(&machine.agent, "route add 192.168.7.0/24 dev lan0");
        ip(&machine.agent, "route add default dev lan0");
        let lan = of("weft", "192.168.0.0/16").await;
        assert_eq!(lan.as_deref(), Some("192.168.7.0/24 dev lan0"));
        assert_eq!(of("weft", "192.168.8.0/24").await, None);
        // A new VPC's range is another matter: what a VPC has already is not free.
        let ranges = [cidr, "10.1.0.0/16".parse().unwrap()];
        let free = first_free_range(&machine.agent, &ranges).await.unwrap();
        assert_eq!(free, Some(ranges[1]));
    });
}

#[test]
fn the_first_range_that_overlaps_no_route_is_free() {
    on_a_machine(|machine| async move {
        let ranges = ["172.31.0.0/16", "10.231.0.0/16", "192.168.224.0/19"];
        let ranges = ranges.map(|text| text.parse().unwrap());
        let free = async || first_free_range(&machine.agent, &ranges).await.unwrap();
        assert_eq!(free().await, Some(ranges[0]));
        ip(&machine.agent, "link add lan0 type veth peer name lan1");
        ip(&machine.agent, "link set lan0 up");
        ip(&machine.agent, "addr add 172.31.9.9/24 dev lan0");
        assert_eq!(free().await, Some(ranges[1]));
        ip(&machine.agent, "route add 10.0.0.0/8 dev lan0");
        ip(&machine.agent, "route add default dev lan0");
        assert_eq!(free().await, Some(ranges[2]));
        ip(&machine.agent, "route add 192.168.225.1/32 dev lan0");
        assert_eq!(free().await, None);
    });
}
