//! The store's objects and statuses in memory, kept current by the store's watch.
//!
//! The reconcile loop and waiting clients read here; it may be a moment behind the store. Requests
//! that have to see their own writes read the store, or wait with [`Cache::reached`].

mod changes;
mod interfaces;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, RwLock, RwLockReadGuard};

use futures::StreamExt as _;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use weft_model::{
    AttachmentId, Claim, GroupId, InstanceId, InstanceStatus, Interface, InterfaceId, MacAddr,
    Problem, VolumeAttachmentId, VolumeId, VpcId,
};
use weft_store::{Event, Item, Revision};

use crate::repo::{
    Associations, Attachments, ElasticIps, Groups, Images, InstanceTypes, Instances, KeyPairs,
    Kind, NetworkInterfaces, OBJECTS, PortForwards, PrefixLists, RecordOf, Repo,
    RouteTableAssociations, RouteTables, Rules, STATUSES, Snapshots, Subnets, VolumeAttachments,
    Volumes, Vpcs, decode, store_problem,
};
pub(crate) use changes::next_of;
use interfaces::Interfaces;
use names::Names;

type Table<K> = BTreeMap<<K as Kind>::Id, Arc<RecordOf<K>>>;

/// Everything of the store that the agent acts on.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) vpcs: Table<Vpcs>,
    pub(crate) subnets: Table<Subnets>,
    pub(crate) route_tables: Table<RouteTables>,
    pub(crate) route_table_associations: Table<RouteTableAssociations>,
    pub(crate) prefix_lists: Table<PrefixLists>,
    pub(crate) groups: Table<Groups>,
    pub(crate) rules: Table<Rules>,
    pub(crate) images: Table<Images>,
    pub(crate) snapshots: Table<Snapshots>,
    pub(crate) key_pairs: Table<KeyPairs>,
    pub(crate) instance_types: Table<InstanceTypes>,
    pub(crate) elastic_ips: Table<ElasticIps>,
    pub(crate) associations: Table<Associations>,
    pub(crate) port_forwards: Table<PortForwards>,
    pub(crate) instances: Table<Instances>,
    pub(crate) network_interfaces: Table<NetworkInterfaces>,
    pub(crate) attachments: Table<Attachments>,
    pub(crate) volumes: Table<Volumes>,
    pub(crate) volume_attachments: Table<VolumeAttachments>,
    pub(crate) statuses: BTreeMap<InstanceId, Arc<InstanceStatus>>,
    /// Objects that no client is known to have, by their key: how they are claimed.
    pub(crate) unclaimed: BTreeMap<String, Claim>,
    /// Counts the changes of what says who is attached to which network: the memory of that
    /// (`reconcile::desired`) goes by it.
    pub(crate) layout: u64,
    /// Of `instances`, `network_interfaces` and `attachments`; kept with them.
    interfaces: Interfaces,
    /// Of `volume_attachments`; kept with it.
    attached_volumes: BTreeMap<VolumeId, VolumeAttachmentId>,
    /// Of `instances`; kept with it.
    names: Names,
}

/// A network interface and where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed<'a> {
    pub(crate) interface: &'a Interface,
    /// The instance that it is a part of, or attached to.
    pub(crate) instance: Option<&'a RecordOf<Instances>>,
}

/// One change of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) revision: Revision,
    /// [`Kind::NAME`], or `status` for an instance's status.
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) deleted: bool,
}

/// What [`Change::kind`] says of an instance's status.
pub(crate) const STATUS_KIND: &str = "status";

/// The world, shared.
#[derive(Debug)]
pub(crate) struct Cache {
    world: RwLock<World>,
    revision: watch::Sender<Revision>,
    changes: broadcast::Sender<Change>,
}

impl Cache {
    /// Reads everything once. [`Cache::follow`] keeps it current from there.
    pub(crate) async fn load(repo: &Repo) -> Result<Self, Problem> {
        // Not all that there is: usage of a year is more than the world. What changes between the two
        // is taken in once more by who follows from the first.
        let objects = repo.store().list(OBJECTS).await.map_err(store_problem)?;
        let statuses = repo.store().list(STATUSES).await.map_err(store_problem)?;
        let mut world = World::default();
        for item in objects.items.iter().chain(&statuses.items) {
            world.put_or_fence(item);
        }
        Ok(Self {
            world: RwLock::new(world),
            revision: watch::Sender::new(objects.revision),
            changes: broadcast::Sender::new(4096),
        })
    }

