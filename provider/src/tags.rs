//! `tags`, `tags_all` and the provider's `default_tags`.

use std::collections::BTreeMap;

use tfplugin::{Attribute, ConvertError, PlanContext, Type, Value};
use weft_model::Tags;

use crate::agent::Settings;
use crate::{checks, problem};

pub(crate) type TagMap = BTreeMap<String, String>;

/// The two attributes of everything that has tags.
pub(crate) fn attributes() -> [Attribute; 2] {
    [
        Attribute::map(
            "tags",
            Type::String,
            "Labels. They win over the provider's `default_tags`.",
        )
        .validate(checks::tags()),
        Attribute::map(
            "tags_all",
            Type::String,
            "The provider's `default_tags` and `tags` together.",
        )
        .computed(),
    ]
}

/// Plans `tags_all`.
pub(crate) fn plan(settings: Option<&Settings>, ctx: &mut PlanContext) {
    let defaults = settings.and_then(|settings| settings.default_tags.as_ref());
    let all = match (defaults, ctx.plan.get("tags")) {
        (Some(defaults), own) if own.is_wholly_known() => merged(defaults, own).ok(),
        _ => None,
    };
    match all {
        Some(all) => {
            // Each is well by itself; together they may be too many.
            if let Err(mut problem) = Tags::parse(all.clone()) {
                problem.message.insert_str(0, "with the provider's default_tags: ");
                ctx.error(problem::plain("Too many tags", &problem).at("tags"));
            }
            ctx.set("tags_all", all);
        }
        None => ctx.mark_unknown("tags_all"),
    }
}

/// What goes to the agent while applying: everything is known by then.
pub(crate) fn all(settings: &Settings, plan: &Value) -> Result<TagMap, ConvertError> {
    let none = TagMap::new();
    merged(settings.default_tags.as_ref().unwrap_or(&none), plan.get("tags"))
}

/// Those of this object alone.
pub(crate) fn own(plan: &Value) -> Result<Option<TagMap>, ConvertError> {
    plan.read("tags")
}

/// The defaults, with an object's own over them.
pub(crate) fn merged(defaults: &TagMap, own: &Value) -> Result<TagMap, ConvertError> {
    let mut all = defaults.clone();
    all.extend(own.to::<Option<TagMap>>()?.unwrap_or_default());
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_tags_win_over_defaults() {
        let defaults = TagMap::from([("team".into(), "a".into()), ("env".into(), "lab".into())]);
        let own = Value::object([("env", "prod")]);
        let all = merged(&defaults, &own).unwrap();
        assert_eq!(all, TagMap::from([("team".into(), "a".into()), ("env".into(), "prod".into())]));
        assert_eq!(merged(&defaults, &Value::Null).unwrap(), defaults);
    }
}
