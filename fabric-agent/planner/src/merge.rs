//! Which layers are merged, and when.
//!
//! ```text
//!   snapshots      1       4        (2 and 3 were deleted)
//!   layers      a  b  c  d  e       b ends a snapshot, e another one
//!   runs        ----  -------       a and b may become one, and c, d and e
//! ```
//!
//! Two neighbours can become one where nothing ends between them or branches off there. That stays so:
//! what comes later goes on top of a disk, or begins where a snapshot ends.
//!
//! Each merge copies all that is in the layers, of which the lowest usually has the most. So it is not
//! done for each snapshot that is deleted but for several at once: the lowest is copied once for every
//! [`LONG_RUN`] of them, as long as the layers that are needed leave room for that.

use std::collections::{BTreeMap, BTreeSet};

use weft_model::{LayerId, MAX_LAYERS};

/// So many layers that could be one are merged.
const LONG_RUN: usize = 8;
/// Over more layers than this no disk lies for long, if there are any that could be one.
const CROWDED: usize = MAX_LAYERS / 2;

/// What is beside a layer in some record.
#[derive(Debug, Default)]
struct Neighbours<'a> {
    below: BTreeSet<Option<&'a LayerId>>,
    /// `None`: a disk's own file, or nothing, where a snapshot ends.
    above: BTreeSet<Option<&'a LayerId>>,
}

/// The layers to merge next, bottom to top. `chains` is what every disk and every snapshot lies over,
/// also those that something is just being made of; layers in `busy` are left alone.
pub fn plan_merge(chains: &[&[LayerId]], busy: &BTreeSet<LayerId>) -> Option<Vec<LayerId>> {
    let mut neighbours: BTreeMap<&LayerId, Neighbours<'_>> = BTreeMap::new();
    for chain in chains {
        for (index, layer) in chain.iter().enumerate() {
            let known = neighbours.entry(layer).or_default();
            known.below.insert(index.checked_sub(1).and_then(|below| chain.get(below)));
            known.above.insert(chain.get(index + 1));
        }
    }
    let only = |those: &BTreeSet<Option<&LayerId>>, one: &LayerId| {
        those.len() == 1 && those.first() == Some(&Some(one))
    };
    let joined = |pair: &[LayerId]| match pair {
        [below, above] => {
            only(&neighbours[below].above, above)
                && only(&neighbours[above].below, below)
                && !busy.contains(below)
                && !busy.contains(above)
        }
        _ => false,
    };
    let mut best: Option<(usize, usize, &[LayerId])> = None;
    for chain in chains {
        let mut start = 0;
        for end in 1..=chain.len() {
            if end < chain.len() && joined(&chain[end - 1..=end]) {
                continue;
            }
            let run = &chain[start..end];
            start = end;
            let wanted = run.len() >= LONG_RUN || run.len() >= 2 && chain.len() > CROWDED;
            let candidate = (chain.len(), run.len(), run);
            if wanted && best.is_none_or(|best| candidate > best) {
                best = Some(candidate);
            }
        }
    }
    best.map(|(_, _, run)| run.to_vec())
}

#[cfg(test)]
mod tests;
