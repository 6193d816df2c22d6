//! What the store does not know of, at the agent's start.
//!
//! A crash leaves files of versions that were taken out, and of states that were removed: they go. A
//! number above all that the store knows may be of a crash, before the store was told of it, or the store
//! is an older copy, and this is the state as it is. So it is put aside, never removed:
//!
//! ```text
//! tfstates/.unknown/NAME/NUMBER-STORED.tfstate   STORED: when, in UTC
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, DirEntry};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use weft_model::Timestamp;

use super::files::{Folder, REMOVAL, SUFFIX, file_of, sync, tolerate};
use super::{Limits, MAX_STATES, StateName, StateRecord, records};
use crate::repo::Repo;

const UNKNOWN: &str = ".unknown";

/// The numbers of the versions that the store knows of a state.
pub(crate) type Known = BTreeMap<StateName, BTreeSet<u64>>;

/// How many names are told in one line.
const SHOWN: usize = 10;

impl Folder {
    /// Where what is put aside lies.
    pub(crate) fn aside(&self) -> PathBuf {
        self.dir().join(UNKNOWN)
    }

    /// Puts aside what may be newer than what is `known`, and removes what is not known else.
    ///
    /// # Errors
    /// Something cannot be put aside: the next version of this number would replace it.
    pub(crate) fn sweep(&self, known: &Known, limits: Limits) -> io::Result<()> {
        let newer = self.newer(known)?;
        for (name, numbers) in &newer {
            for number in numbers {
                self.put_aside(name, *number)?;
            }
            self.bound_aside(name, limits)?;
            tracing::warn!(
                state = %name, versions = ?numbers, dir = %self.aside().join(name.as_str()).display(),
                "the store does not know these versions of a Terraform state: they are put aside"
            );
        }
        if !newer.is_empty() {
            self.bound_names()?;
        }
        for (name, dir) in states(self.dir())? {
            let Some(numbers) = known.get(&name) else {
                tracing::info!(state = %name, "what is left of a removed state is removed");
                self.remove_all(&name);
                continue;
            };
            for file in fs::read_dir(dir)? {
                let file = file?;
                if !number_of(&file.file_name()).is_some_and(|number| numbers.contains(&number)) {
                    tracing::info!(path = %file.path().display(), "no version has this file: removed");
                    tolerate(fs::remove_file(file.path()), &file.path());
                }
            }
        }
        Ok(())
    }

    /// Versions above all that are known of their state, unless that was to be removed.
    pub(crate) fn newer(&self, known: &Known) -> io::Result<Known> {
        let mut newer = Known::new();
        for (name, dir) in states(self.dir())? {
            let numbers = known.get(&name);
            if numbers.is_none() && dir.join(REMOVAL).exists() {
                continue;
            }
            let latest = numbers.and_then(BTreeSet::last).copied().unwrap_or(0);
            for file in fs::read_dir(dir)? {
                let number = number_of(&file?.file_name()).filter(|number| *number > latest);
                newer.entry(name.clone()).or_default().extend(number);
            }
        }
        newer.retain(|_, numbers| !numbers.is_empty());
        Ok(newer)
    }

    fn put_aside(&self, name: &StateName, number: u64) -> io::Result<()> {
        let (from, dir) = (self.path(name, number), self.aside().join(name.as_str()));
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let stored = Timestamp::try_from(fs::metadata(&from)?.modified()?).unwrap_or_default();
        let stored = stored.strftime("%Y%m%dT%H%M%SZ");
        let mut to = dir.join(format!("{number}-{stored}{SUFFIX}"));
        // Another one of the same second, after a second loss.
        for nth in 2.. {
            if !to.exists() {
                break;
            }
            to = dir.join(format!("{number}-{stored}-{nth}{SUFFIX}"));
        }
        fs::rename(&from, to)?;
        // What comes under this number must not be durable before.
        sync(&dir).and_then(|()| sync(&self.aside())).and_then(|()| sync(self.dir()))
    }

    /// Keeps of a state aside what might be kept of its versions; the newest stays.
    fn bound_aside(&self, name: &StateName, limits: Limits) -> io::Result<()> {
        let mut files = Vec::new();
        for file in fs::read_dir(self.aside().join(name.as_str()))? {
            let file = file?;
            let metadata = file.metadata()?;
            files.push((metadata.modified()?, file.path(), metadata.len()));
        }
        files.sort_unstable();
        let mut bytes = 0;
        for (newer, (_, path, length)) in files.into_iter().rev().enumerate() {
            bytes += length;
            if newer > 0 && (newer >= limits.versions || bytes > limits.history_bytes) {
                tracing::warn!(path = %path.display(), "more is put aside than may be kept: the oldest goes");
                tolerate(fs::remove_file(&path), &path);
            }
        }
        Ok(())
    }

    /// As many states as there may be are aside; who was put there first goes first.
    fn bound_names(&self) -> io::Result<()> {
        let mut aside = Vec::new();
        for (name, dir) in states(&self.aside())? {
            aside.push((fs::metadata(dir)?.modified()?, name));
        }
        aside.sort_unstable();
        let too_many = aside.len().saturating_sub(MAX_STATES);
        for (_, name) in aside.into_iter().take(too_many) {
            let dir = self.aside().join(name.as_str());
            tracing::warn!(state = %name, "more states are put aside than may be kept: the oldest goes");
            tolerate(fs::remove_dir_all(&dir), &dir);
        }
        Ok(())
    }

    /// The states of which something is aside, and how many files.
    pub(crate) fn what_is_aside(&self) -> io::Result<BTreeMap<StateName, usize>> {
        let count = |(name, dir): (StateName, PathBuf)| Ok((name, fs::read_dir(dir)?.count()));
        let counts = states(&self.aside())?.into_iter().map(count);
        let mut counts = counts.collect::<io::Result<BTreeMap<_, _>>>()?;
        counts.retain(|_, count| *count > 0);
        Ok(counts)
    }
}

pub(super) fn numbers(records: &[(StateName, StateRecord)]) -> Known {
    let numbers = |record: &StateRecord| record.versions.iter().map(|v| v.number).collect();
    records.iter().map(|(name, record)| (name.clone(), numbers(record))).collect()
}

/// The names of states in a line: not all where there are many.
pub(crate) fn few(names: &[StateName]) -> String {
    let shown: Vec<&str> = names.iter().take(SHOWN).map(StateName::as_str).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// States in `dir` with versions above all that the store knows: what an older store would not give.
///
/// # Errors
/// The store, or the folder, cannot be read.
pub(crate) async fn newer_than(repo: &Repo, dir: &Path) -> anyhow::Result<Vec<StateName>> {
    let records = records(repo).await.map_err(|problem| anyhow::anyhow!(problem))?;
    Ok(Folder::at(dir).newer(&numbers(&records))?.into_keys().collect())
}

/// Folders in `dir` that are called as states are.
fn states(dir: &Path) -> io::Result<Vec<(StateName, PathBuf)>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?.collect::<io::Result<Vec<_>>>()?,
    };
    let state = |entry: DirEntry| {
        Some((entry.file_name().to_str()?.parse::<StateName>().ok()?, entry.path()))
    };
    Ok(entries.into_iter().filter_map(state).collect())
}

fn number_of(file: &OsStr) -> Option<u64> {
    let number = file.to_str()?.strip_suffix(SUFFIX)?.parse().ok()?;
    (file == file_of(number).as_str()).then_some(number)
}
