//! What is attached to an instance: read off the world, reported, and let go of.

use weft_model::{GuestNetwork, InterfaceId, Problem};
use weft_planner::{AttachedNic, GuestNic, SeenNics};
use weft_store::Txn;

use super::Pass;
use crate::cache::World;
use crate::repo::{Attachments, RecordOf, attached_key, object_key};

/// Removes an attachment, and the claim on its interface.
pub(super) fn detach(txn: Txn, attachment: &RecordOf<Attachments>) -> Txn {
    txn.delete(object_key::<Attachments>(&attachment.id))
        .delete(attached_key(attachment.id.second()))
}

/// An attachment, completed with its interface.
fn attached_nic(world: &World, attachment: &RecordOf<Attachments>) -> Option<AttachedNic> {
    let interface = &world.network_interfaces.get(attachment.id.second())?.spec.interface;
    let vpc = world.vpcs.get(&interface.vpc_id)?;
    let subnet = world.subnets.get(&interface.subnet_id)?;
    Some(AttachedNic {
        nic: GuestNic {
            interface_id: interface.id.clone(),
            device_index: attachment.spec.device_index,
            link: interface.link.clone(),
            mac: interface.mac,
        },
        address: interface.private_ip,
        ipv6: interface.ipv6,
        prefix_len: GuestNetwork::new(&vpc.spec, &subnet.spec).prefix_len,
        leaving: attachment.deleting_since.is_some(),
    })
}

impl Pass<'_> {
    pub(super) fn attachments(&self) -> Vec<RecordOf<Attachments>> {
        self.reconciler.cache.read().attachments_of(&self.record.id).cloned().collect()
    }

    /// What is attached now, by device index.
    pub(super) fn attached_nics(&self) -> Vec<AttachedNic> {
        let world = self.reconciler.cache.read();
        let attached = world.attachments_of(&self.record.id);
        let mut nics: Vec<AttachedNic> =
            attached.filter_map(|attachment| attached_nic(&world, attachment)).collect();
        nics.sort_by_key(|attached| attached.nic.device_index);
        nics
    }

    /// Removes the attachments of interfaces that no guest has any more.
    pub(super) async fn release(&self, interfaces: &[InterfaceId]) -> Result<(), Problem> {
        let mut gone = self.attachments();
        gone.retain(|it| interfaces.contains(it.id.second()) && it.deleting_since.is_some());
        self.forget_attachments::<Attachments>(&gone, detach).await
    }

    /// Tells who waits for it what the guest has, and people what it cannot be given.
    pub(super) fn note_nics(&mut self, attached: &[AttachedNic], seen: &SeenNics) {
        let has = match seen {
            SeenNics::Has(has) => Some(has.clone()),
            SeenNics::Fixed | SeenNics::Unknown => None,
        };
        if *seen == SeenNics::Fixed && !attached.is_empty() && self.trouble.is_none() {
            self.trouble = Some(
                "its guest was started by an agent of an older version and can be given no network \
                 interface while it runs: stop and start it to have those that are attached to it"
                    .to_owned(),
            );
        }
        self.reconciler.plugged.note(&self.record.id, has);
    }
}
