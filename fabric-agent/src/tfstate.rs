//! Terraform's states, kept for who has no bucket: versions and locks.
//!
//! ```text
//! POST ─▶ .incoming ─▶ judged, fsync ─▶ NAME/N.tfstate ─▶ store: N is the latest ─▶ old files go
//! ```
//!
//! Contents are files, since large things never go into the store; the store says which version is
//! the latest, and who holds the lock, and both are compared in the one transaction that makes a
//! version: whoever lost the lock meanwhile writes nothing. A state is secret: no content is logged.

mod files;
pub(crate) mod http;
mod judge;
mod locking;
mod name;
mod record;
mod sending;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::Instrument as _;
use weft_model::{Problem, Reason};
use weft_store::{Item, Txn};

use crate::clock::Clock;
use crate::repo::{
    Repo, Stored, TFSTATE_LOCKS, TFSTATES, decode, encode, store_problem, tfstate_key,
    tfstate_lock_key,
};
use crate::turns::Turns;
use files::{Folder, Incoming, Staged, failed};
pub(crate) use name::StateName;
pub(crate) use record::{LockInfo, LockRecord, StateRecord, Version, Who};
pub(crate) use sending::send;
use sweep::numbers;
pub(crate) use sweep::{few, newer_than};

/// How many names there may be, states and locks together.
const MAX_STATES: usize = 1024;

/// How many may be on their way, and how long who comes then waits for a place.
const MAX_TRANSFERS: usize = 16;
const PLACE: Duration = Duration::from_secs(20);

/// What an operator bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The largest state.
    pub(crate) max_bytes: u64,
    /// How many versions are kept of a state, the latest with them.
    pub(crate) versions: usize,
    /// What a state's versions may have together; the latest is kept whatever it has.
    pub(crate) history_bytes: u64,
}

/// Every state of this agent.
#[derive(Debug)]
pub(crate) struct States {
    repo: Repo,
    clock: Arc<dyn Clock>,
    folder: Folder,
    limits: Limits,
    turns: Turns,
    /// Of those who send and receive.
    places: Arc<Semaphore>,
    /// A state that is restored is in memory as a whole: one at a time.
    restoring: Semaphore,
}

/// Why nothing was done.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Somebody else holds the lock.
    Locked(Box<LockRecord>),
    Problem(Problem),
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl Refusal {
    pub(crate) fn into_problem(self, name: &StateName) -> Problem {
        match self {
            Self::Locked(lock) => lock.problem(name),
            Self::Problem(problem) => problem,
        }
    }
}

/// By which right a version is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right<'a> {
    /// Nobody holds the lock.
    Unlocked,
    /// The lock with this id is held.
    Lock(&'a str),
    /// Whoever holds the lock.
    Force,
}

/// A state and its lock; either may be missing.
#[derive(Clone, Debug, Default)]
pub(crate) struct StateView {
    pub(crate) record: StateRecord,
    pub(crate) lock: Option<LockRecord>,
}

impl States {
    /// Those in `dir`, without what a crash left there.
    pub(crate) async fn open(
        dir: &Path,
        repo: Repo,
        clock: Arc<dyn Clock>,
        limits: Limits,
    ) -> anyhow::Result<Self> {
        let cannot = || format!("cannot keep Terraform's states in {}", dir.display());
        let folder = Folder::open(dir).with_context(cannot)?;
        let (turns, places) = (Turns::new(), Arc::new(Semaphore::new(MAX_TRANSFERS)));
        let restoring = Semaphore::new(1);
        let this = Self { repo, clock, folder, limits, turns, places, restoring };
        let records = records(&this.repo).await.map_err(|problem| anyhow::anyhow!(problem))?;
        this.folder.sweep(&numbers(&records), limits).with_context(cannot)?;
        Ok(this)
    }

