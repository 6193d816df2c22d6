use std::os::unix::fs::PermissionsExt as _;

use async_trait::async_trait;
use weft_store::{LeaseId, Listing, Revision, Store, StoreError, TxnOutcome, WatchStream};

use super::locking::LONG;
use super::*;
use crate::clock::SystemClock;
use crate::testing::repo;

/// States in a directory, which can be opened again.
pub(super) struct Place {
    pub(super) dir: tempfile::TempDir,
    repo: Repo,
    pub(super) states: Arc<States>,
}

impl Place {
    pub(super) async fn new() -> Self {
        let limits = Limits { max_bytes: 1 << 20, versions: 5, history_bytes: 2 << 20 };
        let dir = tempfile::tempdir().unwrap();
        let repo = repo(dir.path());
        let states = Self::open(dir.path(), &repo, limits).await;
        Self { dir, repo, states }
    }

    async fn open(dir: &Path, repo: &Repo, limits: Limits) -> Arc<States> {
        let clock = Arc::new(SystemClock::of_this_boot().unwrap());
        Arc::new(States::open(&dir.join("tfstates"), repo.clone(), clock, limits).await.unwrap())
    }

    async fn restart(&mut self) {
        self.states = Self::open(self.dir.path(), &self.repo, self.states.limits()).await;
    }

    fn file(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join("tfstates").join(path)
    }

    /// What there is below the folder of states, without what is empty.
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        for dir in std::fs::read_dir(self.file("")).unwrap() {
            let dir = dir.unwrap();
            for file in std::fs::read_dir(dir.path()).unwrap() {
                let file = file.unwrap().file_name();
                let dir = dir.file_name();
                found.push(format!("{}/{}", dir.to_str().unwrap(), file.to_str().unwrap()));
            }
        }
        found.sort();
        found
    }

    async fn staged(&self, content: &str) -> Staged {
        let mut incoming = self.states.receive().unwrap();
        incoming.write(content.as_bytes()).await.unwrap();
        incoming.finish().await.unwrap()
    }

    async fn write(&self, content: &str, right: Right<'_>) -> Result<Version, Refusal> {
        self.states.write(&name(), self.staged(content).await, right, who()).await
    }

    pub(super) async fn latest(&self) -> Option<String> {
        let found = self.states.open_version(&name(), None).await.unwrap();
        found.map(|(_, file)| std::io::read_to_string(file).unwrap())
    }
}

pub(super) fn name() -> StateName {
    "web".parse().unwrap()
}

fn who() -> Who {
    record::tests::who()
}

/// A state of Terraform's with one object.
pub(super) fn state(serial: u64) -> String {
    format!(
        r#"{{"version":4,"terraform_version":"1.11.4","serial":{serial},"lineage":"l","outputs":{{}},"resources":[{{"mode":"managed","type":"t","name":"n","instances":[{{}}]}}]}}"#
    )
}

pub(super) fn info(id: &str) -> LockInfo {
    LockInfo { id: id.to_owned(), who: "root@vm".to_owned(), ..LockInfo::default() }
}

#[track_caller]
fn locked(result: Result<impl std::fmt::Debug, Refusal>, id: &str) {
    match result.unwrap_err() {
        Refusal::Locked(lock) => assert_eq!(lock.info.id, id),
        Refusal::Problem(problem) => panic!("{problem}"),
    }
}

#[track_caller]
fn refused(result: Result<impl std::fmt::Debug, Refusal>, reason: Reason) -> Problem {
    match result.unwrap_err() {
        Refusal::Locked(lock) => panic!("{lock:?}"),
        Refusal::Problem(problem) => {
            assert_eq!(problem.reason, reason, "{problem}");
            problem
        }
    }
}

