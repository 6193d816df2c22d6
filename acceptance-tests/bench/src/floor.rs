//! The no-op provider with Weft's schema: what Terraform and the plugin protocol cost by themselves.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use weft_acceptance::{Lab, Terraform, binaries};

const ADDRESS: &str = "registry.terraform.io/weft-cloud/weft";

/// A directory with the no-op provider under the name of Weft's.
#[derive(Debug)]
pub(crate) struct Floor {
    directory: PathBuf,
    environment: Vec<(String, String)>,
}

impl Floor {
    /// Takes over schema and typical values from what `weft` has applied.
    pub(crate) fn like(weft: &Terraform, scratch: &Path) -> Result<Self> {
        let directory = scratch.join("floor");
        std::fs::create_dir_all(&directory)?;
        let program = binaries()?.join("examples/noop_schema");
        std::fs::copy(&program, directory.join("terraform-provider-weft"))
            .with_context(|| format!("copy {}", program.display()))?;
        let schema = weft.run(&["providers", "schema", "-json"])?.success()?.stdout;
        let (schema_file, values_file) =
            (directory.join("schema.json"), directory.join("values.json"));
        std::fs::write(&schema_file, schema)?;
        std::fs::write(&values_file, typical_values(weft.state()?.resources()).to_string())?;
        let environment = [
            ("NOOP_ADDRESS", ADDRESS.to_owned()),
            ("NOOP_SCHEMA", schema_file.display().to_string()),
            ("NOOP_VALUES", values_file.display().to_string()),
        ];
        let environment =
            environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(Self { directory, environment })
    }

    /// A new, empty root module that uses the no-op provider.
    pub(crate) fn terraform(&self, lab: &Lab) -> Result<Terraform> {
        lab.terraform_with(&self.directory, &self.environment)
    }
}

/// The values of one resource of each type.
fn typical_values(resources: &[Value]) -> Value {
    let mut by_type = json!({});
    for resource in resources {
        if let Some(name) = resource["type"].as_str() {
            by_type[name] = resource["values"].clone();
        }
    }
    by_type
}
