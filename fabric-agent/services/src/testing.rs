//! A guest for unit tests, and a directory that knows two.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Mutex;

use async_trait::async_trait;
use ipnetwork::{Ipv4Network, Ipv6Network};

use tokio::sync::watch;
use weft_model::{
    GroupId, ImageId, InstanceId, InterfaceId, LinkName, MacAddr, MetadataOptions, SubnetId,
    UserData, VpcId,
};

use crate::directory::{
    Directory, Guest, GuestKey, GuestV6, Lease, LeaseV6, Names, NotTaken, Report, RouterV6, Seen,
};

pub(crate) fn guest() -> Guest {
    let key = |name: &str, line: &str| GuestKey { name: name.to_owned(), line: line.to_owned() };
    Guest {
        instance_id: InstanceId::from_random([1; 9]),
        image_id: ImageId::from_random([2; 9]),
        instance_type: Some("w1.small".to_owned()),
        hostname: "web".to_owned(),
        launched_at: None,
        interface_id: InterfaceId::from_random([3; 9]),
        mac: "02:00:00:00:00:01".parse().unwrap(),
        address: Ipv4Addr::new(172, 31, 0, 5),
        subnet_id: SubnetId::from_random([4; 9]),
        subnet_cidr: "172.31.0.0/18".parse().unwrap(),
        vpc_id: VpcId::from_random([5; 9]),
        vpc_cidr: "172.31.0.0/16".parse().unwrap(),
        ipv6: Some(GuestV6 {
            address: "fd00:1:2:3::5".parse().unwrap(),
            subnet_cidr: "fd00:1:2:3::/64".parse().unwrap(),
            vpc_cidr: "fd00:1:2::/56".parse().unwrap(),
        }),
        others: Vec::new(),
        groups: vec![
            (GroupId::from_random([6; 9]), "default".to_owned()),
            (GroupId::from_random([7; 9]), "web".to_owned()),
        ],
        keys: vec![key("alice", "ssh-ed25519 AAAA alice"), key("bob", "ssh-ed25519 BBBB bob")],
        user_data: Some(UserData(b"#!/bin/sh\n".to_vec())),
        metadata_options: MetadataOptions::default(),
    }
}

pub(crate) fn other_guest() -> Guest {
    Guest {
        instance_id: InstanceId::from_random([11; 9]),
        hostname: "db".to_owned(),
        mac: "02:00:00:00:00:02".parse().unwrap(),
        address: Ipv4Addr::new(172, 31, 0, 6),
        user_data: None,
        ..guest()
    }
}

/// Knows the guests that it has, in the VPC of each, behind the links `tap` and their address's
/// last part.
#[derive(Debug)]
pub(crate) struct Known {
    guests: watch::Sender<Vec<Guest>>,
    pub(crate) seen: Mutex<Vec<Seen>>,
    pub(crate) reports: Mutex<Vec<(InstanceId, Report)>>,
}

impl Known {
    pub(crate) fn new(guests: impl IntoIterator<Item = Guest>) -> Self {
        let guests = watch::Sender::new(guests.into_iter().collect());
        Self { guests, seen: Mutex::default(), reports: Mutex::default() }
    }

    /// Somebody changes the guests.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Vec<Guest>)) {
        self.guests.send_modify(change);
    }

    fn of(&self, vpc: &VpcId) -> impl Iterator<Item = Guest> {
        let guests = self.guests.borrow();
        guests.iter().filter(|guest| guest.vpc_id == *vpc).cloned().collect::<Vec<_>>().into_iter()
    }
}

impl Names for Known {
    fn addresses(&self, vpc: &VpcId, label: &str) -> Vec<IpAddr> {
        let called = self.of(vpc).filter(|guest| guest.hostname == label);
        called.map(|guest| guest.address.into()).collect()
    }

    fn label(&self, vpc: &VpcId, address: Ipv4Addr) -> Option<String> {
        self.of(vpc).find(|guest| guest.address == address).map(|guest| guest.hostname)
    }

    fn label_v6(&self, vpc: &VpcId, address: Ipv6Addr) -> Option<String> {
        let has = |guest: &Guest| guest.ipv6.is_some_and(|own| own.address == address);
        self.of(vpc).find(has).map(|guest| guest.hostname)
    }

    fn range_v6(&self, vpc: &VpcId) -> Option<Ipv6Network> {
        self.of(vpc).find_map(|guest| guest.ipv6).map(|own| own.vpc_cidr)
    }

    fn range(&self, vpc: &VpcId) -> Option<Ipv4Network> {
        self.of(vpc).next().map(|guest| guest.vpc_cidr)
    }
}

#[async_trait]
impl Directory for Known {
    fn knows(&self, vpc: &VpcId, source: Ipv4Addr) -> bool {
        self.guest(vpc, source).is_some()
    }

    fn guest(&self, vpc: &VpcId, source: Ipv4Addr) -> Option<Guest> {
        self.of(vpc).find(|guest| guest.address == source)
    }

    fn lease(&self, vpc: &VpcId, link: &LinkName, mac: MacAddr) -> Option<Lease> {
        let guest = self.of(vpc).find(|guest| guest.mac == mac)?;
        let [.., last] = guest.address.octets();
        (link.as_str() == format!("tap{last}")).then(|| Lease {
            instance_id: guest.instance_id.clone(),
            address: guest.address,
            prefix_len: guest.subnet_cidr.prefix(),
            router: Ipv4Addr::new(172, 31, 0, 1),
            server: Ipv4Addr::new(172, 31, 0, 1),
            dns_servers: Vec::new(),
            search: None,
            hostname: guest.hostname.clone(),
            mtu: None,
            ipv6: guest.ipv6.map(|ipv6| LeaseV6 {
                address: ipv6.address,
                subnet: ipv6.subnet_cidr,
                router: RouterV6::First,
            }),
        })
    }

    fn links(&self, vpc: &VpcId) -> Vec<(LinkName, MacAddr)> {
        let link = |guest: Guest| {
            let [.., last] = guest.address.octets();
            (format!("tap{last}").parse().unwrap(), guest.mac)
        };
        self.of(vpc).filter(|guest| guest.ipv6.is_some()).map(link).collect()
    }

    async fn until(
        &self,
        vpc: &VpcId,
        source: Ipv4Addr,
        differs: &(dyn for<'g> Fn(Option<&'g Guest>) -> bool + Sync),
    ) {
        let mut changes = self.guests.subscribe();
        while !differs(self.guest(vpc, source).as_ref()) {
            changes.changed().await.unwrap();
        }
    }

    fn saw(&self, _instance: &InstanceId, seen: Seen) {
        self.seen.lock().unwrap().push(seen);
    }

    async fn report(&self, instance: &InstanceId, report: Report) -> Result<(), NotTaken> {
        self.reports.lock().unwrap().push((instance.clone(), report));
        Ok(())
    }
}

pub(crate) fn lease_v6() -> LeaseV6 {
    LeaseV6 {
        address: "fd00:1:2:3::5".parse().unwrap(),
        subnet: "fd00:1:2:3::/64".parse().unwrap(),
        router: RouterV6::First,
    }
}
