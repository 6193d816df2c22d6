//! What Terraform wants to do and what it knows, out of its JSON.

use anyhow::{Context as _, Result};
use serde_json::Value;

/// What is to happen to one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Nothing,
    /// It is made.
    Create,
    /// It is changed in place.
    Update,
    /// It is removed and made again.
    Replace,
    /// It is removed.
    Delete,
    /// A data source is read.
    Read,
}

/// A saved plan.
#[derive(Clone, Debug)]
pub struct Plan {
    json: Value,
    text: String,
}

impl Plan {
    pub(crate) fn new(json: Value, text: String) -> Self {
        Self { json, text }
    }

    /// The plan as people see it, warnings included.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Every resource's change, by address.
    pub fn changes(&self) -> Vec<(String, Change)> {
        let all = self.json["resource_changes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let one = |change: &Value| {
            let address = change["address"].as_str().unwrap_or_default().to_owned();
            (address, parse_actions(&change["change"]["actions"]))
        };
        all.iter().map(one).collect()
    }

    /// What happens to the resource at `address`.
    pub fn change(&self, address: &str) -> Change {
        let found = self.changes().into_iter().find(|(candidate, _)| candidate == address);
        found.map_or(Change::Nothing, |(_, change)| change)
    }

    /// The addresses that are imported.
    pub fn imports(&self) -> Vec<String> {
        let all = self.json["resource_changes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let imported = all.iter().filter(|change| change["change"]["importing"].is_object());
        imported.filter_map(|change| change["address"].as_str().map(str::to_owned)).collect()
    }

    /// Whether the attribute's new value is known only after the apply.
    pub fn is_unknown(&self, address: &str, attribute: &str) -> bool {
        let all = self.json["resource_changes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ours = all.iter().find(|change| change["address"] == address);
        ours.is_some_and(|change| change["change"]["after_unknown"][attribute] == true)
    }
}

fn parse_actions(actions: &Value) -> Change {
    let words: Vec<_> =
        actions.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    match words.as_slice() {
        ["create"] => Change::Create,
        ["update"] => Change::Update,
        ["delete"] => Change::Delete,
        ["read"] => Change::Read,
        ["delete", "create"] | ["create", "delete"] => Change::Replace,
        _ => Change::Nothing,
    }
}

/// The state as `terraform show -json` tells it.
#[derive(Clone, Debug)]
pub struct State {
    json: Value,
}

impl State {
    pub(crate) fn new(json: Value) -> Self {
        Self { json }
    }

    /// Every resource of the root module, as `terraform show -json` tells it.
    pub fn resources(&self) -> &[Value] {
        let resources = &self.json["values"]["root_module"]["resources"];
        resources.as_array().map(Vec::as_slice).unwrap_or_default()
    }

    fn resource(&self, address: &str) -> Option<&Value> {
        self.resources().iter().find(|resource| resource["address"] == address)
    }

    /// Addresses of all managed resources.
    pub fn addresses(&self) -> Vec<String> {
        let managed = self.resources().iter().filter(|resource| resource["mode"] == "managed");
        managed.filter_map(|resource| resource["address"].as_str().map(str::to_owned)).collect()
    }

    /// Whether the resource is there.
    pub fn has(&self, address: &str) -> bool {
        self.resource(address).is_some()
    }

    /// Whether the resource is there and marked to be made again.
    pub fn is_tainted(&self, address: &str) -> bool {
        self.resource(address).is_some_and(|resource| resource["tainted"] == true)
    }

    /// One attribute.
    ///
    /// # Errors
    /// There is no such resource.
    pub fn attribute(&self, address: &str, name: &str) -> Result<&Value> {
        let resource = self.resource(address);
        let resource = resource.with_context(|| format!("{address} is not in the state"))?;
        Ok(&resource["values"][name])
    }

    /// The value of one output of the root module.
    ///
    /// # Errors
    /// There is no such output.
    pub fn output(&self, name: &str) -> Result<&Value> {
        let output = self.json["values"]["outputs"].get(name);
        Ok(&output.with_context(|| format!("there is no output {name}"))?["value"])
    }

    /// One attribute that is text.
    ///
    /// # Errors
    /// There is no such resource, or the attribute is not text.
    pub fn text(&self, address: &str, name: &str) -> Result<String> {
        let value = self.attribute(address, name)?;
        let text = value.as_str().with_context(|| format!("{address}.{name} is {value}"))?;
        Ok(text.to_owned())
    }
}
