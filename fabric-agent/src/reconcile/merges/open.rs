//! What is being merged, how far each has come, and what is left alone.
//!
//! ```text
//!   chosen ──▶ written ──▶ (forgotten)
//!     │ ▲
//!     ▼ │ a pause, longer each time
//!   failed ──▶ (forgotten; its layers are left alone for a while)
//! ```
//!
//! The store has the merges alone. What has failed is tried at once by the next agent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use weft_model::{InstanceId, LayerId, Merge, Problem};

use crate::error_chain::ErrorChain;
use crate::host::{HostError, Lack};
use crate::repo::{MERGES, Repo, decode, store_problem};

/// After the first time that a layer could not be written; after each further one twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// So often a layer is tried to be written: each time all may be copied.
const ATTEMPTS: u32 = 4;
/// How long layers are left alone then: what was lacking may have come, and costs as much to find out.
const APART: Duration = Duration::from_secs(30 * 60);

/// What is being merged.
#[derive(Debug, Default)]
pub(crate) struct Merges {
    inner: Mutex<Inner>,
    /// One has ended: there are layers that nothing lies over.
    ended: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// By what they become.
    open: BTreeMap<LayerId, Open>,
    /// Layers that are not merged now.
    apart: BTreeMap<LayerId, Apart>,
    refused: BTreeSet<Refusal>,
}

/// One merge.
#[derive(Debug)]
struct Open {
    merge: Merge,
    stage: Stage,
}

/// How far a merge has come.
#[derive(Debug)]
enum Stage {
    /// Its layer is to be written.
    Chosen,
    /// That failed, and is tried again later.
    Failed { attempts: u32, again_at: Instant, trouble: Trouble },
    /// Its layer is there as a whole.
    Written,
}

/// Why a layer is left alone.
#[derive(Debug)]
enum Apart {
    /// It cannot be merged with what lies over it. The next agent looks again.
    ForGood,
    /// A merge of it was given up for now.
    Until(Instant, Trouble),
}

/// A guest, by its launch, that has refused to go over to a layer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Refusal {
    pub(super) instance_id: InstanceId,
    pub(super) epoch: u64,
    pub(super) merged: LayerId,
}

/// What a disk may go over to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Candidates {
    /// What is written, and was not refused.
    pub(super) written: Vec<Merge>,
    /// Whether others of its layers are being merged, into what may be written already: this agent has
    /// not looked yet.
    pub(super) more: bool,
}

/// Why layers are not merged though they should be: for people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Trouble {
    pub(crate) why: String,
    lack: Option<Lack>,
}

impl Trouble {
    fn of(error: &HostError) -> Self {
        Self { why: ErrorChain(error).to_string(), lack: error.lack().cloned() }
    }

    /// What people can do about it.
    pub(crate) fn remedy(&self) -> String {
        match &self.lack {
            Some(Lack::Room(dir)) => format!(
                "make room in {}: remove volumes, instances and images that are not needed",
                dir.display()
            ),
            Some(Lack::File) => {
                "bring back what is missing or damaged: mount the storage pool's file system, or \
                                 put the file back from a copy"
                    .to_owned()
            }
            None => {
                "it is tried again by itself; where it stays so, look whether the host's disk has \
                     errors (journalctl -k)"
                    .to_owned()
            }
        }
    }
}

impl Merges {
    /// What agents before this one have chosen.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn load(repo: &Repo) -> Result<Self, Problem> {
        let listing = repo.store().list(MERGES).await.map_err(store_problem)?;
        let this = Self::default();
        for item in &listing.items {
            this.begin(&decode::<Merge>(&item.key, &item.value)?);
        }
        Ok(this)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when a merge has ended since the last time.
    pub(in crate::reconcile) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// The layers that are being written, or were and are not yet in each record that they belong in.
    pub(in crate::reconcile) fn layers(&self) -> BTreeSet<LayerId> {
        self.inner().open.keys().cloned().collect()
    }

    /// Why layers are not merged though they should be.
    pub(crate) fn troubles(&self) -> BTreeSet<Trouble> {
        let inner = self.inner();
        let of_open = inner.open.values().filter_map(|open| match &open.stage {
            Stage::Failed { trouble, .. } => Some(trouble),
            Stage::Chosen | Stage::Written => None,
        });
        let of_apart = inner.apart.values().filter_map(|apart| match apart {
            Apart::Until(_, trouble) => Some(trouble),
            Apart::ForGood => None,
        });
        of_open.chain(of_apart).cloned().collect()
    }

    pub(super) fn open(&self) -> Vec<Merge> {
        self.inner().open.values().map(|open| open.merge.clone()).collect()
    }

