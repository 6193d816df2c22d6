//! What objects are called in configuration.

use std::collections::{BTreeMap, BTreeSet};

use tfplugin::Value;

/// The names that are given, each once for a type.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: BTreeSet<(&'static str, String)>,
    /// By id.
    given: BTreeMap<String, String>,
}

impl Names {
    /// A name for the object `id`, made of what people call it.
    pub(super) fn give(&mut self, type_name: &'static str, id: &str, label: &str) -> String {
        let base = identifier(label);
        let base = if base.is_empty() { identifier(&id.replace('/', "_")) } else { base };
        let mut name = base.clone();
        let mut number = 1;
        while !self.taken.insert((type_name, name.clone())) {
            number += 1;
            name = format!("{base}_{number}");
        }
        self.given.insert(id.to_owned(), name.clone());
        name
    }

    /// For what has no name: of the objects that its `attributes` name, and its mark. A volume's
    /// attachment is called after instance and volume. What has the same name is named once.
    pub(super) fn of_parents(
        &self,
        attributes: &[String],
        state: &Value,
        mark: Option<String>,
    ) -> Option<String> {
        let of = |name: &String| self.given.get(state.get(name.as_str()).as_str()?).cloned();
        let mut parts: Vec<String> = attributes.iter().filter_map(of).collect();
        parts.dedup();
        if parts.is_empty() {
            return None;
        }
        parts.extend(mark);
        Some(parts.join("_"))
    }
}

/// `label` with everything replaced that an identifier cannot have.
fn identifier(label: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let text: String = label.trim().chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    let text = text.trim_matches('_').to_owned();
    match text.starts_with(|c: char| c.is_ascii_alphabetic()) || text.is_empty() {
        true => text,
        false => format!("_{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_identifiers_and_given_once_for_a_type() {
        let mut names = Names::default();
        let mut given = |type_name, id: &str, label: &str| names.give(type_name, id, label);
        assert_eq!(given("weft_vpc", "vpc-1", "my vpc (old)"), "my_vpc__old");
        assert_eq!(given("weft_vpc", "vpc-2", "my vpc (old)"), "my_vpc__old_2");
        assert_eq!(given("weft_subnet", "subnet-1", "my vpc (old)"), "my_vpc__old");
        assert_eq!(given("weft_volume", "vol-1", "1st"), "_1st");
        assert_eq!(given("weft_volume", "vol-2", "größe"), "gr__e");
        assert_eq!(given("weft_volume_attachment", "i-1/vol-1", " "), "i-1_vol-1");
        let state = Value::object([("instance_id", "i-9"), ("volume_id", "vol-1")]);
        let attributes = ["instance_id", "volume_id"].map(str::to_owned);
        let of = |names: &Names, mark: Option<&str>| {
            names.of_parents(&attributes, &state, mark.map(str::to_owned))
        };
        assert_eq!(of(&names, None).as_deref(), Some("_1st"));
        names.give("weft_instance", "i-9", "web");
        assert_eq!(of(&names, None).as_deref(), Some("web__1st"));
        assert_eq!(of(&names, Some("tcp_22")).as_deref(), Some("web__1st_tcp_22"));
        assert_eq!(names.of_parents(&[], &state, Some("all".to_owned())), None);
    }
}
