//! The pure verdict against real packets: random rule sets in the kernel, random packets through
//! real taps, and every one of them must do what `Firewall::admits` says.
//!
//! `WEFT_SEED` and `WEFT_RULE_SETS` choose others than the usual ones; a disagreement prints its
//! seed and rules. Packets are made byte by byte and written into the taps: forwarding happens
//! inside that write, so nothing has to be waited for but what must arrive.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may panic and say what they found"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use nix::poll::{PollFd, PollFlags, poll};
use support::frame::ethernet;
use support::guest::{checksum, open_tap};
use support::{Vpc, address, address_v6, group_id, mac, on_a_machine, tap};
use weft_model::{
    AddressFamily, Direction, Firewall, FirewallGroup, FirewallInterface, FirewallPrefixList,
    IpProtocol, MacAddr, Opening, PrefixListId, PrefixListSpec, RuleId, RulePeer, RulePorts,
    RuleSpec, Service, TapInterface,
};
use weft_network::{Namespace, add_tap, tap_up};

const GUESTS: [u8; 6] = [8, 9, 10, 11, 12, 13];
const GROUPS: u8 = 5;
const PROBES_PER_SET: usize = 24;
/// How long what must arrive may take.
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn packets_do_what_the_pure_verdict_says() {
    let number =
        |name: &str| -> Option<u64> { std::env::var(name).ok().and_then(|text| text.parse().ok()) };
    let seed = number("WEFT_SEED").unwrap_or(20_261_121);
    let sets = number("WEFT_RULE_SETS").unwrap_or(500);
    on_a_machine(move |machine| async move {
        let mut vpc = machine.vpc(1, true).await.dual_stack(1).await;
        let guests = Guests::connect(&vpc).await;
        // Of IPv4 and of IPv6.
        let (mut allowed, mut denied) = ([0, 0], [0, 0]);
        let mut network = vpc.network.firewall.clone();
        for set in 0..sets {
            let mut dice = Dice(seed.wrapping_add(set));
            let new = random_firewall(&mut dice, &vpc.network.firewall);
            vpc.nft.change(&network, &new).await.unwrap();
            network = new;
            forget_connections(&vpc.namespace);
            let mut taken = Taken::new();
            let probes = (0..PROBES_PER_SET).map(|n| probe(&mut dice, &network, &mut taken, n));
            let probes: Vec<_> = probes.collect();
            let arrived = guests.send(&probes);
            for (n, (probe, arrived)) in probes.iter().zip(arrived).enumerate() {
                let (source, target) = (tap(probe.from), tap(probe.to));
                let admitted = network.admits(Direction::Egress, &source, &probe.opening)
                    && network.admits(Direction::Ingress, &target, &probe.opening);
                let seed = seed.wrapping_add(set);
                assert_eq!(
                    arrived, admitted,
                    "WEFT_SEED={seed} WEFT_RULE_SETS=1, probe {n}: {probe:?}\n{:#?}\n{:#?}",
                    network.groups, network.prefix_lists
                );
                let family = usize::from(probe.opening.source.is_ipv6());
                if admitted { allowed[family] += 1 } else { denied[family] += 1 }
            }
        }
        vpc.network.firewall = network;
        for (family, n) in [("IPv4", 0), ("IPv6", 1)] {
            let (allowed, denied) = (allowed[n], denied[n]);
            eprintln!(
                "{sets} rule sets (seed {seed}), {family}: {} probes, {allowed} allowed, {denied} \
                 denied, disagreements 0",
                allowed + denied
            );
            assert!(
                allowed > sets / 2 && denied > sets,
                "both happen often enough to mean something"
            );
        }
    });
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers for the same seed, everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())].clone()
    }
}

/// Types that open a connection, and a few that do not: no rule lets these through.
const ICMP_TYPES: [u8; 12] = [8, 13, 15, 17, 8, 13, 15, 17, 0, 3, 11, 14];
/// The same of IPv6.
const ICMPV6_TYPES: [u8; 9] = [128, 139, 128, 139, 128, 139, 129, 1, 140];
/// Protocols without a tracker of their own, and none an extension header of IPv6.
const PROTOCOLS: [u8; 5] = [50, 52, 89, 103, 253];
const PORTS: [u16; 6] = [1, 22, 80, 81, 443, 65535];