    pub(super) fn begin(&self, merge: &Merge) {
        let open = Open { merge: merge.clone(), stage: Stage::Chosen };
        self.inner().open.insert(merge.merged.clone(), open);
    }

    /// It was not chosen after all.
    pub(super) fn take_back(&self, merge: &Merge) {
        self.inner().open.remove(&merge.merged);
    }

    /// It is over, or given up.
    pub(super) fn end(&self, merge: &Merge) {
        let mut inner = self.inner();
        inner.open.remove(&merge.merged);
        inner.refused.retain(|refusal| refusal.merged != merge.merged);
        drop(inner);
        self.ended.notify_one();
    }

    pub(super) fn is_written(&self, merge: &Merge) -> bool {
        let inner = self.inner();
        inner.open.get(&merge.merged).is_some_and(|open| matches!(open.stage, Stage::Written))
    }

    /// Whether its layer is to be written now.
    pub(super) fn is_due(&self, merge: &Merge, now: Instant) -> bool {
        self.inner().open.get(&merge.merged).is_some_and(|open| match &open.stage {
            Stage::Chosen => true,
            Stage::Failed { again_at, .. } => *again_at <= now,
            Stage::Written => false,
        })
    }

    /// Notes how writing the new layer ended; whether the merge is still to be made.
    pub(super) fn note(&self, merge: &Merge, written: Result<(), HostError>, now: Instant) -> bool {
        let mut inner = self.inner();
        let Inner { open, apart, .. } = &mut *inner;
        let Some(open) = open.get_mut(&merge.merged) else { return false };
        let error = match written {
            Ok(()) => {
                open.stage = Stage::Written;
                return true;
            }
            Err(error) => error,
        };
        let trouble = Trouble::of(&error);
        if !error.is_retryable() {
            tracing::info!(layer.id = %merge.merged, error = trouble.why, "layers are left as they are");
            // Perhaps what lies over the lowest can be merged.
            apart.extend(merge.layers.first().map(|lowest| (lowest.clone(), Apart::ForGood)));
            return false;
        }
        let before = match &open.stage {
            Stage::Failed { attempts, .. } => *attempts,
            Stage::Chosen | Stage::Written => 0,
        };
        let attempts = before + 1;
        // What somebody has to bring back does not come for being looked for.
        if attempts >= ATTEMPTS || trouble.lack == Some(Lack::File) {
            tracing::warn!(layer.id = %merge.merged, error = trouble.why, "layers are not merged for now");
            let until =
                |layer: &LayerId| (layer.clone(), Apart::Until(now + APART, trouble.clone()));
            apart.extend(merge.layers.iter().map(until));
            return false;
        }
        tracing::warn!(layer.id = %merge.merged, error = trouble.why, attempts, "merging layers has to wait");
        let again_at = now + FIRST_PAUSE * 2_u32.pow(before);
        open.stage = Stage::Failed { attempts, again_at, trouble };
        true
    }

    /// The layers that are not to be chosen now. Forgets those that are left alone and that no chain has
    /// any more.
    pub(super) fn busy(&self, chains: &[&[LayerId]], now: Instant) -> BTreeSet<LayerId> {
        let mut inner = self.inner();
        let there: BTreeSet<&LayerId> = chains.iter().copied().flatten().collect();
        inner.apart.retain(|layer, apart| {
            let is_over = matches!(apart, Apart::Until(until, _) if *until <= now);
            there.contains(layer) && !is_over
        });
        let mut busy: BTreeSet<LayerId> = inner.apart.keys().cloned().collect();
        for Open { merge, .. } in inner.open.values() {
            busy.extend(merge.layers.iter().cloned());
            busy.insert(merge.merged.clone());
        }
        busy
    }

    /// Whether a disk over these layers has one to go over to.
    pub(in crate::reconcile) fn concern(&self, chain: &[LayerId]) -> bool {
        !self.candidates(chain, None).written.is_empty()
    }

    /// What a disk over these layers has not gone over to; `guest` is who has it, by its launch.
    pub(super) fn candidates(
        &self,
        chain: &[LayerId],
        guest: Option<(&InstanceId, u64)>,
    ) -> Candidates {
        let inner = self.inner();
        let is_refused = |merge: &Merge| {
            guest.is_some_and(|(id, epoch)| {
                let (instance_id, merged) = (id.clone(), merge.merged.clone());
                inner.refused.contains(&Refusal { instance_id, epoch, merged })
            })
        };
        let mut candidates = Candidates { written: Vec::new(), more: false };
        for Open { merge, stage } in inner.open.values() {
            if merge.position_in(chain).is_none() {
                continue;
            }
            match stage {
                Stage::Written if is_refused(merge) => {}
                Stage::Written => candidates.written.push(merge.clone()),
                Stage::Chosen | Stage::Failed { .. } => candidates.more = true,
            }
        }
        candidates
    }

