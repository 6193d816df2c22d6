//! The locks of states: who works on one has it for that long.

use weft_model::Problem;
use weft_store::{Item, Txn};

use super::{LockInfo, LockRecord, Refusal, StateName, States, Who, items, name_in};
use crate::repo::{Stored, TFSTATE_LOCKS, decode, encode, tfstate_lock_key};

/// A lock that is held for so long is told by the doctor.
pub(super) const LONG: jiff::SignedDuration = jiff::SignedDuration::from_hours(12);

impl States {
    pub(super) async fn lock_of(
        &self,
        name: &StateName,
    ) -> Result<Option<Stored<LockRecord>>, Problem> {
        self.repo.read(&tfstate_lock_key(name.as_str())).await
    }

    /// Takes the lock. Who has it with this id already has it: an answer may be lost.
    pub(crate) async fn lock(
        &self,
        name: &StateName,
        info: LockInfo,
        by: Who,
    ) -> Result<(), Refusal> {
        let _turn = self.turns.object(name.as_str()).await;
        if let Some(held) = self.lock_of(name).await? {
            return match held.value.info.id == info.id {
                true => Ok(()),
                false => Err(Refusal::Locked(Box::new(held.value))),
            };
        }
        if self.record(name).await?.is_none() {
            self.check_room().await?;
        }
        let (id, operation) = (info.id.clone(), info.operation.clone());
        let key = tfstate_lock_key(name.as_str());
        let record = LockRecord { info, by, at: self.clock.now() };
        // Something new: who cannot lock cannot store what comes of it either.
        let txn = Txn::new().when_absent(&key).keeping_reserve().put(&key, encode(&record));
        self.repo.commit(txn).await?;
        tracing::info!(state = %name, lock.id = id, operation, "a Terraform state was locked");
        Ok(())
    }

    /// Releases the lock with this id, or any (by force); gives the one that was held.
    ///
    /// # Errors
    /// Another lock is held.
    pub(crate) async fn unlock(
        &self,
        name: &StateName,
        id: Option<&str>,
    ) -> Result<Option<LockRecord>, Refusal> {
        let _turn = self.turns.object(name.as_str()).await;
        let Some(held) = self.lock_of(name).await? else { return Ok(None) };
        if id.is_some_and(|id| id != held.value.info.id) {
            return Err(Refusal::Locked(Box::new(held.value)));
        }
        let key = tfstate_lock_key(name.as_str());
        self.repo.commit(Txn::new().when_at(&key, held.revision).delete(key)).await?;
        let lock_id = &held.value.info.id;
        match id {
            Some(_) => {
                tracing::info!(state = %name, lock.id = lock_id, "a Terraform state was unlocked");
            }
            None => tracing::warn!(
                state = %name, lock.id = lock_id, held = held.value.holder(),
                "a Terraform state was unlocked by force"
            ),
        }
        Ok(Some(held.value))
    }

    pub(super) async fn locks(&self) -> Result<Vec<(StateName, LockRecord)>, Problem> {
        let items = items(&self.repo, TFSTATE_LOCKS).await?.into_iter();
        let lock =
            |item: Item| Ok((name_in(&item.key, TFSTATE_LOCKS)?, decode(&item.key, &item.value)?));
        items.map(lock).collect()
    }

    /// Locks that are held for longer than any work takes.
    pub(crate) async fn old_locks(&self) -> Result<Vec<(StateName, LockRecord)>, Problem> {
        let now = self.clock.now();
        let mut locks = self.locks().await?;
        locks.retain(|(_, lock)| now.duration_since(lock.at) >= LONG);
        Ok(locks)
    }
}
