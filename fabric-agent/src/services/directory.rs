//! What the services know of guests: the agent's cache.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use ipnetwork::{Ipv4Network, Ipv6Network};
use tokio::sync::broadcast::error::RecvError;
use weft_metadata::hostname;
use weft_model::{
    GuestNetwork, InstanceId, InstanceStatus, Interface, LinkName, MacAddr, Name,
    PRIMARY_DEVICE_INDEX, SubnetSpec, VpcId, VpcMode, VpcSpec, address_label, search_domain,
};
use weft_services::{
    Directory, Guest, GuestInterface, GuestKey, GuestV6, Lease, LeaseV6, Names, NotTaken, Report,
    RouterV6, Seen,
};

use crate::cache::World;
use crate::reconcile::{Reconciler, Saying};
use crate::repo::{Instances, RecordOf};

/// How long a guest waits for its report to be durable before it is told to try again.
const DURABLE_WITHIN: Duration = Duration::from_secs(10);

/// Guests as the agent's cache has them.
#[derive(Debug)]
pub(super) struct Guests {
    /// The reconciler owns the services, not they it.
    reconciler: Weak<Reconciler>,
}

impl Guests {
    pub(super) fn new(reconciler: &Arc<Reconciler>) -> Self {
        Self { reconciler: Arc::downgrade(reconciler) }
    }

    /// What `read` finds in the world as it is now.
    fn look<T>(&self, read: impl FnOnce(&World) -> Option<T>) -> Option<T> {
        let reconciler = self.reconciler.upgrade()?;
        let world = reconciler.cache.read();
        read(&world)
    }
}

impl Names for Guests {
    fn addresses(&self, vpc: &VpcId, label: &str) -> Vec<IpAddr> {
        let addresses = |world: &World| {
            let called = world.instances_called(vpc, label);
            let both = |instance: &RecordOf<Instances>| {
                let interface = &instance.spec.interface;
                let ipv6 = interface.ipv6.map(IpAddr::V6);
                [IpAddr::V4(interface.private_ip)].into_iter().chain(ipv6)
            };
            Some(called.flat_map(both).collect())
        };
        self.look(addresses).unwrap_or_default()
    }

    fn label(&self, vpc: &VpcId, address: Ipv4Addr) -> Option<String> {
        self.look(|world| Some(label_of(world, vpc, world.instance_at(vpc, address)?, address)))
    }

    fn label_v6(&self, vpc: &VpcId, address: Ipv6Addr) -> Option<String> {
        self.look(|world| {
            let placed = world.interface_at_v6(vpc, address)?;
            Some(label_of(world, vpc, placed.instance?, placed.interface.private_ip))
        })
    }

    fn range_v6(&self, vpc: &VpcId) -> Option<Ipv6Network> {
        // As for IPv4: the LAN's resolvers know its neighbours.
        self.look(|world| {
            let vpc = &world.vpcs.get(vpc)?.spec;
            vpc.ipv6_cidr_block.filter(|_| vpc.mode == VpcMode::Routed)
        })
    }

    fn range(&self, vpc: &VpcId) -> Option<Ipv4Network> {
        self.look(|world| {
            let vpc = &world.vpcs.get(vpc)?.spec;
            (vpc.mode == VpcMode::Routed).then_some(vpc.cidr_block)
        })
    }
}

#[async_trait]
impl Directory for Guests {
    fn knows(&self, vpc: &VpcId, source: Ipv4Addr) -> bool {
        self.look(|world| world.instance_at(vpc, source).map(|_| ())).is_some()
    }

    fn guest(&self, vpc: &VpcId, source: Ipv4Addr) -> Option<Guest> {
        self.look(|world| describe(world, world.instance_at(vpc, source)?))
    }

    fn lease(&self, vpc: &VpcId, link: &LinkName, mac: MacAddr) -> Option<Lease> {
        self.look(|world| {
            let placed = world.interface_with(vpc, mac)?;
            let (interface, instance) = (placed.interface, placed.instance?);
            let vpc = &world.vpcs.get(vpc)?.spec;
            // Behind a bridge the port is not seen; there the packet filter binds MACs to ports.
            if vpc.mode == VpcMode::Routed && interface.link != *link {
                return None;
            }
            let subnet = &world.subnets.get(&interface.subnet_id)?.spec;
            let router = match vpc.mode {
                VpcMode::Bridge => RouterV6::OfLan,
                VpcMode::Routed if interface.id == instance.spec.interface.id => RouterV6::First,
                VpcMode::Routed => RouterV6::Further,
            };
            // What the seed says too.
            let network = GuestNetwork::new(vpc, subnet);
            Some(Lease {
                instance_id: instance.id.clone(),
                address: interface.private_ip,
                prefix_len: network.prefix_len,
                router: network.gateway,
                server: subnet.service_address(vpc.mode),
                search: search_domain(&network.dns_servers, network.gateway),
                dns_servers: network.dns_servers,
                hostname: name_of(instance),
                mtu: None,
                ipv6: interface.ipv6.zip(subnet.ipv6_cidr_block).map(|(address, subnet)| LeaseV6 {
                    address,
                    subnet,
                    router,
                }),
            })
        })
    }

    fn links(&self, vpc: &VpcId) -> Vec<(LinkName, MacAddr)> {
        let links = |world: &World| {
            let own = world.instances.values().map(|instance| &instance.spec.interface);
            let attached = world.attachments.values();
            let attached = attached.filter_map(|one| world.interface(one.id.second()));
            let interfaces = own.chain(attached.map(|placed| placed.interface));
            let here = interfaces.filter(|one| one.vpc_id == *vpc && one.ipv6.is_some());
            Some(here.map(|one| (one.link.clone(), one.mac)).collect())
        };
        self.look(links).unwrap_or_default()
    }

