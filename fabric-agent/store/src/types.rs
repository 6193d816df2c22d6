//! The words of the trait: revisions, items, transactions, events.

use std::collections::HashSet;
use std::fmt;

use crate::StoreError;

/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 512;
/// Most comparisons, and most changes, of one transaction: etcd's default (`--max-txn-ops`).
pub const MAX_TXN_OPS: usize = 128;
/// Most bytes of values in one transaction: below etcd's default of 1.5 MiB for a request
/// (`--max-request-bytes`), keys and framing included.
pub const MAX_TXN_BYTES: usize = 1024 * 1024;

/// Counts committed changes of the whole store, from 1; 0 is "before everything" or "absent".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// The modification revision of a key that does not exist.
    pub const ABSENT: Self = Self(0);
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a lease of one store, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key with its value, as of one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The key.
    pub key: String,
    /// What was put there.
    pub value: Vec<u8>,
    /// When the key came to be (again).
    pub create_revision: Revision,
    /// When it was last put: what [`Txn::when_at`] compares with.
    pub mod_revision: Revision,
    /// The lease whose end deletes the key.
    pub lease: Option<LeaseId>,
}

/// Everything under a prefix at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// In the order of their keys.
    pub items: Vec<Item>,
    /// The store's revision then: pass it to [`Store::watch`](crate::Store::watch) to miss nothing.
    pub revision: Revision,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key has a new value; the item's `mod_revision` is the event's revision.
    Put(Item),
    /// The key is gone.
    Delete {
        /// The key.
        key: String,
        /// When.
        revision: Revision,
    },
}

impl Event {
    /// The key that changed.
    pub fn key(&self) -> &str {
        match self {
            Self::Put(item) => &item.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// When. Changes of one transaction share their revision.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put(item) => item.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }
}

/// A condition: `key` was last put at `mod_revision`, or does not exist
/// ([`Revision::ABSENT`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: String,
    /// Its expected modification revision.
    pub mod_revision: Revision,
}

/// One change of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets a key, and its lease: none unless it is named again.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Vec<u8>,
        /// The lease whose end deletes the key.
        lease: Option<LeaseId>,
    },
    /// Removes a key; not an error where there is none.
    Delete {
        /// The key.
        key: String,
    },
}

impl Op {
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// All of `then`, if all of `when` holds; else nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// The conditions.
    pub when: Vec<Compare>,
    /// The changes. No key twice.
    pub then: Vec<Op>,
    /// See [`Txn::keeping_reserve`].
    pub keeps_reserve: bool,
}

impl Txn {
    /// No conditions, no changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only if `key` does not exist.
    #[must_use]
    pub fn when_absent(self, key: impl Into<String>) -> Self {
        self.when_at(key, Revision::ABSENT)
    }

    /// Only if `key` was last put at `mod_revision`.
    #[must_use]
    pub fn when_at(mut self, key: impl Into<String>, mod_revision: Revision) -> Self {
        self.when.push(Compare { key: key.into(), mod_revision });
        self
    }

    /// Sets `key`, without a lease.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.then.push(Op::Put { key: key.into(), value: value.into(), lease: None });
        self
    }

    /// Sets `key` for as long as `lease` lives.
    #[must_use]
    pub fn put_leased(
        mut self,
        key: impl Into<String>,
        value: impl Into<Vec<u8>>,
        lease: LeaseId,
    ) -> Self {
        self.then.push(Op::Put { key: key.into(), value: value.into(), lease: Some(lease) });
        self
    }

    /// Removes `key`.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.then.push(Op::Delete { key: key.into() });
        self
    }

    /// Only if the store has room to spare after it: for what makes something new, so that on a full
    /// disk there is still room to say what becomes of the old. Else [`StoreError::NoReserve`].
    #[must_use]
    pub fn keeping_reserve(mut self) -> Self {
        self.keeps_reserve = true;
        self
    }

    /// What every engine checks first.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let ops = self.when.len().max(self.then.len());
        if ops > MAX_TXN_OPS {
            let what = format!("{ops} operations");
            return Err(StoreError::TooLarge { what, limit: MAX_TXN_OPS });
        }
        for compare in &self.when {
            check_key(&compare.key)?;
        }
        let (mut keys, mut bytes) = (HashSet::new(), 0_usize);
        for op in &self.then {
            check_key(op.key())?;
            if !keys.insert(op.key()) {
                return Err(StoreError::DuplicateKey { key: op.key().to_owned() });
            }
            if let Op::Put { value, .. } = op {
                bytes = bytes.saturating_add(value.len());
            }
        }
        if bytes > MAX_TXN_BYTES {
            let what = format!("{bytes} bytes of values");
            return Err(StoreError::TooLarge { what, limit: MAX_TXN_BYTES });
        }
        Ok(())
    }
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOutcome {
    /// It is done and durable.
    Committed {
        /// The revision of its changes; the store's current one where it changed nothing.
        revision: Revision,
    },
    /// A condition did not hold and nothing was changed.
    Conflict {
        /// The first key whose condition did not hold.
        key: String,
        /// What the transaction expected.
        expected: Revision,
        /// The key's modification revision; [`Revision::ABSENT`] where there is no such key.
        found: Revision,
    },
}

impl TxnOutcome {
    /// The revision, if the transaction went through.
    pub fn committed(&self) -> Option<Revision> {
        match self {
            Self::Committed { revision } => Some(*revision),
            Self::Conflict { .. } => None,
        }
    }
}

fn printable(text: &str) -> bool {
    text.len() <= MAX_KEY_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic())
}

pub(crate) fn check_key(key: &str) -> Result<(), StoreError> {
    if key.is_empty() || !printable(key) {
        return Err(StoreError::InvalidKey { key: key.to_owned() });
    }
    Ok(())
}

/// A prefix may be empty: it then covers every key.
pub(crate) fn check_prefix(prefix: &str) -> Result<(), StoreError> {
    if !printable(prefix) {
        return Err(StoreError::InvalidKey { key: prefix.to_owned() });
    }
    Ok(())
}
