//! Whatever the provider offers says what it is, in the schema that editors and registries read.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use weft_acceptance::{Lab, repository, terraform_of_version};

/// What each part of the schema has pages of in `docs/`, which are made from the same declarations by other
/// code. Identities have none of their own.
const PAGES: [(&str, &str); 6] = [
    ("resource_schemas", "resources"),
    ("data_source_schemas", "data-sources"),
    ("ephemeral_resource_schemas", "ephemeral-resources"),
    ("list_resource_schemas", "list-resources"),
    ("action_schemas", "actions"),
    ("functions", "functions"),
];

/// What was looked at, and what of it says nothing.
#[derive(Default)]
struct Seen {
    described: usize,
    silent: Vec<String>,
}

impl Seen {
    fn described(&mut self, path: &str, value: &Value) {
        match value["description"].as_str() {
            Some(text) if !text.trim().is_empty() => self.described += 1,
            _ => self.silent.push(path.to_owned()),
        }
    }

    /// An object of attributes; which there have to be, if it is there.
    fn attributes(&mut self, path: &str, attributes: &Value) -> Result<()> {
        for (name, attribute) in object(path, attributes)? {
            let path = format!("{path}.{name}");
            self.described(&path, attribute);
            let nested = &attribute["nested_type"];
            // An object's type without a schema of its own has no place for descriptions.
            ensure!(
                !attribute["type"].to_string().contains("object"),
                "{path} says nothing inside"
            );
            if !nested.is_null() {
                self.attributes(&path, &nested["attributes"])?;
            }
        }
        Ok(())
    }

    fn block(&mut self, path: &str, block: &Value) -> Result<()> {
        self.described(path, block);
        if !block["attributes"].is_null() {
            self.attributes(path, &block["attributes"])?;
        }
        if !block["block_types"].is_null() {
            for (name, inner) in object(path, &block["block_types"])? {
                self.block(&format!("{path}.{name}"), &inner["block"])?;
            }
        }
        Ok(())
    }

    fn function(&mut self, path: &str, function: &Value) -> Result<()> {
        self.described(path, function);
        let summary = function["summary"].as_str().unwrap_or_default();
        ensure!(!summary.is_empty(), "{path} has no summary");
        let fixed = function["parameters"].as_array().into_iter().flatten();
        let parameters: Vec<_> = fixed.chain(function.get("variadic_parameter")).collect();
        ensure!(!parameters.is_empty(), "{path} has no parameters");
        for parameter in parameters {
            self.described(&format!("{path}({})", parameter["name"]), parameter);
        }
        Ok(())
    }
}

fn object<'a>(path: &str, value: &'a Value) -> Result<&'a serde_json::Map<String, Value>> {
    let object = value.as_object().with_context(|| format!("{path} is no object: {value}"))?;
    ensure!(!object.is_empty(), "{path} is empty");
    Ok(object)
}

#[test]
fn everything_in_the_schema_is_described() -> Result<()> {
    // Older ones show no actions, no list resources and no identities.
    let Some(program) = terraform_of_version("1.15.5")? else { return Ok(()) };
    let lab = Lab::simulated()?;
    let schema = lab.terraform()?.with_program(program).schema()?;
    let mut seen = Seen::default();
    let mut things = BTreeMap::new();
    for (part, content) in object("the schema", &schema)? {
        if part == "provider" {
            seen.block("provider", &content["block"])?;
            continue;
        }
        for (name, thing) in object(part, content)? {
            let path = format!("{part}.{name}");
            match part.as_str() {
                "functions" => seen.function(&path, thing)?,
                "resource_identity_schemas" => seen.attributes(&path, &thing["attributes"])?,
                _ if thing["block"].is_object() => seen.block(&path, &thing["block"])?,
                _ => bail!("{path} is of a form that this story does not know: {thing}"),
            }
            *things.entry(part.clone()).or_insert(0) += 1;
        }
    }
    ensure!(seen.silent.is_empty(), "without a description: {:#?}", seen.silent);

    // Nothing was left out: there is as much of everything as there are pages.
    for (part, folder) in PAGES {
        let folder = repository().join("docs").join(folder);
        let pages = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        let (pages, shown) = (pages.count(), things.get(part).copied().unwrap_or(0));
        ensure!(shown == pages, "{shown} {part}, but {pages} pages in {}", folder.display());
    }
    let identities = things.get("resource_identity_schemas");
    ensure!(identities == things.get("resource_schemas"), "{things:?}");
    println!("{} descriptions in {things:?}", seen.described);
    lab.close()
}
