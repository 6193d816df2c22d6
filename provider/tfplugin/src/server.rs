//! The calls of Terraform, translated: one file per family of calls.
//!
//! Adding a family (state stores, say) is adding a file here and its methods
//! to the `impl` below; what has none answers `Unimplemented`.

mod action;
mod data_source;
mod ephemeral;
mod function;
mod guard;
mod identity;
mod list;
mod provider;
mod registry;
mod resource;
mod schema;
mod validation;
mod wire;

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, codegen::BoxStream};

use registry::Registry;

use crate::{
    action::Action,
    cty::{Path, Type},
    data_source::DataSource,
    ephemeral::EphemeralResource,
    function::Signature,
    identity::IdentitySchema,
    list::ListResource,
    proto,
    provider::Provider,
    resource::Resource,
    schema::{Attribute, InvalidSchema, Mode, Schema},
};

/// One provider, ready to be called.
#[derive(Clone)]
pub(crate) struct Server(Arc<Inner>);

struct Inner {
    provider: Box<dyn Provider>,
    schema: Schema,
    ty: Type,
    resources: Registry<Entry<dyn Resource>>,
    data_sources: Registry<Entry<dyn DataSource>>,
    functions: Registry<function::Entry>,
    actions: Registry<Entry<dyn Action>>,
    list_resources: Registry<Entry<dyn ListResource>>,
    ephemerals: Registry<Entry<dyn EphemeralResource>>,
    /// Cancelled by StopProvider, made anew by ConfigureProvider.
    cancel: Mutex<CancellationToken>,
}

/// A resource or data source with its schema, which is asked once.
struct Entry<T: ?Sized> {
    schema: Schema,
    ty: Type,
    /// Only resources may have one.
    identity: Option<IdentitySchema>,
    it: Box<T>,
}

impl<T: ?Sized> Entry<T> {
    fn new(name: String, schema: Schema, it: Box<T>) -> Result<(String, Self), InvalidSchema> {
        Self::with_identity(name, schema, None, it)
    }

    fn with_identity(
        name: String,
        schema: Schema,
        identity: Option<IdentitySchema>,
        it: Box<T>,
    ) -> Result<(String, Self), InvalidSchema> {
        schema.check(&name)?;
        if let Some(identity) = &identity {
            identity.check(&name, &schema)?;
        }
        Ok((name, Self { ty: schema.ty(), schema, identity, it }))
    }
}

impl Server {
    pub(crate) fn new(provider: impl Provider) -> Result<Self, InvalidSchema> {
        let schema = provider.schema();
        schema.check("the provider")?;
        let resources = Registry::new("resource", provider.resources(), |it| {
            let (name, schema, identity) = (it.type_name().to_owned(), it.schema(), it.identity());
            Entry::with_identity(name, schema, identity, it)
        })?;
        let data_sources = Registry::new("data source", provider.data_sources(), |it| {
            Entry::new(it.type_name().to_owned(), it.schema(), it)
        })?;
        let functions = Registry::new("function", provider.functions(), function::Entry::new)?;
        let actions = Registry::new("action", provider.actions(), |it| {
            let (name, schema) = (it.type_name().to_owned(), it.schema());
            check_action(&name, &schema)?;
            Entry::new(name, schema, it)
        })?;
        let list_resources = Registry::new("list resource", provider.list_resources(), |it| {
            let name = it.type_name().to_owned();
            check_listed(&name, resources.find(&name))?;
            Entry::new(name, it.schema(), it)
        })?;
        let ephemerals = provider.ephemeral_resources();
        let ephemerals = Registry::new("ephemeral resource", ephemerals, |it| {
            let (name, schema) = (it.type_name().to_owned(), it.schema());
            check_ephemeral(&name, &schema)?;
            Entry::new(name, schema, it)
        })?;
        Ok(Self(Arc::new(Inner {
            ty: schema.ty(),
            schema,
            provider: Box::new(provider),
            resources,
            data_sources,
            functions,
            actions,
            list_resources,
            ephemerals,
            cancel: Mutex::default(),
        })))
    }

    pub(crate) async fn on_shutdown(&self) {
        self.0.provider.on_shutdown().await;
    }

    pub(crate) fn resource_schema(&self, name: &str) -> Option<&Schema> {
        self.0.resources.find(name).map(|entry| &entry.schema)
    }

    pub(crate) fn identity_schema(&self, name: &str) -> Option<&IdentitySchema> {
        self.0.resources.find(name).and_then(|entry| entry.identity.as_ref())
    }

    pub(crate) fn data_source_schema(&self, name: &str) -> Option<&Schema> {
        self.0.data_sources.find(name).map(|entry| &entry.schema)
    }

    pub(crate) fn action_schema(&self, name: &str) -> Option<&Schema> {
        self.0.actions.find(name).map(|entry| &entry.schema)
    }

