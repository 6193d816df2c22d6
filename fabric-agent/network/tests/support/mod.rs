//! A machine in miniature: a namespace of the test's own as the agent's, VPCs in it, and guests
//! that are namespaces behind real taps.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests may panic and must not skip quietly"
)]
#![allow(dead_code, clippy::allow_attributes, reason = "no test file needs all of it")]

pub(crate) mod frame;
pub(crate) mod guest;
pub(crate) mod services;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use nix::sched::{CloneFlags, unshare};
use weft_firewall::{HostNat, Nft, host_nat};
use weft_model::{
    Bridge, BridgeJoin, Direction, Firewall, FirewallGroup, FirewallInterface, FirewallUplink,
    GroupId, IpProtocol, JoinPath, LinkName, MacAddr, RuleId, RulePeer, RulePorts, RuleSpec,
    TapInterface, Uplink, UplinkV6, VpcId, VpcNetwork,
};
use weft_network::{
    HolderCommand, Namespace, NetworkError, add_tap, ensure_base, ensure_bridge, ensure_uplink,
    join_lan, tap_up,
};

use guest::Guest;

/// Runs `test` with the machine, on a thread in a namespace that nothing else is in.
pub(crate) fn on_a_machine<F: Future<Output = ()>>(
    test: impl FnOnce(Machine) -> F + Send + 'static,
) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: this test needs root to make a network namespace");
        return;
    }
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let agent = Namespace::current().unwrap();
            ip(&agent, "link set lo up");
            test(Machine { agent, directory: tempfile::tempdir().unwrap() }).await;
        });
    });
    thread.join().unwrap();
}

pub(crate) fn ip(namespace: &Namespace, arguments: &str) {
    let run = || Command::new("ip").args(arguments.split(' ')).output().unwrap();
    let output = namespace.enter(run).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {stderr}");
}

pub(crate) struct Machine {
    pub(crate) agent: Namespace,
    directory: tempfile::TempDir,
}

impl Machine {
    pub(crate) fn record(&self, n: u8) -> PathBuf {
        self.directory.path().join(format!("vpc{n}"))
    }

    pub(crate) fn holder_command(&self, n: u8) -> HolderCommand {
        let tests = std::env::current_exe().unwrap();
        let program = tests.parent().unwrap().parent().unwrap().join("examples/hold_netns");
        assert!(program.exists(), "run cargo build --examples first: {}", program.display());
        HolderCommand { program, args: vec![self.record(n).into()] }
    }

    /// A VPC 10.0.0.0/16 with an uplink; `routed` decides who has the range outside.
    pub(crate) async fn vpc(&self, n: u8, routed: bool) -> Vpc {
        let command = self.holder_command(n);
        let namespace = Namespace::ensure(&self.record(n), &command).await.unwrap();
        let cidr = "10.0.0.0/16".parse().unwrap();
        let link: LinkName = "uplink".parse().unwrap();
        let uplink = Uplink {
            link: format!("weft{n}").parse().unwrap(),
            guest_link: link.clone(),
            host_addr: Ipv4Addr::new(169, 254, 128, n * 4 + 1),
            guest_addr: Ipv4Addr::new(169, 254, 128, n * 4 + 2),
            nat: true,
            routed,
            ipv6: None,
            public: BTreeSet::new(),
        };
        let firewall = FirewallUplink { link, vpc_cidr: cidr, masquerade: !routed };
        let network = VpcNetwork {
            vpc_id: VpcId::from_random([n; 9]),
            cidr,
            ipv6: None,
            gateways: BTreeSet::from([Ipv4Addr::new(10, 0, 0, 1)]),
            bridge: None,
            uplink: Some(uplink),
            interfaces: Arc::default(),
            routes: Default::default(),
            firewall: Firewall {
                uplink: Some(firewall),
                gateways: BTreeSet::from([Ipv4Addr::new(10, 0, 0, 1)]),
                range: Some(cidr),
                ..Firewall::default()
            },
        };
        let nft = Nft::new("weft", Some(namespace.path()));
        let vpc =
            Vpc { network, namespace, nft, agent: self.agent.clone(), record: self.record(n) };
        ensure_base(&vpc.namespace, &vpc.network).await.unwrap();
        vpc.nft.replace(&vpc.network.firewall).await.unwrap();
        vpc.ensure_uplink().await;
        vpc
    }

