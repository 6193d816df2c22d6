//! Typed access to the store: which key holds what, and as which type.

mod crash;
mod figures;
mod keys;
mod kind;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;
use weft_crash_points as crash_points;
use weft_model::{InstanceId, InstanceStatus, Problem, Reason, Record};
use weft_store::{Revision, Store, StoreError, Txn, TxnOutcome};

pub(crate) use figures::StoreFigures;
pub(crate) use keys::{
    EVENTS, HEARTBEAT, HOST, MERGES, METADATA_KEY, OBJECTS, PUBLIC, PUBLIC_POOL, SHA512, STATUSES,
    TFSTATE_LOCKS, TFSTATES, TOKENS, USAGE_DAYS, USAGE_OPEN, address_key, associated_key,
    attached_key, attached_volume_key, event_key, host_port_key, key_pair_name_key, mac_key,
    merge_key, object_key, public_key, public_of_key, sha512_key, status_key, tfstate_key,
    tfstate_lock_key, token_key, type_name_key, uid_key, volume_status_key,
};
pub(crate) use kind::{
    Associations, Attachments, ElasticIps, Groups, Images, InstanceTypes, Instances, KeyPairs,
    Kind, NetworkInterfaces, PortForwards, PrefixLists, RouteTableAssociations, RouteTables, Rules,
    Snapshots, Subnets, VolumeAttachments, Volumes, Vpcs,
};

/// A record and the revision it was read at.
#[derive(Clone, Debug)]
pub(crate) struct Stored<T> {
    pub(crate) value: T,
    pub(crate) revision: Revision,
}

/// The store, with types.
#[derive(Clone, Debug)]
pub(crate) struct Repo {
    store: Arc<dyn Store>,
    figures: Arc<StoreFigures>,
}

/// A kind's record.
pub(crate) type RecordOf<K> = Record<<K as Kind>::Id, <K as Kind>::Spec>;

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "model types have string keys only and cannot fail")]
    serde_json::to_vec(value).expect("a model type is JSON")
}

pub(crate) fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(value).map_err(|error| {
        Problem::new(Reason::Internal, format!("the store's record {key} cannot be read"))
            .evidence(error.to_string())
            .remedy(
                "it was written by another version of the agent, or damaged; see the agent's log",
            )
    })
}

impl Repo {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, figures: Arc::default() }
    }

    /// What transactions took.
    pub(crate) fn figures(&self) -> &StoreFigures {
        &self.figures
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The value at `key`.
    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<Stored<T>>, Problem> {
        let Some(item) = self.store.get(key).await.map_err(store_problem)? else {
            return Ok(None);
        };
        let value = decode(key, &item.value)?;
        Ok(Some(Stored { value, revision: item.mod_revision }))
    }

    /// The text at `key`: whose it is.
    pub(crate) async fn read_text(&self, key: &str) -> Result<Option<String>, Problem> {
        let item = self.store.get(key).await.map_err(store_problem)?;
        Ok(item.map(|item| String::from_utf8_lossy(&item.value).into_owned()))
    }

    /// The object, or nothing.
    pub(crate) async fn find<K: Kind>(
        &self,
        id: &K::Id,
    ) -> Result<Option<Stored<RecordOf<K>>>, Problem> {
        self.read(&object_key::<K>(id)).await
    }

    /// The object.
    ///
    /// # Errors
    /// [`Reason::NotFound`].
    pub(crate) async fn get<K: Kind>(&self, id: &K::Id) -> Result<Stored<RecordOf<K>>, Problem> {
        self.find::<K>(id).await?.ok_or_else(|| no_such::<K>(id))
    }

    /// Every object of a kind, by id.
    pub(crate) async fn list<K: Kind>(&self) -> Result<Vec<RecordOf<K>>, Problem> {
        let prefix = format!("{OBJECTS}{}/", K::NAME);
        let listing = self.store.list(&prefix).await.map_err(store_problem)?;
        listing.items.iter().map(|item| decode(&item.key, &item.value)).collect()
    }

    /// The status of an instance; one that has none yet was accepted and no more.
    pub(crate) async fn status(&self, id: &InstanceId) -> Result<Option<InstanceStatus>, Problem> {
        Ok(self.read(&status_key(id)).await?.map(|stored| stored.value))
    }

    /// Every instance's status.
    pub(crate) async fn statuses(&self) -> Result<BTreeMap<InstanceId, InstanceStatus>, Problem> {
        let listing = self.store.list(STATUSES).await.map_err(store_problem)?;
        let read = |item: &weft_store::Item| {
            let id = item.key.strip_prefix(STATUSES).and_then(|id| id.parse().ok());
            let status = decode(&item.key, &item.value);
            id.map(|id| status.map(|status| (id, status)))
        };
        listing.items.iter().filter_map(read).collect()
    }

    /// Carries out `txn`.
    ///
    /// # Errors
    /// [`Reason::StaleGeneration`] when a condition did not hold: somebody was faster.
    pub(crate) async fn commit(&self, txn: Txn) -> Result<Revision, Problem> {
        self.try_commit(txn).await?.map_err(|key| overtaken(&key))
    }

    /// Carries out `txn`, or says which key's condition did not hold.
    pub(crate) async fn try_commit(&self, txn: Txn) -> Result<Result<Revision, String>, Problem> {
        let name = crash::write_name(&txn);
        crash_points::point_with(|| format!("store.{name}.before"));
        let begun = Instant::now();
        let outcome = self.store.txn(txn).await;
        self.figures.note(begun.elapsed(), outcome.is_err());
        crash_points::point_with(|| format!("store.{name}.after"));
        match outcome.map_err(store_problem)? {
            TxnOutcome::Committed { revision } => Ok(Ok(revision)),
            TxnOutcome::Conflict { key, .. } => Ok(Err(key)),
        }
    }
}

/// The refusal of a transaction whose condition on `key` did not hold: nothing was written.
pub(crate) fn overtaken(key: &str) -> Problem {
    Problem::new(
        Reason::StaleGeneration,
        "somebody else changed this, or what it depends on, at the same moment",
    )
    .evidence(format!("the store's record {key}"))
    .remedy("try again")
}

/// The refusal of an id that does not exist.
pub(crate) fn no_such<K: Kind>(id: &impl Display) -> Problem {
    Problem::not_found(format!("{} {id} does not exist", K::NOUN)).at("id")
}

/// The refusal of an id at `field` that should lead to a `K` and does not.
pub(crate) fn missing<K: Kind>(id: &impl Display, field: &str) -> Problem {
    let listed = weft_model::listed(K::NAME);
    no_such::<K>(id).at(field).remedy(format!("weft ls {listed} shows those that do"))
}

/// A failure of the store as clients see it.
pub(crate) fn store_problem(error: StoreError) -> Problem {
    tracing::error!(error = %crate::error_chain::ErrorChain(&error), "the store failed");
    if error.is_out_of_space() {
        let message = "the disk of the agent's state directory is full: nothing was changed";
        return Problem::new(Reason::ResourceExhausted, message)
            .evidence(crate::error_chain::ErrorChain(&error).to_string())
            .remedy("make room on that disk, by removing what is not needed; then try again");
    }
    Problem::new(Reason::Unavailable, "the agent's store failed")
        .evidence(crate::error_chain::ErrorChain(&error).to_string())
        .remedy("see the agent's log, and weft doctor")
}