    /// The world as it is now. Not to be held over an await.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, World> {
        self.world.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Up to which change the world is known.
    pub(crate) fn revision(&self) -> Revision {
        *self.revision.borrow()
    }

    /// Returns when the world holds what was committed at `revision`.
    pub(crate) async fn reached(&self, revision: Revision) {
        // The sender lives as long as self: waiting cannot fail.
        let _ = self.revision.subscribe().wait_for(|seen| *seen >= revision).await;
    }

    /// Applies the store's changes until `shutdown`; an error ends the agent.
    pub(crate) async fn follow(
        &self,
        repo: &Repo,
        shutdown: CancellationToken,
    ) -> Result<(), Problem> {
        let after = *self.revision.borrow();
        let mut changes = repo.store().watch("", after).await.map_err(store_problem)?;
        loop {
            let events = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                events = changes.next() => events,
            };
            let Some(events) = events else { return Ok(()) };
            self.take(&events.map_err(store_problem)?);
        }
    }

    /// Takes in whole transactions; nobody sees half of one.
    fn take(&self, events: &[Event]) {
        let Some(revision) = events.last().map(Event::revision) else { return };
        {
            let mut world = self.world.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            for event in events {
                match event {
                    Event::Put(item) => world.put_or_fence(item),
                    Event::Delete { key, .. } => world.delete(key),
                }
            }
        }
        self.revision.send_replace(revision);
        for event in events {
            let Some((kind, id)) = address(event.key()) else { continue };
            let change = Change {
                revision: event.revision(),
                kind: kind.to_owned(),
                id: id.to_owned(),
                deleted: matches!(event, Event::Delete { .. }),
            };
            // Nobody listening is no error.
            let _ = self.changes.send(change);
        }
    }
}

/// Kind and id of a key, where it is one of the world's.
fn address(key: &str) -> Option<(&str, &str)> {
    match key.strip_prefix(STATUSES) {
        Some(id) => Some((STATUS_KIND, id)),
        None => key.strip_prefix(OBJECTS)?.split_once('/'),
    }
}

macro_rules! tables {
    ($self:ident, $kind:expr, $call:ident($($argument:expr),*), else $otherwise:expr) => {
        match $kind {
            Vpcs::NAME => $call::<Vpcs>(&mut $self.vpcs, $($argument),*),
            Subnets::NAME => $call::<Subnets>(&mut $self.subnets, $($argument),*),
            RouteTables::NAME => $call::<RouteTables>(&mut $self.route_tables, $($argument),*),
            RouteTableAssociations::NAME => {
                $call::<RouteTableAssociations>(&mut $self.route_table_associations, $($argument),*)
            }
            PrefixLists::NAME => $call::<PrefixLists>(&mut $self.prefix_lists, $($argument),*),
            Groups::NAME => $call::<Groups>(&mut $self.groups, $($argument),*),
            Rules::NAME => $call::<Rules>(&mut $self.rules, $($argument),*),
            Images::NAME => $call::<Images>(&mut $self.images, $($argument),*),
            Snapshots::NAME => $call::<Snapshots>(&mut $self.snapshots, $($argument),*),
            KeyPairs::NAME => $call::<KeyPairs>(&mut $self.key_pairs, $($argument),*),
            InstanceTypes::NAME => $call::<InstanceTypes>(&mut $self.instance_types, $($argument),*),
            ElasticIps::NAME => $call::<ElasticIps>(&mut $self.elastic_ips, $($argument),*),
            Associations::NAME => $call::<Associations>(&mut $self.associations, $($argument),*),
            PortForwards::NAME => $call::<PortForwards>(&mut $self.port_forwards, $($argument),*),
            Instances::NAME => $call::<Instances>(&mut $self.instances, $($argument),*),
            NetworkInterfaces::NAME => {
                $call::<NetworkInterfaces>(&mut $self.network_interfaces, $($argument),*)
            }
            Attachments::NAME => $call::<Attachments>(&mut $self.attachments, $($argument),*),
            Volumes::NAME => $call::<Volumes>(&mut $self.volumes, $($argument),*),
            VolumeAttachments::NAME => {
                $call::<VolumeAttachments>(&mut $self.volume_attachments, $($argument),*)
            }
            _ => $otherwise,
        }
    };
}

impl World {
    /// The groups that an interface is in: its own, else its VPC's default group.
    pub(crate) fn groups_of(&self, interface: &Interface) -> BTreeSet<GroupId> {
        let default = || self.vpcs.get(&interface.vpc_id).map(|vpc| &vpc.spec.default_group_id);
        match &interface.security_group_ids {
            Some(ids) => ids.clone(),
            None => default().cloned().into_iter().collect(),
        }
    }

