//! Router advertisements and DHCPv6 for a guest's own kernel and a client of bytes: the real
//! services, socket, frames.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ipnetwork::{Ipv4Network, Ipv6Network};
use nix::net::if_::if_nametoindex;
use support::{Machine, Vpc, address, address_v6, mac, on_a_machine, tap};
use weft_model::{InstanceId, LinkName, MacAddr, VpcId};
use weft_network::Namespace;
use weft_services::{
    Directory, Guest, Lease, LeaseV6, Names, NotTaken, Report, Resolvers, RouterV6, Seen, Services,
    Sockets, TokenKey, VpcServices,
};

/// Knows 10.0.0.10 and its IPv6 address, behind its own tap, and 10.0.0.12, which is another interface of
/// an instance.
struct One;

impl Names for One {
    fn addresses(&self, _vpc: &VpcId, _label: &str) -> Vec<IpAddr> {
        Vec::new()
    }

    fn label(&self, _vpc: &VpcId, _at: Ipv4Addr) -> Option<String> {
        None
    }

    fn label_v6(&self, _vpc: &VpcId, _at: Ipv6Addr) -> Option<String> {
        None
    }

    fn range_v6(&self, _vpc: &VpcId) -> Option<Ipv6Network> {
        None
    }

    fn range(&self, _vpc: &VpcId) -> Option<Ipv4Network> {
        None
    }
}

#[async_trait]
impl Directory for One {
    fn knows(&self, _vpc: &VpcId, _source: Ipv4Addr) -> bool {
        false
    }

    fn guest(&self, _vpc: &VpcId, _source: Ipv4Addr) -> Option<Guest> {
        None
    }

    fn lease(&self, _vpc: &VpcId, link: &LinkName, asks: MacAddr) -> Option<Lease> {
        let subnet = "fd00:1:2:3::/64".parse().unwrap();
        let router = match link {
            first if *first == tap(10) => RouterV6::First,
            other if *other == tap(12) => RouterV6::Further,
            _ => return None,
        };
        let n = if router == RouterV6::First { 10 } else { 12 };
        (asks == mac(n)).then(|| Lease {
            instance_id: InstanceId::from_random([10; 9]),
            address: address(n),
            prefix_len: 24,
            router: address(1),
            server: address(1),
            dns_servers: Vec::new(),
            search: None,
            hostname: "web".to_owned(),
            mtu: None,
            ipv6: Some(LeaseV6 { address: address_v6(n), subnet, router }),
        })
    }

    fn links(&self, _vpc: &VpcId) -> Vec<(LinkName, MacAddr)> {
        vec![(tap(10), mac(10))]
    }

    /// Nothing ever changes.
    async fn until(
        &self,
        _vpc: &VpcId,
        _source: Ipv4Addr,
        _differs: &(dyn for<'g> Fn(Option<&'g Guest>) -> bool + Sync),
    ) {
        std::future::pending().await
    }

    fn saw(&self, _instance: &InstanceId, _seen: Seen) {}

    async fn report(&self, _instance: &InstanceId, _report: Report) -> Result<(), NotTaken> {
        Err(NotTaken::InTime)
    }
}

fn start(machine: &Machine, vpc: &Vpc) -> VpcServices {
    let gateways = BTreeSet::from([address(1)]);
    let sockets = vpc.namespace.enter(|| Sockets::open(&gateways)).unwrap().unwrap();
    let resolv_conf = machine.record(1).with_file_name("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 127.0.0.1\n").unwrap();
    let resolvers = Resolvers::from_file(&resolv_conf);
    let services = Services::new(Arc::new(One), resolvers, TokenKey::new([7; 32]));
    services.start(&vpc.network.vpc_id, sockets).unwrap()
}

fn routes(namespace: &Namespace) -> String {
    let show = || Command::new("ip").args(["-6", "route", "show", "dev", "eth0"]).output().unwrap();
    String::from_utf8(namespace.enter(show).unwrap().stdout).unwrap()
}