fn random_firewall(dice: &mut Dice, base: &Firewall) -> Firewall {
    let mut groups: BTreeMap<_, FirewallGroup> = BTreeMap::new();
    for n in 0..GROUPS {
        let rules = (0..dice.roll(6)).map(|rule| {
            let id = RuleId::from_random([n * 16 + u8::try_from(rule).unwrap(); 9]);
            (id, random_rule(dice))
        });
        let group = FirewallGroup { rules: rules.collect(), ..FirewallGroup::default() };
        groups.insert(group_id(n), group);
    }
    for group in groups.values_mut() {
        group.allow_all_egress = dice.roll(2) == 0;
    }
    let mut interfaces = BTreeMap::new();
    for n in GUESTS {
        let joined: BTreeSet<_> = (0..GROUPS).filter(|_| dice.roll(3) == 0).map(group_id).collect();
        for id in &joined {
            let group = groups.get_mut(id).unwrap();
            Arc::make_mut(&mut group.members).insert(address(n));
            Arc::make_mut(&mut group.members_v6).insert(address_v6(n));
        }
        let interface = FirewallInterface {
            mac: mac(n),
            address: address(n),
            ipv6: Some(address_v6(n)),
            groups: joined,
            source_dest_check: true,
            network_mbps: None,
        };
        interfaces.insert(tap(n), interface);
    }
    let prefix_lists = (0..2).map(|n| (PrefixListId::from_random([n; 9]), random_list(dice)));
    let prefix_lists = prefix_lists.collect();
    Firewall { groups, prefix_lists, interfaces: Arc::new(interfaces), ..base.clone() }
}

/// Entries that overlap and touch, aggregated as the agent does it.
fn random_list(dice: &mut Dice) -> FirewallPrefixList {
    let family = dice.pick(&[AddressFamily::Ipv4, AddressFamily::Ipv6]);
    let entries = (0..dice.roll(5)).map(|_| {
        let n = dice.pick(&GUESTS);
        let (address, prefixes) = match family {
            AddressFamily::Ipv4 => (IpAddr::from(address(n)), [8, 29, 30, 31, 32]),
            AddressFamily::Ipv6 => (IpAddr::from(address_v6(n)), [32, 125, 126, 127, 128]),
        };
        let prefix = dice.pick(&prefixes);
        let range = IpNetwork::new(address, prefix).unwrap();
        (IpNetwork::new(range.network(), prefix).unwrap(), String::new())
    });
    let entries = entries.collect();
    let list = PrefixListSpec { name: String::new(), address_family: family, entries };
    FirewallPrefixList { family, ranges: list.ranges() }
}

fn random_rule(dice: &mut Dice) -> RuleSpec {
    let direction = dice.pick(&[Direction::Ingress, Direction::Ingress, Direction::Egress]);
    let number = dice.pick(&PROTOCOLS);
    let protocol = dice.pick(&[
        IpProtocol::All,
        IpProtocol::Tcp,
        IpProtocol::Tcp,
        IpProtocol::Udp,
        IpProtocol::Icmp,
        IpProtocol::Icmpv6,
        IpProtocol::Other(number),
    ]);
    let ports = match protocol {
        IpProtocol::Tcp | IpProtocol::Udp => {
            let (a, b) = (dice.pick(&PORTS), dice.pick(&PORTS));
            match dice.roll(4) {
                0 => RulePorts::Range { from: 0, to: u16::MAX },
                1 => RulePorts::Range { from: a, to: a },
                _ => RulePorts::Range { from: a.min(b), to: a.max(b) },
            }
        }
        IpProtocol::Icmp if dice.roll(3) > 0 => {
            let code = dice.pick(&[None, Some(0), Some(1)]);
            RulePorts::Icmp { kind: dice.pick(&ICMP_TYPES), code }
        }
        IpProtocol::Icmpv6 if dice.roll(3) > 0 => {
            let code = dice.pick(&[None, Some(0), Some(1)]);
            RulePorts::Icmp { kind: dice.pick(&ICMPV6_TYPES), code }
        }
        _ => RulePorts::Any,
    };
    let range = |text: &str| RulePeer::Cidr(text.parse().unwrap());
    let peer = match dice.roll(15) {
        0 => range("0.0.0.0/0"),
        1 => range("10.0.0.0/24"),
        2 => range("10.0.0.8/30"),
        3 => range(&format!("10.0.0.{}/32", dice.pick(&GUESTS))),
        4 => range("192.0.2.0/24"),
        5 => range("::/0"),
        6 => range("fd00:1:2:3::8/126"),
        7 => range(&format!("{}/128", address_v6(dice.pick(&GUESTS)))),
        8 => range("2001:db8::/32"),
        9..=11 => RulePeer::PrefixList(PrefixListId::from_random([dice.pick(&[0, 1]); 9])),
        // One of them does not exist.
        _ => RulePeer::Group(group_id(u8::try_from(dice.roll(usize::from(GROUPS) + 1)).unwrap())),
    };
    support::rule(direction, protocol, ports, peer)
}

#[derive(Debug)]
struct Probe {
    from: u8,
    to: u8,
    opening: Opening,
    /// The source port, or what else tells this connection from all others of the set.
    number: u16,
}

/// Guests and protocol of probes that were made.
type Taken = BTreeSet<(u8, u8, u8)>;

