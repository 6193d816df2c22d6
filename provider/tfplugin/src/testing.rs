//! A small Terraform inside the test's own process, no CLI needed.
//!
//! Calls go through the same encoding as the wire, and what real Terraform demands of a provider
//! is demanded here: a broken rule is a panic with the place in it, so a test fails loudly.
//!
//! ```no_run
//! # async fn f(provider: impl tfplugin::Provider) -> Result<(), tfplugin::Diagnostics> {
//! use tfplugin::{Value, testing::Terraform};
//!
//! let terraform = Terraform::new(provider);
//! terraform.configure(Value::object([("endpoint", "unix:/run/shop")])).await?;
//! let disk = terraform.create("shop_disk", Value::object([("name", "a")])).await?;
//! let plan = terraform.plan("shop_disk", Value::object([("name", "a")]), Some(&disk)).await?;
//! assert!(plan.is_empty());
//! terraform.destroy(&disk).await?;
//! # Ok(()) }
//! ```

#[macro_use]
mod calls;
mod consistency;
mod identities;
mod lists;

pub use lists::Listed;

use std::time::SystemTime;

use crate::{
    cty::{Path, Value},
    diag::Diagnostics,
    function::FunctionError,
    provider::Provider,
    schema::Schema,
    server::Server,
};

/// The stand-in for Terraform.
#[derive(Debug, Clone)]
pub struct Terraform {
    server: Server,
    write_only_allowed: bool,
}

/// One resource in the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub type_name: String,
    pub value: Value,
    /// Its creation failed half way: the next plan replaces it.
    pub tainted: bool,
    /// What it is known by, beside its state.
    pub identity: Option<Value>,
    private: Vec<u8>,
}

impl State {
    /// The value at `path`.
    pub fn get(&self, path: impl Into<Path>) -> &Value {
        self.value.get(path)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Nothing,
    Create,
    Update,
    /// Delete, then create.
    Replace,
    Delete,
}

/// What is going to happen to one resource.
#[derive(Debug, Clone)]
pub struct Plan {
    pub action: Action,
    pub type_name: String,
    /// The planned value; null on delete.
    pub planned: Value,
    /// What forces a replacement.
    pub replaced_by: Vec<Path>,
    pub warnings: Diagnostics,
    config: Value,
    prior: Option<State>,
    private: Vec<u8>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.action == Action::Nothing
    }
}

/// What an apply left behind.
#[derive(Debug, Clone)]
pub struct Applied {
    /// What is in the state now; after an error what could be saved.
    pub state: Option<State>,
    /// Warnings and errors.
    pub diagnostics: Diagnostics,
}

impl Applied {
    /// The state, or the errors.
    pub fn into_result(self) -> Result<Option<State>, Diagnostics> {
        self.diagnostics.into_result().map(|_warnings| self.state)
    }
}

/// An ephemeral resource that is open.
#[derive(Debug, Clone)]
pub struct Ephemeral {
    pub type_name: String,
    pub value: Value,
    pub renew_at: Option<SystemTime>,
    private: Option<Vec<u8>>,
}

/// What an action did.
#[derive(Debug, Clone)]
pub struct Invoked {
    /// The lines that it told on the way.
    pub progress: Vec<String>,
    /// Warnings and errors.
    pub diagnostics: Diagnostics,
}

impl Terraform {
    /// # Panics
    /// Where a schema breaks Terraform's rules.
    #[track_caller]
    pub fn new(provider: impl Provider) -> Self {
        match Server::new(provider) {
            Ok(server) => Self { server, write_only_allowed: true },
            Err(invalid) => panic!("{invalid}"),
        }
    }

    /// The same, in the shape of Terraform before 1.11, which knows no write-only attributes.
    #[must_use]
    pub fn without_write_only(mut self) -> Self {
        self.write_only_allowed = false;
        self
    }

    /// Validates the settings and configures the provider; the warnings.
    pub async fn configure(&self, config: Value) -> Result<Diagnostics, Diagnostics> {
        let config = self.server.provider_schema().complete(&config);
        self.call_configure(&config).await
    }

    /// Validates a resource's configuration; the warnings.
    pub async fn validate(
        &self,
        type_name: &str,
        config: Value,
    ) -> Result<Diagnostics, Diagnostics> {
        let config = self.schema(type_name).complete(&config);
        self.call_validate(type_name, &config).await
    }