    /// States of which versions were put aside that the store does not know, how many, and where.
    pub(crate) async fn aside(&self) -> Result<(BTreeMap<StateName, usize>, PathBuf), Problem> {
        let folder = self.folder.clone();
        blocking(move || {
            let what = folder.what_is_aside().map_err(|error| failed("look what is aside", &error));
            Ok((what?, folder.aside()))
        })
        .await
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Every state and every lock.
    pub(crate) async fn list(&self) -> Result<BTreeMap<StateName, StateView>, Problem> {
        let mut views: BTreeMap<StateName, StateView> = BTreeMap::new();
        for (name, record) in records(&self.repo).await? {
            views.entry(name).or_default().record = record;
        }
        for (name, lock) in self.locks().await? {
            views.entry(name).or_default().lock = Some(lock);
        }
        Ok(views)
    }

    /// One state and its lock.
    ///
    /// # Errors
    /// There is neither.
    pub(crate) async fn view(&self, name: &StateName) -> Result<StateView, Problem> {
        let record = self.record(name).await?.map(|stored| stored.value);
        let lock = self.lock_of(name).await?.map(|stored| stored.value);
        match (record, lock) {
            (None, None) => Err(no_such(name)),
            (record, lock) => Ok(StateView { record: record.unwrap_or_default(), lock }),
        }
    }

    async fn record(&self, name: &StateName) -> Result<Option<Stored<StateRecord>>, Problem> {
        self.repo.read(&tfstate_key(name.as_str())).await
    }

    /// A version, the latest unless `number` says which; nothing where there is no such state.
    ///
    /// # Errors
    /// There is no such version, or its file is damaged.
    pub(crate) async fn open_version(
        &self,
        name: &StateName,
        number: Option<u64>,
    ) -> Result<Option<(Version, File)>, Problem> {
        // So that it is not removed between the look and the opening.
        let _turn = self.turns.object(name.as_str()).await;
        let Some(stored) = self.record(name).await? else { return Ok(None) };
        let Some(version) = choose(name, &stored.value, number)? else { return Ok(None) };
        let (folder, of, wanted) = (self.folder.clone(), name.clone(), version.clone());
        let file = blocking(move || folder.open_version(&of, &wanted)).await?;
        tracing::info!(state = %name, version = version.number, "a Terraform state was read");
        Ok(Some((version, file)))
    }

    /// A place among those who send and receive.
    ///
    /// # Errors
    /// None has become free for a while.
    pub(crate) async fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = Arc::clone(&self.places).acquire_owned();
        free(place, &format!("{MAX_TRANSFERS} states are on their way already")).await
    }

    /// Room for a state that comes.
    pub(crate) fn receive(&self) -> Result<Incoming, Problem> {
        self.folder.receive()
    }

    /// Refuses who could not write now, before anything is sent.
    pub(crate) async fn check(&self, name: &StateName, right: Right<'_>) -> Result<(), Refusal> {
        let lock = self.lock_of(name).await?;
        judge_right(name, lock.as_ref(), right)
    }

    /// Makes `staged` the latest version, unless it is so already.
    pub(crate) async fn write(
        self: &Arc<Self>,
        name: &StateName,
        staged: Staged,
        right: Right<'_>,
        by: Who,
    ) -> Result<Version, Refusal> {
        let _turn = self.turns.object(name.as_str()).await;
        self.write_in_turn(name, staged, right, by, None).await
    }

    async fn write_in_turn(
        &self,
        name: &StateName,
        staged: Staged,
        right: Right<'_>,
        by: Who,
        restored_from: Option<u64>,
    ) -> Result<Version, Refusal> {
        let lock = self.lock_of(name).await?;
        judge_right(name, lock.as_ref(), right)?;
        let before = self.record(name).await?;
        if before.is_none() && lock.is_none() {
            self.check_room().await?;
        }
        let mut record = before.as_ref().map(|stored| stored.value.clone()).unwrap_or_default();
        // Who sends it twice, because no answer came, makes one version.
        if let Some(latest) = record.latest().filter(|latest| latest.sha256 == staged.sha256) {
            self.repair(name, latest.clone(), staged).await?;
            return Ok(latest.clone());
        }
        let version = Version {
            number: record.next_number(),
            at: self.clock.now(),
            by,
            bytes: staged.bytes,
            sha256: staged.sha256.clone(),
            md5: staged.md5.clone(),
            facts: staged.facts.clone(),
            restored_from,
        };
        let (folder, of, number) = (self.folder.clone(), name.clone(), version.number);
        blocking(move || {
            folder.place(&of, number, staged).map_err(|error| failed("store a state", &error))
        })
        .await?;
        record.versions.push(version.clone());
        let gone = record.prune(self.limits.versions, self.limits.history_bytes);
        let (key, lock_key) = (tfstate_key(name.as_str()), tfstate_lock_key(name.as_str()));
        let mut txn = match &before {
            Some(before) => Txn::new().when_at(&key, before.revision),
            // Something new, where what is there has to be kept.
            None => Txn::new().when_absent(&key).keeping_reserve(),
        };
        if right != Right::Force {
            txn = match &lock {
                Some(lock) => txn.when_at(&lock_key, lock.revision),
                None => txn.when_absent(&lock_key),
            };
        }
        let txn = txn.put(&key, encode(&record));
        let committed = match self.repo.try_commit(txn).await {
            Ok(committed) => committed,
            Err(problem) => {
                // A full disk does not keep what no record names. Where the store does not say what it
                // has, the file may be named, and stays for the next start to judge.
                if let Ok(now) = self.record(name).await
                    && now.is_none_or(|now| now.value.find(version.number).is_none())
                {
                    self.remove_files(name, vec![version.number]).await;
                }
                return Err(problem.into());
            }
        };
        if committed.is_err() {
            self.remove_files(name, vec![number]).await;
            // Versions are made in turns: it was the lock.
            self.check(name, right).await?;
            let message = format!("the lock of the state {name} changed at the same moment");
            return Err(Problem::new(Reason::StaleGeneration, message).remedy("try again").into());
        }
        tracing::info!(
            state = %name, version = number, bytes = version.bytes, serial = version.facts.serial,
            resources = version.facts.resources, restored_from, forced = right == Right::Force,
            "a Terraform state was stored"
        );
        self.remove_files(name, gone.into_iter().map(|version| version.number).collect()).await;
        Ok(version)
    }

