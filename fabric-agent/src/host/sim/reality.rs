//! What exists on a simulated host: in memory for reading, in a file before it is reported.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use serde::Serialize;
use weft_model::{InstanceId, LayerId, ObservedNetwork, PoolName, VolumeId, VpcId};
use weft_planner::SeenNetwork;

pub(super) use super::things::{Guest, State, Volume};
use crate::host::HostError;

/// The kinds of rows. A network is several rows, so that one more tap does not write a thousand.
const GUEST: &str = "guest";
/// A layer of disks; the content is the pool that it is in, or null in older files.
const LAYER: &str = "layer";
/// A layer that was made while its guest was frozen: the guest's instance.
const FROZEN_LAYER: &str = "frozen_layer";
/// What was merged into a layer: a list of others.
const MERGED: &str = "merged";
/// A [`Volume`].
const VOLUME: &str = "volume";
/// An [`ObservedNetwork`] without its taps; the id is the VPC's.
const NETWORK: &str = "network";
/// A [`weft_model::ObservedTap`]; the id is `VPC/LINK`.
const TAP: &str = "tap";
/// The boot of the machine that guests were started in; the id is empty.
const BOOT: &str = "boot";
/// A [`weft_model::Firewall`]; the id is the VPC's.
const FIREWALL: &str = "firewall";

/// Everything that exists.
#[derive(Clone, Debug)]
pub(super) struct Reality {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    file: Connection,
    guests: BTreeMap<InstanceId, Guest>,
    layers: BTreeMap<LayerId, PoolName>,
    merged: BTreeMap<LayerId, Vec<LayerId>>,
    volumes: BTreeMap<VolumeId, Volume>,
    networks: BTreeMap<VpcId, SeenNetwork>,
    boot: Option<String>,
}

fn failed(what: &'static str) -> impl Fn(rusqlite::Error) -> HostError {
    move |error| HostError::new(format!("{what} the simulated host's file"), true).caused_by(error)
}

fn unreadable(error: serde_json::Error) -> HostError {
    HostError::new("read the simulated host's file", false).caused_by(error)
}

