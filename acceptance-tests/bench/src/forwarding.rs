//! What security groups cost packets: bytes and new connections per second between two guests of a
//! VPC, with groups and with connection tracking alone.
//!
//! The guests are network namespaces and their taps are ends of virtual Ethernet pairs: the rules
//! go by names, MACs and addresses, and an emulated guest would be slower than any of them.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::socket::{setsockopt, sockopt};
use weft_acceptance::NetNs;
use weft_firewall::Nft;
use weft_model::{
    Direction, Firewall, FirewallGroup, FirewallInterface, GroupId, IpProtocol, LinkName, MacAddr,
    RuleId, RulePeer, RulePorts, RuleSpec,
};

use crate::report::{Line, Report, Verdict};
use crate::samples::Samples;

/// Of each kind, one after the other.
const RUNS: usize = 9;
/// How long one lasts.
const RUN: Duration = Duration::from_millis(800);
const PORT: u16 = 5001;
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const TABLE: &str = "weft";

/// A namespace in place of a guest.
struct Guest {
    namespace: NetNs,
    tap: LinkName,
    mac: MacAddr,
    address: Ipv4Addr,
}

impl Guest {
    fn new(vpc: &NetNs, n: u8) -> Result<Self> {
        let namespace = NetNs::new()?;
        let (tap, mac) = (format!("tap{n}"), MacAddr::from_random([0, 0, 0, 0, n]));
        let address = Ipv4Addr::new(10, 0, 0, n);
        let inside = namespace.path();
        let (inside, mac_text) = (inside.to_string_lossy(), mac.to_string());
        let target = format!("{address}/32");
        vpc.output(&[
            "ip", "link", "add", &tap, "type", "veth", "peer", "name", "eth0", "address",
            &mac_text, "netns", &inside,
        ])?;
        vpc.output(&["ip", "link", "set", &tap, "up"])?;
        vpc.output(&["ip", "route", "add", &target, "dev", &tap])?;
        namespace.output(&["ip", "address", "add", &target, "dev", "eth0"])?;
        namespace.output(&["ip", "link", "set", "eth0", "up"])?;
        let gateway = GATEWAY.to_string();
        namespace
            .output(&["ip", "route", "add", "default", "via", &gateway, "dev", "eth0", "onlink"])?;
        Ok(Self { namespace, tap: tap.parse()?, mac, address })
    }
}

pub(crate) fn measure(report: &mut Report) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let vpc = NetNs::new()?;
    vpc.output(&["sysctl", "-qw", "net.ipv4.ip_forward=1"])?;
    vpc.output(&["ip", "address", "add", &format!("{GATEWAY}/32"), "dev", "lo"])?;
    let guests = [Guest::new(&vpc, 10)?, Guest::new(&vpc, 11)?];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let nft = Nft::new(TABLE, Some(vpc.path()));
    let firewall = groups(&guests);
    let (mut bytes, mut floor_bytes) = (Samples::default(), Samples::default());
    let (mut opened, mut floor_opened) = (Samples::default(), Samples::default());
    for _ in 0..RUNS {
        vpc.output(&["nft", FLOOR])?;
        floor_bytes.push(bytes_per_second(&guests)? / 1e6);
        floor_opened.push(connections_per_second(&guests)?);
        vpc.output(&["nft", "delete table inet floor"])?;
        runtime.block_on(nft.replace(&firewall))?;
        bytes.push(bytes_per_second(&guests)? / 1e6);
        opened.push(connections_per_second(&guests)?);
        runtime.block_on(nft.remove())?;
    }
    let ratio = bytes.ratio_to(&floor_bytes);
    report.add(Line {
        what: "forwarding through security groups, one TCP stream".to_owned(),
        budget: "at least 0.95 x the same taps with conntrack and no rules".to_owned(),
        figure: format!("{ratio:.2} x"),
        beside: format!("{}; floor {}", bytes.show("MB/s", 0), floor_bytes.show("MB/s", 0)),
        verdict: Verdict::of(ratio >= 0.95),
        why: "",
    });
    let ratio = opened.ratio_to(&floor_opened);
    report.add(Line {
        what: "new connections through security groups, one after the other".to_owned(),
        budget: "none; named beside it".to_owned(),
        figure: format!("{ratio:.2} x"),
        beside: format!("{}; floor {}", opened.show("per s", 0), floor_opened.show("per s", 0)),
        verdict: Verdict::NoBudget,
        why: "",
    });
    Ok(())
}

