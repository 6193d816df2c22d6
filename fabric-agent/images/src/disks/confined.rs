//! Whom strangers' files are read as: users that are nobody, one for each process.
//!
//! Processes of one user may open each other's files and memory (`ptrace(2)`, "Ptrace access mode
//! checking"). A file that takes over the `qemu-img` that reads it would else reach what another one
//! was given at the same moment: the disk of another guest, or the secret of a volume.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::fchown;
use std::sync::{LazyLock, Mutex, PoisonError};

/// The first of the uids and gids: all of them are below those of guests.
const FIRST_UID: u32 = 1_899_934_464;
/// How many there are. More than one for each process that there could be, so that one which has just
/// been given back, perhaps by a process that is still ending, is not taken again soon.
const UIDS: u32 = 65_536;
/// How far apart agents begin whose process ids are neighbours: what a killed one has left running may
/// have its uid still.
const APART: u32 = 251;

struct Uids {
    next: u32,
    taken: BTreeSet<u32>,
}

static ALL: LazyLock<Mutex<Uids>> = LazyLock::new(|| {
    let next = std::process::id().wrapping_mul(APART) % UIDS;
    Mutex::new(Uids { next, taken: BTreeSet::new() })
});

/// A user that nobody else in this process is meanwhile; also the number of its group.
#[derive(Debug)]
pub(super) struct ConfinedUid(u32);

impl ConfinedUid {
    pub(super) fn take() -> Self {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let uid = FIRST_UID + all.next;
            all.next = (all.next + 1) % UIDS;
            if all.taken.insert(uid) {
                return Self(uid);
            }
        }
    }

    pub(super) fn number(&self) -> u32 {
        self.0
    }
}

impl Drop for ConfinedUid {
    fn drop(&mut self) {
        ALL.lock().unwrap_or_else(PoisonError::into_inner).taken.remove(&self.0);
    }
}

/// Makes a file that user's, who opens it anew by the descriptor's name. Without root, who reads
/// strangers' files is the agent's own user.
pub(super) fn lend(file: impl AsFd, uid: u32) -> io::Result<()> {
    match nix::unistd::geteuid().is_root() {
        true => fchown(file, Some(uid), Some(uid)),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_have_one_uid_at_a_time_and_none_is_a_guests() {
        let taken: Vec<ConfinedUid> = (0..1000).map(|_| ConfinedUid::take()).collect();
        let uids: BTreeSet<u32> = taken.iter().map(ConfinedUid::number).collect();
        assert_eq!(uids.len(), taken.len());
        assert!(uids.iter().all(|uid| (FIRST_UID..1_900_000_000).contains(uid)), "{uids:?}");
        drop(taken);
        let left = ALL.lock().unwrap().taken.clone();
        assert!(uids.is_disjoint(&left), "{left:?}");
    }
}