    /// Puts what came where the file of `version` is damaged, whose content it has.
    async fn repair(
        &self,
        name: &StateName,
        version: Version,
        staged: Staged,
    ) -> Result<(), Problem> {
        let (folder, name) = (self.folder.clone(), name.clone());
        blocking(move || {
            if folder.open_version(&name, &version).is_ok() {
                return Ok(());
            }
            let placed = folder.place(&name, version.number, staged);
            placed.map_err(|error| failed("repair a state", &error))?;
            tracing::warn!(
                state = %name, version = version.number,
                "the damaged file of a Terraform state was replaced by what came, which is the same"
            );
            Ok(())
        })
        .await
    }

    async fn remove_files(&self, name: &StateName, numbers: Vec<u64>) {
        if numbers.is_empty() {
            return;
        }
        let (folder, name) = (self.folder.clone(), name.clone());
        let removed = move || {
            folder.remove(&name, numbers);
            Ok(())
        };
        if let Err(problem) = blocking(removed).await {
            tracing::warn!(error = %problem, "old versions of a state are left for the next start");
        }
    }

    /// Whether there may be one more name.
    ///
    /// # Errors
    /// There are as many as there may be.
    async fn check_room(&self) -> Result<(), Problem> {
        let (states, locks) =
            (items(&self.repo, TFSTATES).await?, items(&self.repo, TFSTATE_LOCKS).await?);
        let states = states.iter().map(|item| name_in(&item.key, TFSTATES));
        let locks = locks.iter().map(|item| name_in(&item.key, TFSTATE_LOCKS));
        let known = states.chain(locks).collect::<Result<BTreeSet<_>, _>>()?;
        if known.len() >= MAX_STATES {
            let message = format!("there are {MAX_STATES} Terraform states already");
            return Err(Problem::new(Reason::ResourceExhausted, message)
                .remedy("remove those that nobody needs: weft state ls, weft state rm NAME"));
        }
        Ok(())
    }

    /// Makes an older version the latest once more, with a serial above all that are known: plans
    /// that were saved before it are refused by Terraform.
    pub(crate) async fn restore(
        self: &Arc<Self>,
        name: &StateName,
        number: u64,
        right: Right<'_>,
        by: Who,
    ) -> Result<Version, Refusal> {
        let _one = free(self.restoring.acquire(), "another state is being restored").await?;
        let _place = self.place().await?;
        let _turn = self.turns.object(name.as_str()).await;
        let stored = self.record(name).await?.ok_or_else(|| no_such(name))?;
        let version = choose(name, &stored.value, Some(number))?.ok_or_else(|| no_such(name))?;
        let serials = stored.value.versions.iter().filter_map(|version| version.facts.serial);
        let serial = serials.max().unwrap_or(0).saturating_add(1);
        let (folder, of) = (self.folder.clone(), name.clone());
        let (content, place) = blocking(move || {
            let content = folder.read_version(&of, &version)?;
            let place = judge::place_of_serial(&content)?;
            Ok((content, place))
        })
        .await?;
        // All else stays to the letter.
        let place = place.map(|place| (place, serial.to_string()));
        let (before, between, after) = match &place {
            Some((place, serial)) => (&content[..place.start], &serial[..], &content[place.end..]),
            None => (&content[..], "", ""),
        };
        let mut incoming = self.folder.receive()?;
        for part in [before, between, after] {
            incoming.write(part.as_bytes()).await?;
        }
        drop(content);
        let staged = incoming.finish().await?;
        self.write_in_turn(name, staged, right, by, Some(number)).await
    }