/// Connection tracking, and nothing that depends on who sends what.
const FLOOR: &str = "table inet floor { chain forward { type filter hook forward priority 0; \
                     policy accept; ct state invalid drop; }; }";

/// A group such as people have: rules that do not match come before the one that does.
fn groups(guests: &[Guest; 2]) -> Firewall {
    let group_id = GroupId::from_random([1; 9]);
    let rule = |ports, peer| RuleSpec {
        group_id: group_id.clone(),
        direction: Direction::Ingress,
        protocol: IpProtocol::Tcp,
        ports,
        peer,
        description: String::new(),
    };
    let port = |port| RulePorts::Range { from: port, to: port };
    let others =
        [22, 80, 443, 8080].map(|number| rule(port(number), RulePeer::Group(group_id.clone())));
    let ours = rule(port(PORT), RulePeer::Group(group_id.clone()));
    let rules = (0_u8..).zip(others.into_iter().chain([ours]));
    let rules = rules.map(|(n, rule)| (RuleId::from_random([n; 9]), rule)).collect();
    let members = Arc::new(guests.iter().map(|guest| guest.address).collect());
    let group =
        FirewallGroup { members, rules, allow_all_egress: true, ..FirewallGroup::default() };
    let interface = |guest: &Guest| {
        let (mac, address, groups) = (guest.mac, guest.address, [group_id.clone()].into());
        {
            let (ipv6, source_dest_check) = (None, true);
            (
                guest.tap.clone(),
                FirewallInterface {
                    mac,
                    address,
                    ipv6,
                    groups,
                    source_dest_check,
                    network_mbps: None,
                },
            )
        }
    };
    Firewall {
        interfaces: Arc::new(guests.iter().map(interface).collect()),
        groups: [(group_id.clone(), group)].into(),
        gateways: [GATEWAY].into(),
        nat: Default::default(),
        ..Firewall::default()
    }
}

/// One stream from the first guest to the second.
fn bytes_per_second([from, to]: &[Guest; 2]) -> Result<f64> {
    let at = SocketAddr::from((to.address, PORT));
    let listener = to.namespace.listen(at)?;
    let stream = from.namespace.connect(at, RUN)?.context("connect through the rules")?;
    let (received, elapsed) = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| receive_all(&listener));
        let start = Instant::now();
        send_until(stream, start + RUN)?;
        let received = receiver.join().ok().context("the receiver panicked")??;
        anyhow::Ok((received, start.elapsed()))
    })?;
    Ok(received as f64 / elapsed.as_secs_f64())
}

fn send_until(mut stream: TcpStream, end: Instant) -> Result<()> {
    let chunk = vec![0; 256 * 1024];
    while Instant::now() < end {
        stream.write_all(&chunk).context("send")?;
    }
    Ok(())
}

fn receive_all(listener: &TcpListener) -> Result<usize> {
    let (mut stream, _) = listener.accept()?;
    let mut buffer = vec![0; 256 * 1024];
    let mut received = 0;
    loop {
        match stream.read(&mut buffer).context("receive")? {
            0 => return Ok(received),
            some => received += some,
        }
    }
}

/// Opened and broken off, so that no port stays taken. The kernel answers for the listener.
fn connections_per_second([from, to]: &[Guest; 2]) -> Result<f64> {
    let at = SocketAddr::from((to.address, PORT));
    let listener = to.namespace.listen(at)?;
    listener.set_nonblocking(true)?;
    from.namespace.inside(|| {
        let start = Instant::now();
        let mut opened = 0_u32;
        while start.elapsed() < RUN {
            let stream = TcpStream::connect_timeout(&at, RUN).context("connect")?;
            let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
            setsockopt(&stream, sockopt::Linger, &linger).context("set linger")?;
            drop(stream);
            // Only takes it off the queue.
            let _ = listener.accept();
            opened += 1;
        }
        Ok(f64::from(opened) / start.elapsed().as_secs_f64())
    })
}
