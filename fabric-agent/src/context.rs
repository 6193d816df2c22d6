//! What every API handler works with.

use std::sync::Arc;

use tokio::sync::RwLock;
use weft_model::{Claim, HostId, Problem, PublicPool, Reason, SessionId, Timestamp, ZoneName};
use weft_proto::convert::Revision as Update;
use weft_store::Txn;

use crate::cache::Cache;
use crate::clock::Clock;
use crate::console_tokens::ConsoleTokens;
use crate::creation::TokenRecord;
use crate::fetches::Fetches;
use crate::hits::HitCounts;
use crate::host::Host;
use crate::ledger::Ledger;
use crate::monitoring::Monitor;
use crate::reconcile::Reconciler;
use crate::repo::{
    Associations, Attachments, ElasticIps, Groups, Images, InstanceTypes, Instances, KeyPairs,
    Kind, NetworkInterfaces, PortForwards, PrefixLists, RecordOf, Repo, RouteTableAssociations,
    RouteTables, Rules, Snapshots, Stored, Subnets, TOKENS, VolumeAttachments, Volumes, Vpcs,
    decode, encode, object_key, store_problem,
};
use crate::sessions::Sessions;
use crate::tfstate::States;
use crate::transfers::Transfers;
use crate::turns::Turns;

/// What every API handler works with.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) repo: Repo,
    pub(crate) cache: Arc<Cache>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) host_id: HostId,
    /// The zone that the host is in.
    pub(crate) availability_zone: ZoneName,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ledger: Ledger,
    pub(crate) sessions: Sessions,
    pub(crate) console_tokens: ConsoleTokens,
    /// Where their holders are served, if they are.
    pub(crate) console_port: Option<u16>,
    pub(crate) reconciler: Arc<Reconciler>,
    pub(crate) fetches: Arc<Fetches>,
    /// Files that come, for people who look.
    pub(crate) transfers: Arc<Transfers>,
    /// Terraform's states.
    pub(crate) states: Arc<States>,
    pub(crate) hits: HitCounts,
    pub(crate) monitor: Monitor,
    /// What public addresses come from.
    pub(crate) public_pool: PublicPool,
    /// Held for reading while references are made, for writing while what may be referred to is
    /// deleted: nobody ends up referring to something that is gone. The reconciler's, too.
    pub(crate) references: Arc<RwLock<()>>,
}

impl Context {
    /// One change of an object at a time, and one Create with a token.
    pub(crate) fn turns(&self) -> &Turns {
        &self.reconciler.turns
    }

    /// One object; claimed from now on if the client has it in its state.
    pub(crate) async fn fetch<K: Kind>(
        &self,
        id: &K::Id,
        claim: bool,
    ) -> Result<RecordOf<K>, Problem> {
        let mut stored = self.repo.get::<K>(id).await?;
        if claim && stored.value.claim != Claim::Claimed {
            let _turn = self.turns().object(&id.to_string()).await;
            stored = self.repo.get::<K>(id).await?;
            stored.value.claim = Claim::Claimed;
            let key = object_key::<K>(id);
            let txn = Txn::new().when_at(&key, stored.revision).put(key, encode(&stored.value));
            // Who was faster has claimed it, changed it or removed it: read what is there now.
            if self.repo.try_commit(txn).await?.is_err() {
                return Ok(self.repo.get::<K>(id).await?.value);
            }
        }
        Ok(stored.value)
    }

    /// Those of `ids` that exist.
    pub(crate) async fn fetch_all<K: Kind>(
        &self,
        ids: &[String],
        claim: bool,
    ) -> Result<Vec<RecordOf<K>>, Problem> {
        let mut records = Vec::with_capacity(ids.len());
        for text in ids {
            let id: K::Id = text
                .parse()
                .map_err(|e: weft_model::InvalidId| Problem::invalid("ids", e.to_string()))?;
            match self.fetch::<K>(&id, claim).await {
                Ok(record) => records.push(record),
                Err(problem) if problem.reason == Reason::NotFound => {}
                Err(problem) => return Err(problem),
            }
        }
        Ok(records)
    }

    /// The object that `update` is about, if it is of the generation that the update was made for.
    ///
    /// # Errors
    /// [`Reason::NotFound`], [`Reason::StaleGeneration`], or that it is being deleted.
    pub(crate) async fn fetch_for<K: Kind>(
        &self,
        update: &Update<K::Id>,
    ) -> Result<Stored<RecordOf<K>>, Problem> {
        let stored = self.repo.get::<K>(&update.id).await?;
        let generation = stored.value.generation;
        if update.expected_generation.is_some_and(|expected| expected != generation) {
            let message = format!(
                "{} {} was changed by somebody else: it is at generation {generation}, the update \
                 was made for {}",
                K::NOUN,
                update.id,
                update.expected_generation.unwrap_or_default(),
            );
            return Err(Problem::new(Reason::StaleGeneration, message)
                .remedy("read it again and repeat the change (terraform plan does)"));
        }
        if stored.value.deleting_since.is_some() {
            let message = format!("{} {} is being deleted", K::NOUN, update.id);
            return Err(Problem::new(Reason::FailedPrecondition, message));
        }
        Ok(stored)
    }