impl Reality {
    pub(super) fn open(path: &Path) -> Result<Self, HostError> {
        let file = Connection::open(path).map_err(failed("open"))?;
        // NORMAL survives the death of the process, which is what is simulated; only a crash of
        // the machine could lose the last steps, and there the real host would have lost them too.
        file.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
             CREATE TABLE IF NOT EXISTS things (
                 kind TEXT NOT NULL, id TEXT NOT NULL, content TEXT NOT NULL,
                 PRIMARY KEY (kind, id)
             ) STRICT, WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS orders (
                 content TEXT PRIMARY KEY, matched INTEGER NOT NULL
             ) STRICT, WITHOUT ROWID;",
        )
        .map_err(failed("open"))?;
        let mut inner = Inner {
            file,
            guests: BTreeMap::new(),
            layers: BTreeMap::new(),
            merged: BTreeMap::new(),
            volumes: BTreeMap::new(),
            networks: BTreeMap::new(),
            boot: None,
        };
        inner.load()?;
        Ok(Self { inner: Arc::new(Mutex::new(inner)) })
    }

    /// Guests do not outlive the boot that they were started in, nor does what was written down of
    /// them.
    pub(super) async fn boot(&self, boot: &str) -> Result<(), HostError> {
        if self.inner().boot.as_deref() == Some(boot) {
            return Ok(());
        }
        if self.inner().boot.is_some() {
            for id in self.guests() {
                let ends = |guest: &mut Guest| {
                    guest.state = State::Absent;
                    (guest.started, guest.ended) = (None, None);
                };
                self.change_guest(&id, ends).await?;
            }
        }
        let (this, boot) = (self.clone(), boot.to_owned());
        self.blocking(move || this.inner().put(BOOT, "", &boot)).await
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn guest(&self, id: &InstanceId) -> Option<Guest> {
        self.inner().guests.get(id).cloned()
    }

    pub(super) fn guests(&self) -> BTreeSet<InstanceId> {
        self.inner().guests.keys().cloned().collect()
    }

    pub(super) fn volume(&self, id: &VolumeId) -> Option<Volume> {
        self.inner().volumes.get(id).cloned()
    }

    /// An instance whose guest has its disks open, and the volume among them.
    pub(super) fn who_has(&self, volume: &VolumeId) -> Option<InstanceId> {
        let inner = self.inner();
        let runs =
            |guest: &Guest| matches!(guest.state, State::Running { .. } | State::Saving { .. });
        let mut guests = inner.guests.iter();
        let has = guests.find(|(_, guest)| runs(guest) && guest.volumes.contains(volume));
        has.map(|(id, _)| id.clone())
    }

    pub(super) fn volumes(&self) -> BTreeMap<VolumeId, Volume> {
        self.inner().volumes.clone()
    }

    /// Makes a volume what it should be, or nothing.
    pub(super) async fn put_volume(
        &self,
        id: &VolumeId,
        volume: Option<Volume>,
    ) -> Result<(), HostError> {
        let (this, id) = (self.clone(), id.clone());
        self.blocking(move || {
            let mut inner = this.inner();
            inner.put_or_remove(VOLUME, id.as_str(), volume.as_ref())?;
            match volume {
                Some(volume) => inner.volumes.insert(id, volume),
                None => inner.volumes.remove(&id),
            };
            Ok(())
        })
        .await
    }

    pub(super) fn network(&self, id: &VpcId) -> SeenNetwork {
        self.inner().networks.get(id).cloned().unwrap_or_default()
    }

    pub(super) fn vpcs(&self) -> BTreeSet<VpcId> {
        let inner = self.inner();
        let exists = |(id, seen): (&VpcId, &SeenNetwork)| seen.network.as_ref().map(|_| id.clone());
        inner.networks.iter().filter_map(exists).collect()
    }

    /// Changes what is there of an instance; what has become nothing is forgotten.
    pub(super) async fn change_guest(
        &self,
        id: &InstanceId,
        change: impl FnOnce(&mut Guest),
    ) -> Result<(), HostError> {
        let mut guest = self.guest(id).unwrap_or_default();
        let before = guest.clone();
        change(&mut guest);
        if guest == before {
            return Ok(());
        }
        let (this, id) = (self.clone(), id.clone());
        self.blocking(move || {
            let mut inner = this.inner();
            let nothing = Guest::default();
            let gone = !guest.has_folder() && guest.state == nothing.state;
            if gone {
                inner.remove(GUEST, id.as_str())?;
                inner.guests.remove(&id);
            } else {
                inner.put(GUEST, id.as_str(), &guest)?;
                inner.guests.insert(id, guest);
            }
            Ok(())
        })
        .await
    }

    /// The layers, and where each is.
    pub(super) fn layers(&self) -> BTreeMap<LayerId, PoolName> {
        self.inner().layers.clone()
    }

    /// An instance or a volume whose disk would be nothing without the layer.
    pub(super) fn what_lies_over(&self, layer: &LayerId) -> Option<String> {
        let inner = self.inner();
        let guests = inner.guests.iter().map(|(id, guest)| (id.as_str(), &guest.layers));
        let volumes = inner.volumes.iter().map(|(id, volume)| (id.as_str(), &volume.layers));
        let over = guests.chain(volumes).find(|(_, layers)| layers.contains(layer));
        over.map(|(id, _)| id.to_owned())
    }

    pub(super) async fn add_layer(
        &self,
        layer: &LayerId,
        pool: &PoolName,
    ) -> Result<(), HostError> {
        let (this, layer, pool) = (self.clone(), layer.clone(), pool.clone());
        self.blocking(move || {
            let mut inner = this.inner();
            inner.put(LAYER, layer.as_str(), &pool)?;
            inner.layers.insert(layer, pool);
            Ok(())
        })
        .await
    }

    /// Adds a layer that is sealed while the guest of `guest`, if there is one, is as it is.
    pub(super) async fn add_sealed(
        &self,
        layer: &LayerId,
        pool: &PoolName,
        guest: Option<&InstanceId>,
    ) -> Result<(), HostError> {
        let frozen = guest.filter(|id| self.guest(id).is_some_and(|guest| guest.frozen));
        if let Some(id) = frozen.cloned() {
            let (this, layer) = (self.clone(), layer.clone());
            self.blocking(move || this.inner().put(FROZEN_LAYER, layer.as_str(), &id)).await?;
        }
        self.add_layer(layer, pool).await
    }

    /// Adds a layer that shows what `parts` show.
    pub(super) async fn add_merged(
        &self,
        layer: &LayerId,
        pool: &PoolName,
        parts: &[LayerId],
    ) -> Result<(), HostError> {
        let (this, id, parts) = (self.clone(), layer.clone(), parts.to_vec());
        self.blocking(move || {
            let mut inner = this.inner();
            inner.put(MERGED, id.as_str(), &parts)?;
            inner.merged.insert(id, parts);
            Ok(())
        })
        .await?;
        self.add_layer(layer, pool).await
    }

    /// The layers that a disk over these was sealed into: what it shows.
    pub(super) fn shown(&self, layers: &[LayerId]) -> Vec<LayerId> {
        let inner = self.inner();
        let mut shown = Vec::new();
        let mut rest: Vec<&LayerId> = layers.iter().rev().collect();
        while let Some(layer) = rest.pop() {
            match inner.merged.get(layer) {
                Some(parts) => rest.extend(parts.iter().rev()),
                None => shown.push(layer.clone()),
            }
        }
        shown
    }

    pub(super) async fn remove_layer(&self, layer: &LayerId) -> Result<(), HostError> {
        let (this, layer) = (self.clone(), layer.clone());
        self.blocking(move || {
            let mut inner = this.inner();
            inner.remove(LAYER, layer.as_str())?;
            inner.remove(MERGED, layer.as_str())?;
            inner.remove(FROZEN_LAYER, layer.as_str())?;
            inner.layers.remove(&layer);
            inner.merged.remove(&layer);
            Ok(())
        })
        .await
    }

    /// Counts one more step that an order matches, and returns how many there were, this included.
    /// The count is of the order's text, so a changed order begins anew.
    pub(super) async fn count_match(&self, order: String) -> Result<u64, HostError> {
        let this = self.clone();
        self.blocking(move || {
            let sql = "INSERT INTO orders VALUES (?1, 1)
                       ON CONFLICT DO UPDATE SET matched = matched + 1 RETURNING matched";
            let inner = this.inner();
            let counted = inner.file.query_row(sql, [order], |row| row.get::<_, i64>(0));
            counted.map(i64::unsigned_abs).map_err(failed("write"))
        })
        .await
    }

    pub(super) async fn change_network(
        &self,
        id: &VpcId,
        change: impl FnOnce(&mut SeenNetwork),
    ) -> Result<(), HostError> {
        let mut seen = self.network(id);
        change(&mut seen);
        let (this, id) = (self.clone(), id.clone());
        self.blocking(move || {
            let mut inner = this.inner();
            let before = inner.networks.get(&id).cloned().unwrap_or_default();
            inner.put_changes(&id, &before, &seen)?;
            inner.networks.insert(id, seen);
            Ok(())
        })
        .await
    }

    /// Steps about one thing come one after the other, so nothing changes between read and write.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, HostError> + Send + 'static,
    ) -> Result<T, HostError> {
        tokio::task::spawn_blocking(work).await.map_err(|error| {
            HostError::new("write the simulated host's file", true).caused_by(error)
        })?
    }
}