#[tokio::test]
async fn each_state_that_is_stored_is_a_version_and_the_last_is_what_is_read() {
    let mut place = Place::new().await;
    assert_eq!(place.latest().await, None);
    for serial in 1..=3 {
        assert_eq!(place.write(&state(serial), Right::Unlocked).await.unwrap().number, serial);
    }
    // Sent once more, as no answer came.
    assert_eq!(place.write(&state(3), Right::Unlocked).await.unwrap().number, 3);
    for again in [false, true] {
        if again {
            place.restart().await;
        }
        assert_eq!(place.latest().await, Some(state(3)));
        let (first, _) = place.states.open_version(&name(), Some(1)).await.unwrap().unwrap();
        assert_eq!((first.facts.serial, first.facts.resources), (Some(1), Some(1)));
        assert_eq!(place.files(), ["web/1.tfstate", "web/2.tfstate", "web/3.tfstate"]);
    }
    let mode = |path| std::fs::metadata(place.file(path)).unwrap().permissions().mode() & 0o777;
    let modes = [mode(""), mode(".incoming"), mode("web"), mode("web/3.tfstate")];
    assert_eq!(modes, [0o700, 0o700, 0o700, 0o600]);
}

#[tokio::test]
async fn old_versions_go_by_number_and_by_size() {
    let place = Place::new().await;
    for serial in 1..=7 {
        place.write(&state(serial), Right::Unlocked).await.unwrap();
    }
    let numbers = |place: &Place| {
        let files = place.files().into_iter();
        files.map(|file| file[4..file.len() - 8].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&place), ["3", "4", "5", "6", "7"]);
    let view = place.states.view(&name()).await.unwrap();
    assert_eq!(view.record.versions.len(), 5);
    // Two of nearly one MiB fit with what is small, three do not.
    let large = |serial| state(serial).replace("\"l\"", &format!("\"{}\"", "l".repeat(1_000_000)));
    for serial in 8..=10 {
        place.write(&large(serial), Right::Unlocked).await.unwrap();
    }
    assert_eq!(numbers(&place), ["10", "9"]);
}

#[tokio::test]
async fn who_has_no_lock_writes_nothing_while_somebody_has() {
    let mut place = Place::new().await;
    let states = Arc::clone(&place.states);
    states.lock(&name(), info("a"), who()).await.unwrap();
    states.lock(&name(), info("a"), who()).await.unwrap();
    locked(states.lock(&name(), info("b"), who()).await, "a");
    locked(place.write(&state(1), Right::Unlocked).await, "a");
    locked(place.write(&state(1), Right::Lock("b")).await, "a");
    assert_eq!(place.files(), [""; 0]);
    // It is held on by the next agent.
    place.restart().await;
    let states = Arc::clone(&place.states);
    locked(states.lock(&name(), info("b"), who()).await, "a");
    place.write(&state(1), Right::Lock("a")).await.unwrap();
    locked(states.unlock(&name(), Some("b")).await, "a");
    assert_eq!(states.unlock(&name(), Some("a")).await.unwrap().unwrap().info.id, "a");
    assert!(states.unlock(&name(), Some("a")).await.unwrap().is_none());

    // Who was taken the lock from is told, and changes nothing.
    refused(place.write(&state(2), Right::Lock("a")).await, Reason::StaleGeneration);
    states.lock(&name(), info("b"), who()).await.unwrap();
    locked(place.write(&state(2), Right::Lock("a")).await, "b");
    assert!(states.unlock(&name(), None).await.unwrap().is_some());
    assert_eq!(place.latest().await, Some(state(1)));
    assert_eq!(place.files(), ["web/1.tfstate"]);
}

