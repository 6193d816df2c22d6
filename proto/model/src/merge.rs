//! Merging: several neighbouring layers become one, which shows the same.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::LayerId;

/// Layers that are being replaced by one that shows what they show together, over whatever lies below
/// them. Every disk and snapshot goes over to it by itself: both are there until the last has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Merge {
    /// What replaces them.
    pub merged: LayerId,
    /// What is replaced, bottom to top: two layers at least.
    pub layers: Vec<LayerId>,
}

impl Merge {
    /// Where in `chain` the layers are that it replaces.
    pub fn position_in(&self, chain: &[LayerId]) -> Option<Range<usize>> {
        if self.layers.is_empty() {
            return None;
        }
        let start = chain.windows(self.layers.len()).position(|part| part == self.layers)?;
        Some(start..start + self.layers.len())
    }

    /// Replaces them in `chain`; whether they were there.
    pub fn replace_in(&self, chain: &mut Vec<LayerId>) -> bool {
        let Some(place) = self.position_in(chain) else { return false };
        chain.splice(place, [self.merged.clone()]);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(numbers: &[u8]) -> Vec<LayerId> {
        numbers.iter().map(|n| LayerId::from_random([*n; 9])).collect()
    }

    #[test]
    fn layers_are_replaced_where_all_of_them_lie_one_on_the_other() {
        let merge = Merge { merged: LayerId::from_random([9; 9]), layers: layers(&[2, 3]) };
        let cases: [(&[u8], &[u8]); 6] = [
            (&[1, 2, 3, 4], &[1, 9, 4]),
            (&[2, 3], &[9]),
            (&[1, 2], &[1, 2]),
            (&[3, 2], &[3, 2]),
            (&[1, 9, 4], &[1, 9, 4]),
            (&[], &[]),
        ];
        for (before, after) in cases {
            let mut chain = layers(before);
            assert_eq!(merge.replace_in(&mut chain), before != after, "{before:?}");
            assert_eq!(chain, layers(after), "{before:?}");
        }
    }
}
