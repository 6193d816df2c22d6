//! How each kind of object is shown: as a row of a table, as a list of details, as JSON.

mod group;
mod host;
mod image;
mod instance;
mod instance_type;
mod key_pair;
mod network_interface;
mod prefix_list;
mod public;
mod route;
#[cfg(test)]
pub(crate) mod samples;
mod snapshot;
mod volume;
mod vpc;

use std::fmt::Display;

use serde_json::{Value, json};
use weft_model::{Object, Tags, Timestamp};

/// Something that `weft ls` and `weft get` show.
pub(crate) trait Noun {
    /// The columns of [`Noun::row`].
    const HEADER: &'static [&'static str];
    /// One line of a table; `now` is for ages.
    fn row(&self, now: Timestamp) -> Vec<String>;
    /// Everything, for people.
    fn details(&self) -> Vec<(&'static str, String)>;
    /// Everything, with the API's names.
    fn json(&self) -> Value;
}

/// The details that every object has.
fn common_details<I, S>(object: &Object<I, S>) -> Vec<(&'static str, String)> {
    let mut pairs = vec![
        ("tags", tags(&object.tags)),
        ("generation", object.generation.to_string()),
        ("created", object.created_at.to_string()),
    ];
    if let Some(since) = object.deleting_since {
        pairs.push(("deleting since", since.to_string()));
    }
    if !object.claimed {
        pairs.push(("claimed", "no: no client's state is known to hold it".to_owned()));
    }
    pairs
}

/// `specific` and the fields that every object has.
fn common_json<I: Display, S>(object: &Object<I, S>, mut specific: Value) -> Value {
    let common = json!({
        "id": object.id.to_string(),
        "generation": object.generation,
        "tags": object.tags,
        "created_at": object.created_at,
        "deleting_since": object.deleting_since,
        "claimed": object.claimed,
    });
    if let (Value::Object(fields), Value::Object(common)) = (&mut specific, common) {
        fields.extend(common);
    }
    specific
}

fn tags(tags: &Tags) -> String {
    tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("\n")
}

fn text<T: Display>(value: Option<&T>) -> String {
    value.map(T::to_string).unwrap_or_default()
}

fn lines<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join("\n")
}
