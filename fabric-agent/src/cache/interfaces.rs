//! Whose an address or a MAC is: the services ask for each packet, and must not look at every
//! instance for it.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::Ipv4Addr;

use weft_model::{InstanceId, Interface, MacAddr, VpcId};

/// The instances by what their interfaces are called in their VPCs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interfaces(HashMap<VpcId, OfVpc>);

#[derive(Clone, Debug, Default)]
struct OfVpc {
    by_address: HashMap<Ipv4Addr, InstanceId>,
    by_mac: HashMap<MacAddr, InstanceId>,
}

impl Interfaces {
    pub(super) fn insert(&mut self, id: &InstanceId, interface: &Interface) {
        let vpc = self.0.entry(interface.vpc_id.clone()).or_default();
        vpc.by_address.insert(interface.private_ip, id.clone());
        vpc.by_mac.insert(interface.mac, id.clone());
    }

    /// Takes away what is `id`'s: the address may have been given to another one already.
    pub(super) fn remove(&mut self, id: &InstanceId, interface: &Interface) {
        let Some(vpc) = self.0.get_mut(&interface.vpc_id) else { return };
        forget(&mut vpc.by_address, interface.private_ip, id);
        forget(&mut vpc.by_mac, interface.mac, id);
        if vpc.by_address.is_empty() && vpc.by_mac.is_empty() {
            self.0.remove(&interface.vpc_id);
        }
    }

    pub(super) fn with_address(&self, vpc: &VpcId, address: Ipv4Addr) -> Option<&InstanceId> {
        self.0.get(vpc)?.by_address.get(&address)
    }

    pub(super) fn with_mac(&self, vpc: &VpcId, mac: MacAddr) -> Option<&InstanceId> {
        self.0.get(vpc)?.by_mac.get(&mac)
    }
}

fn forget<K: Eq + Hash>(owners: &mut HashMap<K, InstanceId>, key: K, id: &InstanceId) {
    if owners.get(&key) == Some(id) {
        owners.remove(&key);
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
            interfaces.insert(&record.id, &record.spec.interface);
        }
        let interface = &one.spec.interface;
        let (vpc, elsewhere) = (&interface.vpc_id, &other.spec.interface.vpc_id);
        assert_eq!(interfaces.with_address(vpc, interface.private_ip), Some(&one.id));
        assert_eq!(interfaces.with_mac(vpc, interface.mac), Some(&one.id));
        assert_eq!(interfaces.with_address(elsewhere, interface.private_ip), None);
        assert_eq!(interfaces.with_mac(elsewhere, interface.mac), None);

        // Its address has gone to another one before it is seen to be gone.
        let mut next = instance(2, 0, None);
        next.spec.interface.private_ip = interface.private_ip;
        interfaces.insert(&next.id, &next.spec.interface);
        interfaces.remove(&one.id, interface);
        assert_eq!(interfaces.with_address(vpc, interface.private_ip), Some(&next.id));
        assert_eq!(interfaces.with_mac(vpc, interface.mac), None);

        interfaces.remove(&next.id, &next.spec.interface);
        interfaces.remove(&other.id, &other.spec.interface);
        assert!(interfaces.0.is_empty(), "nothing is kept of VPCs that have no guests");
    }
}