    /// A VPC 10.0.0.0/24 that is a bridge, joined to the operator's bridge `to`. The agent's own
    /// address on it is 10.0.0.250.
    pub(crate) async fn bridge_vpc(&self, n: u8, to: Option<&str>) -> Vpc {
        let path = to.map(|host_bridge| JoinPath::Bridge {
            host_bridge: host_bridge.parse().unwrap(),
            host_link: format!("weftb{n}").parse().unwrap(),
            vlan: None,
        });
        let vpc = self.bridge_vpc_by(n, path).await;
        vpc.join_bridge().await.unwrap();
        vpc
    }

    /// The same with any way to its LAN, which it has not joined yet.
    pub(crate) async fn bridge_vpc_by(&self, n: u8, path: Option<JoinPath>) -> Vpc {
        let command = self.holder_command(n);
        let namespace = Namespace::ensure(&self.record(n), &command).await.unwrap();
        let vpc_id = VpcId::from_random([n; 9]);
        let gateways = BTreeSet::from([address(250)]);
        let joined = path.map(|path| BridgeJoin { guest_link: "lan".parse().unwrap(), path });
        let bridge = Bridge { link: "bridge".parse().unwrap(), joined };
        let firewall = Firewall {
            bridge: Some(bridge.firewall(&vpc_id, &gateways)),
            gateways: gateways.clone(),
            ..Firewall::default()
        };
        let network = VpcNetwork {
            vpc_id,
            cidr: "10.0.0.0/24".parse().unwrap(),
            ipv6: None,
            gateways,
            bridge: Some(bridge),
            uplink: None,
            interfaces: Arc::default(),
            routes: Default::default(),
            firewall,
        };
        let nft = Nft::new("weft", Some(namespace.path()));
        let vpc =
            Vpc { network, namespace, nft, agent: self.agent.clone(), record: self.record(n) };
        ensure_base(&vpc.namespace, &vpc.network).await.unwrap();
        ensure_bridge(&vpc.namespace, &vpc.network).await.unwrap();
        vpc.nft.replace(&vpc.network.firewall).await.unwrap();
        vpc
    }

    /// The operator's bridge `office` and a machine on it: 10.0.0.1, the LAN's router.
    pub(crate) fn office(&self) -> Namespace {
        let lan = guest::new_namespace();
        ip(&self.agent, "link add office type bridge");
        ip(&self.agent, "link set office up");
        ip(&self.agent, "link add port0 type veth peer name lan");
        guest::move_link(&self.agent, "lan", &lan);
        ip(&self.agent, "link set port0 master office up");
        ip(&lan, "link set lo up");
        ip(&lan, "addr add 10.0.0.1/24 dev lan");
        ip(&lan, "link set lan up");
        lan
    }

    /// Beyond the host: 203.0.113.9, reached by the host as 203.0.113.1.
    pub(crate) fn internet(&self) -> Namespace {
        let internet = guest::new_namespace();
        ip(&self.agent, "link add wan0 type veth peer name wan1");
        guest::move_link(&self.agent, "wan1", &internet);
        ip(&self.agent, "addr add 203.0.113.1/24 dev wan0");
        ip(&self.agent, "link set wan0 up");
        ip(&internet, "link set lo up");
        ip(&internet, "addr add 203.0.113.9/24 dev wan1");
        ip(&internet, "link set wan1 up");
        internet
    }

    /// A network of the owner's behind the link `name`: its one machine is `.9`, the host `host`.
    pub(crate) fn lan(&self, name: &str, host: Ipv4Addr) -> Namespace {
        let lan = guest::new_namespace();
        ip(&self.agent, &format!("link add {name} type veth peer name lan"));
        guest::move_link(&self.agent, "lan", &lan);
        let [a, b, c, _] = host.octets();
        ip(&self.agent, &format!("addr add {host}/24 dev {name}"));
        ip(&self.agent, &format!("link set {name} up"));
        ip(&lan, &format!("addr add {a}.{b}.{c}.9/24 dev lan"));
        ip(&lan, "link set lan up");
        ip(&lan, &format!("route add default via {host}"));
        lan
    }

