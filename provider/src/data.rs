//! Data sources: what changes by itself lives here and not in resources.

pub(crate) mod availability_zones;
pub(crate) mod caller_identity;
pub(crate) mod capacity;
pub(crate) mod console_output;
mod elastic_ip;
pub(crate) mod filter;
pub(crate) mod found;
pub(crate) mod found_all;
pub(crate) mod host;
pub(crate) mod hosts;
pub(crate) mod image;
pub(crate) mod image_alias;
pub(crate) mod images;
pub(crate) mod instance;
pub(crate) mod instance_metrics;
pub(crate) mod instance_timeline;
pub(crate) mod instance_types;
pub(crate) mod instances;
mod key_pair;
pub(crate) mod known_hosts;
mod network_interface;
mod newest;
mod port_forward;
mod prefix_list;
pub(crate) mod reachability;
mod route_table;
mod security_group;
pub(crate) mod security_group_hits;
pub(crate) mod snapshot;
pub(crate) mod ssh_config;
mod subnet;
pub(crate) mod usage;
mod volume;
mod vpc;

use std::sync::Arc;

use tfplugin::{Attribute, Diagnostic, Diagnostics, Mode, Schema, Value};
use weft_model::Problem;

use crate::agent::{Agent, Connection};
use crate::problem;

fn connection(agent: &Agent, noun: &str) -> Result<Arc<Connection>, Diagnostics> {
    agent.connection().map_err(|problem| fail(noun, &problem))
}

fn fail(noun: &str, problem: &Problem) -> Diagnostics {
    problem::plain(format!("Cannot read the {noun}"), problem).into()
}

fn not_one(noun: &str, cause: String, remedy: &str) -> Diagnostics {
    Diagnostic::error(format!("Not exactly one {noun}")).cause(cause).remedy(remedy).into()
}

/// All of a resource's attributes as a data source shows them, without those in `without` and what is
/// in no state.
fn shown(type_name: &str, resource: &Schema, without: &[&str]) -> Vec<Attribute> {
    let complete = resource.complete(&Value::object::<&str, Value>([]));
    let names = complete.as_map().into_iter().flat_map(|entries| entries.keys());
    names
        .filter(|name| !without.contains(&name.as_str()))
        .filter_map(|name| resource.get(name))
        .filter(|attribute| !attribute.is_write_only())
        .map(|attribute| attribute.shown(format!("As in the resource `{type_name}`.")))
        .collect()
}

/// `values` as the data source answers: what was asked stays as it was asked, and what only the resource has
/// is left out.
fn answer(mut values: Value, config: &Value, schema: &Schema) -> Value {
    if let Value::Map(entries) = &mut values {
        entries.retain(|name, _| schema.get(name).is_some());
    }
    let Value::Map(asked) = config else { return values };
    for (name, value) in asked {
        let configurable = schema.get(name).is_some_and(|a| a.mode() != Mode::Computed);
        if value.is_set() && configurable {
            values.set(name.as_str(), value.clone());
        }
    }
    values
}

/// What a data source answers that finds several: what was asked, `ids`, and the objects as `name`.
fn plural(name: &str, objects: Vec<Value>, config: &Value) -> Value {
    let ids: Vec<Value> = objects.iter().map(|object| object.get("id").clone()).collect();
    let mut answer = config.clone();
    answer.set("ids", ids);
    answer.set(name, objects);
    answer
}
