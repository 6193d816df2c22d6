//! Whose an address or a MAC is: the services ask for each packet, and must not look at every
//! instance for it. And whose an interface is.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{Ipv4Addr, Ipv6Addr};

use weft_model::{AttachmentId, InstanceId, Interface, InterfaceId, MacAddr, VpcId};

/// Interfaces by what they are called in their VPCs, and who has them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interfaces {
    by_vpc: HashMap<VpcId, OfVpc>,
    /// Those that are parts of instances.
    parts: HashMap<InterfaceId, InstanceId>,
    attached: HashMap<InterfaceId, AttachmentId>,
}

#[derive(Clone, Debug, Default)]
struct OfVpc {
    by_address: HashMap<Ipv4Addr, InterfaceId>,
    by_address_v6: HashMap<Ipv6Addr, InterfaceId>,
    by_mac: HashMap<MacAddr, InterfaceId>,
}

impl Interfaces {
    /// Takes in the interface that an instance was made with.
    pub(super) fn insert_of(&mut self, instance: &InstanceId, interface: &Interface) {
        self.insert(interface);
        self.parts.insert(interface.id.clone(), instance.clone());
    }

    pub(super) fn remove_of(&mut self, instance: &InstanceId, interface: &Interface) {
        self.remove(interface);
        forget(&mut self.parts, &interface.id, instance);
    }

    pub(super) fn insert(&mut self, interface: &Interface) {
        let vpc = self.by_vpc.entry(interface.vpc_id.clone()).or_default();
        vpc.by_address.insert(interface.private_ip, interface.id.clone());
        let ipv6 = interface.ipv6.map(|address| (address, interface.id.clone()));
        vpc.by_address_v6.extend(ipv6);
        vpc.by_mac.insert(interface.mac, interface.id.clone());
    }

    /// Takes away what is the interface's: its address may have been given to another one already.
    pub(super) fn remove(&mut self, interface: &Interface) {
        let Some(vpc) = self.by_vpc.get_mut(&interface.vpc_id) else { return };
        forget(&mut vpc.by_address, &interface.private_ip, &interface.id);
        if let Some(ipv6) = &interface.ipv6 {
            forget(&mut vpc.by_address_v6, ipv6, &interface.id);
        }
        forget(&mut vpc.by_mac, &interface.mac, &interface.id);
        if vpc.by_address.is_empty() && vpc.by_mac.is_empty() {
            self.by_vpc.remove(&interface.vpc_id);
        }
    }

    pub(super) fn attach(&mut self, id: AttachmentId) {
        self.attached.insert(id.second().clone(), id);
    }

    /// It may be attached elsewhere by now.
    pub(super) fn detach(&mut self, id: &AttachmentId) {
        forget(&mut self.attached, id.second(), id);
    }

    pub(super) fn instance_made_with(&self, id: &InterfaceId) -> Option<&InstanceId> {
        self.parts.get(id)
    }

    pub(super) fn attachment_of(&self, id: &InterfaceId) -> Option<&AttachmentId> {
        self.attached.get(id)
    }

    pub(super) fn with_address(&self, vpc: &VpcId, address: Ipv4Addr) -> Option<&InterfaceId> {
        self.by_vpc.get(vpc)?.by_address.get(&address)
    }

    pub(super) fn with_address_v6(&self, vpc: &VpcId, address: Ipv6Addr) -> Option<&InterfaceId> {
        self.by_vpc.get(vpc)?.by_address_v6.get(&address)
    }

    pub(super) fn with_mac(&self, vpc: &VpcId, mac: MacAddr) -> Option<&InterfaceId> {
        self.by_vpc.get(vpc)?.by_mac.get(&mac)
    }
}

fn forget<K: Eq + Hash, V: PartialEq>(owners: &mut HashMap<K, V>, key: &K, owner: &V) {
    if owners.get(key) == Some(owner) {
        owners.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::instance;

    #[test]
    fn an_interface_is_found_by_address_and_mac_in_its_own_vpc_as_long_as_it_is_there() {
        let mut interfaces = Interfaces::default();
        let (one, other) = (instance(1, 0, None), instance(1, 7, None));
        for record in [&one, &other] {
            interfaces.insert_of(&record.id, &record.spec.interface);
        }
        let interface = &one.spec.interface;
        let (vpc, elsewhere) = (&interface.vpc_id, &other.spec.interface.vpc_id);
        assert_eq!(interfaces.with_address(vpc, interface.private_ip), Some(&interface.id));
        assert_eq!(interfaces.with_mac(vpc, interface.mac), Some(&interface.id));
        assert_eq!(interfaces.with_address(elsewhere, interface.private_ip), None);
        assert_eq!(interfaces.with_mac(elsewhere, interface.mac), None);

        // Its address has gone to another one before it is seen to be gone.
        let mut next = instance(2, 0, None);
        next.spec.interface.private_ip = interface.private_ip;
        let next = (&next.id, &next.spec.interface);
        interfaces.insert_of(next.0, next.1);
        interfaces.remove_of(&one.id, interface);
        assert_eq!(interfaces.with_address(vpc, interface.private_ip), Some(&next.1.id));
        assert_eq!(interfaces.with_mac(vpc, interface.mac), None);

        interfaces.remove_of(next.0, next.1);
        interfaces.remove_of(&other.id, &other.spec.interface);
        assert!(interfaces.by_vpc.is_empty(), "nothing is kept of VPCs that have no guests");
        assert!(interfaces.parts.is_empty());
    }

    #[test]
    fn an_interface_that_moves_is_where_it_was_attached_last() {
        let mut interfaces = Interfaces::default();
        let id = InterfaceId::from_random([9; 9]);
        let [first, second] =
            [1, 2].map(|n| AttachmentId::new(InstanceId::from_random([n; 9]), id.clone()));
        interfaces.attach(first.clone());
        interfaces.attach(second.clone());
        interfaces.detach(&first);
        assert_eq!(interfaces.attachment_of(&id), Some(&second));
        interfaces.detach(&second);
        assert_eq!(interfaces.attachment_of(&id), None);
    }
}