impl Inner {
    fn load(&mut self) -> Result<(), HostError> {
        let mut statement = self
            .file
            .prepare("SELECT kind, id, content FROM things ORDER BY kind, id")
            .map_err(failed("read"))?;
        let rows = statement
            .query_map([], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
            })
            .map_err(failed("read"))?;
        for row in rows {
            let (kind, id, content) = row.map_err(failed("read"))?;
            match kind.as_str() {
                LAYER => {
                    let pool: Option<PoolName> =
                        serde_json::from_str(&content).map_err(unreadable)?;
                    let id = id.parse::<LayerId>().ok();
                    self.layers.extend(id.map(|id| (id, pool.unwrap_or_default())));
                }
                // For tests to read.
                FROZEN_LAYER => {}
                MERGED => {
                    let parts = serde_json::from_str(&content).map_err(unreadable)?;
                    self.merged.extend(id.parse::<LayerId>().map(|id| (id, parts)));
                }
                VOLUME => {
                    let id = id.parse().map_err(|_| damaged(&kind, &id))?;
                    let volume = serde_json::from_str(&content).map_err(unreadable)?;
                    self.volumes.insert(id, volume);
                }
                BOOT => self.boot = serde_json::from_str(&content).map_err(unreadable)?,
                _ => take(&mut self.guests, &mut self.networks, &kind, &id, &content)?,
            }
        }
        Ok(())
    }

    /// Writes the parts of a network that differ, in one transaction.
    fn put_changes(
        &mut self,
        id: &VpcId,
        before: &SeenNetwork,
        after: &SeenNetwork,
    ) -> Result<(), HostError> {
        self.file.execute_batch("BEGIN IMMEDIATE").map_err(failed("write"))?;
        let written = self.put_parts(id, before, after);
        let end = if written.is_ok() { "COMMIT" } else { "ROLLBACK" };
        self.file.execute_batch(end).map_err(failed("write"))?;
        written
    }

    fn put_parts(
        &mut self,
        id: &VpcId,
        before: &SeenNetwork,
        after: &SeenNetwork,
    ) -> Result<(), HostError> {
        if before.firewall != after.firewall {
            self.put_or_remove(FIREWALL, id.as_str(), after.firewall.as_ref())?;
        }
        let (base_before, base_after) = (base(before), base(after));
        if base_before != base_after {
            self.put_or_remove(NETWORK, id.as_str(), base_after.as_ref())?;
        }
        let (none, empty) = (ObservedNetwork::default(), ObservedNetwork::default());
        let old = &before.network.as_ref().unwrap_or(&none).taps;
        let new = &after.network.as_ref().unwrap_or(&empty).taps;
        for link in old.keys().filter(|link| !new.contains_key(*link)) {
            self.remove(TAP, &format!("{id}/{link}"))?;
        }
        for (link, tap) in new.iter().filter(|(link, tap)| old.get(*link) != Some(*tap)) {
            self.put(TAP, &format!("{id}/{link}"), tap)?;
        }
        Ok(())
    }

    fn put_or_remove(
        &mut self,
        kind: &str,
        id: &str,
        content: Option<&impl Serialize>,
    ) -> Result<(), HostError> {
        match content {
            Some(content) => self.put(kind, id, content),
            None => self.remove(kind, id),
        }
    }

    fn put(&mut self, kind: &str, id: &str, content: &impl Serialize) -> Result<(), HostError> {
        let content = serde_json::to_string(content).map_err(unreadable)?;
        let sql = "INSERT OR REPLACE INTO things VALUES (?1, ?2, ?3)";
        self.file.execute(sql, [kind, id, &content]).map_err(failed("write"))?;
        Ok(())
    }

    fn remove(&mut self, kind: &str, id: &str) -> Result<(), HostError> {
        let sql = "DELETE FROM things WHERE kind = ?1 AND id = ?2";
        self.file.execute(sql, [kind, id]).map_err(failed("write"))?;
        Ok(())
    }
}

