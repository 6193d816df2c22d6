//! The real services, and a directory that knows whom the machine has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use async_trait::async_trait;
use ipnetwork::{Ipv4Network, Ipv6Network};
use weft_model::{ImageId, InstanceId, InterfaceId, LinkName, MacAddr, SubnetId, VpcId};
use weft_network::Namespace;
use weft_services::{
    Directory, Guest, Lease, LeaseV6, Names, NotTaken, Report, Resolvers, RouterV6, Seen, Services,
    Sockets, TokenKey, VpcServices,
};

use super::{Machine, Vpc, address, address_v6, mac, tap};

pub(crate) const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
pub(crate) const DNS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);
/// The agent's own address on the LAN.
pub(crate) const AGENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 250);

/// Knows every 10.0.0.n with the MAC and, where VPCs are routed, the tap that the machine gives it.
pub(crate) struct Everybody {
    /// Whom leases are renewed with.
    server: Ipv4Addr,
}

pub(crate) fn instance(last: u8) -> InstanceId {
    InstanceId::from_random([last; 9])
}

impl Names for Everybody {
    fn addresses(&self, _vpc: &VpcId, label: &str) -> Vec<IpAddr> {
        let last = label.strip_prefix("guest").and_then(|last| last.parse().ok());
        last.map(|last| address(last).into()).into_iter().collect()
    }

    fn label(&self, _vpc: &VpcId, at: Ipv4Addr) -> Option<String> {
        (at.octets()[..3] == [10, 0, 0]).then(|| format!("guest{}", at.octets()[3]))
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
impl Directory for Everybody {
    fn knows(&self, _vpc: &VpcId, source: Ipv4Addr) -> bool {
        source.octets()[..3] == [10, 0, 0]
    }

    fn guest(&self, vpc: &VpcId, source: Ipv4Addr) -> Option<Guest> {
        let last = source.octets()[3];
        Some(Guest {
            others: Vec::new(),
            instance_id: instance(last),
            image_id: ImageId::from_random([1; 9]),
            instance_type: None,
            hostname: format!("guest{last}"),
            launched_at: None,
            interface_id: InterfaceId::from_random([2; 9]),
            mac: mac(last),
            address: source,
            subnet_id: SubnetId::from_random([3; 9]),
            subnet_cidr: "10.0.0.0/24".parse().unwrap(),
            vpc_id: vpc.clone(),
            vpc_cidr: "10.0.0.0/24".parse().unwrap(),
            ipv6: None,
            groups: Vec::new(),
            keys: Vec::new(),
            user_data: None,
            metadata_options: Default::default(),
        })
    }

    fn lease(&self, _vpc: &VpcId, link: &LinkName, asks: MacAddr) -> Option<Lease> {
        let last = asks.octets()[5];
        let is_there = link.as_str() == "bridge" || *link == tap(last);
        (asks == mac(last) && is_there).then(|| Lease {
            instance_id: instance(last),
            address: address(last),
            prefix_len: 24,
            router: address(1),
            server: self.server,
            dns_servers: vec![DNS],
            search: None,
            hostname: format!("guest{last}"),
            mtu: None,
            ipv6: Some(LeaseV6 {
                address: address_v6(last),
                subnet: "fd00:1:2:3::/64".parse().unwrap(),
                router: RouterV6::OfLan,
            }),
        })
    }

    fn links(&self, _vpc: &VpcId) -> Vec<(LinkName, MacAddr)> {
        Vec::new()
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

/// The services of a VPC, as the agent has them.
pub(crate) fn start(machine: &Machine, vpc: &Vpc) -> VpcServices {
    let services = services(machine, AGENT);
    start_of(&services, vpc)
}

/// The services of all VPCs of the machine; names go to its resolver.
pub(crate) fn services(machine: &Machine, server: Ipv4Addr) -> Services {
    let resolv_conf = machine.record(1).with_file_name("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 127.0.0.1\n").unwrap();
    let resolvers = Resolvers::from_file(&resolv_conf);
    Services::new(Arc::new(Everybody { server }), resolvers, TokenKey::new([7; 32]))
}

pub(crate) fn start_of(services: &Services, vpc: &Vpc) -> VpcServices {
    let sockets = vpc.namespace.enter(|| Sockets::open(&vpc.network.gateways)).unwrap().unwrap();
    services.start(&vpc.network.vpc_id, sockets).unwrap()
}

/// Runs a client that blocks, while the services run on this thread.
pub(crate) async fn client<T: Send + 'static>(
    namespace: &Namespace,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let namespace = namespace.clone();
    tokio::task::spawn_blocking(move || namespace.enter(work).unwrap()).await.unwrap()
}
