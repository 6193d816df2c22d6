//! Prefix lists.

use serde_json::{Value, json};
use weft_model::{Object, PrefixListId, PrefixListSpec, Timestamp};

use super::{Noun, common_details, common_json};
use crate::output::age;

impl Noun for Object<PrefixListId, PrefixListSpec> {
    const HEADER: &'static [&'static str] = &["ID", "NAME", "FAMILY", "ENTRIES", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.spec.name.clone(),
            self.spec.address_family.to_string(),
            self.spec.entries.len().to_string(),
            age(now, self.created_at),
        ]
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let entries = self.spec.entries.iter();
        let entries: Vec<_> =
            entries.map(|(range, what)| format!("{range} {what}").trim().to_owned()).collect();
        let mut pairs = vec![
            ("id", self.id.to_string()),
            ("name", self.spec.name.clone()),
            ("address family", self.spec.address_family.to_string()),
            ("entries", entries.join("\n")),
        ];
        pairs.extend(common_details(self));
        pairs
    }

    fn json(&self) -> Value {
        let entries = self.spec.entries.iter();
        let entries: Vec<_> = entries
            .map(|(range, description)| json!({ "cidr": range.to_string(), "description": description }))
            .collect();
        let specific = json!({
            "name": self.spec.name,
            "address_family": self.spec.address_family,
            "entries": entries,
        });
        common_json(self, specific)
    }
}
