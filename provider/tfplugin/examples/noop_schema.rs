//! A provider that does nothing, with the schema of any other one: the floor under that provider's
//! plans and applies. What Terraform, the plugin protocol and this library cost is all that is left.
//!
//! It takes three environment variables:
//!
//! - `NOOP_SCHEMA`: a file that `terraform providers schema -json` wrote with the other provider;
//! - `NOOP_ADDRESS`: the other provider's address in it, `registry.terraform.io/weft-cloud/weft`;
//! - `NOOP_VALUES`: a file with what computed attributes become, by type and attribute
//!   (`{"weft_instance": {"host_id": "host-1"}}`), so that states have the other provider's size.
//!   An `id` gets a number of its own.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value as Json;
use tfplugin::{
    ApplyContext, Attribute, ConfigureContext, Diagnostics, Nesting, Provider, ReadContext,
    Resource, Schema, Type, Value, async_trait,
};

#[tokio::main]
async fn main() -> ExitCode {
    match Noop::from_environment() {
        Ok(provider) => {
            let address = provider.address.clone();
            tfplugin::serve(&address, provider).await
        }
        Err(why) => {
            tracing::error!(why, "the schema cannot be taken over");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug)]
struct Noop {
    address: String,
    provider: Json,
    values: Json,
}

impl Noop {
    fn from_environment() -> Result<Self, String> {
        let variable = |name: &str| std::env::var(name).map_err(|error| format!("{name}: {error}"));
        let document = |name: &str| {
            let path = variable(name)?;
            let text = std::fs::read(&path).map_err(|error| format!("read {path}: {error}"))?;
            serde_json::from_slice::<Json>(&text).map_err(|error| format!("parse {path}: {error}"))
        };
        let address = variable("NOOP_ADDRESS")?;
        let schemas = document("NOOP_SCHEMA")?;
        let provider = schemas["provider_schemas"][&address].clone();
        if provider.is_null() {
            return Err(format!("NOOP_SCHEMA has no provider {address}"));
        }
        Ok(Self { address, provider, values: document("NOOP_VALUES")? })
    }
}

#[async_trait]
impl Provider for Noop {
    fn schema(&self) -> Schema {
        schema(&self.provider["provider"])
    }

    async fn configure(&self, _ctx: &ConfigureContext) -> Diagnostics {
        Diagnostics::new()
    }

    fn resources(&self) -> Vec<Box<dyn Resource>> {
        let made = Arc::new(AtomicU64::new(0));
        let types = self.provider["resource_schemas"].as_object().into_iter().flatten();
        types
            .map(|(name, described)| -> Box<dyn Resource> {
                Box::new(Anything {
                    name: name.clone(),
                    schema: schema(described),
                    values: self.values[name].clone(),
                    made: made.clone(),
                })
            })
            .collect()
    }
}

/// A resource that becomes whatever is planned.
#[derive(Debug)]
struct Anything {
    name: String,
    schema: Schema,
    values: Json,
    made: Arc<AtomicU64>,
}

#[async_trait]
impl Resource for Anything {
    fn type_name(&self) -> &str {
        &self.name
    }

    fn schema(&self) -> Schema {
        self.schema.clone()
    }

    async fn create(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        let mut state = ctx.plan.clone();
        if let Value::Map(attributes) = &mut state {
            for (name, value) in attributes {
                if value.is_unknown() {
                    *value = known(&self.values[name]);
                }
            }
        }
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        if ctx.plan.get("id").is_unknown() {
            state.set("id", format!("{}-{number:017x}", self.name));
        }
        ctx.set_state(state);
        Ok(())
    }

    async fn read(&self, ctx: &mut ReadContext) -> Result<(), Diagnostics> {
        ctx.keep();
        Ok(())
    }

    async fn update(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        ctx.set_state(ctx.plan.clone());
        Ok(())
    }

    async fn delete(&self, _ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        Ok(())
    }
}

/// A schema as Terraform describes it. Blocks are left out: schemas of this library have none.
fn schema(described: &Json) -> Schema {
    let version = described["version"].as_i64().unwrap_or_default();
    Schema::new("As another provider's.")
        .version(version)
        .attributes(attributes(&described["block"]["attributes"]))
}

fn attributes(described: &Json) -> Vec<Attribute> {
    let all = described.as_object().into_iter().flatten();
    all.map(|(name, described)| attribute(name, described)).collect()
}

fn attribute(name: &str, described: &Json) -> Attribute {
    let text = described["description"].as_str().unwrap_or_default();
    let nested = &described["nested_type"];
    let plain = match nested["nesting_mode"].as_str() {
        Some(mode) => {
            let nesting = match mode {
                "list" => Nesting::List,
                "set" => Nesting::Set,
                "map" => Nesting::Map,
                _ => Nesting::Single,
            };
            Attribute::nested(name, nesting, text, attributes(&nested["attributes"]))
        }
        None => {
            Attribute::new(name, Type::from_json(&described["type"]).unwrap_or(Type::String), text)
        }
    };
    let is = |word: &str| described[word].as_bool() == Some(true);
    match (is("required"), is("optional"), is("computed")) {
        (true, ..) => plain.required(),
        (_, true, true) => plain.optional_computed(),
        (_, true, false) => plain.optional(),
        _ => plain.computed(),
    }
}

/// A value that was described in JSON.
fn known(described: &Json) -> Value {
    match described {
        Json::Null => Value::Null,
        Json::Bool(value) => (*value).into(),
        Json::Number(number) => number.as_i64().unwrap_or_default().into(),
        Json::String(text) => text.clone().into(),
        Json::Array(elements) => Value::List(elements.iter().map(known).collect()),
        Json::Object(entries) => {
            Value::Map(entries.iter().map(|(name, value)| (name.clone(), known(value))).collect())
        }
    }
}