    /// Plans a creation, or a change of `prior`. Validates first, as Terraform does.
    pub async fn plan(
        &self,
        type_name: &str,
        config: Value,
        prior: Option<&State>,
    ) -> Result<Plan, Diagnostics> {
        let config = self.schema(type_name).complete(&config);
        let mut warnings = self.call_validate(type_name, &config).await?;
        let first = self.call_plan(type_name, &config, prior).await?;
        warnings.append(first.warnings);
        let mut plan = Plan {
            action: match prior {
                None => Action::Create,
                Some(prior) if prior.tainted || !first.replaced_by.is_empty() => Action::Replace,
                Some(prior) if prior.value == first.planned => Action::Nothing,
                Some(_) => Action::Update,
            },
            type_name: type_name.to_owned(),
            planned: first.planned,
            replaced_by: first.replaced_by,
            warnings,
            config,
            prior: prior.cloned(),
            private: first.private,
        };
        if plan.action == Action::Replace {
            // Terraform plans the creation anew, without prior state, but with what the first plan has
            // put into private data. It drops the warnings of the second.
            let private = plan.private.clone();
            let again = self.call_plan_knowing(type_name, &plan.config, None, private).await?;
            plan.planned = again.planned;
            plan.private = again.private;
        }
        Ok(plan)
    }

    /// Plans the destruction of `prior`.
    pub async fn plan_destroy(&self, prior: &State) -> Result<Plan, Diagnostics> {
        let planned = self.call_plan_destroy(prior).await?;
        Ok(Plan {
            action: Action::Delete,
            type_name: prior.type_name.clone(),
            planned: Value::Null,
            replaced_by: Vec::new(),
            warnings: planned.warnings,
            config: Value::Null,
            prior: Some(prior.clone()),
            private: planned.private,
        })
    }

    /// Carries out a plan. As Terraform does, a creation or change is planned once more first.
    pub async fn apply(&self, plan: Plan) -> Applied {
        let config = plan.config.clone();
        self.apply_with(plan, config).await
    }

    /// As `apply`, with a configuration in which what was unknown has become known.
    ///
    /// # Panics
    /// Where the provider breaks its own plan.
    pub async fn apply_with(&self, plan: Plan, config: Value) -> Applied {
        let Plan { action, type_name, planned, prior, private, .. } = plan;
        match action {
            Action::Nothing => Applied { state: prior, diagnostics: Diagnostics::new() },
            Action::Delete => self.call_delete(&type_name, prior, private).await,
            Action::Create => self.change(&type_name, config, planned, None).await,
            Action::Update => self.change(&type_name, config, planned, prior).await,
            Action::Replace => {
                let deleted = self.call_delete(&type_name, prior, Vec::new()).await;
                if deleted.diagnostics.has_errors() {
                    return deleted;
                }
                let mut created = self.change(&type_name, config, planned, None).await;
                let mut diagnostics = deleted.diagnostics;
                diagnostics.append(created.diagnostics);
                created.diagnostics = diagnostics;
                created
            }
        }
    }

    /// Plans and applies a creation.
    pub async fn create(&self, type_name: &str, config: Value) -> Result<State, Diagnostics> {
        let plan = self.plan(type_name, config, None).await?;
        let state = self.apply(plan).await.into_result()?;
        Ok(state.unwrap_or_else(|| panic!("{type_name} was created, and there is no state")))
    }

    /// Plans and applies a change.
    pub async fn update(&self, prior: &State, config: Value) -> Result<State, Diagnostics> {
        let plan = self.plan(&prior.type_name, config, Some(prior)).await?;
        let state = self.apply(plan).await.into_result()?;
        Ok(state.unwrap_or_else(|| panic!("{} was changed, and is gone", prior.type_name)))
    }

    /// Plans and applies the destruction.
    pub async fn destroy(&self, prior: &State) -> Result<(), Diagnostics> {
        let plan = self.plan_destroy(prior).await?;
        self.apply(plan).await.into_result().map(drop)
    }

    /// Reads the resource anew; `None` when it is gone.
    pub async fn refresh(&self, state: &State) -> Result<Option<State>, Diagnostics> {
        self.call_read(state).await
    }

