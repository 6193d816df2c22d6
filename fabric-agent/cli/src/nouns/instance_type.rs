//! Instance types.

use serde_json::{Value, json};
use weft_model::{InstanceType, InstanceTypeSpec, Timestamp};

use super::{Noun, common_details, common_json};
use crate::output::age;

/// What stands for the id and the age of a type that Weft has by itself.
const BUILT_IN: &str = "built in";

fn limit(network_mbps: Option<u32>) -> String {
    network_mbps.map_or_else(|| "no limit".to_owned(), |mbps| format!("{mbps} Mbit/s"))
}

impl Noun for InstanceType {
    const HEADER: &'static [&'static str] = &["ID", "NAME", "VCPUS", "MEMORY", "NETWORK", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        let InstanceTypeSpec { name, vcpus, memory_mib, network_mbps } = self.spec();
        let (id, age) = match self {
            Self::BuiltIn(_) => (BUILT_IN.to_owned(), String::new()),
            Self::Own(object) => (object.id.to_string(), age(now, object.created_at)),
        };
        let (name, vcpus) = (name.to_string(), vcpus.to_string());
        vec![id, name, vcpus, format!("{memory_mib} MiB"), limit(*network_mbps), age]
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let InstanceTypeSpec { name, vcpus, memory_mib, network_mbps } = self.spec();
        let mut pairs = vec![
            ("name", name.to_string()),
            ("vcpus", vcpus.to_string()),
            ("memory", format!("{memory_mib} MiB")),
            ("network", limit(*network_mbps)),
        ];
        match self {
            Self::BuiltIn(_) => pairs.insert(0, ("id", BUILT_IN.to_owned())),
            Self::Own(object) => {
                pairs.insert(0, ("id", object.id.to_string()));
                pairs.extend(common_details(object));
            }
        }
        pairs
    }

    fn json(&self) -> Value {
        let InstanceTypeSpec { name, vcpus, memory_mib, network_mbps } = self.spec();
        let built_in = matches!(self, Self::BuiltIn(_));
        let specific = json!({
            "name": name,
            "vcpus": vcpus,
            "memory_mib": memory_mib,
            "network_mbps": network_mbps,
            "built_in": built_in,
        });
        match self {
            Self::BuiltIn(_) => specific,
            Self::Own(object) => common_json(object, specific),
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_model::{InstanceTypeId, Object, Tags, find_type};

    use super::*;

    #[test]
    fn a_type_of_ones_own_has_an_id_and_a_built_in_one_says_so() {
        let now = Timestamp::from_millisecond(1_700_000_000_000).unwrap();
        let spec = InstanceTypeSpec {
            name: "c1.x".parse().unwrap(),
            vcpus: 3,
            memory_mib: 96,
            network_mbps: Some(50),
        };
        let own = InstanceType::Own(Object {
            id: InstanceTypeId::from_random([0xab; 9]),
            generation: 1,
            spec,
            tags: Tags::default(),
            client_data: String::new(),
            created_at: now,
            deleting_since: None,
            claimed: true,
        });
        let built_in = InstanceType::BuiltIn(find_type("w1.nano").unwrap());
        assert_eq!(
            own.row(now)[..5],
            ["type-ababababababababa", "c1.x", "3", "96 MiB", "50 Mbit/s"]
        );
        assert_eq!(own.json()["id"], "type-ababababababababa");
        assert_eq!(own.json()["built_in"], false);
        assert_eq!(built_in.row(now), ["built in", "w1.nano", "1", "128 MiB", "no limit", ""]);
        assert_eq!(built_in.json()["built_in"], true);
        assert_eq!(built_in.details()[0], ("id", "built in".to_owned()));
    }
}