    /// Stores `record` as the next generation, unless nothing but the claim would change.
    pub(crate) async fn store_update<K: Kind>(
        &self,
        before: Stored<RecordOf<K>>,
        mut record: RecordOf<K>,
        txn: Txn,
    ) -> Result<RecordOf<K>, Problem> {
        let unchanged = before.value.spec == record.spec
            && before.value.tags == record.tags
            && before.value.client_data == record.client_data;
        if unchanged {
            return Ok(record);
        }
        record.generation += 1;
        let key = object_key::<K>(&record.id);
        let txn = txn.when_at(&key, before.revision).put(key, encode(&record));
        let revision = self.reconciler.metering.keep(&record, txn).await?;
        tracing::info!(kind = K::NAME, id = %record.id, generation = record.generation, "updated");
        self.cache.reached(revision).await;
        Ok(record)
    }

    /// Keeps that an object is to go, if that is not so already; the reconciler has it go.
    pub(crate) async fn mark_deleting<K: Kind>(
        &self,
        before: Stored<RecordOf<K>>,
    ) -> Result<(), Problem> {
        let Stored { value: mut record, revision } = before;
        if record.deleting_since.is_some() {
            return Ok(());
        }
        record.deleting_since = Some(self.clock.now());
        let key = object_key::<K>(&record.id);
        let txn = Txn::new().when_at(&key, revision).put(key, encode(&record));
        let revision = self.repo.commit(txn).await?;
        self.cache.reached(revision).await;
        Ok(())
    }

    /// Removes an object whose record is all there is of it.
    pub(crate) async fn remove<K: Kind>(
        &self,
        stored: &Stored<RecordOf<K>>,
        txn: Txn,
    ) -> Result<(), Problem> {
        let key = object_key::<K>(&stored.value.id);
        let txn = txn.when_at(&key, stored.revision).delete(key);
        let revision = self.reconciler.metering.end(&stored.value, txn).await?;
        tracing::info!(kind = K::NAME, id = %stored.value.id, "deleted");
        self.cache.reached(revision).await;
        Ok(())
    }

    /// Waits until the networks are as the store says, for a moment: one that is broken for other
    /// reasons must not hold up the client. It is mended by itself; the log says `not_yet`.
    pub(crate) async fn settle_networks(&self, not_yet: &str) {
        const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
        match tokio::time::timeout(PATIENCE, self.reconciler.networks.settle()).await {
            Ok(Ok(report)) => {
                for (vpc_id, error) in &report.failed_vpcs {
                    tracing::warn!(vpc.id = %vpc_id, error, "{not_yet}");
                }
            }
            Ok(Err(_)) | Err(_) => tracing::warn!("{not_yet}"),
        }
    }

    /// A graceful end of a session: its client has everything that it made in its state.
    pub(crate) async fn claim_all_of(&self, session: &SessionId) -> Result<(), Problem> {
        let keys: Vec<String> = self
            .cache
            .read()
            .unclaimed
            .iter()
            .filter(
                |(_, claim)| matches!(claim, Claim::Unclaimed { session: of, .. } if of == session),
            )
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            self.claim(&key).await?;
        }
        Ok(())
    }

    async fn claim(&self, key: &str) -> Result<(), Problem> {
        macro_rules! claim_as {
            ($($kind:ident),*) => {
                match key.split('/').nth(1) {
                    $(Some($kind::NAME) => self.claim_record::<$kind>(key).await,)*
                    _ => Ok(()),
                }
            };
        }
        claim_as!(
            Instances,
            InstanceTypes,
            Images,
            Snapshots,
            KeyPairs,
            Groups,
            Rules,
            Vpcs,
            Subnets,
            ElasticIps,
            Associations,
            PortForwards,
            NetworkInterfaces,
            Attachments,
            Volumes,
            VolumeAttachments,
            RouteTables,
            RouteTableAssociations,
            PrefixLists
        )
    }

    async fn claim_record<K: Kind>(&self, key: &str) -> Result<(), Problem> {
        // All of the rest: the id of a pair has a slash itself.
        let id = key.splitn(3, '/').nth(2).unwrap_or_default();
        let Ok(id) = id.parse::<K::Id>() else { return Ok(()) };
        match self.fetch::<K>(&id, true).await {
            Err(problem) if problem.reason == Reason::NotFound => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Forgets the tokens of Creates that nobody retries any more.
    pub(crate) async fn forget_tokens(&self, before: Timestamp) -> Result<(), Problem> {
        let listing = self.repo.store().list(TOKENS).await.map_err(store_problem)?;
        for item in listing.items {
            let token: TokenRecord = decode(&item.key, &item.value)?;
            if token.at < before {
                self.repo.commit(Txn::new().delete(item.key)).await?;
            }
        }
        Ok(())
    }
}