    /// As the store's watch would put it.
    #[cfg(test)]
    pub(crate) fn put_instance(&mut self, instance: RecordOf<Instances>) {
        self.interfaces.insert_of(&instance.id, &instance.spec.interface);
        self.instances.insert(instance.id.clone(), Arc::new(instance));
    }

    /// The interface, wherever it is: a part of an instance, attached to one, or to none.
    pub(crate) fn interface(&self, id: &InterfaceId) -> Option<Placed<'_>> {
        if let Some(own) = self.network_interfaces.get(id) {
            let attachment = self.interfaces.attachment_of(id);
            let instance = attachment.and_then(|id| self.instances.get(id.first()));
            let interface = &own.spec.interface;
            return Some(Placed { interface, instance: instance.map(Arc::as_ref) });
        }
        let instance = self.instances.get(self.interfaces.instance_made_with(id)?)?;
        Some(Placed { interface: &instance.spec.interface, instance: Some(instance) })
    }

    /// What is attached to an instance, by the interfaces' ids.
    pub(crate) fn attachments_of<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> impl Iterator<Item = &'a RecordOf<Attachments>> {
        let first = AttachmentId::new(instance.clone(), InterfaceId::from_random([0; 9]));
        let from = self.attachments.range(first..);
        from.take_while(move |(id, _)| id.first() == instance).map(|(_, record)| record.as_ref())
    }

    /// The volumes that are attached to an instance, by their ids.
    pub(crate) fn volumes_of<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> impl Iterator<Item = &'a RecordOf<VolumeAttachments>> {
        let first = VolumeAttachmentId::new(instance.clone(), VolumeId::from_random([0; 9]));
        let from = self.volume_attachments.range(first..);
        from.take_while(move |(id, _)| id.first() == instance).map(|(_, record)| record.as_ref())
    }

    /// What attaches the volume, if something does.
    pub(crate) fn attachment_of_volume(
        &self,
        volume: &VolumeId,
    ) -> Option<&RecordOf<VolumeAttachments>> {
        self.volume_attachments.get(self.attached_volumes.get(volume)?).map(Arc::as_ref)
    }

    /// The interface that has the address in the VPC.
    pub(crate) fn interface_at(&self, vpc: &VpcId, address: Ipv4Addr) -> Option<Placed<'_>> {
        self.interface(self.interfaces.with_address(vpc, address)?)
    }

    /// The same of an IPv6 address.
    pub(crate) fn interface_at_v6(&self, vpc: &VpcId, address: Ipv6Addr) -> Option<Placed<'_>> {
        self.interface(self.interfaces.with_address_v6(vpc, address)?)
    }

    /// The interface that has the MAC in the VPC.
    pub(crate) fn interface_with(&self, vpc: &VpcId, mac: MacAddr) -> Option<Placed<'_>> {
        self.interface(self.interfaces.with_mac(vpc, mac)?)
    }

    /// The instance that has the address in the VPC.
    pub(crate) fn instance_at(
        &self,
        vpc: &VpcId,
        address: Ipv4Addr,
    ) -> Option<&RecordOf<Instances>> {
        self.interface_at(vpc, address)?.instance
    }

    /// The instances of the VPC that have this name and are not being terminated: one that replaces
    /// another is found alone.
    pub(crate) fn instances_called(
        &self,
        vpc: &VpcId,
        label: &str,
    ) -> impl Iterator<Item = &RecordOf<Instances>> {
        let called = self.names.with_label(vpc, label).filter_map(|id| self.instances.get(id));
        called.map(Arc::as_ref).filter(|instance| instance.deleting_since.is_none())
    }

    /// A record that cannot be read is left out, loudly: it must not take the others with it.
    fn put_or_fence(&mut self, item: &Item) {
        if let Err(problem) = self.put(item) {
            let evidence = problem.evidence.as_deref().unwrap_or_default();
            tracing::error!(key = item.key, evidence, "left out of everything: {problem}");
        }
    }

    fn put(&mut self, item: &Item) -> Result<(), Problem> {
        let Some((kind, id)) = address(&item.key) else { return Ok(()) };
        if kind == STATUS_KIND {
            if let Ok(id) = id.parse() {
                let status: InstanceStatus = decode(&item.key, &item.value)?;
                let stage = |status: &InstanceStatus| (status.state, status.ended_epoch);
                let new_stage = stage(&status);
                let before = self.statuses.insert(id, Arc::new(status));
                self.layout += u64::from(before.is_none_or(|old| stage(&old) != new_stage));
            }
            return Ok(());
        }
        self.layout += u64::from(is_laid_out(kind));
        // What it was called before it is called no more.
        self.index(kind, id, Index::Remove);
        let claim = tables!(self, kind, insert(item), else Ok(None))?;
        self.index(kind, id, Index::Insert);
        match claim {
            Some(claim @ Claim::Unclaimed { .. }) => {
                self.unclaimed.insert(item.key.clone(), claim);
            }
            Some(Claim::Claimed) | None => {
                self.unclaimed.remove(&item.key);
            }
        }
        Ok(())
    }

    fn delete(&mut self, key: &str) {
        let Some((kind, id)) = address(key) else { return };
        self.unclaimed.remove(key);
        self.layout += u64::from(kind == STATUS_KIND || is_laid_out(kind));
        self.index(kind, id, Index::Remove);
        match kind {
            STATUS_KIND => {
                if let Ok(id) = id.parse::<InstanceId>() {
                    self.statuses.remove(&id);
                }
            }
            _ => tables!(self, kind, remove(id), else ()),
        }
    }

    /// Takes an object of the tables into the indices of names and interfaces, or out of them.
    fn index(&mut self, kind: &str, id: &str, how: Index) {
        match kind {
            Instances::NAME => {
                let Some(record) = id.parse().ok().and_then(|id| self.instances.get(&id)) else {
                    return;
                };
                let (id, interface) = (&record.id, &record.spec.interface);
                match how {
                    Index::Insert => {
                        self.names.insert(id, &record.spec);
                        self.interfaces.insert_of(id, interface);
                    }
                    Index::Remove => {
                        self.interfaces.remove_of(id, interface);
                        self.names.remove(id, &record.spec);
                    }
                }
            }
            NetworkInterfaces::NAME => {
                let found = id.parse().ok().and_then(|id| self.network_interfaces.get(&id));
                let Some(record) = found else { return };
                match how {
                    Index::Insert => self.interfaces.insert(&record.spec.interface),
                    Index::Remove => self.interfaces.remove(&record.spec.interface),
                }
            }
            Attachments::NAME => {
                let Ok(id) = id.parse::<AttachmentId>() else { return };
                match how {
                    Index::Insert => self.interfaces.attach(id),
                    Index::Remove => self.interfaces.detach(&id),
                }
            }
            VolumeAttachments::NAME => {
                let Ok(id) = id.parse::<VolumeAttachmentId>() else { return };
                match how {
                    Index::Insert => {
                        self.attached_volumes.insert(id.second().clone(), id);
                    }
                    // It may be attached elsewhere by now.
                    Index::Remove if self.attached_volumes.get(id.second()) == Some(&id) => {
                        self.attached_volumes.remove(id.second());
                    }
                    Index::Remove => {}
                }
            }
            _ => {}
        }
    }
}

