use super::*;
use crate::cty::Type;

fn schema() -> Schema {
    Schema::new("x")
        .attribute(Attribute::string("name", "n").required())
        .attribute(Attribute::string("zone", "z").optional().replace_on_change())
        .attribute(Attribute::number("size", "s").default(8))
        .attribute(Attribute::string("id", "i").computed())
        .attribute(Attribute::string("address", "a").optional_computed())
        .attribute(Attribute::string("secret", "s").write_only())
        .attribute(Attribute::set("tags", Type::String, "t"))
        .attribute(Attribute::nested(
            "nics",
            Nesting::List,
            "n",
            [
                Attribute::string("net", "n").required().replace_on_change(),
                Attribute::number("mtu", "m"),
                Attribute::string("mac", "m").computed(),
            ],
        ))
        .attribute(Attribute::nested(
            "disks",
            Nesting::Set,
            "d",
            [
                Attribute::string("label", "l").required(),
                Attribute::string("serial", "s").computed(),
            ],
        ))
}

/// `a=1 b=?` as an object: `?` is unknown, digits are numbers, the rest strings.
fn object(text: &str) -> Value {
    let value = |text: &str| match (text, text.parse::<i64>()) {
        ("?", _) => Value::Unknown,
        (_, Ok(int)) => Value::from(int),
        (text, _) => Value::from(text),
    };
    Value::object(text.split_whitespace().map(|part| {
        let (name, text) = part.split_once('=').unwrap();
        (name, value(text))
    }))
}

fn whole(text: &str) -> Value {
    if text == "-" { Value::Null } else { schema().complete(&object(text)) }
}

fn paths(paths: &[Path]) -> String {
    paths.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_rule_of_the_table_holds() {
    #[rustfmt::skip]
    let cases = [
        // rule,                         config,              prior,                        planned,                         replaced by
        ("creation",                     "name=a",            "-",                          "name=a size=8 id=? address=?",  ""),
        ("configured wins",              "name=a size=9 address=x", "-",                    "name=a size=9 id=? address=x",  ""),
        ("unknown configuration",        "name=? zone=?",     "-",                          "name=? zone=? size=8 id=? address=?", ""),
        ("update keeps computed values", "name=b",            "name=a size=8 id=1a address=x", "name=b size=8 id=1a address=x", ""),
        ("nothing changed",              "name=a size=9",     "name=a size=9 id=1a address=x", "name=a size=9 id=1a address=x", ""),
        ("default returns when unset",   "name=a",            "name=a size=9 id=1a address=x", "name=a size=8 id=1a address=x", ""),
        ("optional is removed",          "name=a",            "name=a size=8 zone=z id=1a address=x", "name=a size=8 id=1a address=x", "zone"),
        ("replacing attribute",          "name=a zone=y",     "name=a size=8 zone=z id=1a address=x", "name=a zone=y size=8 id=1a address=x", "zone"),
        ("unknown replaces too",         "name=a zone=?",     "name=a size=8 zone=z id=1a address=x", "name=a zone=? size=8 id=1a address=x", "zone"),
        ("write-only is never planned",  "name=a secret=s",   "name=a size=8 id=1a address=x", "name=a size=8 id=1a address=x", ""),
    ];
    for (rule, config, prior, planned, replaced_by) in cases {
        let (config, prior) = (whole(config), whole(prior));
        let plan = propose(&schema(), &config, &prior);
        assert_eq!(plan, whole(planned), "{rule}");
        assert_eq!(paths(&replacements(&schema(), &prior, &plan)), replaced_by, "{rule}");
        assert_eq!(contradictions(&schema(), &config, &prior, &plan), [], "{rule}");
        if plan.is_wholly_known() {
            assert_eq!(propose(&schema(), &config, &plan), plan, "{rule}: planned again");
        }
    }
}

fn with(name: &str, elements: &[&str]) -> Value {
    let elements: Vec<_> = elements.iter().map(|element| object(element)).collect();
    let mut value = object("name=a size=8 id=1a address=x");
    value.set(name, elements);
    schema().complete(&value)
}

#[test]
fn elements_keep_what_was_computed_for_them() {
    #[rustfmt::skip]
    let cases = [
        // rule,                     attribute, config,               prior,                      planned,                    replaced by
        ("list by index",            "nics",  vec!["net=a mtu=9"],   vec!["net=a mac=m"],         vec!["net=a mtu=9 mac=m"],  ""),
        ("list grows",               "nics",  vec!["net=a", "net=b"], vec!["net=a mac=m"],        vec!["net=a mac=m", "net=b mac=?"], "nics"),
        ("list element replaces",    "nics",  vec!["net=b"],         vec!["net=a mac=m"],         vec!["net=b mac=m"],        "nics"),
        ("set in another order",     "disks", vec!["label=y", "label=x"], vec!["label=x serial=s", "label=y serial=t"], vec!["label=x serial=s", "label=y serial=t"], ""),
        ("set element is exchanged", "disks", vec!["label=x", "label=z"], vec!["label=x serial=s", "label=y serial=t"], vec!["label=x serial=s", "label=z serial=?"], ""),
    ];
    for (rule, name, config, prior, planned, replaced_by) in cases {
        let (config, prior) = (with(name, &config), with(name, &prior));
        let plan = propose(&schema(), &config, &prior);
        assert_eq!(plan, with(name, &planned), "{rule}");
        assert_eq!(paths(&replacements(&schema(), &prior, &plan)), replaced_by, "{rule}");
        assert_eq!(contradictions(&schema(), &config, &prior, &plan), [], "{rule}");
    }
}

#[test]
fn a_plan_that_departs_from_the_configuration_is_found() {
    let config = with("nics", &["net=a"]);
    let cases = [
        ("name", Value::from("other"), "name"),
        ("zone", Value::from("made up"), "zone"),
        ("secret", Value::from("leaked"), "secret"),
        ("nics[0].net", Value::from("b"), "nics[0].net"),
        ("nics[0].mac", Value::from("filled in"), ""),
        ("id", Value::from("new"), "id"),
    ];
    for (path, value, found) in cases {
        let mut plan = propose(&schema(), &config, &Value::Null);
        plan.set(path, value);
        assert_eq!(
            paths(&contradictions(&schema(), &config, &Value::Null, &plan)),
            found,
            "{path}"
        );
    }
    let mut plan = with("disks", &["label=x serial=s"]);
    plan.set("id", "1a");
    let config = with("disks", &["label=y"]);
    assert_eq!(paths(&contradictions(&schema(), &config, &Value::Null, &plan)), "disks");
}

#[test]
fn unknown_parts_are_found_and_become_null_after_an_error() {
    let plan = propose(&schema(), &with("nics", &["net=a"]), &Value::Null);
    assert_eq!(paths(&unknown_parts(&schema(), &plan)), "nics[0].mac");
    assert!(known_part(&plan).is_wholly_known());
}

#[test]
fn order_does_not_matter_in_a_set() {
    let mut config = object("name=a");
    config.set("tags", vec!["x", "y"]);
    let mut prior = object("name=a size=8 id=1a address=x");
    prior.set("tags", vec!["y", "x"]);
    let (config, prior) = (schema().complete(&config), schema().complete(&prior));
    assert_eq!(propose(&schema(), &config, &prior), prior);
}
