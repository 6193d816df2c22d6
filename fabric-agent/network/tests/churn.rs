//! Rules change under load, and no connection that stays allowed is lost: real TCP connections
//! between two guests, through their taps, while the packet filter is changed as the agent does it.
//! A packet that is dropped is seen by the filter's own counter: a client would send it once more.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may panic and say what they found"
)]

mod support;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use support::{address, cidr, group_id, on_a_machine, rule, tcp_in};
use weft_model::{
    Counted, Direction, Firewall, FirewallGroup, IpProtocol, RuleId, RulePeer, RulePorts, RuleSpec,
};
use weft_network::Namespace;

const CHANGES: usize = 300;
const CONNECTIONS: u64 = 50_000;
const PORTS: [u16; 4] = [8000, 8001, 8002, 8003];
const CLIENTS: usize = 4;
const CLIENT: u8 = 10;
const SERVER: u8 = 11;

#[test]
fn rules_change_under_load_and_no_allowed_connection_is_lost() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await;
        vpc.firewall(|firewall| {
            for group in [1, 2, 3] {
                firewall.groups.insert(group_id(group), FirewallGroup::default());
            }
        })
        .await;
        let client = vpc.launch(CLIENT, &[1]).await;
        let server = vpc.launch(SERVER, &[2]).await;
        vpc.firewall(|firewall| change(firewall, 0)).await;
        for port in PORTS {
            listen(&server.namespace, port);
        }

        let before = vpc.nft.counters().await.unwrap();
        let load = Arc::new(Load::default());
        let workers: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let (load, inside) = (Arc::clone(&load), client.namespace.clone());
                std::thread::spawn(move || inside.enter(|| load.run(n)).unwrap())
            })
            .collect();
        let mut changed = 0;
        while changed < CHANGES || (load.connected() < CONNECTIONS && load.failed() == 0) {
            changed += 1;
            vpc.firewall(|firewall| change(firewall, changed)).await;
        }
        load.stop.store(true, Ordering::Relaxed);
        workers.into_iter().for_each(|worker| worker.join().unwrap());

        let counts = vpc.nft.counters().await.unwrap();
        let denied = |direction| {
            let counted = Counted::Denied(direction);
            counts[&counted].since(before[&counted]).packets
        };
        let dropped = denied(Direction::Ingress) + denied(Direction::Egress);
        let (connected, failed) = (load.connected(), load.failed());
        eprintln!(
            "{changed} changes of rules: {connected} new connections, {failed} failed, {dropped} \
             packets dropped"
        );
        assert!(connected >= CONNECTIONS);
        assert_eq!((failed, dropped), (0, 0));
    });
}

/// The `n`th change: what admits is another rule each time, and never missing.
fn change(firewall: &mut Firewall, n: usize) {
    let set = |group: &mut FirewallGroup, rules: Vec<RuleSpec>| {
        let rules = (0u8..).zip(rules).map(|(n, spec)| (RuleId::from_random([n; 9]), spec));
        group.rules = rules.collect();
    };
    let out = |peer| rule(Direction::Egress, IpProtocol::All, RulePorts::Any, peer);
    let all_ports = |peer| {
        let ports =
            RulePorts::Range { from: 8000, to: if n.is_multiple_of(2) { 8003 } else { 9000 } };
        rule(Direction::Ingress, IpProtocol::Tcp, ports, peer)
    };
    let noise = (0..n % 5).map(|k| tcp_in(u16::try_from(k + 1).unwrap(), cidr("192.0.2.0/24")));
    let admits = match n % 4 {
        0 => vec![all_ports(cidr("10.0.0.0/24"))],
        1 => vec![all_ports(RulePeer::Group(group_id(1)))],
        2 => PORTS.map(|port| tcp_in(port, cidr("10.0.0.10/32"))).into(),
        _ => vec![rule(Direction::Ingress, IpProtocol::All, RulePorts::Any, cidr("0.0.0.0/0"))],
    };
    // Every few changes it is another group that admits: the interface's own chain is rewritten.
    let (admitting, other) = if (n / 8).is_multiple_of(2) { (2, 3) } else { (3, 2) };
    let groups = &mut firewall.groups;
    set(groups.get_mut(&group_id(admitting)).unwrap(), noise.chain(admits).collect());
    set(groups.get_mut(&group_id(other)).unwrap(), vec![tcp_in(1, cidr("192.0.2.0/24"))]);
    let both = [group_id(2), group_id(3)];
    let server = Arc::make_mut(&mut firewall.interfaces).get_mut(&support::tap(SERVER)).unwrap();
    server.groups = if n.is_multiple_of(3) { both.into() } else { [group_id(admitting)].into() };
    for id in [group_id(2), group_id(3)] {
        let members = &mut groups.get_mut(&id).unwrap().members;
        let members = Arc::make_mut(members);
        match server.groups.contains(&id) {
            true => members.insert(address(SERVER)),
            false => members.remove(&address(SERVER)),
        };
    }
    // Out, the same in turns: the switch, a rule, a rule that names a group.
    let sender = groups.get_mut(&group_id(1)).unwrap();
    sender.allow_all_egress = n.is_multiple_of(3);
    let rules = match n % 3 {
        0 => Vec::new(),
        1 => vec![out(cidr("10.0.0.0/8"))],
        _ => vec![out(RulePeer::Group(group_id(admitting)))],
    };
    set(sender, rules);
}

/// Connections that are opened and closed at once.
#[derive(Debug, Default)]
struct Load {
    connected: AtomicU64,
    failed: AtomicU64,
    stop: AtomicBool,
}

impl Load {
    fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }

    fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    fn run(&self, n: usize) {
        let server = SocketAddr::from((address(SERVER), PORTS[n]));
        while !self.stop.load(Ordering::Relaxed) {
            let count = match TcpStream::connect_timeout(&server, Duration::from_secs(10)) {
                Ok(stream) => {
                    // A reset at its end: no socket is left waiting, so the ports do not run out.
                    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
                    setsockopt(&stream, sockopt::Linger, &linger).unwrap();
                    &self.connected
                }
                Err(_) => &self.failed,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Takes connections and closes them. Ends with the test's process.
fn listen(namespace: &Namespace, port: u16) {
    let bind = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    let listener = namespace.enter(bind).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
}
