//! Nothing is left out: what can be set, by the schema, is what the steps change; and what they say of it is
//! what the published table says.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use weft_acceptance::{Lab, repository};

use super::Effect::{self, Live, LiveInPlan, Nothing, Replace, ReplaceInPlan, Restart};
use super::steps::RUNS;
use super::{base, change};

/// Attributes that no step changes, or none without another one, and why.
const NOT_ALONE: [(&str, &str, &str); 3] = [
    ("weft_image", "kernel_sha256", "the agent fetches the kernel: only planned, with its URL"),
    ("weft_image", "initrd_sha256", "the agent fetches it: only planned, with its URL"),
    ("weft_image", "sha256_url", "a publisher's list has to be served: image_alias.rs"),
];

/// What the steps change of one type of resource.
#[derive(Default)]
struct Changed {
    /// Also what is nested, as `routes.cidr_block`, and what changes along with others.
    paths: BTreeSet<String>,
    /// Whatever a step sets while it sets nothing else.
    alone: BTreeSet<String>,
}

/// The paths of what can be set, with what is nested.
fn settable(before: &str, attributes: &Value, found: &mut BTreeSet<String>) -> Result<()> {
    for (name, attribute) in attributes.as_object().context("no attributes")? {
        if attribute["required"] == true || attribute["optional"] == true {
            let path = format!("{before}{name}");
            let nested = &attribute["nested_type"]["attributes"];
            if !nested.is_null() {
                settable(&format!("{path}."), nested, found)?;
            }
            found.insert(path);
        }
    }
    Ok(())
}

/// The values of each key of an object, or of all objects of a list, however deep that is nested.
fn fields(value: &Value) -> BTreeMap<&String, Vec<&Value>> {
    let mut fields: BTreeMap<_, Vec<_>> = BTreeMap::new();
    match value {
        Value::Array(elements) => {
            for (name, values) in elements.iter().flat_map(self::fields) {
                fields.entry(name).or_default().extend(values);
            }
        }
        Value::Object(object) => {
            fields.extend(object.iter().map(|(name, value)| (name, vec![value])));
        }
        _ => {}
    }
    fields
}

/// The paths at which two values differ.
fn differing(path: &str, before: &Value, after: &Value, found: &mut BTreeSet<String>) {
    if before == after {
        return;
    }
    let (before, after) = (fields(before), fields(after));
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for name in names {
        let inner = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        let values = |of: &BTreeMap<&String, Vec<&Value>>| {
            Value::Array(
                of.get(*name).into_iter().flatten().map(|value| (*value).clone()).collect(),
            )
        };
        let (before, after) = (values(&before), values(&after));
        if before != after {
            differing(&inner, &before, &after, found);
            found.insert(inner);
        }
    }
}

/// What the page says of each attribute, and whether it says that this depends on more.
fn table() -> Result<BTreeMap<(String, String), (String, bool)>> {
    let page = repository().join("docs/guides/update-table.md");
    let page = std::fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let (mut resource, mut table) = (String::new(), BTreeMap::new());
    for line in page.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            name.clone_into(&mut resource);
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ["", name, word, note, ""] = cells.as_slice()
            && let Some(name) = name.strip_prefix('`').and_then(|name| name.strip_suffix('`'))
        {
            let said = (word.trim_matches('*').to_owned(), !note.is_empty());
            table.insert((resource.clone(), name.to_owned()), said);
        }
    }
    ensure!(!table.is_empty(), "the page has no table");
    Ok(table)
}

fn word(effect: Effect) -> &'static str {
    match effect {
        Live | LiveInPlan | Nothing => "live",
        Restart => "restart",
        Replace | ReplaceInPlan => "replace",
    }
}

#[test]
fn no_attribute_is_left_out_and_each_does_what_the_table_says() -> Result<()> {
    let lab = Lab::simulated()?;
    let schema = lab.terraform()?.schema()?;
    let table = table()?;
    let mut changed: BTreeMap<&str, Changed> = BTreeMap::new();
    for run in RUNS {
        let of_kind = changed.entry(run.kind).or_default();
        let mut ours = base(&lab, run.kind)?["resource"][run.kind]["it"].take();
        for (step, effect) in (run.steps)(&lab)? {
            let mut after = ours.clone();
            change(&mut after, &step)?;
            differing("", &ours, &after, &mut of_kind.paths);
            let step = step.as_object().context("a change is an object")?;
            let set: Vec<_> = step.iter().filter(|(_, value)| !value.is_null()).collect();
            if let [(name, _)] = set.as_slice() {
                of_kind.alone.insert((*name).clone());
            }
            if let (1, Some(name)) = (step.len(), step.keys().next()) {
                let (said, depends) = table
                    .get(&(run.kind.to_owned(), name.clone()))
                    .with_context(|| format!("the table lacks {}.{name}", run.kind))?;
                ensure!(
                    *depends || said == word(effect),
                    "{}.{name}: the table says {said}, the step {effect:?}",
                    run.kind
                );
            }
            if !effect.is_only_planned() {
                ours = after;
            }
        }
    }

    let (mut count, mut missing) = (0, Vec::new());
    let resources = schema["resource_schemas"].as_object().context("no resources")?;
    for (kind, resource) in resources {
        let mut paths = BTreeSet::new();
        settable("", &resource["block"]["attributes"], &mut paths)?;
        let none = Changed::default();
        let of_kind = changed.get(kind.as_str()).unwrap_or(&none);
        count += paths.len();
        for path in paths {
            let excused = NOT_ALONE
                .iter()
                .any(|(of, name, _)| (*of, *name) == (kind.as_str(), path.as_str()));
            let alone = path.contains('.') || of_kind.alone.contains(&path);
            let is_changed = alone && of_kind.paths.contains(&path);
            if !excused && !is_changed {
                missing.push(format!("{kind}.{path}"));
            }
        }
    }
    ensure!(missing.is_empty(), "no step changes these alone: {missing:#?}");
    ensure!(count > 0, "nothing can be set");
    println!("{count} attributes of {} types of resources", resources.len());
    lab.close()
}