    pub(crate) async fn nat(&self, vpcs: &[&Vpc]) {
        self.apply_host_nat(&Self::host_nat(vpcs)).await;
    }

    pub(crate) async fn apply_host_nat(&self, wanted: &HostNat) {
        Nft::new("weft", None).apply(&host_nat("weft", wanted)).await.unwrap();
    }

    pub(crate) fn host_nat(vpcs: &[&Vpc]) -> HostNat {
        let links = vpcs.iter().map(|vpc| vpc.uplink().link.clone()).collect();
        let uplinks = vpcs.iter().map(|vpc| (vpc.uplink(), vpc.network.cidr));
        let sources = uplinks.map(|(uplink, cidr)| uplink.visible_sources(cidr)).collect();
        let uplinks = vpcs.iter().map(|vpc| (vpc.uplink(), vpc.network.ipv6));
        let v6 = uplinks.filter_map(|(uplink, range)| uplink.visible_sources_v6(range));
        HostNat { links, sources, sources_v6: v6.collect(), ..HostNat::default() }
    }
}

impl Drop for Machine {
    /// Also after a failed test no holder stays behind.
    fn drop(&mut self) {
        let records: Vec<_> = (0..8).map(|n| self.record(n)).collect();
        let cleaner = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                for record in records {
                    Namespace::remove(&record).await.unwrap();
                }
            });
        });
        cleaner.join().unwrap();
    }
}

pub(crate) struct Vpc {
    pub(crate) network: VpcNetwork,
    pub(crate) namespace: Namespace,
    pub(crate) nft: Nft,
    pub(crate) agent: Namespace,
    pub(crate) record: PathBuf,
}

impl Vpc {
    pub(crate) fn uplink(&self) -> &Uplink {
        self.network.uplink.as_ref().unwrap()
    }

    pub(crate) async fn ensure_uplink(&self) {
        ensure_uplink(&self.agent, &self.namespace, &self.network, self.uplink()).await.unwrap();
    }

    /// Gives the VPC the range fd00:1:2::/56 as well, before anybody is in it.
    pub(crate) async fn dual_stack(mut self, n: u16) -> Self {
        let range = Some("fd00:1:2::/56".parse().unwrap());
        let end = |last| Ipv6Addr::new(0xfd00, 0xffff, 0, n, 0, 0, 0, last);
        self.network.ipv6 = range;
        if let Some(uplink) = &mut self.network.uplink {
            uplink.ipv6 = Some(UplinkV6 { host_addr: end(1), guest_addr: end(2) });
        }
        ensure_base(&self.namespace, &self.network).await.unwrap();
        self.firewall(|firewall| firewall.ipv6 = range).await;
        self.ensure_uplink().await;
        self
    }

    pub(crate) async fn join_bridge(&self) -> Result<(), NetworkError> {
        let Some(bridge) = &self.network.bridge else { return Ok(()) };
        let Some(join) = &bridge.joined else { return Ok(()) };
        join_lan(&self.agent, &self.namespace, &bridge.link, join).await
    }

    /// Changes the packet filter as the agent would: by the difference.
    pub(crate) async fn firewall(&mut self, change: impl FnOnce(&mut Firewall)) {
        let old = self.network.firewall.clone();
        change(&mut self.network.firewall);
        self.nft.change(&old, &self.network.firewall).await.unwrap();
    }

    pub(crate) async fn rules(&mut self, group: u8, rules: &[RuleSpec], all_egress: bool) {
        let rules = (0u8..).zip(rules).map(|(n, r)| (RuleId::from_random([n; 9]), r.clone()));
        let rules = rules.collect();
        self.firewall(|firewall| {
            let group: &mut FirewallGroup = firewall.groups.entry(group_id(group)).or_default();
            group.rules = rules;
            group.allow_all_egress = all_egress;
        })
        .await;
    }

