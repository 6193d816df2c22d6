//! The calls of Terraform, translated: one file per family of calls.
//!
//! Adding a family (ephemeral resources, functions, ...) is adding a file here and its methods
//! to the `impl` below; what has none answers `Unimplemented`.

mod data_source;
mod guard;
mod provider;
mod resource;
mod schema;
mod wire;

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{
    cty::{Path, Type},
    data_source::DataSource,
    diag::Diagnostic,
    proto,
    provider::Provider,
    resource::Resource,
    schema::{InvalidSchema, Schema},
};

/// One provider, ready to be called.
#[derive(Clone)]
pub(crate) struct Server(Arc<Inner>);

struct Inner {
    provider: Box<dyn Provider>,
    schema: Schema,
    ty: Type,
    resources: BTreeMap<String, Arc<Entry<dyn Resource>>>,
    data_sources: BTreeMap<String, Arc<Entry<dyn DataSource>>>,
    /// Cancelled by StopProvider, made anew by ConfigureProvider.
    cancel: Mutex<CancellationToken>,
}

/// A resource or data source with its schema, which is asked once.
struct Entry<T: ?Sized> {
    schema: Schema,
    ty: Type,
    it: Box<T>,
}

impl<T: ?Sized> Entry<T> {
    fn new(name: &str, schema: Schema, it: Box<T>) -> Result<Arc<Self>, InvalidSchema> {
        schema.check(name)?;
        Ok(Arc::new(Self { ty: schema.ty(), schema, it }))
    }
}

impl Server {
    pub(crate) fn new(provider: impl Provider) -> Result<Self, InvalidSchema> {
        let schema = provider.schema();
        schema.check("the provider")?;
        let (mut resources, mut data_sources) = (BTreeMap::new(), BTreeMap::new());
        for resource in provider.resources() {
            let name = resource.type_name().to_owned();
            let entry = Entry::new(&name, resource.schema(), resource)?;
            if resources.insert(name.clone(), entry).is_some() {
                return Err(twice(name));
            }
        }
        for source in provider.data_sources() {
            let name = source.type_name().to_owned();
            let entry = Entry::new(&name, source.schema(), source)?;
            if data_sources.insert(name.clone(), entry).is_some() {
                return Err(twice(name));
            }
        }
        Ok(Self(Arc::new(Inner {
            ty: schema.ty(),
            schema,
            provider: Box::new(provider),
            resources,
            data_sources,
            cancel: Mutex::default(),
        })))
    }

    pub(crate) async fn on_shutdown(&self) {
        self.0.provider.on_shutdown().await;
    }

    pub(crate) fn resource_schema(&self, name: &str) -> Option<&Schema> {
        self.0.resources.get(name).map(|entry| &entry.schema)
    }

    pub(crate) fn data_source_schema(&self, name: &str) -> Option<&Schema> {
        self.0.data_sources.get(name).map(|entry| &entry.schema)
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

    fn resource(&self, name: &str) -> Result<Arc<Entry<dyn Resource>>, Diagnostic> {
        self.resources.get(name).cloned().ok_or_else(|| no_such("resource", name))
    }

    fn data_source(&self, name: &str) -> Result<Arc<Entry<dyn DataSource>>, Diagnostic> {
        self.data_sources.get(name).cloned().ok_or_else(|| no_such("data source", name))
    }
}

fn twice(schema: String) -> InvalidSchema {
    InvalidSchema { schema, path: Path::root(), problem: "there are two of this name" }
}

fn no_such(kind: &str, name: &str) -> Diagnostic {
    Diagnostic::error(format!("There is no {kind} {name}"))
        .cause(format!("this version of the provider does not offer {name}"))
        .remedy("Use the provider version that the configuration was written for")
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("resources", &self.0.resources.keys()).finish()
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
        answer(async { proto::get_resource_identity_schemas::Response::default() }).await
    }

    async fn get_functions(
        &self,
        _: Request<proto::get_functions::Request>,
    ) -> Answer<proto::get_functions::Response> {
        answer(async { proto::get_functions::Response::default() }).await
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
        answer(async { resource::refuse_move(&request.into_inner()) }).await
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
}