    pub(crate) fn ephemeral_schema(&self, name: &str) -> Option<&Schema> {
        self.0.ephemerals.find(name).map(|entry| &entry.schema)
    }

    pub(crate) fn signature(&self, function: &str) -> Option<&Signature> {
        self.0.functions.find(function).map(|entry| &entry.signature)
    }

    pub(crate) fn list_schema(&self, name: &str) -> Option<&Schema> {
        self.0.list_resources.find(name).map(|entry| &entry.schema)
    }

    pub(crate) fn provider_schema(&self) -> &Schema {
        &self.0.schema
    }
}

impl Inner {
    fn cancel(&self) -> CancellationToken {
        self.cancel.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn stop(&self) {
        self.cancel().cancel();
    }

    /// A new run of Terraform begins (several reach one provider under `--debug`).
    fn start(&self) {
        *self.cancel.lock().unwrap_or_else(PoisonError::into_inner) = CancellationToken::new();
    }
}

/// A list shows the objects of a resource, and Terraform knows those by their identities.
fn check_listed(
    name: &str,
    resource: Option<&Arc<Entry<dyn Resource>>>,
) -> Result<(), InvalidSchema> {
    let problem = match resource {
        Some(entry) if entry.identity.is_some() => return Ok(()),
        Some(_) => "the resource that it lists has no identity",
        None => "there is no resource of this name",
    };
    Err(InvalidSchema { schema: format!("the list of {name}"), path: Path::root(), problem })
}

/// What a schema of an action must not have besides: an action leaves no state that could hold it.
pub(crate) fn check_action(name: &str, schema: &Schema) -> Result<(), InvalidSchema> {
    let wrong = |attribute: &&Attribute| {
        attribute.mode() == Mode::Computed || attribute.write_only || attribute.replaces()
    };
    match schema.iter().find(wrong) {
        None => Ok(()),
        Some(attribute) => Err(InvalidSchema {
            schema: name.to_owned(),
            path: attribute.name().into(),
            problem: "nothing of an action is computed, write-only or replaces",
        }),
    }
}

/// What is in no state anyway is not write-only, and has nothing to be replaced.
fn check_ephemeral(name: &str, schema: &Schema) -> Result<(), InvalidSchema> {
    match schema.iter().find(|attribute| attribute.write_only || attribute.replaces()) {
        None => Ok(()),
        Some(attribute) => Err(InvalidSchema {
            schema: name.to_owned(),
            path: attribute.name().into(),
            problem: "nothing of an ephemeral resource is write-only or replaces",
        }),
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resources: Vec<&String> = self.0.resources.names().collect();
        f.debug_struct("Server").field("resources", &resources).finish()
    }
}

type Answer<T> = Result<Response<T>, Status>;

async fn answer<T>(response: impl Future<Output = T>) -> Answer<T> {
    Ok(Response::new(response.await))
}

#[tonic::async_trait]
impl proto::provider_server::Provider for Server {
    async fn get_metadata(
        &self,
        _: Request<proto::get_metadata::Request>,
    ) -> Answer<proto::get_metadata::Response> {
        answer(async { schema::metadata(&self.0) }).await
    }

    async fn get_provider_schema(
        &self,
        _: Request<proto::get_provider_schema::Request>,
    ) -> Answer<proto::get_provider_schema::Response> {
        answer(async { schema::provider_schema(&self.0) }).await
    }

    async fn get_resource_identity_schemas(
        &self,
        _: Request<proto::get_resource_identity_schemas::Request>,
    ) -> Answer<proto::get_resource_identity_schemas::Response> {
        answer(async { identity::schemas(&self.0) }).await
    }

    async fn get_functions(
        &self,
        _: Request<proto::get_functions::Request>,
    ) -> Answer<proto::get_functions::Response> {
        let functions = function::all(&self.0);
        answer(async { proto::get_functions::Response { functions, diagnostics: Vec::new() } })
            .await
    }

    async fn call_function(
        &self,
        request: Request<proto::call_function::Request>,
    ) -> Answer<proto::call_function::Response> {
        answer(function::call(&self.0, request.into_inner())).await
    }

    async fn validate_provider_config(
        &self,
        request: Request<proto::validate_provider_config::Request>,
    ) -> Answer<proto::validate_provider_config::Response> {
        answer(provider::validate(&self.0, request.into_inner())).await
    }

    async fn configure_provider(
        &self,
        request: Request<proto::configure_provider::Request>,
    ) -> Answer<proto::configure_provider::Response> {
        answer(provider::configure(&self.0, request.into_inner())).await
    }

    async fn stop_provider(
        &self,
        _: Request<proto::stop_provider::Request>,
    ) -> Answer<proto::stop_provider::Response> {
        tracing::info!("terraform asks to stop; work in flight is cancelled");
        self.0.stop();
        answer(async { proto::stop_provider::Response::default() }).await
    }

