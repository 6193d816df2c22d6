//! Network interfaces of their own, and what attaches them to instances.
//!
//! The interface that an instance was made with is a part of it, see [`crate::InstanceSpec`]. Those
//! in here have an address and a MAC that outlive every instance.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::{
    AttachmentId, GroupId, InstanceId, Interface, InterfaceId, MacAddr, Problem, Reason, SubnetId,
    VpcId,
};

/// Interfaces that an instance has at most, the one it was made with included. As many as QEMU's
/// command line has places for.
pub const MAX_INTERFACES_PER_INSTANCE: u8 = 8;
/// The device index of the interface that an instance was made with.
pub const PRIMARY_DEVICE_INDEX: u8 = 0;

/// A network interface as it should be. Address and MAC are chosen at Create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInterfaceSpec {
    /// Shown to people.
    pub name: String,
    /// What it is on the network.
    pub interface: Interface,
}

/// A network interface as a client asks for it. In a view, everything that the agent chose is
/// filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkInterfaceOrder {
    /// Shown to people.
    pub name: String,
    /// `None` is the default subnet.
    pub subnet_id: Option<SubnetId>,
    /// `None` is the lowest free address.
    pub private_ip: Option<Ipv4Addr>,
    /// `None` is the VPC's default group.
    pub security_group_ids: Option<BTreeSet<GroupId>>,
    /// Whether it may send only from its own address.
    pub source_dest_check: bool,
    /// Mbit/s in each direction; `None` leaves that to the type of the instance it is attached to.
    pub network_mbps: Option<u32>,
}

/// A network interface as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkInterfaceView {
    /// What was asked for.
    pub order: NetworkInterfaceOrder,
    /// The VPC of its subnet.
    pub vpc_id: VpcId,
    /// Its MAC, for its whole life.
    pub mac: MacAddr,
    /// Its IPv6 addresses: one where its subnet has an IPv6 range.
    pub ipv6_addresses: Vec<Ipv6Addr>,
}

impl From<NetworkInterfaceSpec> for NetworkInterfaceView {
    fn from(NetworkInterfaceSpec { name, interface }: NetworkInterfaceSpec) -> Self {
        let order = NetworkInterfaceOrder {
            name,
            subnet_id: Some(interface.subnet_id),
            private_ip: Some(interface.private_ip),
            security_group_ids: interface.security_group_ids,
            source_dest_check: interface.source_dest_check,
            network_mbps: interface.network_mbps,
        };
        let ipv6_addresses = interface.ipv6.into_iter().collect();
        Self { order, vpc_id: interface.vpc_id, mac: interface.mac, ipv6_addresses }
    }
}

/// A network interface's attachment to an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentSpec {
    /// The instance.
    pub instance_id: InstanceId,
    /// The interface.
    pub network_interface_id: InterfaceId,
    /// Its place among the instance's interfaces, from 1.
    pub device_index: u8,
}

impl AttachmentSpec {
    /// The attachment's id.
    pub fn id(&self) -> AttachmentId {
        AttachmentId::new(self.instance_id.clone(), self.network_interface_id.clone())
    }
}

/// An attachment as a client asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachmentOrder {
    /// The instance.
    pub instance_id: InstanceId,
    /// The interface.
    pub network_interface_id: InterfaceId,
    /// `None` is the lowest free one.
    pub device_index: Option<u8>,
}

/// The place for one more interface of an instance whose places in `taken` are others'.
///
/// # Errors
/// The place is another one's, or there is none left.
pub fn place_for(
    instance: &InstanceId,
    wanted: Option<u8>,
    taken: &BTreeSet<u8>,
) -> Result<u8, Problem> {
    check_device_index(wanted)?;
    let places = PRIMARY_DEVICE_INDEX + 1..MAX_INTERFACES_PER_INSTANCE;
    let Some(wanted) = wanted else {
        return places.clone().find(|index| !taken.contains(index)).ok_or_else(|| {
            let message = format!(
                "{instance} has {MAX_INTERFACES_PER_INSTANCE} network interfaces, the most that an \
                 instance can have"
            );
            Problem::new(Reason::ResourceExhausted, message)
                .at("instance_id")
                .remedy("detach one of them first")
        });
    };
    if taken.contains(&wanted) {
        let message = format!("another interface of {instance} has the device index {wanted}");
        return Err(Problem::new(Reason::AlreadyExists, message)
            .at("device_index")
            .remedy("leave device_index out for the next one that is free"));
    }
    Ok(wanted)
}

/// # Errors
/// The index is none that an attachment can have.
pub fn check_device_index(index: Option<u8>) -> Result<(), Problem> {
    let Some(index) = index else { return Ok(()) };
    let last = MAX_INTERFACES_PER_INSTANCE - 1;
    let wrong = |message: String| {
        let remedy = format!("use 1 to {last}, or leave it out for the next one that is free");
        Err(Problem::invalid("device_index", message).remedy(remedy))
    };
    match index {
        PRIMARY_DEVICE_INDEX => {
            wrong("device index 0 is the interface that the instance was made with".to_owned())
        }
        index if index > last => wrong(format!(
            "device index {index} is too high: an instance has at most \
             {MAX_INTERFACES_PER_INSTANCE} interfaces"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_gets_the_lowest_free_place_or_the_one_that_it_asks_for() {
        let instance = InstanceId::from_random([1; 9]);
        let place = |wanted, taken: &[u8]| {
            place_for(&instance, wanted, &taken.iter().copied().collect())
                .map_err(|problem| problem.field.unwrap())
        };
        type Case = (Option<u8>, &'static [u8], Result<u8, &'static str>);
        #[rustfmt::skip]
        let cases: [Case; 8] = [
            (None,    &[],                    Ok(1)),
            (None,    &[1, 2, 4],             Ok(3)),
            (None,    &[1, 2, 3, 4, 5, 6, 7], Err("instance_id")),
            (Some(7), &[1],                   Ok(7)),
            (Some(1), &[1],                   Err("device_index")),
            (Some(0), &[],                    Err("device_index")),
            (Some(8), &[],                    Err("device_index")),
            (Some(3), &[1, 2],                Ok(3)),
        ];
        for (wanted, taken, want) in cases {
            assert_eq!(place(wanted, taken), want.map_err(str::to_owned), "{wanted:?} {taken:?}");
        }
    }
}
