//! What is counted as long as it is there, whether anything runs or not: public addresses and volumes.
//! A new kind of such things is one more case of [`things`].

use std::any::Any;
use std::collections::VecDeque;

use weft_metering::{Item, Labels, Meter};
use weft_model::{
    ElasticIpId, ElasticIpSpec, InstanceId, InstanceSpec, Problem, Record, VolumeId, VolumeSpec,
};
use weft_store::{Revision, Txn};

use super::books::{Draft, MeterKey};
use super::{Metering, instances};
use crate::cache::Cache;
use crate::repo::{HEARTBEAT, store_problem};

/// A [`Record`] of any kind.
type AnyRecord = dyn Any + Send + Sync;

/// What is counted of an object.
struct Thing {
    key: MeterKey,
    item: Item,
    labels: Labels,
}

/// All that is counted of an object (a [`Record`]) as long as it is there.
fn things(record: &AnyRecord) -> Vec<Thing> {
    if let Some(eip) = record.downcast_ref::<Record<ElasticIpId, ElasticIpSpec>>() {
        let key = MeterKey::of_standing("public-ips", &eip.id);
        let name = eip.spec.name.as_ref().map(ToString::to_string);
        return vec![Thing {
            key,
            item: Item::PublicIp,
            labels: Labels { name, tags: eip.tags.clone() },
        }];
    }
    if let Some(volume) = record.downcast_ref::<Record<VolumeId, VolumeSpec>>() {
        let key = MeterKey::of_standing("volumes", &volume.id);
        let (volume_type, size_gib) = (volume.spec.volume_type.to_string(), volume.spec.size_gib);
        let name = volume.spec.name.as_ref().map(ToString::to_string);
        let labels = Labels { name, tags: volume.tags.clone() };
        return vec![Thing { key, item: Item::Volume { volume_type, size_gib }, labels }];
    }
    if let Some(instance) = record.downcast_ref::<Record<InstanceId, InstanceSpec>>() {
        let key = MeterKey::of_standing("public-ips", &instance.id);
        let labels = instances::labels(instance);
        let address = instance.spec.public_ip.map(|_| Thing { key, item: Item::PublicIp, labels });
        return address.into_iter().collect();
    }
    Vec::new()
}

impl Metering {
    /// Carries out `txn`, which makes or changes the object: what is counted of it begins with it, or
    /// goes on as it is from now on.
    ///
    /// # Errors
    /// As [`crate::repo::Repo::commit`].
    pub(crate) async fn keep(&self, record: &AnyRecord, txn: Txn) -> Result<Revision, Problem> {
        let things = things(record);
        if things.is_empty() {
            return self.repo.commit(txn).await;
        }
        let mut books = self.books.lock().await;
        books.load(&self.repo).await?;
        let now = self.clock.moment();
        let mut draft = Draft::default();
        for Thing { key, item, labels } in things {
            let (meter, entries) = match books.get(&key).cloned() {
                Some(mut meter) => {
                    let entries = meter.relabel(item, labels, &now);
                    (meter, entries)
                }
                None => (Meter::counting(item, labels, now.clone()), Vec::new()),
            };
            if books.get(&key) != Some(&meter) {
                draft.put(key, Some(meter), entries);
            }
        }
        books.commit(&self.repo, draft, txn).await
    }

    /// Carries out `txn`, which removes the object: what is counted of it ends with it.
    ///
    /// # Errors
    /// As [`crate::repo::Repo::commit`].
    pub(crate) async fn end(&self, record: &AnyRecord, txn: Txn) -> Result<Revision, Problem> {
        let mut keys: Vec<MeterKey> = things(record).into_iter().map(|it| it.key).collect();
        if let Some(instance) = record.downcast_ref::<Record<InstanceId, InstanceSpec>>() {
            keys.push(MeterKey::of_instance(&instance.id));
        }
        if keys.is_empty() {
            return self.repo.commit(txn).await;
        }
        let mut books = self.books.lock().await;
        books.load(&self.repo).await?;
        let now = self.clock.moment();
        let mut draft = Draft::default();
        for key in keys {
            let Some(mut meter) = books.get(&key).cloned() else { continue };
            let entries = meter.end(&now);
            draft.put(key, None, entries);
        }
        let revision = books.commit(&self.repo, draft, txn).await?;
        if let Some(instance) = record.downcast_ref::<Record<InstanceId, InstanceSpec>>() {
            books.seen.remove(&instance.id);
        }
        Ok(revision)
    }

    /// Gives a meter to what has none, because it was there before there was metering.
    pub(super) async fn begin_standing(&self, cache: &Cache) -> Result<(), Problem> {
        // Before the objects are read: none of them is removed, and its meter with it, in between.
        let mut books = self.books.lock().await;
        books.load(&self.repo).await?;
        let revision = self.repo.store().list(HEARTBEAT).await.map_err(store_problem)?.revision;
        cache.reached(revision).await;
        let standing: Vec<Thing> = {
            let world = cache.read();
            let eips = world.elastic_ips.values().flat_map(|record| things(record.as_ref()));
            let instances = world.instances.values().flat_map(|record| things(record.as_ref()));
            let volumes = world.volumes.values().flat_map(|record| things(record.as_ref()));
            eips.chain(instances).chain(volumes).collect()
        };
        let now = self.clock.moment();
        let mut draft = Draft::default();
        for Thing { key, item, labels } in standing {
            if books.get(&key).is_some() {
                continue;
            }
            let meter = Meter::counting(item, labels, now.clone());
            if !draft.put_if_room(key.clone(), meter.clone(), Vec::new()) {
                books.commit(&self.repo, std::mem::take(&mut draft), Txn::new()).await?;
                draft.put(key, Some(meter), Vec::new());
            }
        }
        if !draft.is_empty() {
            books.commit(&self.repo, draft, Txn::new()).await?;
        }
        Ok(())
    }

    /// Counts all that is there up to now, as many at once as a transaction takes.
    pub(super) async fn count_standing(&self) -> Result<(), Problem> {
        let mut left: VecDeque<MeterKey> = {
            let mut books = self.books.lock().await;
            books.load(&self.repo).await?;
            books.keys().filter(|key| key.is_standing()).cloned().collect()
        };
        while !left.is_empty() {
            // Taken anew for each transaction: who makes or removes something comes in between.
            let mut books = self.books.lock().await;
            books.load(&self.repo).await?;
            let now = self.clock.moment();
            let mut draft = Draft::default();
            while let Some(key) = left.pop_front() {
                let Some(mut meter) = books.get(&key).cloned() else { continue };
                let entries = meter.advance(&now);
                if !draft.put_if_room(key.clone(), meter, entries) {
                    left.push_front(key);
                    break;
                }
            }
            if !draft.is_empty() {
                books.commit(&self.repo, draft, Txn::new()).await?;
            }
        }
        Ok(())
    }
}
