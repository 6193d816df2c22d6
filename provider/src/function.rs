//! Provider functions (Terraform 1.8 and later): pure, so none asks the agent for anything.

mod cloud_init;
mod parse_id;
mod ssh_config_entry;

use std::collections::BTreeMap;

use tfplugin::{Function, FunctionError};

/// All of them.
pub(crate) fn all() -> Vec<Box<dyn Function>> {
    vec![
        Box::new(cloud_init::CloudInit),
        Box::new(parse_id::ParseId),
        Box::new(ssh_config_entry::SshConfigEntry),
    ]
}

/// Refuses a map in which there is a key that nothing reads: a mistyped one would be lost.
fn check_keys(map: &BTreeMap<String, Option<String>>, known: &[&str]) -> Result<(), String> {
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(format!("there is no {key:?}, only {}", known.join(", "))),
    }
}

/// The same as an error about an argument.
fn at(index: usize) -> impl Fn(String) -> FunctionError {
    move |text| FunctionError::at(index, text)
}