    /// Imports, then reads, as Terraform does.
    pub async fn import(&self, type_name: &str, id: &str) -> Result<Option<State>, Diagnostics> {
        let imported = self.call_import(type_name, id, None).await?;
        self.call_read(&imported).await
    }

    /// Reads a stored state, of this or an older schema version.
    pub async fn upgrade(
        &self,
        type_name: &str,
        version: i64,
        json: &serde_json::Value,
    ) -> Result<State, Diagnostics> {
        self.call_upgrade(type_name, version, json).await
    }

    /// Validates and reads a data source.
    pub async fn data(&self, type_name: &str, config: Value) -> Result<Value, Diagnostics> {
        let config = self.data_schema(type_name).complete(&config);
        self.call_read_data(type_name, &config).await
    }

    /// Calls a function, as Terraform calls it. The provider need not be configured.
    ///
    /// # Panics
    /// Where the arguments do not fit the signature: a mistake of the test.
    pub async fn function(
        &self,
        name: &str,
        arguments: impl IntoIterator<Item = Value>,
    ) -> Result<Value, FunctionError> {
        self.call_function(name, arguments.into_iter().collect()).await
    }

    /// Validates and opens an ephemeral resource.
    pub async fn open(&self, type_name: &str, config: Value) -> Result<Ephemeral, Diagnostics> {
        let config = self.ephemeral_schema(type_name).complete(&config);
        self.call_open(type_name, &config).await
    }

    /// Renews it, as Terraform does when `renew_at` has come.
    pub async fn renew(&self, opened: &mut Ephemeral) -> Result<(), Diagnostics> {
        self.call_renew(opened).await
    }

    pub async fn close(&self, opened: Ephemeral) -> Result<(), Diagnostics> {
        self.call_close(opened).await
    }

    /// Validates and plans an action; the warnings. Values may be unknown.
    pub async fn plan_action(
        &self,
        type_name: &str,
        config: Value,
    ) -> Result<Diagnostics, Diagnostics> {
        let config = self.action_schema(type_name).complete(&config);
        self.call_plan_action(type_name, &config).await
    }

    /// Invokes an action.
    pub async fn invoke(&self, type_name: &str, config: Value) -> Invoked {
        let config = self.action_schema(type_name).complete(&config);
        self.call_invoke(type_name, &config).await
    }

    /// The user presses Ctrl-C: what is in flight is cancelled.
    pub async fn interrupt(&self) {
        self.call_stop().await;
    }

    /// Terraform ends in good order.
    pub async fn shutdown(&self) {
        self.server.on_shutdown().await;
    }

    /// # Panics
    /// When the provider has no such resource: a mistake of the test.
    fn schema(&self, type_name: &str) -> &Schema {
        let schema = self.server.resource_schema(type_name);
        schema.unwrap_or_else(|| panic!("the provider has no resource {type_name}"))
    }

    fn data_schema(&self, type_name: &str) -> &Schema {
        let schema = self.server.data_source_schema(type_name);
        schema.unwrap_or_else(|| panic!("the provider has no data source {type_name}"))
    }

    fn ephemeral_schema(&self, type_name: &str) -> &Schema {
        let schema = self.server.ephemeral_schema(type_name);
        schema.unwrap_or_else(|| panic!("the provider has no ephemeral resource {type_name}"))
    }

    fn action_schema(&self, type_name: &str) -> &Schema {
        let schema = self.server.action_schema(type_name);
        schema.unwrap_or_else(|| panic!("the provider has no action {type_name}"))
    }

    async fn change(
        &self,
        type_name: &str,
        config: Value,
        planned: Value,
        prior: Option<State>,
    ) -> Applied {
        let config = self.schema(type_name).complete(&config);
        let again = match self.call_plan(type_name, &config, prior.as_ref()).await {
            Ok(again) => again,
            Err(diagnostics) => return Applied { state: prior, diagnostics },
        };
        consistency::assert_conforms(
            &format!("the second plan of {type_name}, within apply"),
            &self.schema(type_name).ty(),
            &planned,
            &again.planned,
        );
        self.call_apply(type_name, &config, &again, prior).await
    }
}

#[cfg(test)]
mod tests;