    async fn until(
        &self,
        vpc: &VpcId,
        source: Ipv4Addr,
        differs: &(dyn for<'g> Fn(Option<&'g Guest>) -> bool + Sync),
    ) {
        let Some(reconciler) = self.reconciler.upgrade() else { return };
        // Subscribed before the first look: no change in between is missed.
        let mut changes = reconciler.cache.changes();
        drop(reconciler);
        while !differs(self.guest(vpc, source).as_ref()) {
            if let Err(RecvError::Closed) = changes.recv().await {
                return;
            }
        }
    }

    fn saw(&self, instance: &InstanceId, seen: Seen) {
        let Some(reconciler) = self.reconciler.upgrade() else { return };
        let _ = reconciler.heard(instance, Saying::Asked(seen));
    }

    async fn report(&self, instance: &InstanceId, report: Report) -> Result<(), NotTaken> {
        let reconciler = self.reconciler.upgrade().ok_or(NotTaken::InTime)?;
        if !reconciler.heard(instance, Saying::Reported(report.clone())) {
            return Err(NotTaken::TooMany);
        }
        let stored = reconciler.cache.until(|world| {
            world.statuses.get(instance).is_some_and(|status| holds(status, &report))
        });
        tokio::time::timeout(DURABLE_WITHIN, stored).await.map_err(|_| NotTaken::InTime)
    }
}

/// What is stored may be a newer report; then this one has been overtaken, not lost.
fn holds(status: &InstanceStatus, report: &Report) -> bool {
    match report {
        Report::CloudInit(report) => {
            status.cloud_init.as_ref().is_some_and(|stored| stored.at >= report.at)
        }
        Report::Signal(signal) => {
            status.signal.as_ref().is_some_and(|stored| stored.at >= signal.at)
        }
    }
}

/// What the instance is called that has this address at one of its interfaces.
fn label_of(
    world: &World,
    vpc: &VpcId,
    instance: &RecordOf<Instances>,
    address: Ipv4Addr,
) -> String {
    let label = name_of(instance);
    let called = world.instances_called(vpc, &label).take(2);
    let called: Vec<_> = called.map(|one| one.spec.interface.private_ip).collect();
    // Its name must lead back to it, and to nobody else.
    if called == [address] { label } else { address_label(address) }
}

/// The name that the seed gives it too.
fn name_of(instance: &RecordOf<Instances>) -> String {
    let spec = &instance.spec;
    hostname(spec.name.as_ref().map(Name::as_str), spec.interface.private_ip)
}

fn ipv6(interface: &Interface, vpc: &VpcSpec, subnet: &SubnetSpec) -> Option<GuestV6> {
    Some(GuestV6 {
        address: interface.ipv6?,
        subnet_cidr: subnet.ipv6_cidr_block?,
        vpc_cidr: vpc.ipv6_cidr_block?,
    })
}

fn describe_interface(
    world: &World,
    interface: &Interface,
    device_index: u8,
) -> Option<GuestInterface> {
    let vpc = &world.vpcs.get(&interface.vpc_id)?.spec;
    let subnet = &world.subnets.get(&interface.subnet_id)?.spec;
    let with_name = |id| {
        let name = world.groups.get(&id)?.spec.name.clone();
        Some((id, name))
    };
    Some(GuestInterface {
        device_index,
        interface_id: interface.id.clone(),
        mac: interface.mac,
        address: interface.private_ip,
        subnet_id: interface.subnet_id.clone(),
        subnet_cidr: subnet.cidr_block,
        ipv6: ipv6(interface, vpc, subnet),
        groups: world.groups_of(interface).into_iter().filter_map(with_name).collect(),
    })
}

fn describe(world: &World, instance: &RecordOf<Instances>) -> Option<Guest> {
    let (spec, interface) = (&instance.spec, &instance.spec.interface);
    let vpc = world.vpcs.get(&interface.vpc_id)?;
    let first = describe_interface(world, interface, PRIMARY_DEVICE_INDEX)?;
    let attached = world.attachments_of(&instance.id).filter_map(|attachment| {
        let own = world.network_interfaces.get(attachment.id.second())?;
        describe_interface(world, &own.spec.interface, attachment.spec.device_index)
    });
    let key = |key: &weft_model::KeyMaterial| GuestKey {
        name: key.key_name.to_string(),
        line: key.public_key.line().to_owned(),
    };
    Some(Guest {
        instance_id: instance.id.clone(),
        image_id: spec.image_id.clone(),
        instance_type: spec.instance_type.clone(),
        hostname: name_of(instance),
        launched_at: world.statuses.get(&instance.id).and_then(|status| status.launched_at),
        interface_id: interface.id.clone(),
        mac: interface.mac,
        address: interface.private_ip,
        subnet_id: interface.subnet_id.clone(),
        subnet_cidr: first.subnet_cidr,
        vpc_id: interface.vpc_id.clone(),
        vpc_cidr: vpc.spec.cidr_block,
        ipv6: first.ipv6,
        groups: first.groups,
        others: attached.collect(),
        keys: spec.keys.iter().map(key).collect(),
        user_data: spec.user_data.clone(),
        metadata_options: spec.metadata_options.unwrap_or_default(),
    })
}