/// Half of them ask for what some rule is about.
fn probe(dice: &mut Dice, firewall: &Firewall, taken: &mut Taken, n: usize) -> Probe {
    let from = dice.pick(&GUESTS);
    let others: Vec<u8> = GUESTS.into_iter().filter(|guest| *guest != from).collect();
    let to = dice.pick(&others);
    let rules: Vec<_> = firewall.groups.values().flat_map(|group| group.rules.values()).collect();
    let about = (!rules.is_empty() && dice.roll(2) == 0).then(|| dice.pick(&rules));
    let protocol = about.map_or_else(
        || {
            dice.pick(&[
                IpProtocol::Tcp,
                IpProtocol::Udp,
                IpProtocol::Icmp,
                IpProtocol::Icmpv6,
                IpProtocol::All,
            ])
        },
        |rule| rule.protocol,
    );
    let is_v6 = match (protocol, about.map(|rule| &rule.peer)) {
        (IpProtocol::Icmp, _) => false,
        (IpProtocol::Icmpv6, _) => true,
        (_, Some(RulePeer::Cidr(range))) => range.is_ipv6(),
        _ => dice.roll(2) == 0,
    };
    let port = match about.map(|rule| rule.ports) {
        Some(RulePorts::Range { from, to }) => dice.pick(&[from, to, to.wrapping_add(1)]).max(1),
        _ => dice.pick(&PORTS),
    };
    let service = match protocol {
        IpProtocol::Tcp => Service::Tcp(port),
        IpProtocol::Udp => Service::Udp(port),
        IpProtocol::Icmp => {
            Service::Icmp { kind: dice.pick(&ICMP_TYPES), code: dice.pick(&[0, 1]) }
        }
        IpProtocol::Icmpv6 => {
            Service::Icmpv6 { kind: dice.pick(&ICMPV6_TYPES), code: dice.pick(&[0, 1]) }
        }
        // Its packets have nothing that tells one from another: of two between the same guests the
        // second one could be an answer to the first.
        IpProtocol::All | IpProtocol::Other(_) => {
            let number = dice.pick(&PROTOCOLS);
            match taken.insert((from.min(to), from.max(to), number)) {
                true => Service::Other(number),
                false => Service::Udp(port),
            }
        }
    };
    let at = |n| match is_v6 {
        true => IpAddr::V6(address_v6(n)),
        false => IpAddr::V4(address(n)),
    };
    let opening = Opening { service, source: at(from), destination: at(to) };
    Probe { from, to, opening, number: u16::try_from(1024 + n).unwrap() }
}

/// Taps without anything behind them but this test.
struct Guests {
    taps: BTreeMap<u8, (OwnedFd, [u8; 6])>,
}

impl Guests {
    async fn connect(vpc: &Vpc) -> Self {
        let mut taps = BTreeMap::new();
        for n in GUESTS {
            let interface = TapInterface { ipv6: Some(address_v6(n)), ..Vpc::interface(n) };
            add_tap(&vpc.namespace, &tap(n), &interface).await.unwrap();
            let end = open_tap(&vpc.namespace, &tap(n)).unwrap();
            tap_up(&vpc.namespace, &tap(n), &interface, None).await.unwrap();
            taps.insert(n, (end, router_mac(&vpc.namespace, n)));
        }
        Self { taps }
    }

    /// Which of `probes` arrive at the guest that they are for.
    fn send(&self, probes: &[Probe]) -> Vec<bool> {
        let mut seen: HashMap<(u8, u16), usize> = HashMap::new();
        for probe in probes {
            let (end, router) = &self.taps[&probe.from];
            let frame = [&[0; 10], &frame(probe, *router)[..]].concat();
            assert_eq!(nix::unistd::write(end, &frame).unwrap(), frame.len());
            for (guest, id) in self.arrived() {
                *seen.entry((guest, id)).or_default() += 1;
            }
        }
        // Forwarding is done by now, except where the kernel put it off.
        let deadline = Instant::now() + PATIENCE;
        let mut quiet = 0;
        while quiet < 2 && Instant::now() < deadline {
            let late = self.arrived_within(5u8);
            quiet = if late.is_empty() { quiet + 1 } else { 0 };
            for (guest, id) in late {
                *seen.entry((guest, id)).or_default() += 1;
            }
        }
        let arrived: Vec<_> =
            probes.iter().map(|probe| seen.remove(&(probe.to, probe.number))).collect();
        assert!(seen.is_empty(), "packets at somebody else's tap: {seen:?}");
        assert!(arrived.iter().flatten().all(|times| *times == 1), "a packet came twice");
        arrived.into_iter().map(|times| times.is_some()).collect()
    }

