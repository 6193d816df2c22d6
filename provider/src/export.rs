//! `weft export terraform`: configuration and import blocks for what exists.
//!
//! What an object's attributes are is the resources' business ([`crate::kind::Kind`]); here they
//! only get names, references to each other, and the form of text. Nothing is claimed or changed.

mod default_tags;
mod hcl;
mod names;
mod references;

use std::collections::BTreeMap;
use std::sync::Arc;

use tfplugin::{Schema, Value};
use weft_model::Problem;
use weft_proto::client::Endpoint;

use crate::agent::{Agent, PlanChecks, Settings};
use crate::catalog;
use crate::list::{self, Origin};
use crate::settings::REQUEST_TIMEOUT;
use crate::tags::TagMap;
use hcl::{Block, Expression};
use names::Names;
use references::References;

/// The files of a root module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Which provider it needs, and with which `default_tags`.
    pub versions: String,
    /// The resources.
    pub main: String,
    /// The `import` blocks, which are of no use after the first apply.
    pub imports: String,
    /// How many resources there are.
    pub count: usize,
    /// Of how many the first apply changes tags: they were `default_tags` of configurations that not all share.
    pub retagged: usize,
}

/// One object, as it is exported.
#[derive(Debug)]
struct Object {
    type_name: &'static str,
    id: String,
    /// What it is called in configuration.
    name: String,
    address: String,
    config: Value,
    /// Its own tags and those that some provider's `default_tags` gave it; `None` where it has none.
    tags: Option<TagMap>,
    /// What people have to know or do about it.
    comments: Vec<String>,
}

/// The kinds that can be exported, without `weft_`: `vpc`, `instance` and so on.
pub fn kinds() -> Vec<&'static str> {
    list::all(&Arc::default()).iter().map(|list| short(list.kind())).collect()
}

fn short(type_name: &'static str) -> &'static str {
    type_name.trim_start_matches("weft_")
}

/// What exists of `kinds` (all, if there are none) at the agent of `endpoint`.
///
/// # Errors
/// The agent cannot be asked, or tells what this version does not understand.
pub async fn terraform(endpoint: Endpoint, kinds: &[String]) -> Result<Exported, Problem> {
    let agent = Arc::new(Agent::default());
    let settings = Settings {
        endpoint: Some(endpoint),
        default_tags: None,
        plan_checks: PlanChecks::Off,
        request_timeout: REQUEST_TIMEOUT,
        image_catalog: catalog::Own::default(),
    };
    agent.configure(settings).await;
    let lists = list::all(&agent);
    let is_wanted =
        |kind: &'static str| kinds.is_empty() || kinds.iter().any(|wanted| wanted == short(kind));

    let mut names = Names::default();
    let mut references = References::default();
    let mut schemas: BTreeMap<&'static str, Schema> = BTreeMap::new();
    let (mut objects, mut defaults) = (Vec::new(), Vec::new());
    for list in &lists {
        let kind = list.kind();
        schemas.insert(kind, list.resource_schema());
        for listed in list.objects().await? {
            match listed.origin {
                Origin::Made if is_wanted(kind) => {}
                Origin::Made | Origin::Along => continue,
                Origin::Default => {
                    let address = format!("data.{kind}.default");
                    references.add(kind, &address, &listed.state);
                    defaults.push((kind, address));
                    continue;
                }
            }
            let id = listed.state.get("id").as_str().unwrap_or_default().to_owned();
            let label = match list.name_attribute() {
                Some(attribute) => listed.state.get(attribute).as_str().map(str::to_owned),
                None => names.of_parents(&list.parents(), &listed.state, list.mark(&listed.state)),
            };
            let name = names.give(kind, &id, label.as_deref().unwrap_or_default());
            let address = format!("{kind}.{name}");
            references.add(kind, &address, &listed.state);
            let config = list.configuration(&listed.state);
            let tags = default_tags::of(&listed.state);
            let comments = list.lacking(&config);
            objects.push(Object { type_name: kind, id, name, address, config, tags, comments });
        }
    }
    let shared = default_tags::shared(&mut objects);
    Ok(render(&objects, &shared, &defaults, &schemas, references))
}

fn render(
    objects: &[Object],
    shared: &default_tags::Shared,
    defaults: &[(&'static str, String)],
    schemas: &BTreeMap<&'static str, Schema>,
    mut references: References,
) -> Exported {
    let mut blocks = Vec::new();
    let mut imports = Vec::new();
    for object in objects {
        let Some(schema) = schemas.get(object.type_name) else { continue };
        let address = object.address.as_str();
        let attributes = schema.iter().filter_map(|attribute| {
            let name = attribute.name();
            let value = references.resolve(address, name, object.config.get(name))?;
            Some((name.to_owned(), value))
        });
        let block = Block {
            head: format!("resource \"{}\" \"{}\"", object.type_name, object.name),
            comments: object.comments.clone(),
            attributes: attributes.collect(),
        };
        blocks.push(block.text());
        let import = Block {
            head: "import".to_owned(),
            comments: Vec::new(),
            attributes: vec![
                ("to".to_owned(), Expression::Code(address.to_owned())),
                ("id".to_owned(), Expression::Literal(object.id.as_str().into())),
            ],
        };
        imports.push(import.text());
    }
    let used = defaults.iter().filter(|(_, address)| references.is_used(address));
    let data = used.map(|(type_name, _)| {
        Block {
            head: format!("data \"{type_name}\" \"default\""),
            comments: Vec::new(),
            attributes: vec![("default".to_owned(), Expression::Literal(true.into()))],
        }
        .text()
    });
    Exported {
        versions: VERSIONS.to_owned() + &default_tags::provider(&shared.default_tags),
        main: data.chain(blocks).collect::<Vec<_>>().join("\n"),
        imports: imports.join("\n"),
        count: objects.len(),
        retagged: shared.retagged,
    }
}

const VERSIONS: &str = "\
terraform {
  required_providers {
    weft = {
      source = \"weft-cloud/weft\"
    }
  }
}
";