    pub(super) fn refuse(&self, refusal: Refusal) {
        self.inner().refused.insert(refusal);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn layer(n: u8) -> LayerId {
        LayerId::from_random([n; 9])
    }

    fn merge(merged: u8, layers: &[u8]) -> Merge {
        Merge { merged: layer(merged), layers: layers.iter().copied().map(layer).collect() }
    }

    fn failed() -> Result<(), HostError> {
        Err(HostError::new("a sector cannot be read", true))
    }

    #[test]
    fn what_fails_is_tried_ever_later_and_then_left_alone_for_a_while() {
        let (merges, one) = (Merges::default(), merge(9, &[1, 2]));
        merges.begin(&one);
        let mut now = Instant::now();
        for (attempts, pause) in [(1, 30), (2, 60), (3, 120)] {
            assert!(merges.is_due(&one, now), "{attempts}");
            assert!(merges.note(&one, failed(), now), "{attempts}");
            now += Duration::from_secs(pause - 1);
            assert!(!merges.is_due(&one, now), "{attempts}");
            now += Duration::from_secs(1);
        }
        assert!(!merges.note(&one, failed(), now));
        merges.end(&one);
        let chain = [1, 2, 3].map(layer);
        let busy = |at| merges.busy(&[chain.as_slice()], at);
        assert_eq!(busy(now), [1, 2].map(layer).into());
        let why = |trouble: Trouble| trouble.why;
        assert_eq!(
            merges.troubles().into_iter().map(why).collect::<Vec<_>>(),
            ["a sector cannot be read"]
        );
        assert!(busy(now + APART).is_empty());
        assert!(merges.troubles().is_empty());
    }

    #[test]
    fn what_is_missing_is_left_alone_at_once_and_forgotten_with_its_disks() {
        let (merges, one) = (Merges::default(), merge(9, &[1, 2]));
        merges.begin(&one);
        let now = Instant::now();
        let missing = HostError::new("the pool is not mounted", true).lacks(Lack::File);
        assert!(!merges.note(&one, Err(missing), now));
        merges.end(&one);
        assert_eq!(merges.troubles().len(), 1);
        assert!(merges.busy(&[], now).is_empty() && merges.troubles().is_empty());
    }

    #[test]
    fn only_the_lowest_is_left_alone_where_layers_cannot_be_merged() {
        let (merges, one) = (Merges::default(), merge(9, &[1, 2]));
        merges.begin(&one);
        let now = Instant::now();
        assert!(!merges.note(&one, Err(HostError::new("it is encrypted", false)), now));
        merges.end(&one);
        let chain = [1, 2].map(layer);
        assert_eq!(merges.busy(&[chain.as_slice()], now + APART), [layer(1)].into());
        assert!(merges.troubles().is_empty());
    }

    #[test]
    fn what_one_guest_refuses_hides_no_other_merge_of_its_disk() {
        let merges = Merges::default();
        let (one, other, third) = (merge(7, &[1, 2]), merge(8, &[3, 4]), merge(9, &[5, 6]));
        let now = Instant::now();
        for merge in [&one, &other, &third] {
            merges.begin(merge);
        }
        let chain = [1, 2, 3, 4, 5, 6].map(layer);
        assert_eq!(merges.candidates(&chain, None), Candidates { written: vec![], more: true });
        for merge in [&one, &other, &third] {
            assert!(merges.note(merge, Ok(()), now));
        }
        let instance_id = InstanceId::from_random([1; 9]);
        let merged = one.merged.clone();
        merges.refuse(Refusal { instance_id: instance_id.clone(), epoch: 1, merged });
        let left = |guest| merges.candidates(&chain, guest).written;
        assert_eq!(left(Some((&instance_id, 1))), [other.clone(), third.clone()]);
        assert_eq!(left(Some((&instance_id, 2))), [one.clone(), other.clone(), third.clone()]);
        // The next of the same name is another one.
        merges.end(&one);
        merges.begin(&one);
        assert!(merges.note(&one, Ok(()), now));
        assert_eq!(left(Some((&instance_id, 1))).len(), 3);
    }

    #[test]
    fn the_remedy_is_about_what_was_lacking() {
        let of = |lack: Option<Lack>| Trouble::of(&HostError::new("it", true).lacks(lack)).remedy();
        let room = of(Some(Lack::Room(Path::new("/srv/fast/layers").to_owned())));
        assert!(room.starts_with("make room in /srv/fast/layers:"), "{room}");
        for other in [Some(Lack::File), None] {
            assert!(!of(other.clone()).contains("make room"), "{other:?}");
        }
    }
}