/// The network without its taps.
fn base(seen: &SeenNetwork) -> Option<ObservedNetwork> {
    let network = seen.network.as_ref()?;
    Some(ObservedNetwork {
        loopback_up: network.loopback_up,
        sysctls_ok: network.sysctls_ok,
        forwarding: network.forwarding,
        gateways: network.gateways.clone(),
        services: network.services.clone(),
        unreachable: network.unreachable.clone(),
        ipv6: network.ipv6.clone(),
        uplink: network.uplink.clone(),
        bridge: network.bridge.clone(),
        routes: network.routes.clone(),
        taps: BTreeMap::new(),
    })
}

fn damaged(kind: &str, id: &str) -> HostError {
    HostError::new(format!("the simulated host's row {kind} {id} is damaged"), false)
}

/// Puts one row where it belongs. A network's row sorts before its taps' rows.
fn take(
    guests: &mut BTreeMap<InstanceId, Guest>,
    networks: &mut BTreeMap<VpcId, SeenNetwork>,
    kind: &str,
    id: &str,
    content: &str,
) -> Result<(), HostError> {
    let foreign = || damaged(kind, id);
    let vpc = |text: &str| text.parse::<VpcId>().map_err(|_| foreign());
    match kind {
        GUEST => {
            let id = id.parse().map_err(|_| foreign())?;
            guests.insert(id, serde_json::from_str(content).map_err(unreadable)?);
        }
        NETWORK => {
            let network = serde_json::from_str(content).map_err(unreadable)?;
            networks.entry(vpc(id)?).or_default().network = Some(network);
        }
        FIREWALL => {
            let firewall = serde_json::from_str(content).map_err(unreadable)?;
            networks.entry(vpc(id)?).or_default().firewall = Some(firewall);
        }
        TAP => {
            let (vpc_id, link) = id.split_once('/').ok_or_else(foreign)?;
            let network = &mut networks.entry(vpc(vpc_id)?).or_default().network;
            let link = link.parse().map_err(|_| foreign())?;
            let tap = serde_json::from_str(content).map_err(unreadable)?;
            network.as_mut().ok_or_else(foreign)?.taps.insert(link, tap);
        }
        _ => return Err(foreign()),
    }
    Ok(())
}