/// What becomes of an object's place in the index.
#[derive(Clone, Copy)]
enum Index {
    Insert,
    Remove,
}

/// Whether records of this kind say who is attached to which network.
fn is_laid_out(kind: &str) -> bool {
    [
        Vpcs::NAME,
        Subnets::NAME,
        Instances::NAME,
        Associations::NAME,
        PortForwards::NAME,
        NetworkInterfaces::NAME,
        Attachments::NAME,
    ]
    .contains(&kind)
}

fn insert<K: Kind>(table: &mut Table<K>, item: &Item) -> Result<Option<Claim>, Problem> {
    let record: RecordOf<K> = decode(&item.key, &item.value)?;
    let claim = record.claim.clone();
    table.insert(record.id.clone(), Arc::new(record));
    Ok(Some(claim))
}

fn remove<K: Kind>(table: &mut Table<K>, id: &str) {
    if let Ok(id) = id.parse::<K::Id>() {
        table.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_apart_at_its_first_slash_as_the_id_of_a_pair_has_one_itself() {
        assert_eq!(address("objects/instances/i-1"), Some(("instances", "i-1")));
        assert_eq!(address("objects/attachments/i-1/eni-2"), Some(("attachments", "i-1/eni-2")));
        assert_eq!(address("status/instances/i-1"), Some((STATUS_KIND, "i-1")));
        assert_eq!(address("addresses/subnet-1/10.0.0.4"), None);
    }
}
