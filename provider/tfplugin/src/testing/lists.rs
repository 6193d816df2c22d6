//! Lists, as `terraform query` asks for them, and the configuration that it writes.

use tokio_stream::StreamExt as _;

use super::{
    Terraform,
    calls::{decoded, diagnostics, encoded, over_the_wire},
};
use crate::{
    cty::Value,
    diag::Diagnostics,
    proto::{self, provider_server::Provider as _},
    schema::Schema,
};

/// One object that a list shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub identity: Value,
    /// Where it was asked for (`include_resource = true`).
    pub object: Option<Value>,
}

impl Terraform {
    /// Validates and runs a `list` block: at most `limit` objects, and the warnings.
    ///
    /// # Panics
    /// Where the provider breaks Terraform's rules.
    pub async fn list(
        &self,
        type_name: &str,
        config: Value,
        include_resource: bool,
        limit: i64,
    ) -> Result<(Vec<Listed>, Diagnostics), Diagnostics> {
        let ty = self.list_schema(type_name).ty();
        // Without a config block it is null.
        let config = match config {
            Value::Null => Value::Null,
            config => self.list_schema(type_name).complete(&config),
        };
        let request = proto::validate_list_resource_config::Request {
            type_name: type_name.to_owned(),
            config: encoded(&config, &ty),
            ..Default::default()
        };
        let response = call!(self, validate_list_resource_config, request);
        let mut warnings = diagnostics(response.diagnostics).into_result()?;
        let request = proto::list_resource::Request {
            type_name: type_name.to_owned(),
            config: encoded(&config, &ty),
            include_resource_object: include_resource,
            limit,
        };
        let request = tonic::Request::new(over_the_wire(&request));
        let mut events = match self.server.list_resource(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => panic!("list_resource failed: {status}"),
        };
        let mut found = Vec::new();
        while let Some(event) = events.next().await {
            let event =
                event.unwrap_or_else(|status| panic!("the list of {type_name} broke: {status}"));
            let proto::list_resource::Event { identity, display_name, resource_object, diagnostic } =
                over_the_wire(&event);
            let said = diagnostics(diagnostic).into_result()?;
            let identity = self.identity(type_name, identity);
            assert!(
                identity.is_some() || !said.is_empty(),
                "{type_name} is listed without its identity"
            );
            warnings.append(said);
            let Some(identity) = identity else { continue };
            let object = resource_object.map(|it| decoded(Some(it), &self.schema(type_name).ty()));
            assert_eq!(object.is_some(), include_resource, "{type_name} as a whole object");
            found.push(Listed { name: display_name, identity, object });
            assert!(
                limit <= 0 || i64::try_from(found.len()).is_ok_and(|count| count <= limit),
                "the list of {type_name} goes over its limit"
            );
        }
        Ok((found, warnings))
    }

    /// The configuration that Terraform would write for a state.
    pub async fn configuration(
        &self,
        type_name: &str,
        state: &Value,
    ) -> Result<Value, Diagnostics> {
        let ty = self.schema(type_name).ty();
        let request = proto::generate_resource_config::Request {
            type_name: type_name.to_owned(),
            state: encoded(state, &ty),
        };
        let response = call!(self, generate_resource_config, request);
        diagnostics(response.diagnostics).into_result()?;
        Ok(decoded(response.config, &ty))
    }

    fn list_schema(&self, type_name: &str) -> &Schema {
        let schema = self.server.list_schema(type_name);
        schema.unwrap_or_else(|| panic!("the provider has no list of {type_name}"))
    }
}