/// Runs a client that blocks, while the services run on this thread.
async fn client<T: Send + 'static>(
    namespace: &Namespace,
    work: impl FnOnce(Namespace) -> T + Send + 'static,
) -> T {
    let namespace = namespace.clone();
    tokio::task::spawn_blocking(move || work(namespace)).await.unwrap()
}

/// Sends a Solicit with one association from the link-local address; the answer's bytes.
fn solicit(namespace: &Namespace, patience: Duration) -> Option<Vec<u8>> {
    let ask = || {
        let index = if_nametoindex("eth0").unwrap();
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 546)).unwrap();
        socket.set_read_timeout(Some(patience)).unwrap();
        let message = [
            &[1, 7, 7, 7][..],
            &[0, 1, 0, 4, 0, 2, b'm', b'e'],
            &[0, 3, 0, 12, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        let servers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
        let to = SocketAddrV6::new(servers, 547, 0, index);
        // Until its own address has been probed the guest's kernel sends nothing from it.
        let deadline = Instant::now() + Duration::from_secs(10);
        while socket.send_to(&message, to).is_err() {
            assert!(Instant::now() < deadline, "the guest has no link-local address");
            std::thread::sleep(Duration::from_millis(100));
        }
        let mut answer = [0; 1500];
        let (length, from) = socket.recv_from(&mut answer).ok()?;
        assert_eq!(from.port(), 547);
        Some(answer[..length].to_vec())
    };
    namespace.enter(ask).unwrap()
}

#[test]
fn a_guest_learns_its_router_and_its_address() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await.dual_stack(1).await;
        vpc.rules(1, &[], true).await;
        let guest = vpc.launch(10, &[1]).await;
        let stranger = vpc.launch(11, &[1]).await;
        guest.ip("-6 route del default via fe80::1 dev eth0");
        let services = start(&machine, &vpc);
        // Its kernel asks when the link comes up.
        guest.ip("link set eth0 down");
        guest.ip("link set eth0 up");
        let seen = client(&guest.namespace, |namespace| {
            let deadline = Instant::now() + Duration::from_secs(20);
            while !routes(&namespace).contains("default") && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(100));
            }
            routes(&namespace)
        })
        .await;
        assert!(seen.contains("default via fe80::1 proto ra"), "{seen}");
        assert!(!seen.contains("fd00:1:2:3::/64"), "the prefix is not on the link: {seen}");

        let answer =
            client(&guest.namespace, |namespace| solicit(&namespace, Duration::from_secs(10)));
        let answer = answer.await.expect("an advertisement");
        assert_eq!(answer[..4], [2, 7, 7, 7]);
        let octets = address_v6(10).octets();
        assert!(answer.windows(16).any(|window| window == octets), "{answer:?}");

        let none = client(&stranger.namespace, |namespace| {
            solicit(&namespace, Duration::from_millis(700))
        });
        assert_eq!(none.await, None, "nobody else is answered");
        services.stop().await;
    });
}

#[test]
fn another_interface_is_the_second_best_way_out() {
    on_a_machine(|machine| async move {
        let mut vpc = machine.vpc(1, true).await.dual_stack(1).await;
        vpc.rules(1, &[], true).await;
        let guest = vpc.launch(12, &[1]).await;
        guest.ip("-6 route del default via fe80::1 dev eth0");
        let services = start(&machine, &vpc);
        guest.ip("link set eth0 down");
        guest.ip("link set eth0 up");
        let seen = client(&guest.namespace, |namespace| {
            let deadline = Instant::now() + Duration::from_secs(20);
            while !routes(&namespace).contains("default") && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(100));
            }
            routes(&namespace)
        })
        .await;
        let way_out = seen.lines().find(|line| line.starts_with("default")).unwrap_or_default();
        assert!(way_out.contains("proto ra") && way_out.contains("pref low"), "{seen}");
        services.stop().await;
    });
}
