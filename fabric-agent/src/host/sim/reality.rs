//! What exists on a simulated host: in memory for reading, in a file before it is reported.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use weft_model::{Firewall, InstanceId, ObservedNetwork, Timestamp, VpcId};
use weft_planner::SeenNetwork;

use super::Behaviour;
use crate::host::HostError;

/// What is there of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Guest {
    pub(super) root_disk: bool,
    pub(super) seed: bool,
    pub(super) state: State,
    pub(super) behaviour: Behaviour,
}

/// A simulated hypervisor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(super) enum State {
    #[default]
    Absent,
    Running {
        epoch: u64,
        since: Timestamp,
    },
    PoweredOff {
        epoch: u64,
    },
    Exited {
        epoch: u64,
        how: String,
    },
}

#[derive(Serialize, Deserialize)]
struct StoredNetwork {
    network: Option<ObservedNetwork>,
    firewall: Option<Firewall>,
}

/// Everything that exists.
#[derive(Clone, Debug)]
pub(super) struct Reality {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    file: Connection,
    guests: BTreeMap<InstanceId, Guest>,
    networks: BTreeMap<VpcId, SeenNetwork>,
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
             ) STRICT, WITHOUT ROWID;",
        )
        .map_err(failed("open"))?;
        let mut inner = Inner { file, guests: BTreeMap::new(), networks: BTreeMap::new() };
        inner.load()?;
        Ok(Self { inner: Arc::new(Mutex::new(inner)) })
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
            let gone = !guest.root_disk && !guest.seed && guest.state == nothing.state;
            if gone {
                inner.remove("guest", id.as_str())?;
                inner.guests.remove(&id);
            } else {
                inner.put("guest", id.as_str(), &guest)?;
                inner.guests.insert(id, guest);
            }
            Ok(())
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
            let stored =
                StoredNetwork { network: seen.network.clone(), firewall: seen.firewall.clone() };
            let mut inner = this.inner();
            inner.put("network", id.as_str(), &stored)?;
            inner.networks.insert(id, seen);
            Ok(())
        })
        .await
    }

    /// Steps about one thing come one after the other, so nothing changes between read and write.
    async fn blocking(
        &self,
        work: impl FnOnce() -> Result<(), HostError> + Send + 'static,
    ) -> Result<(), HostError> {
        tokio::task::spawn_blocking(work).await.map_err(|error| {
            HostError::new("write the simulated host's file", true).caused_by(error)
        })?
    }
}

impl Inner {
    fn load(&mut self) -> Result<(), HostError> {
        let mut statement =
            self.file.prepare("SELECT kind, id, content FROM things").map_err(failed("read"))?;
        let rows = statement
            .query_map([], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
            })
            .map_err(failed("read"))?;
        for row in rows {
            let (kind, id, content) = row.map_err(failed("read"))?;
            match kind.as_str() {
                "guest" => {
                    if let Ok(id) = id.parse() {
                        let guest = serde_json::from_str(&content).map_err(unreadable)?;
                        self.guests.insert(id, guest);
                    }
                }
                _ => {
                    if let Ok(id) = id.parse() {
                        let stored: StoredNetwork =
                            serde_json::from_str(&content).map_err(unreadable)?;
                        let seen =
                            SeenNetwork { network: stored.network, firewall: stored.firewall };
                        self.networks.insert(id, seen);
                    }
                }
            }
        }
        Ok(())
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
