//! What changing an attribute does, for each one of each resource: live, by a restart, or by a
//! replacement. The plans of instances follow it, and a page of the documentation shows it.
//!
//! What the schema says (an attribute that replaces, one that nobody can set) is not said again
//! here: only what depends on more than the attribute.

use std::fmt::Write as _;

use tfplugin::{Attribute, Mode, Provider as _, Schema};

use crate::Weft;

/// The attributes of an instance whose change shuts a running guest down and starts it again.
pub(crate) const RESTARTING: [&str; 9] = [
    "instance_type",
    "vcpus",
    "memory_mib",
    "max_vcpus",
    "max_memory_mib",
    "display",
    "user_data",
    "user_data_base64",
    "user_data_wo_version",
];

/// Those of them that say how big it is: growth within its maxima is live.
pub(crate) const SIZE: [&str; 3] = ["instance_type", "vcpus", "memory_mib"];

/// What a change of an attribute does to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing is interrupted.
    Live,
    /// A guest that runs is shut down and started again.
    Restart,
    /// The object is removed, and another one made.
    Replace,
}

impl Effect {
    fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Restart => "restart",
            Self::Replace => "**replace**",
        }
    }
}

/// What follows from the attribute alone; `None` where nobody can set it.
pub(crate) fn effect(resource: &str, attribute: &Attribute) -> Option<Effect> {
    let name = attribute.name();
    match attribute.mode() {
        Mode::Computed => None,
        _ if attribute.replaces() => Some(Effect::Replace),
        _ if CONTENT.contains(&(resource, name)) => Some(Effect::Replace),
        _ if resource == "weft_instance" && RESTARTING.contains(&name) => Some(Effect::Restart),
        _ => Some(Effect::Live),
    }
}

/// Attributes that replace by what is behind them: see [`NOTES`].
const CONTENT: [(&str, &str); 7] = [
    ("weft_instance", "image_id"),
    ("weft_image", "sha256"),
    ("weft_image", "sha512"),
    ("weft_image", "kernel"),
    ("weft_image", "initrd"),
    ("weft_image", "boot_mode"),
    ("weft_key_pair", "public_key"),
];

/// What an effect depends on, and what more there is to know.
const NOTES: [(&str, &str, &str); 26] = [
    (
        "weft_instance",
        "root_volume",
        "grows, never shrinks; its limits change both ways; left out again, it stays",
    ),
    ("weft_volume", "size_gib", "grows, never shrinks"),
    ("weft_instance", "image_id", "recorded only, with `replace_on_image_change = false`"),
    ("weft_instance", "replace_on_image_change", "set to true, it replaces an outdated instance"),
    ("weft_instance", "instance_type", "of one that runs; live, where it grows within its maxima"),
    ("weft_instance", "vcpus", "of one that runs; live, where they grow up to `max_vcpus`"),
    (
        "weft_instance",
        "memory_mib",
        "of one that runs; live, where it grows up to `max_memory_mib`",
    ),
    ("weft_instance", "max_vcpus", "of an instance that runs"),
    ("weft_instance", "max_memory_mib", "of an instance that runs"),
    ("weft_instance", "display", "of an instance that runs"),
    ("weft_instance", "user_data", "of one that runs; replace, with `user_data_replace_on_change`"),
    (
        "weft_instance",
        "user_data_base64",
        "as `user_data`; no change where the bytes stay the same",
    ),
    ("weft_instance", "user_data_wo", "nothing by itself: `user_data_wo_version` has it sent"),
    (
        "weft_instance",
        "user_data_wo_version",
        "of one that runs; replace, with `user_data_replace_on_change`",
    ),
    ("weft_instance", "name", "the guest sees it at its next start"),
    ("weft_instance", "key_names", "recorded; the plan warns"),
    ("weft_instance", "power_state", "switches it off or on, which is what it is for"),
    ("weft_instance", "apply_policy", "holds for the plan that it is changed in"),
    ("weft_image", "source_path", "replace, where the content behind it is another"),
    ("weft_image", "source_url", "where its digest stays the same"),
    ("weft_image", "kernel", "where the content behind it is another"),
    ("weft_image", "initrd", "where the content behind it is another"),
    ("weft_key_pair", "public_key", "not for another comment alone"),
    ("weft_subnet", "dns_servers", "a running guest sees them at its next start"),
    ("weft_subnet", "map_public_ip_on_launch", "for new instances"),
    ("weft_instance_type", "name", "instances keep the size that they were given"),
];

fn note(resource: &str, attribute: &str) -> &'static str {
    let found = NOTES.iter().find(|(of, name, _)| (*of, *name) == (resource, attribute));
    found.map_or("", |(_, _, note)| note)
}

/// The page of the documentation.
pub(crate) fn page() -> String {
    let mut page = String::from(
        "---\n\
         page_title: \"Update table - weft\"\n\
         subcategory: \"\"\n\
         description: |-\n  \
         What changing an attribute does, for each one of each resource.\n\
         ---\n\n\
         # Update table\n\n\
         What changing an attribute does: **live** interrupts nothing, **restart** shuts a running guest\n\
         down and starts it again, **replace** removes the object and makes another one. Made from the\n\
         schemas; plans warn of what restarts and of what replaces an instance, and `apply_policy` rules\n\
         it out. [What an update does](updates.md) says more.\n",
    );
    for resource in Weft::new(None).resources() {
        let name = resource.type_name();
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## {name}\n\n{}", rows(name, &resource.schema()));
    }
    page
}

fn rows(resource: &str, schema: &Schema) -> String {
    let mut rows = String::from("| attribute | a change is | |\n|---|---|---|\n");
    let mut attributes: Vec<&Attribute> = schema.iter().collect();
    attributes.sort_by_key(|attribute| attribute.name());
    for attribute in attributes {
        if let Some(effect) = effect(resource, attribute) {
            let (name, note) = (attribute.name(), note(resource, attribute.name()));
            let _ = writeln!(rows, "| `{name}` | {} | {note} |", effect.word());
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_beside_the_schemas_is_said_of_attributes_that_exist() {
        let resources = Weft::new(None).resources();
        let schema = |name: &str| {
            let found = resources.iter().find(|resource| resource.type_name() == name);
            found.unwrap_or_else(|| panic!("there is no {name}")).schema()
        };
        let said = NOTES.iter().map(|(of, name, _)| (*of, *name)).chain(CONTENT);
        for (resource, name) in said.chain(RESTARTING.map(|name| ("weft_instance", name))) {
            let schema = schema(resource);
            let attribute = schema.get(name).unwrap_or_else(|| panic!("{resource} has no {name}"));
            assert!(effect(resource, attribute).is_some(), "{resource}.{name}");
        }
    }
}
