//! Real Terraform in a directory of its own, with the provider under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::leftovers::MARK;
use crate::paths;
use crate::plan::{Plan, State};
use crate::process::{Background, Finished, spawn};

/// Long enough for a slow machine, short enough to notice.
const DEADLINE: Duration = Duration::from_secs(400);

const HEADER: &str = r#"terraform {
  required_providers {
    weft = { source = "weft-cloud/weft" }
  }
}
"#;

/// One root module and its state.
#[derive(Debug)]
pub struct Terraform {
    program: PathBuf,
    directory: PathBuf,
    config: PathBuf,
    lab: PathBuf,
    endpoint: String,
    environment: Vec<(String, String)>,
}

impl Terraform {
    /// With the provider under test.
    pub(crate) fn new(lab: &Path, endpoint: String) -> Result<Self> {
        paths::binary("terraform-provider-weft")?;
        Self::with_provider(lab, endpoint, &paths::binaries()?, &[])
    }

    /// With the provider that lies in `overrides`, and is told `environment`.
    pub(crate) fn with_provider(
        lab: &Path,
        endpoint: String,
        overrides: &Path,
        environment: &[(String, String)],
    ) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = lab.join(format!("module-{count}"));
        std::fs::create_dir_all(&directory)?;
        let config = directory.join("terraform.rc");
        // Only this and no "direct": nothing is looked for on any network.
        let text = format!(
            "provider_installation {{\n  dev_overrides {{\n    \
             \"weft-cloud/weft\" = \"{}\"\n  }}\n}}\n",
            overrides.display()
        );
        std::fs::write(&config, text)?;
        let this = Self {
            program: paths::terraform()?,
            directory,
            config,
            lab: lab.to_owned(),
            endpoint,
            environment: environment.to_vec(),
        };
        this.write("versions.tf", HEADER)?;
        Ok(this)
    }

    /// The same module, run by another Terraform.
    #[must_use]
    pub fn with_program(self, program: PathBuf) -> Self {
        Self { program, ..self }
    }

    /// The same module, run by Terraform of this version, where one is named. `None`: it is not there, and
    /// that the story is skipped has been said.
    ///
    /// # Errors
    /// The tests lie in no directory of cargo's.
    pub fn of_version(self, version: Option<&str>) -> Result<Option<Self>> {
        let Some(version) = version else { return Ok(Some(self)) };
        Ok(crate::paths::terraform_of_version(version)?.map(|program| self.with_program(program)))
    }

    /// Installs the provider from a directory that is laid out as a registry's mirror, as people's
    /// Terraform does: only so `terraform init` has something to find.
    ///
    /// # Errors
    /// The mirror cannot be written.
    pub fn with_mirror(self) -> Result<Self> {
        let mirror = self.lab.join("plugins");
        let version = env!("CARGO_PKG_VERSION");
        let package = format!("registry.terraform.io/weft-cloud/weft/{version}/linux_amd64");
        let program = mirror.join(package).join(format!("terraform-provider-weft_v{version}"));
        if !program.exists() {
            std::fs::create_dir_all(program.parent().unwrap_or(&mirror))?;
            let built = paths::binary("terraform-provider-weft")?;
            // On another file system there is no second name for it.
            if std::fs::hard_link(&built, &program).is_err() {
                std::fs::copy(&built, &program)?;
            }
        }
        let mirror = mirror.display();
        let text = format!(
            "provider_installation {{\n  filesystem_mirror {{\n    path = \"{mirror}\"\n  }}\n}}\n"
        );
        std::fs::write(&self.config, text)?;
        Ok(self)
    }

    /// Sets a variable of the environment from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Runs `terraform init`, and succeeds.
    ///
    /// # Errors
    /// It failed.
    pub fn init(&self) -> Result<Finished> {
        self.run(&["init", "-input=false", "-no-color"])?.success()
    }

    /// Another program, in the module's directory and with terraform's environment.
    pub fn program(&self, program: &Path) -> Command {
        let command = self.command(&[]);
        let mut other = Command::new(program);
        other.current_dir(&self.directory);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => other.env(name, value),
                None => other.env_remove(name),
            };
        }
        other
    }

    /// The module's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The terraform that runs it.
    pub fn path(&self) -> &Path {
        &self.program
    }

    /// Writes a file of the module.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        std::fs::write(self.directory.join(name), text).with_context(|| format!("write {name}"))
    }

    /// Writes the module's `main.tf`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn main(&self, hcl: &str) -> Result<()> {
        self.write("main.tf", hcl)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.directory).args(args);
        // What the person at this machine has set must not matter.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("TF_") || text.starts_with("WEFT_") || text == "RUST_BACKTRACE" {
                command.env_remove(&name);
            }
        }
        command
            .env("TF_CLI_CONFIG_FILE", &self.config)
            .env("CHECKPOINT_DISABLE", "1")
            .env("WEFT_ENDPOINT", &self.endpoint)
            .env(MARK, &self.lab)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts terraform in a process group of its own.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, args: &[&str]) -> Result<Background> {
        spawn(self.command(args))
    }

    /// Starts an apply that asks nothing.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_apply(&self) -> Result<Background> {
        self.start(&["apply", "-auto-approve", "-input=false", "-no-color"])
    }

    /// Runs terraform to its end; any exit status is an answer.
    ///
    /// # Errors
    /// It cannot be started or does not end.
    pub fn run(&self, args: &[&str]) -> Result<Finished> {
        self.start(args)?.finish(DEADLINE)
    }

    /// Applies; any exit status is an answer.
    ///
    /// # Errors
    /// Terraform cannot be started or does not end.
    pub fn try_apply(&self) -> Result<Finished> {
        self.start_apply()?.finish(DEADLINE)
    }

    /// Applies and succeeds.
    ///
    /// # Errors
    /// The apply failed.
    pub fn apply(&self) -> Result<Finished> {
        self.try_apply()?.success()
    }

    /// Destroys everything and succeeds.
    ///
    /// # Errors
    /// The destroy failed.
    pub fn destroy(&self) -> Result<Finished> {
        self.run(&["destroy", "-auto-approve", "-input=false", "-no-color"])?.success()
    }

    /// Plans with a refresh; any exit status is an answer.
    ///
    /// # Errors
    /// Terraform cannot be started or does not end.
    pub fn try_plan(&self) -> Result<Finished> {
        self.run(&["plan", "-input=false", "-no-color", "-out=plan.bin"])
    }

    /// What an apply would do.
    ///
    /// # Errors
    /// The plan failed.
    pub fn plan(&self) -> Result<Plan> {
        let said = self.try_plan()?.success()?;
        Ok(Plan::new(self.json(&["show", "-json", "plan.bin"])?, said.text()))
    }

    /// Applies exactly what [`Terraform::plan`] showed last.
    ///
    /// # Errors
    /// The apply failed.
    pub fn apply_plan(&self) -> Result<Finished> {
        self.run(&["apply", "-input=false", "-no-color", "plan.bin"])?.success()
    }

    /// Fails unless the plan, with its refresh, has nothing to do and nothing to warn of.
    ///
    /// # Errors
    /// There is something to do.
    pub fn assert_plan_is_empty(&self) -> Result<()> {
        let args = ["plan", "-detailed-exitcode", "-input=false", "-no-color"];
        let finished = self.run(&args)?;
        ensure!(
            finished.code() == Some(0),
            "the plan is not empty (exit status {:?}):\n{}",
            finished.code(),
            finished.text()
        );
        Ok(())
    }

    /// What the state file holds.
    ///
    /// # Errors
    /// Terraform cannot show it.
    pub fn state(&self) -> Result<State> {
        Ok(State::new(self.json(&["show", "-json"])?))
    }

    /// Takes an object out of the state and brings it in again by its id.
    ///
    /// # Errors
    /// Either step failed.
    pub fn forget_and_import(&self, address: &str) -> Result<()> {
        let id = self.state()?.attribute(address, "id")?.as_str().unwrap_or_default().to_owned();
        self.run(&["state", "rm", address])?.success()?;
        self.run(&["import", "-input=false", "-no-color", address, &id])?.success()?;
        Ok(())
    }

    /// The provider's schema, as `terraform providers schema -json` tells it.
    ///
    /// # Errors
    /// Terraform cannot tell it.
    pub fn schema(&self) -> Result<Value> {
        let all = self.json(&["providers", "schema", "-json"])?;
        let ours = all["provider_schemas"].get("registry.terraform.io/weft-cloud/weft");
        Ok(ours.context("the provider is not in the schema")?.clone())
    }

    fn json(&self, args: &[&str]) -> Result<Value> {
        let finished = self.run(args)?.success()?;
        // A warning may come before the document.
        let start = finished.stdout.find('{').context("no JSON")?;
        serde_json::from_str(finished.stdout[start..].trim()).context("parse terraform's JSON")
    }
}
