use proptest::prelude::*;
use weft_model::Merge;

use super::*;

fn layer(n: u32) -> LayerId {
    let [a, b, c, d] = n.to_be_bytes();
    LayerId::from_random([a, b, c, d, 0, 0, 0, 0, 0])
}

fn layers(numbers: impl IntoIterator<Item = u32>) -> Vec<LayerId> {
    numbers.into_iter().map(layer).collect()
}

fn plan(chains: &[Vec<LayerId>], busy: &[u32]) -> Option<Vec<LayerId>> {
    let chains: Vec<&[LayerId]> = chains.iter().map(Vec::as_slice).collect();
    plan_merge(&chains, &layers(busy.iter().copied()).into_iter().collect())
}

#[test]
fn layers_that_nothing_ends_between_are_merged_once_there_are_some() {
    let disk = |count| layers(0..count);
    #[rustfmt::skip]
    let cases = [
        ("too few to be worth a copy", vec![disk(7)], vec![], None),
        ("all of a disk's", vec![disk(8)], vec![], Some(0..8)),
        ("none twice", vec![disk(8), disk(8)], vec![], Some(0..8)),
        ("a snapshot keeps its end", vec![disk(12), disk(3)], vec![], Some(3..12)),
        ("too few on either side of one", vec![disk(14), disk(7)], vec![], None),
        ("where a disk is crowded, the longest there are", vec![disk(17), disk(7), disk(9)], vec![], Some(9..17)),
        ("where a disk is crowded, any two", vec![disk(17), disk(3), disk(5), disk(7), disk(9), disk(11), disk(13), disk(15)],
            vec![], Some(0..3)),
        ("what is being merged is left alone", vec![disk(15)], vec![7], None),
        ("what branches off keeps its beginning",
            vec![disk(12), layers([0, 1, 2, 90, 91])], vec![], Some(3..12)),
    ];
    for (what, chains, busy, want) in cases {
        assert_eq!(plan(&chains, &busy), want.map(layers), "{what}");
    }
    let all: Vec<_> = (1..=17).map(disk).collect();
    assert_eq!(plan(&all, &[]), None, "every layer is the end of a snapshot");
}

/// What is on a layer: blocks, each with what was written there last.
type Content = BTreeMap<u8, u32>;

/// What disks, snapshots and layers there are, as only a test knows them: with what is on them.
#[derive(Clone, Debug, Default)]
struct Store {
    content: BTreeMap<LayerId, Content>,
    chains: Vec<Vec<LayerId>>,
    made: u32,
}

impl Store {
    fn shows(&self, chain: &[LayerId]) -> Content {
        let parts = chain.iter().flat_map(|layer| &self.content[layer]);
        parts.map(|(block, value)| (*block, *value)).collect()
    }

    /// What each record shows.
    fn shown(&self) -> Vec<Content> {
        self.chains.iter().map(|chain| self.shows(chain)).collect()
    }

    fn add(&mut self, content: Content) -> LayerId {
        self.made += 1;
        let id = layer(self.made);
        self.content.insert(id.clone(), content);
        id
    }

    /// As the agent does it: the new layer first, then record by record, then what nothing names.
    /// `records` says which go over before others are looked at.
    fn merge(&mut self, run: Vec<LayerId>) {
        let content = self.shows(&run);
        let merge = Merge { merged: self.add(content), layers: run };
        for index in 0..self.chains.len() {
            let before = self.shown();
            merge.replace_in(&mut self.chains[index]);
            assert_eq!(self.shown(), before, "half way, all show what they showed");
        }
        let needed: BTreeSet<LayerId> = self.chains.iter().flatten().cloned().collect();
        assert!(merge.layers.iter().all(|layer| !needed.contains(layer)), "all have gone over");
        self.content.retain(|layer, _| needed.contains(layer));
    }
}

/// What people do.
#[derive(Clone, Debug)]
enum Deed {
    /// The disk with this number is written to and sealed; a snapshot is kept, perhaps.
    Seal { disk: usize, block: u8, kept: bool },
    /// A disk is made of this record.
    Copy { from: usize },
    /// This record goes.
    Delete { which: usize },
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        6 => (0..8_usize, 0..6_u8, any::<bool>())
            .prop_map(|(disk, block, kept)| Deed::Seal { disk, block, kept }),
        1 => (0..8_usize).prop_map(|from| Deed::Copy { from }),
        2 => (0..8_usize).prop_map(|which| Deed::Delete { which }),
    ];
    proptest::collection::vec(deed, 1..90)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn merging_changes_nothing_of_what_anybody_sees_and_comes_to_rest(deeds in deeds()) {
        let mut store = Store { chains: vec![Vec::new()], ..Store::default() };
        for deed in deeds {
            let count = store.chains.len();
            match deed {
                Deed::Seal { disk, block, kept } => {
                    let written = [(block, store.made)].into();
                    let sealed = store.add(written);
                    let disk = &mut store.chains[disk % count];
                    disk.push(sealed);
                    let snapshot = disk.clone();
                    if kept {
                        store.chains.push(snapshot);
                    }
                }
                Deed::Copy { from } => store.chains.push(store.chains[from % count].clone()),
                Deed::Delete { which } if count > 1 => {
                    store.chains.remove(which % count);
                }
                Deed::Delete { .. } => {}
            }
            let before = store.shown();
            let mut rounds = 0;
            while let Some(run) = plan(&store.chains, &[]) {
                prop_assert!(run.len() >= 2);
                prop_assert_eq!(run.iter().collect::<BTreeSet<_>>().len(), run.len());
                store.merge(run);
                rounds += 1;
                prop_assert!(rounds <= 64, "it does not come to rest");
            }
            prop_assert_eq!(store.shown(), before);
            for layer in store.chains.iter().flatten() {
                prop_assert!(store.content.contains_key(layer), "{layer} dangles");
            }
            // Whoever has only layers that nothing else needs is never refused a snapshot.
            if let [alone] = store.chains.as_slice() {
                prop_assert!(alone.len() < LONG_RUN);
            }
        }
    }
}
