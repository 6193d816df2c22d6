//! Reads a table back: at the agent's start and for a resync, never for a single change.
//!
//! Sets and chains are compared as they are, rules by their comments, which carry a hash of what
//! we wrote (see `RuleBody`).

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use serde::Deserialize;
use serde_json::Value;
use weft_model::Firewall;

use crate::HostNat;
use crate::changes::Image;
use crate::json::{Command, Family};
use crate::ruleset::{Hook, MapTo, Ruleset, SetBody, range_part};

/// What a table holds, and its namesake beside it, of the bridge or the arp family, if it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedFirewall {
    image: Image,
    frames: Option<(Family, Image)>,
}

#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Listed>,
}

/// Kinds of objects that we never make (`metainfo`, quotas and so on) are left out.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Listed {
    chain: Option<ListedChain>,
    rule: Option<ListedRule>,
    set: Option<ListedSet>,
    map: Option<ListedSet>,
    counter: Option<ListedCounter>,
}

#[derive(Deserialize)]
struct ListedCounter {
    name: String,
}

#[derive(Deserialize)]
struct ListedChain {
    name: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    hook: Option<String>,
    prio: Option<i32>,
    policy: Option<String>,
}

#[derive(Deserialize)]
struct ListedRule {
    chain: String,
    #[serde(default)]
    comment: String,
}

#[derive(Deserialize)]
struct ListedSet {
    name: String,
    #[serde(rename = "type")]
    types: Value,
    /// Of a map, what it leads to.
    map: Option<Value>,
    timeout: Option<u32>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    elem: Vec<Value>,
}

impl ObservedFirewall {
    pub(crate) fn parse(listing: &[u8]) -> Result<Self, serde_json::Error> {
        let listing: Listing = serde_json::from_slice(listing)?;
        let mut image = Image::default();
        for object in listing.nftables {
            if let Some(chain) = object.chain {
                image.chains.insert(chain.name.clone(), (chain.hook(), Vec::new()));
            }
            if let Some(rule) = object.rule {
                image.chains.entry(rule.chain).or_default().1.push(rule.comment);
            }
            image.counters.extend(object.counter.map(|counter| counter.name));
            for set in [object.set, object.map].into_iter().flatten() {
                image.sets.insert(set.name.clone(), set.body());
            }
        }
        Ok(Self { image, frames: None })
    }

    /// With what was seen of the table of another family.
    pub(crate) fn with_frames(self, family: Family, frames: Option<Self>) -> Self {
        Self { frames: frames.map(|seen| (family, seen.image)), ..self }
    }

    pub(crate) fn image(&self) -> &Image {
        &self.image
    }

    /// Whether the table holds exactly what `firewall` needs.
    pub fn is(&self, firewall: &Firewall) -> bool {
        let (family, frames) = Ruleset::of_frames(firewall);
        self.image == Image::from(&Ruleset::of(firewall))
            && self.frames == Some((family, Image::from(&frames)))
    }

    /// Whether the table of the agent's namespace holds exactly what `wanted` needs.
    pub fn is_host_nat(&self, wanted: &HostNat) -> bool {
        self.image == Image::from(&crate::host::ruleset(wanted))
    }

    /// The transaction from what the table holds to `new`; empty if nothing differs.
    pub fn changes(&self, table: &str, new: &Firewall) -> Vec<Command> {
        let frames = self.frames.as_ref().map(|(family, image)| (*family, image));
        crate::from_seen(table, &self.image, frames, new)
    }
}

impl ListedChain {
    fn hook(self) -> Option<Hook> {
        Some(Hook {
            kind: self.kind?,
            hook: self.hook?,
            priority: self.prio?,
            policy: self.policy.unwrap_or_else(|| "accept".to_owned()),
        })
    }
}

impl ListedSet {
    fn body(self) -> SetBody {
        let map = self.map.as_ref().map(|to| match to.as_str() {
            Some("verdict") => MapTo::Chains,
            // Of other kinds we have none: their elements are not ours either.
            _ => MapTo::Addresses,
        });
        let types = match &self.types {
            Value::Array(types) => types.iter().map(text).collect(),
            one => vec![text(one)],
        };
        // What rules put in is not ours.
        let ours = self.elem.iter().filter(|_| self.timeout.is_none());
        let has_ranges = self.flags.iter().any(|flag| flag == "interval");
        let elements: BTreeMap<_, _> = match has_ranges {
            true => ours.map(|range| (vec![range_of(range)], None)).collect(),
            false => ours.map(element).collect(),
        };
        SetBody { types, map, has_ranges, elements, timeout: self.timeout }
    }
}

/// Text as it is, anything else as JSON: a value of a kind that we never write equals none of ours.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A range as we write it: the kernel shows it as a prefix, a range or one address.
fn range_of(value: &Value) -> String {
    let text_at = |path: &str| value.pointer(path).and_then(Value::as_str);
    let known = match (text_at("/range/0"), text_at("/range/1"), text_at("/prefix/addr")) {
        (Some(first), Some(last), _) => first.parse().ok().zip(last.parse().ok()),
        (_, _, Some(address)) => {
            let bits = value.pointer("/prefix/len").and_then(Value::as_u64);
            let bits = bits.and_then(|bits| u8::try_from(bits).ok());
            let range = bits.and_then(|bits| IpNetwork::new(address.parse().ok()?, bits).ok());
            range.map(|range| match range {
                IpNetwork::V4(range) => (range.network().into(), range.broadcast().into()),
                IpNetwork::V6(range) => (range.network().into(), range.broadcast().into()),
            })
        }
        _ => value.as_str().and_then(|text| text.parse().ok()).map(|one| (one, one)),
    };
    known.map_or_else(|| text(value), |(first, last)| range_part(first, last))
}

fn element(value: &Value) -> (Vec<String>, Option<String>) {
    let parts = |key: &Value| match key.get("concat").and_then(Value::as_array) {
        Some(parts) => parts.iter().map(text).collect(),
        None => vec![text(key)],
    };
    match value.as_array().map(Vec::as_slice) {
        Some([key, verdict]) => {
            let target = verdict.pointer("/goto/target").unwrap_or(verdict);
            (parts(key), Some(text(target)))
        }
        _ => (parts(value), None),
    }
}