    async fn validate_resource_config(
        &self,
        request: Request<proto::validate_resource_config::Request>,
    ) -> Answer<proto::validate_resource_config::Response> {
        answer(resource::validate(&self.0, request.into_inner())).await
    }

    async fn upgrade_resource_state(
        &self,
        request: Request<proto::upgrade_resource_state::Request>,
    ) -> Answer<proto::upgrade_resource_state::Response> {
        answer(resource::upgrade(&self.0, request.into_inner())).await
    }

    async fn upgrade_resource_identity(
        &self,
        request: Request<proto::upgrade_resource_identity::Request>,
    ) -> Answer<proto::upgrade_resource_identity::Response> {
        answer(identity::upgrade(&self.0, request.into_inner())).await
    }

    async fn read_resource(
        &self,
        request: Request<proto::read_resource::Request>,
    ) -> Answer<proto::read_resource::Response> {
        answer(resource::read(&self.0, request.into_inner())).await
    }

    async fn plan_resource_change(
        &self,
        request: Request<proto::plan_resource_change::Request>,
    ) -> Answer<proto::plan_resource_change::Response> {
        answer(resource::plan(&self.0, request.into_inner())).await
    }

    async fn apply_resource_change(
        &self,
        request: Request<proto::apply_resource_change::Request>,
    ) -> Answer<proto::apply_resource_change::Response> {
        answer(resource::apply(&self.0, request.into_inner())).await
    }

    async fn import_resource_state(
        &self,
        request: Request<proto::import_resource_state::Request>,
    ) -> Answer<proto::import_resource_state::Response> {
        answer(resource::import(&self.0, request.into_inner())).await
    }

    async fn move_resource_state(
        &self,
        request: Request<proto::move_resource_state::Request>,
    ) -> Answer<proto::move_resource_state::Response> {
        answer(resource::take_over(&self.0, request.into_inner())).await
    }

    async fn generate_resource_config(
        &self,
        request: Request<proto::generate_resource_config::Request>,
    ) -> Answer<proto::generate_resource_config::Response> {
        answer(resource::generate(&self.0, request.into_inner())).await
    }

    async fn validate_list_resource_config(
        &self,
        request: Request<proto::validate_list_resource_config::Request>,
    ) -> Answer<proto::validate_list_resource_config::Response> {
        answer(list::validate(&self.0, request.into_inner())).await
    }

    async fn list_resource(
        &self,
        request: Request<proto::list_resource::Request>,
    ) -> Answer<BoxStream<proto::list_resource::Event>> {
        answer(async { list::list(&self.0, request.into_inner()) }).await
    }

    async fn validate_data_resource_config(
        &self,
        request: Request<proto::validate_data_resource_config::Request>,
    ) -> Answer<proto::validate_data_resource_config::Response> {
        answer(data_source::validate(&self.0, request.into_inner())).await
    }

    async fn read_data_source(
        &self,
        request: Request<proto::read_data_source::Request>,
    ) -> Answer<proto::read_data_source::Response> {
        answer(data_source::read(&self.0, request.into_inner())).await
    }

    async fn validate_ephemeral_resource_config(
        &self,
        request: Request<proto::validate_ephemeral_resource_config::Request>,
    ) -> Answer<proto::validate_ephemeral_resource_config::Response> {
        answer(ephemeral::validate(&self.0, request.into_inner())).await
    }

    async fn open_ephemeral_resource(
        &self,
        request: Request<proto::open_ephemeral_resource::Request>,
    ) -> Answer<proto::open_ephemeral_resource::Response> {
        answer(ephemeral::open(&self.0, request.into_inner())).await
    }

    async fn renew_ephemeral_resource(
        &self,
        request: Request<proto::renew_ephemeral_resource::Request>,
    ) -> Answer<proto::renew_ephemeral_resource::Response> {
        answer(ephemeral::renew(&self.0, request.into_inner())).await
    }

    async fn close_ephemeral_resource(
        &self,
        request: Request<proto::close_ephemeral_resource::Request>,
    ) -> Answer<proto::close_ephemeral_resource::Response> {
        answer(ephemeral::close(&self.0, request.into_inner())).await
    }

    async fn validate_action_config(
        &self,
        request: Request<proto::validate_action_config::Request>,
    ) -> Answer<proto::validate_action_config::Response> {
        answer(action::validate(&self.0, request.into_inner())).await
    }

    async fn plan_action(
        &self,
        request: Request<proto::plan_action::Request>,
    ) -> Answer<proto::plan_action::Response> {
        answer(action::plan(&self.0, request.into_inner())).await
    }

    async fn invoke_action(
        &self,
        request: Request<proto::invoke_action::Request>,
    ) -> Answer<BoxStream<proto::invoke_action::Event>> {
        Ok(Response::new(Box::pin(action::invoke(&self.0, request.into_inner()))))
    }
}
