//! The tags that objects have from a provider's `default_tags`: an object's own configuration does not
//! have them, and without them its first plan would take them away.

use tfplugin::Value;

use super::Object;
use super::hcl::{Block, Expression};
use crate::tags::{self, TagMap};

/// Where the tags of exported objects come from.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shared {
    /// The `default_tags` with which all objects keep the tags that they have.
    pub(super) default_tags: TagMap,
    /// How many objects' tags were defaults and become their own.
    pub(super) retagged: usize,
}

/// All tags of an object of this state; `None` for kinds that have no tags.
pub(super) fn of(state: &Value) -> Option<TagMap> {
    state.get("tags_all").to().ok().flatten()
}

/// The `default_tags` with which all `objects` keep the tags that they have. Where there are none,
/// since the objects come from several configurations, tags that were defaults become their own.
pub(super) fn shared(objects: &mut [Object]) -> Shared {
    let tagged = || objects.iter().filter_map(|object| Some((object, object.tags.as_ref()?)));
    let mut defaults = TagMap::new();
    for (object, all) in tagged() {
        let own = own(object);
        let given = all.iter().filter(|(key, _)| !own.contains_key(*key));
        defaults.extend(given.map(|(key, value)| (key.clone(), value.clone())));
    }
    let keeps = |(object, all): (&Object, &TagMap)| {
        tags::merged(&defaults, object.config.get("tags")).is_ok_and(|with| with == *all)
    };
    if tagged().all(keeps) {
        return Shared { default_tags: defaults, retagged: 0 };
    }
    let mut retagged = 0;
    for object in objects {
        let own = own(object);
        let Some(all) = object.tags.as_ref().filter(|all| **all != own) else { continue };
        object.config.set("tags", all.clone());
        retagged += 1;
        object.comments.push(
            "Some of its tags come from the default_tags of a configuration that not all share: the \
             first apply makes them its own."
                .to_owned(),
        );
    }
    Shared { default_tags: TagMap::new(), retagged }
}

fn own(object: &Object) -> TagMap {
    tags::own(&object.config).ok().flatten().unwrap_or_default()
}

/// The provider's block, if it takes one.
pub(super) fn provider(default_tags: &TagMap) -> String {
    if default_tags.is_empty() {
        return String::new();
    }
    let tags = default_tags
        .iter()
        .map(|(key, value)| (key.clone(), Expression::Literal(value.as_str().into())))
        .collect();
    let block = Block {
        head: "provider \"weft\"".to_owned(),
        comments: Vec::new(),
        attributes: vec![("default_tags".to_owned(), Expression::Object(tags))],
    };
    format!("\n{}", block.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags<const N: usize>(tags: [(&str, &str); N]) -> TagMap {
        tags.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn object(own: TagMap, all: Option<TagMap>) -> Object {
        Object {
            type_name: "weft_vpc",
            id: String::new(),
            name: String::new(),
            address: String::new(),
            config: Value::object([("tags", own)]),
            tags: all,
            comments: Vec::new(),
        }
    }

    #[test]
    fn what_all_have_besides_their_own_is_the_providers() {
        let mut objects = [
            object(tags([]), Some(tags([("team", "x")]))),
            object(tags([("team", "y"), ("a", "b")]), Some(tags([("team", "y"), ("a", "b")]))),
            object(tags([]), None),
        ];
        let default_tags = tags([("team", "x")]);
        assert_eq!(shared(&mut objects), Shared { default_tags, retagged: 0 });
        assert_eq!(own(&objects[0]), tags([]));
    }

    #[test]
    fn where_not_all_share_them_they_become_their_own() {
        let mut objects = [
            object(tags([]), Some(tags([("team", "x")]))),
            object(tags([("a", "b")]), Some(tags([("a", "b")]))),
        ];
        let default_tags = TagMap::new();
        assert_eq!(shared(&mut objects), Shared { default_tags, retagged: 1 });
        assert_eq!(own(&objects[0]), tags([("team", "x")]));
        assert_eq!(objects[0].comments.len(), 1);
        assert!(objects[1].comments.is_empty());
    }

    #[test]
    fn the_providers_block_is_written_where_it_says_something() {
        assert_eq!(provider(&tags([])), "");
        let text = provider(&tags([("a b", "x"), ("team", "y")]));
        assert!(text.contains("provider \"weft\" {") && text.contains("\"a b\" = \"x\""), "{text}");
    }
}