#[tokio::test]
async fn writers_at_once_make_a_version_each_and_lockers_at_once_one_lock() {
    let place = Place::new().await;
    let mut writing = Vec::new();
    for serial in 1..=5 {
        let (states, staged) = (Arc::clone(&place.states), place.staged(&state(serial)).await);
        let write = async move { states.write(&name(), staged, Right::Unlocked, who()).await };
        writing.push(tokio::spawn(write));
    }
    let mut numbers = Vec::new();
    for written in writing {
        numbers.push(written.await.unwrap().unwrap().number);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    let view = place.states.view(&name()).await.unwrap();
    for version in view.record.versions {
        place.states.open_version(&name(), Some(version.number)).await.unwrap().unwrap();
    }
    let locking = (0..20).map(|n| {
        let states = Arc::clone(&place.states);
        tokio::spawn(async move { states.lock(&name(), info(&n.to_string()), who()).await })
    });
    let mut got = 0;
    for outcome in locking.collect::<Vec<_>>() {
        got += usize::from(outcome.await.unwrap().is_ok());
    }
    assert_eq!(got, 1);
}

#[tokio::test]
async fn an_older_version_is_restored_as_a_newer_one_that_no_saved_plan_fits() {
    let place = Place::new().await;
    for serial in [4, 5] {
        place.write(&state(serial), Right::Unlocked).await.unwrap();
    }
    let restored = place.states.restore(&name(), 1, Right::Unlocked, who()).await.unwrap();
    assert_eq!((restored.number, restored.restored_from), (3, Some(1)));
    assert_eq!(restored.facts.serial, Some(6));
    let content: serde_json::Value = serde_json::from_str(&place.latest().await.unwrap()).unwrap();
    let mut want: serde_json::Value = serde_json::from_str(&state(4)).unwrap();
    want["serial"] = 6.into();
    assert_eq!(content, want);
    refused(place.states.restore(&name(), 9, Right::Unlocked, who()).await, Reason::NotFound);

    place.states.lock(&name(), info("a"), who()).await.unwrap();
    locked(place.states.restore(&name(), 2, Right::Unlocked, who()).await, "a");
    let forced = place.states.restore(&name(), 2, Right::Force, who()).await.unwrap();
    assert_eq!((forced.number, forced.facts.serial), (4, Some(7)));
    place.write(&state(8), Right::Lock("a")).await.unwrap();
}

#[tokio::test]
async fn a_state_with_things_in_it_is_not_forgotten_by_mistake() {
    let place = Place::new().await;
    let states = &place.states;
    refused(states.remove(&name(), true).await, Reason::NotFound);
    place.write(&state(1), Right::Unlocked).await.unwrap();
    refused(states.remove(&name(), false).await, Reason::FailedPrecondition);
    let empty = r#"{"version":4,"serial":2,"resources":[]}"#;
    place.write(empty, Right::Unlocked).await.unwrap();
    states.lock(&name(), info("a"), who()).await.unwrap();
    locked(states.remove(&name(), false).await, "a");
    states.unlock(&name(), Some("a")).await.unwrap();
    states.remove(&name(), false).await.unwrap();
    assert!(!place.file("web").exists());
    assert!(states.list().await.unwrap().is_empty());
    place.write(&state(1), Right::Unlocked).await.unwrap();
    states.lock(&name(), info("a"), who()).await.unwrap();
    states.remove(&name(), true).await.unwrap();
    assert!(states.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_crash_left_goes_and_what_the_store_knows_stays() {
    let mut place = Place::new().await;
    for serial in 1..=7 {
        place.write(&state(serial), Right::Unlocked).await.unwrap();
    }
    std::fs::write(place.file("web/2.tfstate"), "its removal was interrupted").unwrap();
    std::fs::write(place.file(".incoming/half"), "hal").unwrap();
    std::fs::create_dir(place.file("gone")).unwrap();
    std::fs::write(place.file("gone/1.tfstate"), "the removal of all of it was").unwrap();
    std::fs::write(place.file("gone/removed"), "").unwrap();
    std::fs::create_dir(place.file("begun")).unwrap();
    place.restart().await;
    let kept =
        ["web/3.tfstate", "web/4.tfstate", "web/5.tfstate", "web/6.tfstate", "web/7.tfstate"];
    assert_eq!(place.files(), kept);
    assert!(!place.file("gone").exists() && !place.file("begun").exists());
    assert_eq!(place.latest().await, Some(state(7)));
}

#[tokio::test]
async fn what_may_be_newer_than_an_older_store_is_put_aside_and_told() {
    let mut place = Place::new().await;
    for serial in 1..=2 {
        place.write(&state(serial), Right::Unlocked).await.unwrap();
    }
    let (latest, known) = (place.file("web/2.tfstate"), Folder::at(&place.file("")));
    // As the store has it, versions 3 to 9 and the state of another name were never made.
    for number in 3..=9 {
        std::fs::write(place.file(&format!("web/{number}.tfstate")), state(number)).unwrap();
        let stored = std::time::UNIX_EPOCH + std::time::Duration::from_secs(number);
        let file = File::options().write(true).open(place.file(&format!("web/{number}.tfstate")));
        file.unwrap().set_modified(stored).unwrap();
    }
    std::fs::create_dir(place.file("network")).unwrap();
    std::fs::copy(&latest, place.file("network/1.tfstate")).unwrap();
    std::fs::write(place.file("network/1.tfstate.old"), "nobody's").unwrap();
    let newer = newer_than(&place.repo, known.dir()).await.unwrap();
    assert_eq!(few(&newer), "network, web");
    place.restart().await;
    assert_eq!(place.latest().await, Some(state(2)));
    assert!(!place.file("network").exists());

    let unknown = place.file(".unknown");
    let aside = |name: &str| {
        let files = std::fs::read_dir(unknown.join(name)).unwrap();
        let mut files: Vec<_> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        files
    };
    // As many as there may be versions.
    let kept = (5..=9).map(|number| format!("{number}-19700101T00000{number}Z.tfstate"));
    assert_eq!(aside("web"), kept.collect::<Vec<_>>());
    assert_eq!(aside("network").len(), 1);
    let path = unknown.join("web/9-19700101T000009Z.tfstate");
    assert_eq!(std::fs::read_to_string(path).unwrap(), state(9));
    let (told, dir) = place.states.aside().await.unwrap();
    let told: Vec<_> = told.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    assert_eq!((told, dir), (vec![("network", 1), ("web", 5)], unknown.clone()));
    // Their numbers are given anew, and they stay.
    assert_eq!(place.write(&state(9), Right::Unlocked).await.unwrap().number, 3);
    place.restart().await;
    assert_eq!(aside("web").len(), 5);
    assert_eq!(place.latest().await, Some(state(9)));
    // Lost once more: nothing takes the place of anything.
    for (number, second) in [(9, 9), (10, 10)] {
        std::fs::write(place.file(&format!("web/{number}.tfstate")), "another").unwrap();
        let file = File::options().write(true).open(place.file(&format!("web/{number}.tfstate")));
        let stored = std::time::UNIX_EPOCH + std::time::Duration::from_secs(second);
        file.unwrap().set_modified(stored).unwrap();
    }
    place.restart().await;
    let aside = |name: &str| std::fs::read_to_string(unknown.join("web").join(name)).unwrap();
    assert_eq!(aside("9-19700101T000009Z.tfstate"), state(9));
    assert_eq!(aside("9-19700101T000009Z-2.tfstate"), "another");
    assert_eq!(aside("10-19700101T000010Z.tfstate"), "another");
}

#[tokio::test]
async fn a_removed_state_is_not_kept_aside() {
    let mut place = Place::new().await;
    place.write(&state(1), Right::Unlocked).await.unwrap();
    let kept = std::fs::read(place.file("web/1.tfstate")).unwrap();
    let folder = Folder::at(&place.file(""));
    folder.begin_removal(&name());
    folder.take_back_removal(&name());
    assert_eq!(place.files(), ["web/1.tfstate"]);
    // The agent dies when the store has forgotten it.
    folder.begin_removal(&name());
    place.restart().await;
    assert_eq!(place.files(), ["web/1.tfstate"]);
    place.states.remove(&name(), true).await.unwrap();
    assert!(!place.file("web").exists());
    std::fs::create_dir(place.file("web")).unwrap();
    std::fs::write(place.file("web/1.tfstate"), kept).unwrap();
    folder.begin_removal(&name());
    place.restart().await;
    assert!(!place.file("web").exists() && !place.file(".unknown").exists());
}

#[test]
fn many_names_are_not_all_told() {
    let names: Vec<StateName> = (0..12).map(|n| format!("s{n}").parse().unwrap()).collect();
    assert_eq!(few(&names[..2]), "s0, s1");
    assert_eq!(few(&names), "s0, s1, s2, s3, s4, s5, s6, s7, s8, s9 and 2 more");
}

#[tokio::test]
async fn a_damaged_file_is_told_and_never_taken_for_the_state() {
    let place = Place::new().await;
    place.write(&state(1), Right::Unlocked).await.unwrap();
    place.write(&state(2), Right::Unlocked).await.unwrap();
    let path = place.file("web/2.tfstate");
    for spoil in ["cut", "gone"] {
        match spoil {
            "cut" => std::fs::write(&path, &state(2)[..40]).unwrap(),
            _ => std::fs::remove_file(&path).unwrap(),
        }
        let problem = place.states.open_version(&name(), None).await.unwrap_err();
        assert_eq!(problem.reason, Reason::Internal, "{spoil}");
        assert!(problem.remedy.unwrap().contains("weft state restore web"), "{spoil}");
    }
    // Sent once more, it is whole again, and no other version.
    assert_eq!(place.write(&state(2), Right::Unlocked).await.unwrap().number, 2);
    assert_eq!(place.latest().await, Some(state(2)));
    assert_eq!(place.files(), ["web/1.tfstate", "web/2.tfstate"]);
    std::fs::remove_file(&path).unwrap();
    place.states.restore(&name(), 1, Right::Unlocked, who()).await.unwrap();
    assert!(place.latest().await.unwrap().contains("\"serial\":3"));
}

/// A store on a full disk: for what is new it would have to give up its reserve.
#[derive(Debug)]
struct Full(Arc<dyn Store>);

#[async_trait]
impl Store for Full {
    async fn get(&self, key: &str) -> Result<Option<Item>, StoreError> {
        self.0.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.0.list(prefix).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        match txn.keeps_reserve {
            true => Err(StoreError::NoReserve { bytes: 1 << 20 }),
            false => self.0.txn(txn).await,
        }
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        self.0.watch(prefix, after).await
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.0.grant_lease(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.0.keep_alive(lease).await
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.0.revoke_lease(lease).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.0.compact(revision).await
    }
}

#[tokio::test]
async fn a_full_disk_takes_no_lock_and_lets_one_go() {
    let mut place = Place::new().await;
    place.write(&state(1), Right::Unlocked).await.unwrap();
    place.states.lock(&name(), info("a"), who()).await.unwrap();
    place.repo = Repo::new(Arc::new(Full(Arc::clone(place.repo.store()))));
    place.restart().await;
    place.write(&state(2), Right::Lock("a")).await.unwrap();
    assert!(place.states.unlock(&name(), Some("a")).await.unwrap().is_some());
    let refused =
        refused(place.states.lock(&name(), info("b"), who()).await, Reason::ResourceExhausted);
    assert!(refused.remedy.is_some(), "{refused}");
    assert!(place.states.view(&name()).await.unwrap().lock.is_none());
}

#[tokio::test]
async fn restores_wait_for_a_place_and_for_each_other() {
    let place = Place::new().await;
    place.write(&state(1), Right::Unlocked).await.unwrap();
    let states = Arc::clone(&place.states);
    let restore = async || states.restore(&name(), 1, Right::Unlocked, who()).await;
    tokio::time::pause();
    let other = states.restoring.acquire().await.unwrap();
    refused(restore().await, Reason::Unavailable);
    drop(other);
    let mut places = Vec::new();
    for _ in 0..MAX_TRANSFERS {
        places.push(states.place().await.unwrap());
    }
    refused(restore().await, Reason::Unavailable);
    tokio::time::resume();
    places.pop();
    assert_eq!(restore().await.unwrap().number, 2);
}

#[tokio::test]
async fn only_a_lock_that_is_held_for_long_is_told() {
    let place = Place::new().await;
    let old: StateName = "old".parse().unwrap();
    place.states.lock(&name(), info("a"), who()).await.unwrap();
    let at = weft_model::Timestamp::now() - LONG;
    let record = LockRecord { info: info("b"), by: who(), at };
    let put = Txn::new().put(tfstate_lock_key("old"), encode(&record));
    place.repo.commit(put).await.unwrap();
    let told = place.states.old_locks().await.unwrap();
    assert_eq!(told, [(old, record)]);
}
