//! Reads the named counters: when somebody asks and once in a while, never for a change.

use std::collections::BTreeMap;

use serde::Deserialize;
use weft_model::{Counted, Counts, Direction};

#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Listed>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Listed {
    counter: Option<ListedCounter>,
}

#[derive(Deserialize)]
struct ListedCounter {
    name: String,
    packets: u64,
    bytes: u64,
}

pub(crate) fn parse(listing: &[u8]) -> Result<BTreeMap<Counted, Counts>, serde_json::Error> {
    let listing: Listing = serde_json::from_slice(listing)?;
    let counters = listing.nftables.into_iter().filter_map(|object| object.counter);
    let known = counters.filter_map(|counter| {
        let counts = Counts { packets: counter.packets, bytes: counter.bytes };
        Some((counted(&counter.name)?, counts))
    });
    Ok(known.collect())
}

/// The counter's meaning; a name that is none of ours has none.
fn counted(name: &str) -> Option<Counted> {
    match name.split_once('_')? {
        ("hits", digits) => format!("sgr-{digits}").parse().ok().map(Counted::Rule),
        ("egress", digits) => format!("sg-{digits}").parse().ok().map(Counted::AllEgress),
        ("denied", "in") => Some(Counted::Denied(Direction::Ingress)),
        ("denied", "out") => Some(Counted::Denied(Direction::Egress)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use weft_model::{GroupId, RuleId};

    use super::*;
    use crate::ruleset::{all_egress_counter, denied_counter, rule_counter};

    #[test]
    fn names_are_read_as_they_are_written() {
        let (rule, group) = (RuleId::from_random([3; 9]), GroupId::from_random([4; 9]));
        assert_eq!(counted(&rule_counter(&rule)), Some(Counted::Rule(rule)));
        assert_eq!(counted(&all_egress_counter(&group)), Some(Counted::AllEgress(group)));
        for direction in [Direction::Ingress, Direction::Egress] {
            assert_eq!(counted(&denied_counter(direction)), Some(Counted::Denied(direction)));
        }
        assert_eq!(counted("hits_of_somebody_else"), None);
    }
}