    /// Forgets a state with all its versions.
    ///
    /// # Errors
    /// It is locked, or there are things in it, and it is not forced.
    pub(crate) async fn remove(&self, name: &StateName, force: bool) -> Result<(), Refusal> {
        let _turn = self.turns.object(name.as_str()).await;
        let (stored, lock) = (self.record(name).await?, self.lock_of(name).await?);
        if stored.is_none() && lock.is_none() {
            return Err(no_such(name).into());
        }
        if let Some(lock) = lock.as_ref().filter(|_| !force) {
            return Err(Refusal::Locked(Box::new(lock.value.clone())));
        }
        let facts = stored.as_ref().and_then(|stored| stored.value.latest()).map(|v| &v.facts);
        let full = facts.is_some_and(|facts| facts.resources != Some(0));
        if full && !force {
            let count = facts.and_then(|facts| facts.resources);
            let what = count.map_or_else(|| "resources".to_owned(), |n| format!("{n} resources"));
            let message = format!("the state {name} has {what}, which Terraform would forget");
            return Err(Problem::new(Reason::FailedPrecondition, message)
                .remedy("terraform destroy first, or say --force")
                .into());
        }
        let mut txn = Txn::new();
        if let Some(stored) = &stored {
            let key = tfstate_key(name.as_str());
            txn = txn.when_at(&key, stored.revision).delete(key);
        }
        if let Some(lock) = &lock {
            let key = tfstate_lock_key(name.as_str());
            txn = txn.when_at(&key, lock.revision).delete(key);
        }
        let (folder, of) = (self.folder.clone(), name.clone());
        let begin = move || {
            folder.begin_removal(&of);
            Ok(())
        };
        blocking(begin).await?;
        let (folder, of) = (self.folder.clone(), name.clone());
        if let Err(problem) = self.repo.commit(txn).await {
            let take_back = move || {
                folder.take_back_removal(&of);
                Ok(())
            };
            blocking(take_back).await?;
            return Err(problem.into());
        }
        tracing::warn!(state = %name, forced = force, "a Terraform state was removed");
        blocking(move || {
            folder.remove_all(&of);
            Ok(())
        })
        .await?;
        Ok(())
    }
}

/// Carries out `work` to its end, also when who asked goes away.
pub(crate) async fn whole<T: Send + 'static>(
    work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::spawn(work.in_current_span()).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request panicked");
        Err(Problem::new(Reason::Internal, "the agent failed; see its log").into())
    })
}

/// Work on files, which may wait for a disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let failed = |error| failed("work on its states", &std::io::Error::other(error));
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}

/// What `place` waits for, unless that takes too long: `taken` says why.
async fn free<T>(
    place: impl Future<Output = Result<T, AcquireError>>,
    taken: &str,
) -> Result<T, Problem> {
    let place = timeout(PLACE, place).await;
    place
        .ok()
        .and_then(Result::ok)
        .ok_or_else(|| Problem::new(Reason::Unavailable, taken).remedy("try again in a moment"))
}

async fn items(repo: &Repo, prefix: &str) -> Result<Vec<Item>, Problem> {
    Ok(repo.store().list(prefix).await.map_err(store_problem)?.items)
}

async fn records(repo: &Repo) -> Result<Vec<(StateName, StateRecord)>, Problem> {
    let items = items(repo, TFSTATES).await?.into_iter();
    let record = |item: Item| Ok((name_in(&item.key, TFSTATES)?, decode(&item.key, &item.value)?));
    items.map(record).collect()
}

fn name_in(key: &str, prefix: &str) -> Result<StateName, Problem> {
    key.strip_prefix(prefix).unwrap_or_default().parse()
}

/// Whether there is any state in `dir`.
pub(crate) fn are_in(dir: &Path) -> bool {
    let states = std::fs::read_dir(dir).into_iter().flatten().flatten();
    states.into_iter().any(|entry| entry.file_name().to_str().is_some_and(StateName::is_one))
}

fn judge_right(
    name: &StateName,
    lock: Option<&Stored<LockRecord>>,
    right: Right<'_>,
) -> Result<(), Refusal> {
    match (right, lock) {
        (Right::Force, _) | (Right::Unlocked, None) => Ok(()),
        (Right::Lock(id), Some(lock)) if lock.value.info.id == id => Ok(()),
        (_, Some(lock)) => Err(Refusal::Locked(Box::new(lock.value.clone()))),
        (Right::Lock(id), None) => {
            let message = format!("the state {name} is not locked any more: somebody released it");
            Err(Problem::new(Reason::StaleGeneration, message)
                .evidence(format!("lock {id}"))
                .remedy("look at what was done meanwhile (weft state versions), then plan again")
                .into())
        }
    }
}

fn choose(
    name: &StateName,
    record: &StateRecord,
    number: Option<u64>,
) -> Result<Option<Version>, Problem> {
    let Some(number) = number else { return Ok(record.latest().cloned()) };
    record.find(number).cloned().map(Some).ok_or_else(|| {
        Problem::not_found(format!("the state {name} has no version {number}"))
            .at("version")
            .remedy(format!("weft state versions {name} lists those that are kept"))
    })
}

pub(crate) fn no_such(name: &StateName) -> Problem {
    Problem::not_found(format!("there is no Terraform state {name}"))
        .at("name")
        .remedy("weft state ls lists all")
}

#[cfg(test)]
mod tests;