    fn arrived_within(&self, milliseconds: u8) -> Vec<(u8, u16)> {
        let mut ready: Vec<_> = self
            .taps
            .values()
            .map(|(end, _)| PollFd::new(end.as_fd(), PollFlags::POLLIN))
            .collect();
        poll(&mut ready, milliseconds).unwrap();
        self.arrived()
    }

    /// The guests that something came to, with the identification of the IPv4 header, or what the
    /// flow label of the IPv6 header has in its place. The kernel's own IPv6 is not from the subnet.
    fn arrived(&self) -> Vec<(u8, u16)> {
        let mut arrived = Vec::new();
        let mut buffer = [0; 2048];
        for (guest, (end, _)) in &self.taps {
            while let Ok(length) = nix::unistd::read(end, &mut buffer) {
                let frame = &buffer[10..length];
                if frame[12..14] == [8, 0] && frame[23] != 2 {
                    arrived.push((*guest, u16::from_be_bytes([frame[18], frame[19]])));
                }
                let subnet = &address_v6(0).octets()[..8];
                if frame[12..14] == [0x86, 0xdd] && frame[22..30] == *subnet {
                    arrived.push((*guest, u16::from_be_bytes([frame[16], frame[17]])));
                }
            }
        }
        arrived
    }
}

/// Where the guest's packets go: the VPC's end of its tap.
fn router_mac(vpc: &Namespace, n: u8) -> [u8; 6] {
    let link = tap(n);
    let show = || Command::new("ip").args(["-o", "link", "show", link.as_str()]).output().unwrap();
    let shown = String::from_utf8(vpc.enter(show).unwrap().stdout).unwrap();
    let mac = shown.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap();
    mac.parse::<MacAddr>().unwrap().octets()
}

fn frame(probe: &Probe, router: [u8; 6]) -> Vec<u8> {
    let (protocol, payload) = payload(probe);
    let id = probe.number.to_be_bytes();
    let (kind, packet) = match (probe.opening.source, probe.opening.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
            let mut header =
                vec![0x45, 0, length[0], length[1], id[0], id[1], 0, 0, 64, protocol, 0, 0];
            header.extend([source.octets(), destination.octets()].concat());
            let sum = checksum(&header).to_be_bytes();
            header[10..12].copy_from_slice(&sum);
            (0x0800, [header, payload].concat())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
            let mut header = vec![0x60, 0, id[0], id[1], length[0], length[1], protocol, 64];
            header.extend([source.octets(), destination.octets()].concat());
            (0x86dd, [header, payload].concat())
        }
        _ => panic!("of two families: {probe:?}"),
    };
    ethernet(router, mac(probe.from), kind, &packet)
}

/// The protocol's number and the packet above IP, with checksums: connection tracking looks.
fn payload(probe: &Probe) -> (u8, Vec<u8>) {
    let from = probe.number.to_be_bytes();
    let (protocol, mut message, sum_at) = match probe.opening.service {
        Service::Tcp(port) => {
            let to = port.to_be_bytes();
            // A SYN: sequence number 1, header of five words, a window.
            let mut segment = vec![from[0], from[1], to[0], to[1], 0, 0, 0, 1, 0, 0, 0, 0];
            segment.extend([0x50, 0x02, 0x20, 0, 0, 0, 0, 0]);
            (6, segment, 16)
        }
        Service::Udp(port) => {
            let to = port.to_be_bytes();
            (17, vec![from[0], from[1], to[0], to[1], 0, 12, 0, 0, b'w', b'e', b'f', b't'], 6)
        }
        Service::Icmp { kind, code } | Service::Icmpv6 { kind, code } => {
            let mut message = vec![kind, code, 0, 0, from[0], from[1], 0, 1];
            message.extend([0; 12]);
            let is_v6 = probe.opening.source.is_ipv6();
            (if is_v6 { 58 } else { 1 }, message, 2)
        }
        Service::Other(number) => return (number, vec![0; 24]),
    };
    let length = u8::try_from(message.len()).unwrap();
    let covered = match (probe.opening.source, probe.opening.destination) {
        // ICMP of IPv4 is the only one without a pseudo header.
        _ if protocol == 1 => message.clone(),
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let ends = [source.octets(), destination.octets()].concat();
            [&ends[..], &[0, protocol, 0, length], &message].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let ends = [source.octets(), destination.octets()].concat();
            [&ends[..], &[0, 0, 0, length, 0, 0, 0, protocol], &message].concat()
        }
        _ => panic!("of two families: {probe:?}"),
    };
    message[sum_at..sum_at + 2].copy_from_slice(&checksum(&covered).to_be_bytes());
    (protocol, message)
}

/// What one rule set let through must not open the way for the next one's probes.
fn forget_connections(vpc: &Namespace) {
    weft_network::forget(vpc, &weft_network::connections(vpc).unwrap()).unwrap();
}