    /// Puts 10.0.0.`n` into `groups`, or out of all others.
    pub(crate) async fn join(&mut self, n: u8, groups: &[u8]) {
        self.firewall(|firewall| {
            let joined: BTreeSet<_> = groups.iter().map(|n| group_id(*n)).collect();
            for (id, group) in &mut firewall.groups {
                Arc::make_mut(&mut group.members).remove(&address(n));
                if joined.contains(id) {
                    Arc::make_mut(&mut group.members).insert(address(n));
                }
            }
            let ipv6 = firewall.ipv6.map(|_| address_v6(n));
            for (id, group) in &mut firewall.groups {
                let members = Arc::make_mut(&mut group.members_v6);
                members.remove(&address_v6(n));
                members.extend(ipv6.filter(|_| joined.contains(id)));
            }
            let interface = FirewallInterface {
                mac: mac(n),
                address: address(n),
                ipv6,
                groups: joined,
                source_dest_check: true,
                network_mbps: None,
            };
            Arc::make_mut(&mut firewall.interfaces).insert(tap(n), interface);
        })
        .await;
    }

    /// Lets 10.0.0.`n` send from anywhere, or no longer, as the agent would.
    pub(crate) async fn check_sources(&mut self, n: u8, on: bool) {
        let interfaces = Arc::make_mut(&mut self.network.interfaces);
        let interface = interfaces.get_mut(&tap(n)).unwrap();
        interface.source_dest_check = on;
        add_tap(&self.namespace, &tap(n), interface).await.unwrap();
        self.firewall(|firewall| {
            let interfaces = Arc::make_mut(&mut firewall.interfaces);
            interfaces.get_mut(&tap(n)).unwrap().source_dest_check = on;
        })
        .await;
    }

    pub(crate) fn interface(n: u8) -> TapInterface {
        let gateway = Ipv4Addr::new(10, 0, 0, 1);
        TapInterface {
            mac: mac(n),
            address: address(n),
            ipv6: None,
            gateway,
            owner_uid: Some(1_900_000_000),
            network_mbps: None,
            source_dest_check: true,
        }
    }

    /// A guest 10.0.0.`n` in `groups`, its interface made in the order that is safe.
    pub(crate) async fn launch(&mut self, n: u8, groups: &[u8]) -> Guest {
        let ipv6 = self.network.ipv6.map(|_| address_v6(n));
        let interface = TapInterface { ipv6, ..Self::interface(n) };
        add_tap(&self.namespace, &tap(n), &interface).await.unwrap();
        let guest = Guest::plug_in(&self.namespace, &tap(n), &interface);
        self.join(n, groups).await;
        tap_up(&self.namespace, &tap(n), &interface, self.network.bridge.as_ref()).await.unwrap();
        Arc::make_mut(&mut self.network.interfaces).insert(tap(n), interface);
        guest
    }
}

pub(crate) fn group_id(n: u8) -> GroupId {
    GroupId::from_random([n; 9])
}

pub(crate) fn address(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, n)
}

/// Of the subnet fd00:1:2:3::/64.
pub(crate) fn address_v6(n: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 1, 2, 3, 0, 0, 0, n.into())
}

pub(crate) fn mac(n: u8) -> MacAddr {
    MacAddr::from_random([0, 0, 0, 0, n])
}

pub(crate) fn tap(n: u8) -> LinkName {
    format!("tap{n}").parse().unwrap()
}

pub(crate) fn tcp_in(port: u16, peer: RulePeer) -> RuleSpec {
    let ports = RulePorts::Range { from: port, to: port };
    rule(Direction::Ingress, IpProtocol::Tcp, ports, peer)
}

pub(crate) fn all_in() -> RuleSpec {
    rule(Direction::Ingress, IpProtocol::All, RulePorts::Any, cidr("0.0.0.0/0"))
}

pub(crate) fn rule(
    direction: Direction,
    protocol: IpProtocol,
    ports: RulePorts,
    peer: RulePeer,
) -> RuleSpec {
    let description = String::new();
    RuleSpec { group_id: group_id(0), direction, protocol, ports, peer, description }
}

pub(crate) fn cidr(text: &str) -> RulePeer {
    RulePeer::Cidr(text.parse().unwrap())
}
